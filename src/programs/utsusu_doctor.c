/* SPDX-License-Identifier: Apache-2.0 */
/* utsusu doctor: what this host can do, what follows from what it lacks, and how to get that. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "host/doctor.h"
#include "peer/door.h"
#include "programs/utsusu.h"

static int verdict_status(const struct doctor_finding *findings, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (findings[i].verdict == DOCTOR_MISSING)
			return EXIT_STATUS_HOST;
	return EXIT_STATUS_OK;
}

static json_t *finding_json(const struct doctor_finding *finding)
{
	bool good = finding->verdict == DOCTOR_GOOD;

	return json_pack("{s:s, s:s, s:s, s:s*, s:s*}", "name", finding->name, "verdict",
			 doctor_verdict_name(finding->verdict), "found", finding->found, "follows",
			 good ? NULL : finding->follows, "way_out", good ? NULL : finding->way_out);
}

static void print_json(const struct doctor_finding *findings, size_t count)
{
	json_auto_t *list = json_array();
	_cleanup_(freep) char *text = NULL;

	for (size_t i = 0; i < count; i++)
		json_array_append_new(list, finding_json(&findings[i]));
	text = json_dumps(list, JSON_INDENT(2));
	puts(text ? text : "[]");
}

static void print_finding(const struct doctor_finding *finding)
{
	printf("%-8s %-16s %s\n", doctor_verdict_name(finding->verdict), finding->name,
	       finding->found);
	if (finding->verdict == DOCTOR_GOOD)
		return;
	printf("%26sso:  %s\n%26sget: %s\n", "", finding->follows, "", finding->way_out);
}

/* Only for moves: a VM on one machine needs none. */
static void look_daemon(struct doctor_finding *finding)
{
	bool there = door_is_open();

	*finding = (struct doctor_finding){
		.name = "utsusud",
		.verdict = there ? DOCTOR_GOOD : DOCTOR_LACKS,
		.follows = "no VM can be moved to another host, or from one",
		.way_out = "as root: utsusud init, then systemctl enable --now utsusud",
	};
	snprintf(finding->found, sizeof(finding->found), "%s",
		 there ? "runs" : "does not run for this user");
}

int run_doctor(struct invocation *invocation)
{
	struct doctor_finding findings[DOCTOR_FINDINGS_MAX + 1];
	size_t count = doctor_look(findings);

	look_daemon(&findings[count++]);

	if (invocation->options.json) {
		print_json(findings, count);
		return verdict_status(findings, count);
	}
	for (size_t i = 0; i < count; i++)
		print_finding(&findings[i]);
	return verdict_status(findings, count);
}
