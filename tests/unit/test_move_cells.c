/* SPDX-License-Identifier: Apache-2.0 */

/*
 * test-move-cells UTSUSU-MOVE: the table "Phases and faults" of docs/protocol.md, cell by cell. The document's text is what is
 * expected: this program reads it, makes each fault befall real movers and VMs' processes (mover_hosts.h), and fails where the
 * ending is not one that the cell names, where a cell names one that nothing here brings about, and where it knows a cell's text not.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "move/handover.h"
#include "mover_hosts.h"

/* ---- the document ---- */

#define COLUMNS 5
#define ROWS_MAX 32
#define TEXT_MAX 128

enum column { BEFORE, GIVING, COMMITTING, RAN_DURABLE, AFTER };

struct row {
	char what[TEXT_MAX];
	char cells[COLUMNS][TEXT_MAX];
};

static struct table {
	struct row rows[ROWS_MAX];
	size_t n;
} table;

/* What stands between this bar and the next one, without spaces around it. */
static const char *next_cell(const char *bar, char ret_text[TEXT_MAX])
{
	const char *from = bar + 1 + strspn(bar + 1, " "), *next = strchr(bar + 1, '|');
	size_t len;

	assert_non_null(next);
	for (len = (size_t)(next - from); len && from[len - 1] == ' '; len--)
		;
	assert_true(len < TEXT_MAX);
	memcpy(ret_text, from, len);
	ret_text[len] = '\0';
	return next;
}

static void read_row(const char *line)
{
	struct row *row = &table.rows[table.n++];

	assert_true(table.n < ROWS_MAX);
	line = next_cell(line, row->what);
	for (int i = 0; i < COLUMNS; i++)
		line = next_cell(line, row->cells[i]);
	assert_string_equal(line, "|\n");
}

static int read_table(void **state _unused_)
{
	char path[512], line[2048];
	bool here = false;
	FILE *file;

	snprintf(path, sizeof(path), "%s/protocol.md", getenv("UTSUSU_DOCS"));
	file = fopen(path, "re");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		if (line[0] == '#')
			here = strcmp(line, "## Phases and faults\n") == 0;
		if (here && line[0] == '|' && strncmp(line, "| ---", 5) != 0)
			read_row(line);
	}
	fclose(file);
	assert_true(table.n > 1);
	return 0;
}

/* ---- endings ---- */

enum ending {
	KEPT,	     /* runs here: its mover, or its process, knew that COMMIT was not out */
	NEVER,	     /* runs here: given, and the other mover said never */
	RAN,	     /* runs there */
	DOUBT_NEVER, /* stood here until the daemons had asked: runs here */
	DOUBT_RAN,   /* the same: runs there */
	LOST,	     /* was never given, died here: this host may start it */
	DOUBT_LOST,  /* the same, when the daemons have asked */
	LOST_THERE,  /* the other host may start it, this one not */
	ENDINGS,
};

static const char *const ending_names[ENDINGS] = {
	[KEPT] = "kept",
	[NEVER] = "never",
	[RAN] = "ran",
	[DOUBT_NEVER] = "doubt, never",
	[DOUBT_RAN] = "doubt, ran",
	[LOST] = "lost here",
	[DOUBT_LOST] = "doubt, lost here",
	[LOST_THERE] = "lost there",
};

#define BIT(ending) (1U << (ending))

/* What the words of a cell mean: each of the endings can be, and no other. */
static const struct meaning {
	const char *text;
	unsigned int endings;
	bool told; /* its people are, as a warning */
} meanings[] = {
	{ "source", BIT(KEPT) },
	{ "source, by *never*", BIT(NEVER) },
	{ "source; or in doubt (never: source)", BIT(KEPT) | BIT(DOUBT_NEVER) },
	{ "source, by *never*; or in doubt (by the mark there)",
	  BIT(NEVER) | BIT(DOUBT_NEVER) | BIT(DOUBT_RAN) },
	{ "in doubt (by the mark there)", BIT(DOUBT_NEVER) | BIT(DOUBT_RAN) },
	{ "in doubt (never: source)", BIT(DOUBT_NEVER) },
	{ "in doubt (destination)", BIT(DOUBT_RAN) },
	{ "in doubt until it is back (never: source)", BIT(DOUBT_NEVER) },
	{ "in doubt until it can be (never: source)", BIT(DOUBT_NEVER) },
	{ "the doubt waits for it", BIT(DOUBT_NEVER) },
	{ "destination", BIT(RAN) },
	{ "destination, told", BIT(RAN), true },
	{ "too late, told", BIT(RAN), true },
	{ "lost, source's", BIT(LOST) },
	{ "lost, source's; where a mark stands, when it has asked", BIT(LOST) | BIT(DOUBT_LOST) },
	{ "destination; or, when it has asked, lost, source's", BIT(RAN) | BIT(DOUBT_LOST) },
	{ "lost, destination's", BIT(LOST_THERE) },
	{ "nothing", BIT(RAN) },
	{ "-", 0 },
};

