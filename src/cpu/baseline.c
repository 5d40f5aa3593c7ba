/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/baseline.h"

#include <errno.h>

#include "cpu/features.h"

static void add_note(struct baseline *baseline, size_t host, enum cpu_model model, const char *what)
{
	if (baseline->n_notes == BASELINE_NOTES_MAX) {
		baseline->notes_cut = true;
		return;
	}
	baseline->notes[baseline->n_notes++] = (struct baseline_note){ host, model, what };
}

/* True when every host can run the model; notes for those that cannot. */
static bool all_run(const struct baseline_host *hosts, size_t n_hosts, enum cpu_model model,
		    struct baseline *baseline)
{
	const char *names[CPU_LACKS_MAX];
	bool all = true;

	for (size_t i = 0; i < n_hosts; i++) {
		size_t count = cpu_model_lacks(model, hosts[i].supported, names, CPU_LACKS_MAX);

		all &= count == 0;
		for (size_t n = 0; n < MIN(count, CPU_LACKS_MAX); n++)
			add_note(baseline, i, model, names[n]);
	}
	return all;
}

/* A guest gets each mitigation that its host has; where they differ, a move the one way is refused. */
static void compare_mitigations(const struct baseline_host *hosts, size_t n_hosts,
				struct baseline *baseline)
{
	for (size_t f = 0; f < cpu_features_count; f++) {
		const struct cpu_feature *feature = &cpu_features[f];
		size_t having = 0;

		if (feature->class != FEATURE_MITIGATION)
			continue;
		for (size_t i = 0; i < n_hosts; i++)
			having += cpu_feature_in(hosts[i].supported, feature);
		if (having == 0 || having == n_hosts)
			continue;
		for (size_t i = 0; i < n_hosts; i++)
			if (!cpu_feature_in(hosts[i].supported, feature))
				add_note(baseline, i, CPU_MODEL_HOST, feature->name);
	}
}

int cpu_baseline(const struct baseline_host *hosts, size_t n_hosts, struct baseline *ret_baseline)
{
	static const enum cpu_model best_first[] = { CPU_MODEL_V3, CPU_MODEL_V2 };
	struct baseline baseline = { .model = CPU_MODEL_HOST, .address_bits = UINT32_MAX };

	if (n_hosts == 0)
		return -EINVAL;
	if (n_hosts > BASELINE_HOSTS_MAX)
		return -E2BIG;
	for (size_t i = 0; i < n_hosts; i++) {
		baseline.vendors_differ |= cpuid_vendor(hosts[i].supported) !=
					   cpuid_vendor(hosts[0].supported);
		baseline.address_bits = MIN(baseline.address_bits,
					    cpu_model_address_bits(hosts[i].supported));
	}
	for (size_t i = 0; i < ARRAY_SIZE(best_first) && baseline.model == CPU_MODEL_HOST; i++)
		if (all_run(hosts, n_hosts, best_first[i], &baseline) && !baseline.vendors_differ)
			baseline.model = best_first[i];
	compare_mitigations(hosts, n_hosts, &baseline);
	*ret_baseline = baseline;
	return 0;
}
