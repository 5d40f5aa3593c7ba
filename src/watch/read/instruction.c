/* SPDX-License-Identifier: Apache-2.0 */
#include "watch/read/instruction.h"

#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "watch/read/instruction_boundary.h"
#include "watch/read/instruction_operand.h"

#define SETS_BITS 8   /* of the sets of places kept */
#define WAYS 2	      /* places in a set */
#define PAGES 64      /* translations kept, a power of two */
#define HABIT_SURE 8  /* so many exits stood the same way, and none the other */
#define BUG_PORT 0x7e /* KVM steps over OUT to it at once, whatever it does at other ports */
#define PAGE_SHIFT 12
#define PAGE (1U << PAGE_SHIFT)
#define KERNEL_HALF (1ULL << 63)

/*
 * Where the instruction may begin is a set of distances before RIP, 0 to 15, in the bits of a word: bit 0 is
 * the instruction on RIP. Each piece of evidence takes bits away; a verdict is one bit that is left.
 */
#define ON_RIP 1U

/* What a place is known by: where, the bytes around it, and what was done there. */
struct site_key {
	uint64_t rip; /* linear */
	uint8_t kind, flags, size, mode;
	uint8_t n_before, n_after;
	uint8_t code[2 * RECORD_WINDOW]; /* 0 where not known */
};

struct site {
	struct site_key key;
	uint8_t n_accesses;
	bool on_missing;     /* bytes of the instruction on RIP are not known */
	bool before_missing; /* bytes before RIP are not known, or there are too many candidates */
	uint16_t
		known_before; /* the bit of the one instruction that ends on RIP, once that is known */
	uint32_t asked_boundaries; /* how many were known when they were last asked for it */
	bool asked_code;
	struct insn_access accesses[INSN_ACCESSES];
};

struct known_page {
	uint64_t linear, cr3, physical; /* page numbers */
	bool valid;
};

/* How exits of one class stood. */
struct habit {
	uint32_t on, before;
};

/* The first half of an access in two: what reads, and may go on to write. */
struct first_half {
	bool valid;
	bool same_place; /* what it writes is what it read */
	uint8_t size, length;
	uint64_t start; /* linear */
	uint64_t address;
};

struct judge {
	insn_translate_fn *translate;
	insn_read_fn *read;
	void *ctx;
	uint64_t last_sequence;
	struct first_half half;
	struct habit habits[2][2][3][3]; /* PIO or MMIO, write, plain or string or REP, mode */
	struct known_page pages[PAGES];
	struct boundaries boundaries;
	uint8_t latest[1 << SETS_BITS]; /* the way that was used last */
	struct site sites[1 << SETS_BITS][WAYS];
};

struct judge *judge_new(insn_translate_fn *translate, insn_read_fn *read, void *ctx)
{
	struct judge *judge = calloc(1, sizeof(*judge));

	if (!judge)
		return NULL;
	judge->translate = translate;
	judge->read = read;
	judge->ctx = ctx;
	return judge;
}

void judge_free(struct judge *judge)
{
	free(judge);
}

/* Translation */

/* Linear pages of the kernel's half are the same in each process. */
static struct known_page *page_of(struct judge *judge, uint64_t cr3, uint64_t linear)
{
	uint64_t page = linear >> PAGE_SHIFT;

	if (!(linear & KERNEL_HALF))
		page ^= cr3 >> PAGE_SHIFT;
	return &judge->pages[(page ^ (page >> 6)) % PAGES];
}

/* What was once seen to be mapped so is believed; what was not is asked again. */
static bool judge_maps(void *ctx, uint64_t cr3, uint64_t linear, uint64_t physical)
{
	struct judge *judge = ctx;
	struct known_page *page = page_of(judge, cr3, linear);
	struct known_page now = {
		.linear = linear >> PAGE_SHIFT,
		.cr3 = linear & KERNEL_HALF ? 0 : cr3,
		.physical = physical >> PAGE_SHIFT,
		.valid = true,
	};
	uint64_t found;

	if (page->valid && page->linear == now.linear && page->cr3 == now.cr3 &&
	    page->physical == now.physical)
		return true;
	if (judge->translate(judge->ctx, cr3, linear, &found) != 1 || found != physical)
		return false;
	*page = now;
	return true;
}

/* Habits */

static unsigned int mode_index(uint8_t mode)
{
	return mode == 64 ? 2 : mode == 32;
}