static const struct meaning *meaning_of(const char *text)
{
	for (size_t i = 0; i < ARRAY_SIZE(meanings); i++)
		if (strcmp(meanings[i].text, text) == 0)
			return &meanings[i];
	fail_msg("docs/protocol.md: nobody knows what '%s' means", text);
	return NULL;
}

/* ---- what is brought about ---- */

enum fault {
	NOTHING,
	CANCEL,
	CUT,
	KILL_MOVER_HERE,
	KILL_MOVER_THERE,
	KILL_VM_HERE,
	KILL_VM_THERE,
	POWER_HERE, /* all of the host's processes at once */
	POWER_THERE,
};

struct drive {
	const char *what; /* the row */
	enum column column;
	/* Places where the movers are held (":stop") while it is done, or which fail (":error"). */
	const char *here, *there;
	enum fault fault;
	enum ending ending;
	bool vm_answers_late; /* the killed mover had asked its VM, which does it all the same */
	struct hosts_plan plan;
};

#define WORK "the work of the phase, a refusal"
#define CANCELS "cancel"
#define LINK "link between the movers"
#define MOVER_HERE "source's mover dies"
#define MOVER_THERE "destination's mover dies"
#define VM_HERE "source's VM process dies"
#define VM_THERE "destination's VM process dies"
#define DAEMON "a daemon dies"
#define CURRENT_HERE "source's power"
#define CURRENT_THERE "destination's power"
#define GIVEN_FULL "`given` cannot be written"
#define RESULT_FULL "the result cannot be written"
#define MESSAGES "a late, doubled, foreign message"

