/* SPDX-License-Identifier: Apache-2.0 */
#include "move/pages/pack_policy.h"

#define GAIN_ON 125 /* percent of the rate without packing */
#define GAIN_OFF 105
#define STOLEN_ON 130
#define STOLEN_OFF 170
#define DOUBTS 2
#define LIMITED_PERCENT 55   /* of the senders' time in sending */
#define SAMPLE_BYTES KIB(64) /* fewer tell nothing */

void pack_policy_init(struct pack_policy *policy)
{
	*policy = (struct pack_policy){ .reason = PACK_NOT_MEASURED, .stolen = 100 };
}

static uint64_t scale(uint64_t value, uint64_t by, uint64_t over)
{
	__uint128_t scaled = over ? (__uint128_t)value * by / over : 0;

	return scaled > UINT64_MAX ? UINT64_MAX : (uint64_t)scaled;
}

/* Half of the old, half of the new: a guest's pages change their kind within a second. */
static uint64_t blend(uint64_t old, uint64_t new)
{
	return old ? old / 2 + new / 2 : new;
}

static void measure_wire(struct pack_policy *policy, const struct pack_look *look)
{
	uint64_t all_ns = look->ns * look->threads;

	policy->limited = look->wire_bytes && all_ns &&
			  look->send_ns >= scale(all_ns, LIMITED_PERCENT, 100);
	if (policy->limited)
		policy->wire_rate = blend(policy->wire_rate,
					  scale(look->wire_bytes, NSEC_PER_SEC, look->ns));
}

static void measure_pack(struct pack_policy *policy, const struct pack_look *look)
{
	uint64_t rate;

	if (look->pack_in < SAMPLE_BYTES || !look->pack_ns)
		return;
	rate = scale(look->pack_in, NSEC_PER_SEC, look->pack_ns);
	policy->pack_rate = blend(policy->pack_rate, scale(rate, look->threads, 1));
	policy->ratio = (uint32_t)blend(
		policy->ratio, MIN(MAX(scale(look->pack_out, 1000, look->pack_in), 1U), 4000U));
	policy->stolen = (uint32_t)blend(
		policy->stolen, MIN(scale(look->pack_ns, 100, MAX(look->pack_cpu_ns, 1U)), 10000U));
}

/* The guest's bytes per second with packing, in percent of those without. */
static uint64_t gain(const struct pack_policy *policy)
{
	uint64_t packed;

	if (!policy->ratio || !policy->wire_rate)
		return 0;
	packed = scale(policy->wire_rate, 1000, policy->ratio);
	return scale(MIN(packed, policy->pack_rate), 100, policy->wire_rate);
}

static enum pack_reason judge_off(const struct pack_policy *policy)
{
	if (!policy->limited)
		return PACK_WIRE_FASTER;
	if (!policy->ratio)
		return PACK_NOT_MEASURED;
	if (policy->stolen > STOLEN_ON)
		return PACK_CPU_SHORT;
	return gain(policy) >= GAIN_ON ? PACK_PAYS : PACK_NO_GAIN;
}

static enum pack_reason judge_on(struct pack_policy *policy, const struct pack_look *look)
{
	enum pack_reason doubt = PACK_PAYS;

	policy->probe_ns = policy->limited ? 0 : policy->probe_ns + look->ns;
	if (policy->probe_ns >= PACK_PROBE_NS)
		return PACK_PROBES;
	if (policy->stolen > STOLEN_OFF)
		doubt = PACK_CPU_SHORT;
	else if (gain(policy) < GAIN_OFF)
		doubt = PACK_NO_GAIN;
	policy->doubts = doubt == PACK_PAYS ? 0 : policy->doubts + 1;
	return policy->doubts < DOUBTS ? PACK_PAYS : doubt;
}

void pack_policy_judge(struct pack_policy *policy, const struct pack_look *look)
{
	measure_wire(policy, look);
	measure_pack(policy, look);
	policy->reason = policy->on ? judge_on(policy, look) : judge_off(policy);
	policy->on = policy->reason == PACK_PAYS;
	if (!policy->on)
		policy->probe_ns = policy->doubts = 0;
}

const char *pack_reason_text(enum pack_reason reason)
{
	static const char *const texts[] = {
		[PACK_NOT_MEASURED] = "not packed: not measured yet",
		[PACK_WIRE_FASTER] = "not packed: the wire is faster than the CPU",
		[PACK_NO_GAIN] = "not packed: pages do not get small enough",
		[PACK_CPU_SHORT] = "not packed: the CPU is wanted by others",
		[PACK_PAYS] = "packed: the wire is slower than packing",
		[PACK_PROBES] = "not packed: the wire is measured again",
	};

	return texts[reason];
}