static struct habit *habit_of(struct judge *judge, const struct watch_record *record,
			      const struct insn_access *access)
{
	unsigned int form = access->repeated ? 2 : access->string;

	return &judge->habits[record->kind == RECORD_MMIO][record->flags & RECORD_WRITE][form]
			     [mode_index(record->access.mode)];
}

static bool has_habit(const struct watch_record *record)
{
	return record->kind != RECORD_PIO || record->address != BUG_PORT;
}

static void learn_habit(struct judge *judge, const struct watch_record *record,
			const struct insn_access *access)
{
	struct habit *habit = habit_of(judge, record, access);
	uint32_t *count = access->before ? &habit->before : &habit->on;

	if (has_habit(record) && *count < UINT32_MAX)
		(*count)++;
}

/* Whether exits like this one always stood as the candidate would have it, or always otherwise. */
static bool is_habit(struct judge *judge, const struct watch_record *record,
		     const struct insn_access *access, bool otherwise)
{
	const struct habit *habit = habit_of(judge, record, access);
	bool before = (access->before != 0) != otherwise;

	return has_habit(record) && (before ? habit->before : habit->on) >= HABIT_SURE &&
	       (before ? habit->on : habit->before) == 0;
}

/* Sites */

static bool make_key(const struct watch_record *record, struct site_key *ret_key)
{
	const struct record_access *access = &record->access;
	struct site_key *key = ret_key;

	if (access->mode != 16 && access->mode != 32 && access->mode != 64)
		return false;
	memset(key, 0, sizeof(*key));
	key->rip = record_linear_rip(access);
	key->kind = record->kind;
	key->flags = record->flags & RECORD_WRITE;
	key->size = record->size;
	key->mode = access->mode;
	key->n_before = MIN(access->n_before, RECORD_WINDOW);
	key->n_after = MIN(access->n_after, RECORD_WINDOW);
	memcpy(key->code + RECORD_WINDOW - key->n_before,
	       access->code + RECORD_WINDOW - key->n_before, key->n_before + key->n_after);
	return true;
}

/* Looks for all that could have made such an access. */
static void fill_site(struct judge *judge, struct site *site, const struct watch_record *record)
{
	const uint8_t *rip = site->key.code + RECORD_WINDOW;
	unsigned int n = 0;

	site->before_missing = site->key.n_before < INSN_LENGTH_MAX;
	site->on_missing = !insn_find_accesses(record, rip, site->key.n_after, 0, site->accesses,
					       &n);
	for (unsigned int before = 1; before <= MIN(site->key.n_before, INSN_LENGTH_MAX); before++)
		if (!insn_find_accesses(record, rip - before, before, before, site->accesses, &n))
			site->before_missing = true;
	site->n_accesses = (uint8_t)n;
	boundary_add_straight(&judge->boundaries, site->key.rip, site->key.mode, rip,
			      site->key.n_after);
}

static unsigned int set_of(const struct site_key *key)
{
	uint64_t mixed = key->rip ^ (uint64_t)key->flags << 32 ^ (uint64_t)key->size << 40;

	return (unsigned int)(mixed * 0x9e3779b97f4a7c15ULL >> (64 - SETS_BITS));
}

static struct site *site_of(struct judge *judge, const struct watch_record *record)
{
	struct site_key key;
	struct site *set, *site;
	unsigned int index;

	if (!make_key(record, &key))
		return NULL;
	index = set_of(&key);
	set = judge->sites[index];
	for (unsigned int way = 0; way < WAYS; way++) {
		if (memcmp(&set[way].key, &key, sizeof(key)) != 0)
			continue;
		judge->latest[index] = (uint8_t)way;
		return &set[way];
	}
	judge->latest[index] = (uint8_t)((judge->latest[index] + 1) % WAYS);
	site = &set[judge->latest[index]];
	memset(site, 0, offsetof(struct site, accesses));
	site->key = key;
	fill_site(judge, site, record);
	return site;
}

/* Judging */

struct candidates {
	uint16_t fit; /* those that may have made the access */
	uint16_t
		sure; /* of them, those whose address was seen to be the access's, if in a page only */
	uint8_t first[INSN_LENGTH_MAX + 1]; /* the access of each, in the site */
};

/* Where memory can be looked at, an address that is right leaves no room for one that only ends alike. */
static void find_candidates(struct judge *judge, const struct site *site,
			    const struct watch_record *record, struct candidates *ret)
{
	insn_maps_fn *maps = judge->translate ? judge_maps : NULL;
	uint16_t by_fit[FIT_WHOLE + 1] = { 0 };

	for (unsigned int i = site->n_accesses; i-- > 0;) {
		const struct insn_access *access = &site->accesses[i];
		enum insn_fit fit = insn_fits(access, record, maps, judge);

		by_fit[fit] |= (uint16_t)(1U << access->before);
		if (fit != FIT_NOT)
			ret->first[access->before] = (uint8_t)i;
	}
	ret->sure = by_fit[FIT_WHOLE] ? by_fit[FIT_WHOLE] : by_fit[FIT_OFFSET];
	ret->fit = ret->sure | by_fit[FIT_MAYBE];
}

