# SPDX-License-Identifier: Apache-2.0
"""A Linux guest into a file and out of it: it goes on where it was, its clock is right, and there is one of it."""

import time

import pytest

FAILED, RESOURCE, BUSY = 1, 4, 5
DISK = 8 << 20


@pytest.fixture
def folder(host):
    with host.folder() as path:
        yield path
        host.run("rm -f /var/lib/utsusu/failpoint")


@pytest.fixture
def saved(host, folder):
    """A guest at work, with a disk; in a file that this returns. What it knew is in its memory: /tmp/random and a process."""
    host.run(f"truncate -s {DISK} {folder}/disk")
    name = host.detach("--disk", f"path={folder}/disk")
    vm = host.console(name).ready()
    vm.sh("head -c 4000000 /dev/urandom >/tmp/random; sha256sum /tmp/random >/tmp/sum")
    vm.sh("head -c 1000000 /tmp/random >/tmp/part; cat /tmp/part >/dev/vda; sync")
    vm.sh("(i=0; while :; do i=$((i+1)); echo $i >/tmp/count; sleep 0.1; done) & true")
    return name, vm, f"{folder}/vm.saved"


def look(vm):
    """What must have come along, and how far the process in it has got."""
    assert vm.sh("sha256sum /tmp/random | cmp - /tmp/sum && echo same").strip().endswith("same")
    assert vm.sh("head -c 1000000 /dev/vda | cmp - /tmp/part && echo same").strip().endswith("same")
    return int(vm.sh("cat /tmp/count").split()[-1])


def goes_on(host, vm, before):
    count = look(vm)
    assert count >= before
    host.until(lambda: int(vm.sh("cat /tmp/count").split()[-1]) > count, what="the guest counts on")


def test_it_goes_on_where_it_was(host, saved):
    name, vm, file = saved
    before = look(vm)
    host.utsusu("save", name, file)
    assert host.states() == {}
    time.sleep(3)
    host.utsusu("restore", file)
    vm = host.console(name)
    goes_on(host, vm, before)
    here, there = (float(text.split()[-1]) for text in (host.sh("date +%s"), vm.sh("date +%s")))
    assert abs(here - there) <= 2, "the guest's clock went on while it lay in the file"
    message = host.utsusu("restore", file, "other", check=False)
    assert message.returncode == BUSY and b"restored already" in message.stderr
    host.utsusu("stop", name, "--force")


def test_a_paused_one_stays_paused(host, saved):
    name, vm, file = saved
    before = look(vm)
    host.utsusu("pause", name)
    host.utsusu("save", name, file)
    assert "is paused, as it was saved" in host.utsusu("restore", file).text
    assert host.states() == {name: "paused"}
    host.utsusu("resume", name)
    goes_on(host, host.console(name), before)
    host.utsusu("stop", name, "--force")


def test_clones_run_beside_it(host, folder):
    name = host.detach()
    vm = host.console(name).ready()
    vm.sh("echo kept >/tmp/word")
    file = f"{folder}/vm.saved"
    host.utsusu("save", name, file)
    host.utsusu("restore", file)
    host.utsusu("restore", file, "clone1", "--clone")
    host.utsusu("restore", file, "clone2", "--clone")
    assert len({host.info(one)["config"]["uuid"] for one in (name, "clone1", "clone2")}) == 3
    for one in (name, "clone1", "clone2"):
        assert host.console(one).sh("cat /tmp/word").split()[-1] == "kept"
        host.utsusu("stop", one, "--force")


def test_a_killed_mover_leaves_it_running(host, saved):
    name, vm, file = saved
    before = look(vm)
    for point in ("begun", "stopped", "state", "last-round", "ready", "given"):
        host.run("mkdir -p -m 700 /var/lib/utsusu; cat >/var/lib/utsusu/failpoint", input=f"source.{point}:kill")
        assert host.utsusu("save", name, file, check=False).returncode == FAILED, point
        assert host.states() == {name: "running"} and not host.sh(f"ls -A {file.rpartition('/')[0]}").replace("disk", "").strip()
    goes_on(host, vm, before)
    host.run("rm /var/lib/utsusu/failpoint")
    host.utsusu("stop", name, "--force")


def test_a_full_disk_leaves_it_running(host, saved):
    name, vm, file = saved
    before = look(vm)
    small = f"{file}.small"
    host.run(f"mkdir {small} && mount -t tmpfs -o size=1m small {small}")
    try:
        result = host.utsusu("save", name, f"{small}/file", check=False)
        assert result.returncode == RESOURCE and b"no room" in result.stderr, result.stderr
        assert not host.sh(f"ls -A {small}").strip()
    finally:
        host.run(f"umount {small}")
    goes_on(host, vm, before)
    host.utsusu("stop", name, "--force")
