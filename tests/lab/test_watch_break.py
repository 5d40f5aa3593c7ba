# SPDX-License-Identifier: Apache-2.0
"""Breakpoints on requests, on a real guest: stopped, altered, dropped, failed, delayed, and what becomes of the VM when
who asked for it is gone."""

import re
import time

import pytest

SERIAL = "dev==serial && out && port==0x3f8"


@pytest.fixture(scope="module")
def guest_of_all(host_of_all):
    """A guest that each test leaves running as it found it."""
    host = host_of_all
    with host.folder() as folder:
        host.sh(f"truncate -s 64M {folder}/d")
        vm = host.start("--cpus", 2, "--disk", f"path={folder}/d", guest="tools").ready()
        host.shared.add(vm.name)
        try:
            yield vm
        finally:
            host.shared.remove(vm.name)
            if vm.process.running():
                vm.power_off()


@pytest.fixture
def guest(host, guest_of_all):
    yield guest_of_all
    assert host.info(guest_of_all.name)["state"] == "running"


def watch(host, vm, *options, words="", check=True):
    """`utsusu watch`, fed with words, to its end; both streams."""
    command = " ".join(f"'{option}'" for option in options)
    result = host.run(f"printf '{words}' | timeout 60 {host.programs}/utsusu watch {vm.name} {command} 2>&1",
                      check=check)
    return result.text


def behind(host, vm, *options):
    """The same beside the test; waits until its breakpoint is set."""
    process = host.machine.start_command([f"{host.programs}/utsusu", "watch", vm.name, *options])
    deadline = time.monotonic() + 30
    while b"waiting for requests" not in process.stderr:
        assert time.monotonic() < deadline, bytes(process.stderr)
        time.sleep(0.05)
    return process


def test_vm_stops_and_goes_on(host, guest):
    process = behind(host, guest, "--break", f"{SERIAL} && data==0x5a")
    guest.type("echo a''Zb")
    process.expect("stopped on 1")
    assert host.info(guest.name)["state"] == "paused"
    process.write(b"registers\ncode\n")
    text = process.expect("=> 0x").decode()
    assert re.search(r"rdx +0+3f8 ", text), text
    assert re.search(r"rax +[0-9a-f]+5a ", text), text
    assert "out dx, al" in process.expect("out dx, al").decode()
    process.write(b"set 0x59\nquit\n")
    guest.expect("aYb")
    assert process.wait(30) == 0
    assert host.info(guest.name)["state"] == "running"
    assert guest.sh("echo alive").strip().endswith("alive")


def test_write_is_altered(host, guest):
    process = behind(host, guest, "--break", f"{SERIAL} && data==0x7e", "--set", "data=0x21", "--count", "1")
    guest.type("printf 'tilde%b.' '\\0176'")
    guest.expect("tilde!.")
    assert process.wait(30) == 0


def test_step_shows_the_next_request(host, guest):
    process = behind(host, guest, "--break", f"{SERIAL} && data==0x7e")
    guest.type("printf '%b\\n' 'x\\0176yz'")
    process.expect("stopped on 1")
    process.write(b"step\n")
    assert "0x79" in process.expect("stopped on 2").decode() + process.expect("\n").decode()
    process.write(b"step\n")
    assert "0x7a" in process.expect("stopped on 3").decode() + process.expect("\n").decode()
    process.write(b"quit\n")
    assert process.wait(30) == 0


def test_disk_request_fails(host, guest):
    process = behind(host, guest, "--break", "disk && read && sector==64", "--fail")
    status, output = guest.sh("dd if=/dev/vda of=/dev/null bs=512 skip=64 count=1 iflag=direct 2>&1", check=False)
    assert status != 0 and "error" in output, output
    process.expect("sector 64")
    host.sh("pkill -INT utsusu-watch")
    assert process.wait(30) == 0
    guest.sh("dd if=/dev/vda of=/dev/null bs=512 skip=64 count=1 iflag=direct")


def test_disk_request_stops_the_vm(host, guest):
    process = behind(host, guest, "--break", "disk && write && sector in 100..107")
    guest.type("dd if=/dev/zero of=/dev/vda bs=512 seek=104 count=1 oflag=direct && echo wri''tten")
    process.expect("stopped on 1")
    assert host.info(guest.name)["state"] == "paused"
    process.write(b"continue\n")
    guest.expect("written")
    process.write(b"quit\n")
    assert process.wait(30) == 0


def test_request_is_delayed(host, guest):
    process = behind(host, guest, "--break", "disk && read && sector==8", "--delay", "3s", "--count", "1")
    seconds = guest.sh("a=$(cut -d. -f1 /proc/uptime); dd if=/dev/vda of=/dev/null bs=512 skip=8 count=1 iflag=direct "
                       "2>/dev/null; echo took $(( $(cut -d. -f1 /proc/uptime) - a ))")
    assert int(seconds.split()[-1]) >= 2, seconds
    assert process.wait(30) == 0


def test_dump_shows_and_does_not_stop(host, guest):
    process = behind(host, guest, "--break", "dev==serial && in", "--dump", "--count", "3")
    guest.sh("echo something to send")
    assert process.wait(60) == 0
    text = bytes(process.stdout).decode()
    assert text.count("request ") == 3 and "rip" in text and "in al, dx" in text, text


def test_vm_goes_on_when_the_watcher_is_killed(host, guest):
    process = behind(host, guest, "--break", f"{SERIAL} && data==0x7e")
    guest.type("printf '%b' '\\0176'; echo af''ter")
    process.expect("stopped on 1")
    host.sh("pkill -KILL utsusu-watch")
    guest.expect("after")
    assert "goes on after 2 s" in guest.errors()
    assert host.info(guest.name)["state"] == "running"


def test_vm_can_be_ended_while_it_stands(host):
    guest = host.start().ready()
    process = behind(host, guest, "--break", f"{SERIAL} && data==0x7e")
    guest.type("printf '%b' '\\0176'")
    process.expect("stopped on 1")
    host.utsusu("stop", guest.name, "--force")
    guest.wait()
    assert process.wait(30) == 0
    assert "the VM ended" in bytes(process.stderr).decode()


def test_pause_outlives_the_stop(host, guest):
    process = behind(host, guest, "--break", f"{SERIAL} && data==0x7e", "--count", "1")
    guest.type("printf '%b' '\\0176'; echo af''ter")
    process.expect("stopped on 1")
    host.utsusu("pause", guest.name)
    process.write(b"continue\n")
    assert process.wait(30) == 0
    assert host.info(guest.name)["state"] == "paused"
    host.utsusu("resume", guest.name)
    guest.expect("after")


def test_bad_wishes_are_refused(host, guest):
    late = watch(host, guest, "--break", "latency > 1ms", check=False)
    assert "'latency' is known only after the request" in late
    assert "filter:4" in watch(host, guest, "--break", "dev=serial", check=False)
    assert "needs --break" in watch(host, guest, "--drop", check=False)
    assert "does not go with" in watch(host, guest, "--break", "in", "--drop", "--fail", check=False)
    assert "data=" in watch(host, guest, "--break", "in", "--set", "5", check=False)