/* There are no daemons here until the movers have ended: each move shows that it needs none. */
static const struct drive drives[] = {
	{ WORK, BEFORE, .here = "source.round:error", .ending = KEPT },
	{ WORK, BEFORE, .there = "destination.loaded:error", .ending = KEPT },
	{ WORK, GIVING, .here = "source.ready:error", .ending = KEPT },
	{ WORK, COMMITTING, .there = "destination.commit:error", .ending = NEVER },
	{ WORK, COMMITTING, .here = "source.given:error", .ending = DOUBT_NEVER },
	{ WORK, COMMITTING, .here = "source.commit:error", .ending = DOUBT_RAN },
	{ WORK, RAN_DURABLE, .there = "destination.ran:error", .ending = DOUBT_RAN },
	{ WORK, AFTER, .plan = { .verify_fails = true }, .ending = RAN },

	{ CANCELS, BEFORE, "source.round:stop", .fault = CANCEL, .ending = KEPT },
	{ CANCELS, GIVING, "source.ready:stop", .fault = CANCEL, .ending = KEPT },
	{ CANCELS, COMMITTING, "source.commit:stop", "destination.commit:stop", CANCEL, RAN },
	{ CANCELS, RAN_DURABLE, .there = "destination.ran:stop", .fault = CANCEL, .ending = RAN },
	{ CANCELS, AFTER, "source.settled:stop", "destination.answered:stop", CANCEL, RAN },

	{ LINK, BEFORE, "source.round:stop", .fault = CUT, .ending = KEPT },
	{ LINK, BEFORE, .there = "destination.loaded:stop", .fault = CUT, .ending = KEPT },
	{ LINK, GIVING, "source.ready:stop", .fault = CUT, .ending = KEPT },
	{ LINK, COMMITTING, "source.given:stop", .fault = CUT, .ending = DOUBT_NEVER },
	{ LINK, COMMITTING, .there = "destination.commit:stop", .fault = CUT, .ending = DOUBT_RAN },
	{ LINK, RAN_DURABLE, .there = "destination.ran:stop", .fault = CUT, .ending = DOUBT_RAN },
	{ LINK, AFTER, "source.settled:stop", "destination.answered:stop", CUT, RAN },

	{ MOVER_HERE, BEFORE, "source.stopped:stop", .fault = KILL_MOVER_HERE, .ending = KEPT },
	{ MOVER_HERE, GIVING, "source.ready:stop", .fault = KILL_MOVER_HERE, .ending = KEPT },
	{ MOVER_HERE, GIVING, "source.ready:stop", .fault = KILL_MOVER_HERE, .ending = DOUBT_NEVER,
	  .vm_answers_late = true },
	{ MOVER_HERE, COMMITTING, "source.given:stop", .fault = KILL_MOVER_HERE,
	  .ending = DOUBT_NEVER },
	{ MOVER_HERE, COMMITTING, "source.commit:stop", .fault = KILL_MOVER_HERE,
	  .ending = DOUBT_RAN },
	{ MOVER_HERE, RAN_DURABLE, .there = "destination.ran:stop", .fault = KILL_MOVER_HERE,
	  .ending = DOUBT_RAN },
	{ MOVER_HERE, AFTER, "source.settled:stop", .fault = KILL_MOVER_HERE, .ending = RAN },

	{ MOVER_THERE, BEFORE, .there = "destination.loaded:stop", .fault = KILL_MOVER_THERE,
	  .ending = KEPT },
	{ MOVER_THERE, GIVING, "source.ready:stop", "destination.ready:stop", KILL_MOVER_THERE,
	  KEPT },
	{ MOVER_THERE, COMMITTING, .there = "destination.commit:stop", .fault = KILL_MOVER_THERE,
	  .ending = DOUBT_NEVER },
	{ MOVER_THERE, COMMITTING, .there = "destination.commit:stop", .fault = KILL_MOVER_THERE,
	  .ending = DOUBT_RAN, .vm_answers_late = true },
	{ MOVER_THERE, RAN_DURABLE, .there = "destination.ran:stop", .fault = KILL_MOVER_THERE,
	  .ending = DOUBT_RAN },
	{ MOVER_THERE, AFTER, .there = "destination.answered:stop", .fault = KILL_MOVER_THERE,
	  .ending = RAN },

	{ VM_HERE, BEFORE, "source.round:stop", .fault = KILL_VM_HERE, .ending = LOST },
	{ VM_HERE, GIVING, "source.ready:stop", .fault = KILL_VM_HERE, .ending = LOST },
	{ VM_HERE, GIVING, .plan = { .dies_given = true }, .ending = DOUBT_LOST },
	{ VM_HERE, COMMITTING, "source.given:stop", .fault = KILL_VM_HERE, .ending = RAN },
	{ VM_HERE, COMMITTING, "source.commit:stop", "destination.commit:error", KILL_VM_HERE,
	  DOUBT_LOST },
	{ VM_HERE, RAN_DURABLE, .there = "destination.ran:stop", .fault = KILL_VM_HERE,
	  .ending = RAN },
	{ VM_HERE, AFTER, .there = "destination.answered:stop", .fault = KILL_VM_HERE,
	  .ending = RAN },

	{ VM_THERE, BEFORE, .there = "destination.loaded:stop", .fault = KILL_VM_THERE,
	  .ending = KEPT },
	{ VM_THERE, GIVING, "source.ready:stop", "destination.ready:stop", KILL_VM_THERE, NEVER },
	{ VM_THERE, COMMITTING, .there = "destination.commit:stop", .fault = KILL_VM_THERE,
	  .ending = NEVER },
	{ VM_THERE, RAN_DURABLE, .plan = { .dies_committed = true }, .ending = LOST_THERE },
	{ VM_THERE, RAN_DURABLE, .there = "destination.ran:stop", .fault = KILL_VM_THERE,
	  .ending = LOST_THERE },
	{ VM_THERE, AFTER, .there = "destination.answered:stop", .fault = KILL_VM_THERE,
	  .ending = LOST_THERE },

	{ DAEMON, BEFORE, .ending = RAN },
	{ DAEMON, GIVING, .ending = RAN },
	{ DAEMON, COMMITTING, "source.given:stop", .fault = CUT, .ending = DOUBT_NEVER },
	{ DAEMON, RAN_DURABLE, .ending = RAN },
	{ DAEMON, AFTER, .ending = RAN },

	{ CURRENT_HERE, BEFORE, "source.round:stop", .fault = POWER_HERE, .ending = LOST },
	{ CURRENT_HERE, GIVING, "source.ready:stop", .fault = POWER_HERE, .ending = LOST },
	{ CURRENT_HERE, GIVING, "source.ready:stop", .plan = { .dies_given = true },
	  .fault = POWER_HERE, .ending = DOUBT_LOST, .vm_answers_late = true },
	{ CURRENT_HERE, COMMITTING, "source.given:stop", .fault = POWER_HERE,
	  .ending = DOUBT_LOST },
	{ CURRENT_HERE, COMMITTING, "source.commit:stop", .fault = POWER_HERE, .ending = RAN },
	{ CURRENT_HERE, RAN_DURABLE, .there = "destination.ran:stop", .fault = POWER_HERE,
	  .ending = RAN },
	{ CURRENT_HERE, AFTER, .there = "destination.answered:stop", .fault = POWER_HERE,
	  .ending = RAN },

	{ CURRENT_THERE, BEFORE, .there = "destination.loaded:stop", .fault = POWER_THERE,
	  .ending = KEPT },
	{ CURRENT_THERE, GIVING, "source.ready:stop", "destination.ready:stop", POWER_THERE, KEPT },
	{ CURRENT_THERE, COMMITTING, .there = "destination.commit:stop", .fault = POWER_THERE,
	  .ending = DOUBT_NEVER },
	{ CURRENT_THERE, RAN_DURABLE, .there = "destination.ran:stop", .fault = POWER_THERE,
	  .ending = LOST_THERE },
	{ CURRENT_THERE, AFTER, .there = "destination.answered:stop", .fault = POWER_THERE,
	  .ending = LOST_THERE },

	{ GIVEN_FULL, GIVING, .plan = { .given_unwritable = true }, .ending = KEPT },
	{ RESULT_FULL, COMMITTING, .plan = { .result_unwritable = true }, .ending = DOUBT_NEVER },
};

