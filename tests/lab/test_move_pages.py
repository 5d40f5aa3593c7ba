# SPDX-License-Identifier: Apache-2.0
"""What a guest's memory is made of: each kind of pages moves, and what the other host lacks of them is said before anything changes."""

import contextlib
import re

import pytest

from moves import SLOW, in_two_places

MEMORY = 256                # MiB
HUGE = MEMORY // 2          # huge pages that such a VM has
COUNTS = "/sys/kernel/mm/hugepages/hugepages-2048kB"


@contextlib.contextmanager
def reserved(moving, **pages):
    """So many huge pages on each host, and none afterwards: a host gives back only those that nobody uses."""
    for name, count in pages.items():
        moving[name].machine.run(f"echo {count} >{COUNTS}/nr_hugepages")
        assert huge_pages(moving, name) == (count, count, 0)
    yield
    for name in pages:
        moving[name].machine.run(f"echo 0 >{COUNTS}/nr_hugepages")
        assert huge_pages(moving, name) == (0, 0, 0)


def huge_pages(moving, host):
    """In all, free, and promised of these."""
    return tuple(int(one) for one in moving[host].machine.run(f"cd {COUNTS}; cat nr_hugepages free_hugepages resv_hugepages").text.split())


def joined(moving, host):
    """MiB of transparent huge pages of files in memory."""
    return int(re.search(r"^ShmemHugePages: *(\d+)", moving[host].machine.run("cat /proc/meminfo").text, re.M)[1]) >> 10


@contextlib.contextmanager
def started(moving, kind):
    vm = moving.start("A", memory=f"{MEMORY}M,hugepages={kind}")
    try:
        yield vm
    finally:
        moving.end(vm.name)
    moving.check_nothing_left()


def goes_over(moving, vm, *options):
    with moving.client() as client:
        outcome = moving.move(vm.name, "A", *options)
        client.await_answers(5)
    client.check()
    moving.ask("dirty 0 0")
    moving.check_intact()
    return outcome


@pytest.mark.parametrize("kind", ["off", "thp"])
def test_pages_that_nobody_reserves(moving, kind):
    huge = kind == "thp"
    with started(moving, kind) as vm:
        moving.ask("fill 16", "dirty 1024 4")
        assert (joined(moving, "A") > 16) == huge
        goes_over(moving, vm)
        assert joined(moving, "A") == 0 and (joined(moving, "B") > 16) == huge


@pytest.mark.parametrize("by", ["precopy", "postcopy"])
def test_huge_pages(moving, by):
    """They are free again at the source. By post-copy what is waited for, and sent, is a huge page."""
    with reserved(moving, A=HUGE, B=HUGE + 8), started(moving, "on") as vm:
        if by == "postcopy":
            moving.write_much()
            outcome = goes_over(moving, vm, "--allow-postcopy", *SLOW)
            assert in_two_places(outcome.said) and outcome.end["wanted_pages"] > 0, outcome
        else:
            moving.ask("fill 16", "dirty 1024 4")
            goes_over(moving, vm)
        assert huge_pages(moving, "A") == (HUGE, HUGE, 0)
        total, left, promised = huge_pages(moving, "B")
        assert total - left + promised == HUGE


def test_too_few_huge_pages_there_are_counted_before(moving):
    with reserved(moving, A=HUGE, B=HUGE - 28), started(moving, "on") as vm:
        said = [f"B: memory: hugepages=on needs {HUGE} huge pages of 2 MiB and {HUGE - 28} are free (of {HUGE - 28}); "
                f"as root: echo {HUGE} >{COUNTS}/nr_hugepages"]
        for options in (), ("--allow-postcopy",):
            assert moving.check_only(vm.name, "A", *options) == said
            refused = moving.move(vm.name, "A", *options, check=False)
            assert refused.status != 0 and said[0] in refused.errors, refused
        assert moving.here(vm.name) == "A" and huge_pages(moving, "B")[1:] == (HUGE - 28, 0)
        moving["B"].machine.run(f"echo {HUGE} >{COUNTS}/nr_hugepages")
        assert moving.check_only(vm.name, "A") == []


def test_huge_pages_that_another_vm_was_promised_are_not_free(moving):
    """It has touched few of them, and the kernel counts the others as free."""
    with reserved(moving, A=HUGE, B=HUGE + 8), started(moving, "on") as vm:
        other = moving["B"].vms.detach("--memory", "64M,hugepages=on")
        try:
            total, left, promised = huge_pages(moving, "B")
            assert promised > 0 and left - promised == total - 32
            problems = moving.check_only(vm.name, "A")
            assert len(problems) == 1 and f"and {total - 32} are free" in problems[0], problems
        finally:
            moving["B"].peer.utsusu("stop", other, "--force")
