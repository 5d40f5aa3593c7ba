# SPDX-License-Identifier: Apache-2.0
"""utsusu watch on VMs that run, end and die: lines, JSON, recordings, many watchers at once."""

import contextlib
import json
import re
import signal

import pytest
from vms import PATIENCE

SERIAL_OUT = "dev==serial && out && port==0x3f8"
TEXT = "watched-by-somebody"


class Watcher:
    """utsusu watch in the background."""

    def __init__(self, host, *arguments):
        self.host = host
        self.process = host.machine.start_command([f"{host.programs}/utsusu", "watch", *arguments])

    def begun(self):
        """It says its mode once the VM records."""
        self.host.until(lambda: b"mode " in self.process.stderr or b'{"watch"' in self.process.stdout,
                        what="the watch has begun")
        return self

    def pid(self):
        return self.host.sh("pgrep -n -x utsusu-watch").strip()

    def until(self, condition, what):
        return self.host.until(lambda: condition(self), what=what)

    def lines(self):
        """Whole ones."""
        text = bytes(self.process.stdout).decode()
        return text[:text.rfind("\n") + 1].splitlines()

    def objects(self):
        return [json.loads(line) for line in self.lines()]

    def requests(self):
        return [one for one in self.objects() if "kind" in one]

    def end(self):
        """How a --json watch ended."""
        return self.objects()[-1]["end"]

    def typed(self):
        """What the guest sent to its serial line, of --json; without carriage returns, as Vm.sh() has it."""
        return bytes(int(one["data"], 16) for one in self.requests()
                     if one["kind"] == "pio" and one["operation"] == "out").decode(errors="replace").replace("\r", "")

    def errors(self):
        return bytes(self.process.stderr).decode()

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE)

    def finish(self):
        """Its exit status, when it ends by itself."""
        return self.process.wait(PATIENCE)


@pytest.fixture
def watch(host):
    watchers = []

    def begin(name, *arguments):
        watchers.append(Watcher(host, name, *arguments))
        return watchers[-1]

    yield begin
    for one in watchers:
        if one.process.running():
            one.process.kill()
            with contextlib.suppress(TimeoutError):
                one.process.wait(10)


@pytest.fixture
def vm(host):
    """A guest at its prompt."""
    return host.start("--cpus", "2").ready()


def say(vm, text=TEXT):
    """The guest prints it; it is not in the line that is typed."""
    half = len(text) // 2
    assert text in vm.sh(f"echo {text[:half]}''{text[half:]}")


# Lines

def test_lines_for_people(vm, watch):
    watcher = watch(vm.name, "--follow", "--filter", SERIAL_OUT).begun()
    say(vm)
    lines = watcher.until(lambda it: len(it.lines()) >= len(TEXT) and it.lines(), "lines")
    assert watcher.interrupt() == 0, watcher.errors()
    pattern = r"\d\d:\d\d:\d\d\.\d{6}  vcpu[01] +serial +out   port 0x3f8 +0x[0-9a-f]{2} .* (s|us|ms|ns)  ~?0x[0-9a-f]+"
    for line in lines:
        assert re.match(pattern, line), line
    first, *_, last = watcher.errors().splitlines()
    assert f"{vm.name}: mode normal; not seen: " in first, first
    assert "stopped; requests shown: " in last and last.endswith("lost: 0"), last
    vm.power_off()


def test_lines_of_json(vm, watch):
    watcher = watch(vm.name, "--json", "--filter", SERIAL_OUT).begun()
    say(vm)
    watcher.until(lambda it: TEXT in it.typed(), "the text")
    assert watcher.interrupt() == 0, watcher.errors()
    about = watcher.objects()[0]["watch"]
    assert about["vm"] == vm.name and about["mode"] == "normal" and about["unseen"], about
    assert watcher.end()["reason"] == "stopped" and watcher.end()["lost"] == 0
    one = watcher.requests()[0]
    assert one["device"] == "serial" and one["address"] == "0x3f8" and one["size"] == 1, one
    assert one["latency_ns"] > 0 and one["vcpu"] in (0, 1) and one["ring"] == f"vcpu{one['vcpu']}", one
    assert one["registers"]["rip"].startswith("0xffffffff"), one
    vm.power_off()


def test_instructions_are_named(vm, watch):
    """The kernel's serial driver has one OUT: it must be found, surely, in every record."""
    watcher = watch(vm.name, "--json", "--filter", SERIAL_OUT).begun()
    say(vm)
    watcher.until(lambda it: TEXT in it.typed(), "the text")
    watcher.interrupt()
    for one in watcher.requests():
        assert one["instruction"]["text"] == "out dx, al", one
        assert one["instruction"]["verdict"] in ("on", "before"), one
    vm.power_off()