/* The movers that the fault kills, their VMs'. */
static bool kills_mover(enum fault fault, enum host_side side)
{
	return fault == (side == HERE ? KILL_MOVER_HERE : KILL_MOVER_THERE) ||
	       fault == (side == HERE ? POWER_HERE : POWER_THERE);
}

static bool kills_vm(enum fault fault, enum host_side side)
{
	return fault == (side == HERE ? KILL_VM_HERE : KILL_VM_THERE) ||
	       fault == (side == HERE ? POWER_HERE : POWER_THERE);
}

/* The VM stands still while its mover asks it, and goes on when that has gone. */
static void have_vm_answer_late(struct hosts *hosts, enum host_side side)
{
	pid_t vm = hosts->vms[side].pid;

	kill(vm, SIGSTOP);
	hosts_go_on(hosts, side);
	/* It says so just before it asks; the destination's has no more to say. */
	if (side == HERE)
		assert_true(hosts_wait_said(hosts, HERE, "\"phase\":\"commit\""));
	hosts_wait_asking(hosts, side);
	hosts_kill_mover(hosts, side);
	kill(vm, SIGCONT);
}

static void befall(struct hosts *hosts, const struct drive *drive)
{
	for (int side = HERE; side < SIDES; side++) {
		enum host_side at = (enum host_side)side;

		if (drive->vm_answers_late && kills_mover(drive->fault, at))
			have_vm_answer_late(hosts, at);
		if (kills_mover(drive->fault, at))
			hosts_kill_mover(hosts, at);
		/* One that dies by itself, when its mark is durable, is waited for. */
		for (int i = 0; drive->plan.dies_given && drive->fault == POWER_HERE &&
				at == HERE && !vm_ended(&hosts->vms[HERE]) && i < 15000;
		     i++)
			usleep(2000);
		if (kills_vm(drive->fault, at))
			vm_kill(&hosts->vms[at]);
	}
	if (drive->fault == CUT)
		hosts_cut(hosts);
	if (drive->fault == CANCEL)
		hosts_cancel(hosts, HERE);
}

static bool holds(const char *place)
{
	return place && strstr(place, ":stop");
}

/* Both movers have ended when it returns. */
static void run(struct hosts *hosts, const struct drive *drive, bool told)
{
	hosts_start(hosts);
	if (holds(drive->here))
		hosts_wait_stopped(hosts, HERE);
	if (holds(drive->there))
		hosts_wait_stopped(hosts, THERE);
	befall(hosts, drive);
	if (holds(drive->here))
		hosts_go_on(hosts, HERE);
	if (told && drive->fault == CANCEL) /* the other side waits so long */
		assert_true(hosts_wait_said(hosts, HERE, "\"warning\""));
	if (holds(drive->there))
		hosts_go_on(hosts, THERE);
	hosts_finish(hosts);
}

