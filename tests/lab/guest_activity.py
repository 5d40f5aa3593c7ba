# SPDX-License-Identifier: Apache-2.0
"""What the processors of a machine's guests do, seen from outside for half a second: it ends the text of a failed test."""

from labkit import LabError

# A line for each vCPU thread: its exits by reason, the instructions that they come from most, and the vectors injected.
# `watch` of emulator_faults.py has a filter on the exits, which is put back.
TRACE = r"""
cd /sys/kernel/tracing || exit 0
pgrep utsusu-vm >/dev/null || exit 0
filter=$(cat events/kvm/kvm_exit/filter)
echo 0 >events/kvm/kvm_exit/filter
enabled=$(cat events/kvm/kvm_exit/enable)
echo >trace
echo 1 >events/kvm/kvm_exit/enable
echo 1 >events/kvm/kvm_inj_virq/enable
sleep 0.5
echo 0 >events/kvm/kvm_inj_virq/enable
echo "$enabled" >events/kvm/kvm_exit/enable
echo "$filter" >events/kvm/kvm_exit/filter
for task in /proc/[0-9]*/task/*; do
	read -r name <"$task/comm" && case $name in vcpu*)
		thread=${task##*/}
		grep -- "-$thread " trace >/tmp/activity
		echo "$name $thread:" $(sed -nE 's/.* reason ([^ ]+) .*/\1/p' /tmp/activity | sort | uniq -c | sort -rn | head -n 5) \
			"| at" $(sed -nE 's/.* rip 0x([0-9a-f]+) .*/\1/p' /tmp/activity | sort | uniq -c | sort -rn | head -n 4) \
			"| injected" $(sed -nE 's/.*kvm_inj_virq: (IRQ )?(.*)/\2/p' /tmp/activity | sort | uniq -c | sort -rn | head -n 4) \
			"| $(cut -d' ' -f3 "$task/stat") in $(cat "$task/wchan")" ;;
	esac
done 2>/dev/null
rm -f /tmp/activity
"""


def guest_activity(machine):
    """A text; empty where no guest runs, or nothing can be asked."""
    try:
        return machine.run(TRACE, check=False).text.strip()
    except (LabError, TimeoutError, OSError):
        return ""