def test_count_and_time(vm, watch):
    counted = watch(vm.name, "--json", "--count", "10").begun()
    timed = watch(vm.name, "--json", "--for", "3s", "--filter", "port==1").begun()
    say(vm)
    assert counted.finish() == 0 and timed.finish() == 0
    assert counted.end()["reason"] == "count" and len(counted.requests()) == 10
    assert timed.end() == {"reason": "time", "records": 0, "lost": 0}
    vm.power_off()


def test_history(host, watch):
    """A VM that records from its first instruction on shows its boot to one who comes later."""
    vm = host.start("--watch", "normal", cmdline="utsusu.echo=on").ready()
    watcher = watch(vm.name, "--json", "--history", "--count", "100")
    assert watcher.finish() == 0, watcher.errors()
    assert len(watcher.requests()) == 100
    vm.power_off()


def test_filters_that_match_everything_and_nothing(vm, watch):
    everything = watch(vm.name, "--json", "--filter", "in || !in").begun()
    nothing = watch(vm.name, "--json", "--filter", "in && out").begun()
    say(vm)
    everything.until(lambda it: len(it.requests()) > len(TEXT), "requests")
    assert everything.interrupt() == 0 and nothing.interrupt() == 0
    assert nothing.requests() == [] and nothing.end()["records"] == 0
    vm.power_off()


# Many watchers, and bad ones

def test_ten_watchers_of_which_one_stops(host, vm, watch):
    """One that stands still disturbs neither the guest nor the others; one of them must not lose anything.

    Few numbers: the guest's driver sends all that waits within one interrupt, and each byte waits for the
    watcher that must not lose it. In emulation some thousand bytes take more than the 20 s after which the
    guest's kernel complains of a processor that stalls.
    """
    watchers = [watch(vm.name, "--json", "--filter", SERIAL_OUT).begun() for _ in range(8)]
    lossless = watch(vm.name, "--json", "--lossless", "--filter", SERIAL_OUT).begun()
    stopped = watch(vm.name, "--json").begun()
    pid = stopped.pid()
    host.run(["kill", "-STOP", pid])
    output = vm.sh("seq 1 800 | tr '\\n' ' '")
    numbers = output[output.index("1 2 3 "):].strip()
    for one in [lossless, *watchers]:
        one.until(lambda it: numbers[-40:] in it.typed(), "the last number")
    assert numbers in lossless.typed()
    host.run(["kill", "-CONT", pid])
    for one in [lossless, stopped, *watchers]:
        assert one.interrupt() == 0, one.errors()
    assert lossless.end()["lost"] == 0
    for one in watchers:
        assert one.end()["lost"] > 0 or numbers in one.typed()
    vm.power_off()


def test_lossless_watcher_that_stops_is_given_up(host, vm, watch):
    """The guest waits for it, but not for ever; the watcher learns that it has missed something."""
    watcher = watch(vm.name, "--json", "--lossless").begun()
    pid = watcher.pid()
    host.run(["kill", "-STOP", pid])
    assert vm.sh("seq 1 9000 | tail -c 5; seq 1 9000").endswith("9000\n")
    host.run(["kill", "-CONT", pid])
    watcher.until(lambda it: {"expelled": True} in it.objects(), "it is told")
    assert watcher.interrupt() == 0
    vm.power_off()


def test_another_watcher_changes_the_mode(host, vm, watch):
    """Doorbells that one watcher asks for are seen by all, who say so, and no longer when it has gone."""
    lines = watch(vm.name, "--follow", "--filter", "port==1").begun()
    objects = watch(vm.name, "--json", "--filter", "dev==virtio-rng && mmio").begun()
    more = watch(vm.name, "--json", "--all", "--filter", "port==1").begun()
    lines.until(lambda it: "mode all" in it.errors(), "the mode is told")
    objects.until(lambda it: len(it.objects()) > 1, "the mode is told")
    vm.sh("head -c 64 /dev/hwrng | wc -c")
    objects.until(lambda it: it.requests(), "a doorbell")
    assert more.interrupt() == 0
    lines.until(lambda it: it.errors().count("mode normal") == 2, "the mode is told again")
    assert lines.interrupt() == 0 and objects.interrupt() == 0
    modes = [one["watch"] for one in objects.objects() if "watch" in one]
    assert [mode["mode"] for mode in modes][:2] == ["normal", "all"], modes
    assert len(modes[0]["unseen"]) > len(modes[1]["unseen"]), modes
    vm.power_off()