/* Nothing runs: where may it be started? */
static enum ending lost(struct hosts *hosts, bool doubt)
{
	bool here = hosts_may_start(hosts, HERE), there = hosts_may_start(hosts, THERE);

	if (here == there)
		fail_msg("lost, and may be started here: %d, there: %d", here, there);
	if (there)
		return LOST_THERE;
	return doubt ? DOUBT_LOST : LOST;
}

static enum ending settle(struct hosts *hosts, const char *text)
{
	bool doubt = hosts_in_doubt(hosts), stands = doubt && !vm_ended(&hosts->vms[HERE]);

	/* Whatever is not known yet, here nothing runs. */
	if (stands && near_vm_runs(hosts->vms[HERE].near, false))
		fail_msg("%s: it was given and runs", text);
	hosts_settle(hosts);
	/* Looked for longer where the mark says so: the computer may be busy. */
	if (near_vm_runs(hosts->vms[THERE].near,
			 hosts_may_start(hosts, THERE) && !vm_ended(&hosts->vms[THERE]))) {
		hosts_assert_one(hosts, true, text);
		return stands ? DOUBT_RAN : RAN;
	}
	if (vm_ended(&hosts->vms[HERE]))
		return lost(hosts, doubt);
	hosts_assert_one(hosts, false, text);
	if (doubt)
		return DOUBT_NEVER;
	return hosts_said(hosts, HERE, "\"phase\":\"commit\"") &&
			       hosts_said(hosts, HERE, "\"end\":\"refused\"")
		       ? NEVER
		       : KEPT;
}

static const struct row *row_of(const char *what)
{
	for (size_t i = 0; i < table.n; i++)
		if (strcmp(table.rows[i].what, what) == 0)
			return &table.rows[i];
	fail_msg("docs/protocol.md: there is no row '%s'", what);
	return NULL;
}

static void bring_about(const char *program, const struct drive *drive)
{
	const char *cell = row_of(drive->what)->cells[drive->column];
	const struct meaning *meaning = meaning_of(cell);
	struct hosts_plan plan = drive->plan;
	enum ending ending;
	struct hosts hosts;
	char text[512];

	plan.fails[HERE] = drive->here;
	plan.fails[THERE] = drive->there;
	snprintf(text, sizeof(text), "%s, column %d (%s), at %s %s", drive->what,
		 (int)drive->column + 1, cell, drive->here ? drive->here : "",
		 drive->there ? drive->there : "");
	hosts_open(&hosts, program, &plan);
	run(&hosts, drive, meaning->told);
	ending = settle(&hosts, text);
	print_message("%s: %s\n", text, ending_names[ending]);
	if (ending != drive->ending)
		fail_msg("%s: it ended as '%s', not as '%s'; here was said:\n%s", text,
			 ending_names[ending], ending_names[drive->ending],
			 hosts.movers[HERE].said);
	if (!(meaning->endings & BIT(ending)))
		fail_msg("%s: the document does not name '%s'", text, ending_names[ending]);
	if (meaning->told && !hosts_said(&hosts, HERE, "\"warning\""))
		fail_msg("%s: nobody was told", text);
	hosts_close(&hosts);
}

static void each_cell_is_what_the_document_says(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(drives); i++)
		bring_about(*state, &drives[i]);
}

/* ---- messages that come when they should not ---- */

/* Each side's events, ON_DONE of the phase that is on, and how many of them bring it to a column. */
static const enum handover_event_kind life_here[] = {
	ON_DONE, ON_DONE, ON_DONE,  ON_REHEARSED, ON_DONE, ON_DONE,
	ON_DONE, ON_DONE, ON_READY, ON_MARKED,	  ON_RAN,
};
static const size_t until_here[COLUMNS] = { 5, 9, 10, 10, 11 };
static const enum handover_event_kind life_there[] = {
	ON_DONE, ON_DONE, ON_DONE, ON_DONE, ON_DONE, ON_COMMIT, ON_RESULT_RAN, ON_DONE,
};
static const size_t until_there[COLUMNS] = { 2, 5, 6, 7, 8 };

static const struct handover_id this_move = { .token = "this move's own", .generation = 3 };