static bool is_one(uint16_t set)
{
	return set && !(set & (set - 1));
}

/* Code that is longer than the record's window, from the guest's memory as it is now. */
static bool read_code(struct judge *judge, const struct watch_record *record, uint64_t linear,
		      uint8_t *buf, size_t len)
{
	while (len) {
		size_t n = MIN(len, PAGE - linear % PAGE);
		uint64_t physical = linear;

		if (insn_is_paged(&record->access) &&
		    (record->access.mode != 64 ||
		     judge->translate(judge->ctx, record->access.cr3, linear, &physical) != 1))
			return false;
		if (judge->read(judge->ctx, physical, buf, n) < 0)
			return false;
		linear += n;
		buf += n;
		len -= n;
	}
	return true;
}

static unsigned int agree_on_last(struct judge *judge, const struct site_key *key,
				  const struct watch_record *record)
{
	uint8_t code[BOUNDARY_FAR];

	if (!judge->translate || !judge->read || key->rip < BOUNDARY_FAR ||
	    !read_code(judge, record, key->rip - BOUNDARY_FAR, code, sizeof(code)) ||
	    memcmp(code + BOUNDARY_FAR - key->n_before, key->code + RECORD_WINDOW - key->n_before,
		   key->n_before) != 0)
		return 0;
	return boundary_agree_on_last(key->mode, code);
}

/* Which instruction ends on RIP, whatever it does? */
static void ask_code(struct judge *judge, struct site *site, const struct watch_record *record)
{
	const struct site_key *key = &site->key;
	unsigned int found = 0;

	if (site->asked_boundaries != judge->boundaries.n_added) {
		site->asked_boundaries = judge->boundaries.n_added;
		found = boundary_find_last(&judge->boundaries, key->rip, key->mode,
					   key->code + RECORD_WINDOW, key->n_before);
	}
	if (!found && !site->asked_code) {
		site->asked_code = true;
		found = agree_on_last(judge, key, record);
	}
	if (found)
		site->known_before = (uint16_t)(1U << found);
}

/* The instruction that ends on RIP is known: another that seems to, does not. */
static void keep_known(struct judge *judge, struct site *site, const struct watch_record *record,
		       struct candidates *c)
{
	uint16_t before = c->fit & (uint16_t)~ON_RIP;

	if (before && !is_one(c->fit) && !site->known_before)
		ask_code(judge, site, record);
	if (!site->known_before)
		return;
	c->fit &= site->known_before | ON_RIP;
	c->sure &= c->fit;
}

/* One on RIP and one before it: where do exits like this stand? */
static void keep_habitual(struct judge *judge, const struct site *site,
			  const struct watch_record *record, struct candidates *c)
{
	uint16_t kept = c->fit;

	for (unsigned int i = 0; i <= INSN_LENGTH_MAX; i++)
		if ((c->fit & (1U << i)) &&
		    is_habit(judge, record, &site->accesses[c->first[i]], true))
			kept &= (uint16_t) ~(1U << i);
	if (kept) {
		c->fit = kept;
		c->sure &= kept;
	}
}

/* Whether nothing that was not looked at could be it as well. */
static bool is_complete(struct judge *judge, const struct site *site,
			const struct watch_record *record, const struct candidates *c)
{
	unsigned int before = (unsigned int)__builtin_ctz(c->fit);
	const struct insn_access *access = &site->accesses[c->first[before]];

	if (before)
		return (!site->before_missing || site->known_before == c->fit) &&
		       (!site->on_missing || is_habit(judge, record, access, false));
	return !site->before_missing || is_habit(judge, record, access, false);
}

static void name_instruction(struct watch_record *record, const struct site *site,
			     const struct insn_access *access, enum record_verdict verdict)
{
	record->access.verdict = verdict;
	record->access.instruction = site->key.rip - access->before;
	record->access.length = access->length;
	if (site->key.mode != 64)
		record->access.instruction = (uint32_t)record->access.instruction;
}