def test_killed_watcher_leaves_the_vm_as_it_was(host, vm, watch):
    watcher = watch(vm.name, "--json", "--all", "--lossless").begun()
    assert watcher.objects()[0]["watch"]["mode"] == "all, lossless"
    host.run(["kill", "-9", watcher.pid()])
    say(vm)
    again = watch(vm.name, "--json", "--filter", SERIAL_OUT).begun()
    say(vm)
    again.until(lambda it: TEXT in it.typed(), "the text")
    assert again.interrupt() == 0
    vm.power_off()


def test_idle_watcher_leaves_the_processor_alone(host, vm, watch):
    """It looks at the store some fifty times a second, no more: far less than a twentieth of a processor."""
    watcher = watch(vm.name, "--json", "--filter", "port==1").begun()
    pid = watcher.pid()
    ticks = "awk '{print $14 + $15}' /proc/%s/stat" % pid
    host.sh("sleep 2")
    before = int(host.sh(ticks))
    host.sh("sleep 10")
    used = int(host.sh(ticks)) - before     # of 1000
    assert used < 200, used
    assert watcher.interrupt() == 0
    vm.power_off()


# Ends

def test_vm_that_ends_while_watched(vm, watch):
    lines = watch(vm.name, "--follow").begun()
    objects = watch(vm.name, "--json").begun()
    vm.power_off()
    assert lines.finish() == 0 and objects.finish() == 0
    assert f"utsusu: {vm.name}: the VM ended; requests shown: " in lines.errors()
    assert objects.end()["reason"] == "vm-ended"
    assert objects.requests()[-1]["operation"] == "out", objects.requests()[-1]


def test_after_kill_9(host, watch):
    vm = host.start(name="victim").ready()
    watcher = watch(vm.name, "--json").begun()
    say(vm, "last-words-of-a-vm")
    watcher.until(lambda it: "last-words-of-a-vm" in it.typed(), "the text")
    host.run(["kill", "-9", str(vm.pid)])
    vm.wait()
    assert watcher.finish() == 0 and watcher.end()["reason"] == "vm-ended"
    line = host.utsusu("watch", "victim", check=False)
    assert line.returncode == 6 and b"utsusu watch --post-mortem victim" in line.stderr, line
    left = [json.loads(one) for one in host.utsusu("watch", "victim", "--post-mortem", "--json",
                                                   "--filter", SERIAL_OUT).text.splitlines()]
    typed = bytes(int(one["data"], 16) for one in left if "kind" in one).decode()
    assert left[0]["watch"]["origin"] == "post-mortem" and "last-words-of-a-vm" in typed, typed
    host.utsusu("watch", "victim", "--post-mortem", "--record", "/tmp/victim.utsusu")
    assert len(host.utsusu("watch", "--from", "/tmp/victim.utsusu", "--filter", SERIAL_OUT).text.splitlines()) \
        == len(typed)
    host.sh("rm /tmp/victim.utsusu")
    again = host.start(name="victim").ready()
    again.power_off()
    assert b"left no requests" in host.utsusu("watch", "victim", "--post-mortem", check=False).stderr


def test_vm_that_nobody_watched_leaves_nothing(host):
    vm = host.start(name="unseen").ready()
    host.run(["kill", "-9", str(vm.pid)])
    vm.wait()
    result = host.utsusu("watch", "unseen", "--post-mortem", check=False)
    assert result.returncode == 6 and b"unseen: left no requests" in result.stderr, result


# Recordings

def test_recording_of_a_running_vm(host, vm, watch):
    watcher = watch(vm.name, "--record", "/tmp/day.utsusu").begun()
    say(vm)
    host.sh("sleep 1")
    assert watcher.interrupt() == 0, watcher.errors()
    assert "requests in /tmp/day.utsusu: " in watcher.errors()
    text = host.utsusu("watch", "--from", "/tmp/day.utsusu", "--json", "--filter", SERIAL_OUT).text
    typed = bytes(int(json.loads(line)["data"], 16) for line in text.splitlines() if '"kind"' in line)
    assert TEXT.encode() in typed, typed
    host.sh("rm /tmp/day.utsusu")
    vm.power_off()


def test_recording_on_a_full_disk(host, vm, watch):
    host.sh("mkdir -p /tmp/full && mount -t tmpfs -o size=2M tmpfs /tmp/full")
    try:
        watcher = watch(vm.name, "--record", "/tmp/full/r.utsusu").begun()
        vm.sh("seq 1 3000 | tr '\\n' ' '")
        assert watcher.finish() != 0
        line = watcher.errors().splitlines()[-1]
        assert "/tmp/full/r.utsusu" in line and "the disk is full" in line, watcher.errors()
        shown = host.utsusu("watch", "--from", "/tmp/full/r.utsusu", "--json").text.splitlines()
        assert len(shown) > 100 and json.loads(shown[-1])["end"]["reason"] == "no-more"
    finally:
        host.sh("umount /tmp/full")
    say(vm)
    vm.power_off()
