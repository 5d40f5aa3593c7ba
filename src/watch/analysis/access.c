/* SPDX-License-Identifier: Apache-2.0 */
/* What register accesses tell beyond their number: which instructions, which registers, the same answer again. */
#include <string.h>

#include "watch/analysis/internal.h"

/* The instruction's bytes stand in the record wherever it lies beside RIP. False: not known, or not all there. */
static bool copy_code(const struct record_access *access, struct analysis_site *site)
{
	uint64_t from = access->instruction - record_linear_rip(access) + RECORD_WINDOW;
	unsigned int first = RECORD_WINDOW - MIN(access->n_before, RECORD_WINDOW);
	unsigned int end = RECORD_WINDOW + MIN(access->n_after, RECORD_WINDOW);

	if (!access->length || access->length > sizeof(site->code) || from < first || from >= end ||
	    access->length > end - from)
		return false;
	site->length = site->n_code = access->length;
	memcpy(site->code, &access->code[from], access->length);
	return true;
}

static void site_begin(struct analysis_site *site, const struct watch_record *record)
{
	const struct record_access *access = &record->access;

	memset(site, 0, sizeof(*site));
	site->device = record->device;
	site->mode = access->mode;
	site->verdict = access->verdict;
	if (copy_code(access, site))
		return;
	site->n_code = MIN(access->n_after, RECORD_WINDOW);
	memcpy(site->code, &access->code[RECORD_WINDOW], site->n_code);
}

/* 0: the record has none. */
static uint64_t instruction_of(const struct record_access *access)
{
	switch (access->verdict) {
	case RECORD_INSN_ON:
	case RECORD_INSN_BEFORE:
	case RECORD_INSN_PAIRED:
	case RECORD_INSN_STEPPED:
		return access->instruction;
	default:
		return access->mode ? record_linear_rip(access) : 0;
	}
}

static void tally_site(struct analysis *analysis, const struct watch_record *record,
		       uint64_t instruction)
{
	struct analysis_tables *tables = &analysis->tables;
	const struct tally_key key = { .instruction = instruction, .device = record->device };
	struct analysis_site *site;
	bool is_new;
	uint32_t place = tally_add(&tables->sites, &key, &is_new);

	site = &tables->code[place];
	if (is_new) {
		site_begin(site, record);
		site->instruction = instruction;
	}
	site->ticks += MIN(record->duration, UINT64_MAX - site->ticks);
}

/* Whether this vCPU's access before was the same read with the same answer: nothing else happened between. */
static bool is_poll(struct analysis_vcpu *vcpu, const struct watch_record *record,
		    const struct tally_key *key)
{
	bool poll = vcpu->has_last && tally_same(&vcpu->last, key) &&
		    vcpu->last_size == record->size && vcpu->last_data == record->data &&
		    !record->repeat;

	vcpu->has_last = !(record->flags & RECORD_WRITE);
	vcpu->last = *key;
	vcpu->last_size = record->size;
	vcpu->last_data = record->data;
	return poll && vcpu->has_last;
}

static void tally_poll(struct analysis *analysis, const struct watch_record *record,
		       const struct tally_key *key)
{
	struct analysis_tables *tables = &analysis->tables;
	bool is_new;
	uint32_t place;

	if (record->source >= analysis->window.n_vcpus ||
	    !is_poll(&analysis->vcpus[record->source], record, key))
		return;
	place = tally_add(&tables->polls, key, &is_new);
	tables->answers[place] = record->data;
}

void analysis_tally_access(struct analysis *analysis, const struct watch_record *record)
{
	struct analysis_tables *tables = &analysis->tables;
	uint64_t instruction = instruction_of(&record->access);
	struct tally_key key = {
		.address = record->address,
		.device = record->device,
		.kind = record->kind,
	};
	bool is_new;

	if (record->flags & RECORD_WRITE)
		tally_add(&tables->writes, &key, &is_new);
	if (record->flags & RECORD_UNCLAIMED)
		tally_add(&tables->unclaimed, &key, &is_new);
	if (instruction)
		tally_site(analysis, record, instruction);
	key.instruction = instruction;
	tally_poll(analysis, record, &key);
}