static void assert_ignored(uint32_t wanted, const void *before, const void *after, size_t len,
			   enum handover_event_kind kind)
{
	/* Who runs says so to each COMMIT. */
	if ((wanted & ~(uint32_t)(DO_REFUSE | DO_SEND_RAN)) || memcmp(before, after, len) != 0)
		fail_msg("%s was acted on", handover_event_name(kind));
}

static bool was_said(const enum handover_event_kind *life, size_t n, enum handover_event_kind kind)
{
	for (size_t i = 0; i < n; i++)
		if (life[i] == kind)
			return true;
	return false;
}

/* Of another move, of an older ownership, or said before: false when this message is none of them. */
static bool is_odd(int way, bool was, struct handover_event *event)
{
	event->id = this_move;
	event->id.token[0] ^= way == 0;
	event->id.generation -= way == 1;
	return way < 2 || was;
}

static void messages_move_nothing_here(size_t n)
{
	struct handover_source source, after;

	assert_int_equal(handover_source_start(&this_move, &source), DO_PHASE);
	for (size_t i = 0; i < n; i++) {
		const struct handover_event event = { .kind = life_here[i],
						      .phase = source.phase,
						      .id = this_move };

		(void)!handover_source_step(&source, &event);
	}
	for (int kind = HANDOVER_FIRST_MESSAGE; kind < HANDOVER_EVENTS; kind++)
		for (int way = 0; way < 3; way++) {
			struct handover_event event = { .kind = (enum handover_event_kind)kind };

			after = source;
			if (is_odd(way, was_said(life_here, n, event.kind), &event))
				assert_ignored(handover_source_step(&after, &event), &source,
					       &after, sizeof(after), event.kind);
		}
}

static void messages_move_nothing_there(size_t n)
{
	struct handover_destination destination, after;

	assert_int_equal(handover_destination_start(&this_move, 0, &destination), DO_PHASE);
	for (size_t i = 0; i < n; i++) {
		const struct handover_event event = { .kind = life_there[i],
						      .phase = destination.phase,
						      .id = this_move };

		(void)!handover_destination_step(&destination, &event);
	}
	for (int kind = HANDOVER_FIRST_MESSAGE; kind < HANDOVER_EVENTS; kind++)
		for (int way = 0; way < 3; way++) {
			struct handover_event event = { .kind = (enum handover_event_kind)kind };

			after = destination;
			if (is_odd(way, was_said(life_there, n, event.kind), &event))
				assert_ignored(handover_destination_step(&after, &event),
					       &destination, &after, sizeof(after), event.kind);
		}
}

static void odd_messages_are_what_the_document_says(void **state _unused_)
{
	for (int column = 0; column < COLUMNS; column++) {
		assert_string_equal(row_of(MESSAGES)->cells[column], "nothing");
		messages_move_nothing_here(until_here[column]);
		messages_move_nothing_there(until_there[column]);
	}
}

/* ---- the document has nothing else ---- */

static unsigned int brought_about(const char *what, int column)
{
	unsigned int endings = 0;

	for (size_t i = 0; i < ARRAY_SIZE(drives); i++)
		if ((int)drives[i].column == column && strcmp(drives[i].what, what) == 0)
			endings |= BIT(drives[i].ending);
	return endings;
}

static void the_document_names_nothing_else(void **state _unused_)
{
	static const char *const columns[COLUMNS] = {
		"check .. state",
		"commit, until `given` is durable",
		"COMMIT under way, no result",
		"`ran` is durable",
		"run .. end",
	};

	assert_string_equal(table.rows[0].what, "what fails");
	for (int column = 0; column < COLUMNS; column++)
		assert_string_equal(table.rows[0].cells[column], columns[column]);
	for (size_t i = 1; i < table.n; i++)
		for (int column = 0; column < COLUMNS; column++) {
			const struct row *row = &table.rows[i];
			unsigned int is = brought_about(row->what, column),
				     should = meaning_of(row->cells[column])->endings;

			if (strcmp(row->what, MESSAGES) != 0 && is != should)
				fail_msg("%s, column %d (%s): 0x%x is brought about, not 0x%x",
					 row->what, column + 1, row->cells[column], is, should);
		}
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return EXIT_STATUS_USAGE;

	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_document_names_nothing_else),
		cmocka_unit_test(odd_messages_are_what_the_document_says),
		cmocka_unit_test_prestate(each_cell_is_what_the_document_says, argv[1]),
	};

	if (argc > 2)
		cmocka_set_test_filter(argv[2]);
	return cmocka_run_group_tests(tests, read_table, NULL);
}