/* What is known of the site from now on. */
static void learn_site(struct judge *judge, struct site *site, const struct insn_access *access)
{
	const uint8_t *start = site->key.code + RECORD_WINDOW - access->before;

	if (!access->before || site->known_before)
		return;
	site->known_before = (uint16_t)(1U << access->before);
	boundary_add(&judge->boundaries, site->key.rip - access->before, site->key.mode, start,
		     access->before + site->key.n_after);
}

/* The second half of an access whose first half is the record before: the same instruction, now at its end or, repeated, still
 * on it. NULL: it is not that. */
static const struct insn_access *find_second_half(const struct judge *judge,
						  const struct site *site,
						  const struct watch_record *record,
						  const struct candidates *c)
{
	const struct first_half *half = &judge->half;

	if (!half->valid || !(record->flags & RECORD_WRITE) || record->kind != RECORD_MMIO)
		return NULL;
	if (half->same_place && (record->address != half->address || record->size != half->size))
		return NULL;
	for (unsigned int i = 0; i <= INSN_LENGTH_MAX; i++) {
		const struct insn_access *access = &site->accesses[c->first[i]];

		if ((c->fit & (1U << i)) && site->key.rip - i == half->start &&
		    access->length == half->length)
			return access;
	}
	return NULL;
}

static void judge_site(struct judge *judge, struct site *site, struct watch_record *record,
		       const struct insn_access **ret_access)
{
	struct candidates c = { 0 };
	const struct insn_access *access;
	bool alone;

	find_candidates(judge, site, record, &c);
	access = find_second_half(judge, site, record, &c);
	if (access) {
		name_instruction(record, site, access, RECORD_INSN_PAIRED);
		learn_site(judge, site, access);
		return;
	}
	if (!c.sure)
		return;
	alone = is_one(c.fit);
	record->access.verdict = RECORD_INSN_AMBIGUOUS;
	keep_known(judge, site, record, &c);
	if (c.fit && !is_one(c.fit))
		keep_habitual(judge, site, record, &c);
	if (!is_one(c.fit) || !c.sure || !is_complete(judge, site, record, &c))
		return;
	access = &site->accesses[c.first[__builtin_ctz(c.fit)]];
	name_instruction(record, site, access,
			 access->before ? RECORD_INSN_BEFORE : RECORD_INSN_ON);
	learn_site(judge, site, access);
	if (alone)
		learn_habit(judge, record, access);
	*ret_access = access;
}

/* A read that its instruction may follow up with a write. */
static void note_first_half(struct judge *judge, const struct watch_record *record,
			    const struct insn_access *access)
{
	judge->half.valid = access && !(record->flags & RECORD_WRITE) &&
			    record->kind == RECORD_MMIO && access->also_writes;
	if (!judge->half.valid)
		return;
	judge->half.same_place = access->reads_and_writes;
	judge->half.size = record->size;
	judge->half.length = access->length;
	judge->half.start = record->access.instruction;
	judge->half.address = record->address;
}

/* What was stepped stays as it is. Its length is filled in, and it is learned from, where it fits. */
static void take_stepped(struct judge *judge, struct site *site, struct watch_record *record)
{
	uint64_t before = site->key.rip - record->access.instruction;
	struct candidates c = { 0 };

	find_candidates(judge, site, record, &c);
	if (before > INSN_LENGTH_MAX || !(c.fit & (1U << before)))
		return;
	name_instruction(record, site, &site->accesses[c.first[before]], RECORD_INSN_STEPPED);
	learn_site(judge, site, &site->accesses[c.first[before]]);
}

static void judge_access(struct judge *judge, struct watch_record *record)
{
	const struct insn_access *access = NULL;
	struct site *site;

	record->access.verdict = RECORD_INSN_UNKNOWN;
	record->access.instruction = record->access.registers.rip;
	record->access.length = 0;
	site = site_of(judge, record);
	if (site) {
		record->access.instruction = site->key.rip;
		judge_site(judge, site, record, &access);
	}
	note_first_half(judge, record, access);
}

void judge_record(struct judge *judge, struct watch_record *record)
{
	bool access = record->kind == RECORD_PIO || record->kind == RECORD_MMIO;
	struct site *site;

	if (record->sequence != judge->last_sequence + 1)
		judge->half.valid = false;
	judge->last_sequence = record->sequence;
	if (!access)
		return;
	if (record->access.verdict == RECORD_INSN_NOT_JUDGED) {
		judge_access(judge, record);
		return;
	}
	judge->half.valid = false;
	if (record->access.verdict != RECORD_INSN_STEPPED)
		return;
	site = site_of(judge, record);
	if (site)
		take_stepped(judge, site, record);
}
