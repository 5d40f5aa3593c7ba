/* SPDX-License-Identifier: Apache-2.0 */
/* From a row of a table to the filter that lets only its requests through. */
#include <inttypes.h>
#include <string.h>

#include "view/terminal/ui.h"

#define TERM_MAX 160

static void device_term(const struct terminal_ui *ui, const struct terminal_key *key, char *term,
			size_t size)
{
	const char *name = source_device_name(ui->view->source, key->device);

	if (strcmp(name, "-") == 0)
		snprintf(term, size, "unclaimed");
	else
		snprintf(term, size, "dev==%s", name);
}

static void address_term(const struct terminal_key *key, char *term, size_t size)
{
	if (key->kind == RECORD_PIO)
		snprintf(term, size, "port==0x%" PRIx64, key->value);
	else
		snprintf(term, size, "%s && address==0x%" PRIx64, view_kind_name(key->kind),
			 key->value);
}

static const char *const disk_operations[] = {
	[RECORD_DISK_READ] = "read",	       [RECORD_DISK_WRITE] = "write",
	[RECORD_DISK_FLUSH] = "flush",	       [RECORD_DISK_DISCARD] = "discard",
	[RECORD_DISK_WRITE_ZEROES] = "zeroes", [RECORD_DISK_OTHER] = "other",
};

static void operation_term(const struct terminal_key *key, char *term, size_t size)
{
	if (key->kind == RECORD_DISK && key->detail < ARRAY_SIZE(disk_operations))
		snprintf(term, size, "op==%s", disk_operations[key->detail]);
	else
		snprintf(term, size, "%s && %s", view_kind_name(key->kind),
			 key->detail ? "out" : "in");
}

static void instruction_term(const struct terminal_ui *ui, const struct terminal_key *key,
			     char *term, size_t size)
{
	char device[TERM_MAX], what[TERM_MAX];

	device_term(ui, key, device, sizeof(device));
	if (key->kind)
		operation_term(key, what, sizeof(what));
	else
		snprintf(what, sizeof(what), "%s==0x%" PRIx64, key->detail ? "rip" : "insn",
			 key->value);
	snprintf(term, size, "%.60s && %.60s", device, what);
}

/* False: the language has no words for it. */
static bool row_term(const struct terminal_ui *ui, enum terminal_tab tab,
		     const struct terminal_key *key, char *term, size_t size)
{
	if (tab == TAB_DEVICES)
		device_term(ui, key, term, size);
	else if (tab == TAB_ADDRESSES)
		address_term(key, term, size);
	else if (tab == TAB_INSTRUCTIONS)
		instruction_term(ui, key, term, size);
	else if (key->ring < source_header(ui->view->source)->n_vcpus)
		snprintf(term, size, "vcpu==%" PRIu32, key->ring);
	else
		return false;
	return true;
}

void terminal_narrow(struct terminal_ui *ui)
{
	const struct terminal_place *place = terminal_ui_place(ui);
	enum terminal_tab tab = place->kind == PLACE_SITES ? TAB_INSTRUCTIONS : place->scope.tab;
	const struct terminal_line *line = &ui->shown[place->selected];
	bool table = place->kind == PLACE_TABLE || place->kind == PLACE_SITES;
	char term[2 * TERM_MAX], text[FILTER_TEXT_MAX + sizeof(term) + 8];
	const char *before = ui->filter.in_force;

	if (!table || place->selected >= ui->n_shown || line->other ||
	    !row_term(ui, tab, &line->key, term, sizeof(term))) {
		snprintf(ui->message, sizeof(ui->message), "there is no filter for this");
		return;
	}
	snprintf(text, sizeof(text), before[0] ? "(%s) && %s" : "%s%s", before, term);
	if (strlen(text) >= FILTER_TEXT_MAX) {
		snprintf(ui->message, sizeof(ui->message), "the filter would be too long");
		return;
	}
	terminal_filter_open(ui);
	(void)terminal_filter_set(ui, text); /* what is wrong in it is shown, to be repaired */
}
