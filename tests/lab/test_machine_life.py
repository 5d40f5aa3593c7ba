# SPDX-License-Identifier: Apache-2.0
"""A VM's life: in the background, paused, killed in every way, many times over; and what is left: nothing."""

import re
import signal

import pytest


def gone(host, name):
    host.until(lambda: name not in host.list(), what=f"{name} is gone")


def keeper_of(host, pid):
    return host.sh(f"grep ^PPid: /proc/{pid}/status").split()[1]


def test_detached_vm_is_listed_and_told(host):
    name = host.detach("--cpus", 2)
    entry = host.list()[name]
    assert entry["state"] == "running" and entry["config"]["cpus"]["count"] == 2
    info = host.info(name)
    assert info["name"] == name and info["state"] == "running"
    assert host.sh(f"cat /proc/{info['pid']}/comm").startswith("utsusu-vm")
    assert name in host.utsusu("list").text and name in host.utsusu("info", name).text
    host.utsusu("stop", name, "--force")
    gone(host, name)


def test_console_is_attached_and_left(host):
    name = host.detach()
    vm = host.console(name).ready()
    assert vm.sh("echo first").strip() == "first"
    vm.process.write(b"\x1d")
    assert vm.wait() == 0 and "detached" in vm.errors()
    again = host.console(name)
    again.type("echo sec''ond")
    again.expect("second")
    again.type("poweroff -f")
    again.wait()
    gone(host, name)


def test_console_on_a_pty(host):
    name = host.detach("--console", "pty")
    path = host.info(name)["console"]
    assert path.startswith("/dev/pts/")
    reader = host.machine.start_command(f"exec 3<>{path}; cat <&3")
    reader.expect("utsusu-guest: ready", 180)
    host.sh(f"echo 'echo by-''pty; poweroff -f' >{path}")
    reader.expect("by-pty", 180)
    gone(host, name)
    reader.kill()
    reader.wait(30)


def test_terminal_gets_its_settings_back(host):
    """The VM makes the terminal raw; Ctrl-] twice ends the VM, and the shell's terminal is as it was."""
    run = " ".join(f"'{word}'" for word in host.arguments([]))
    process = host.machine.start_command(
        f"stty -a >/tmp/before; {host.programs}/utsusu run tty {run}; stty -a >/tmp/after; echo com''pared",
        tty=True)
    process.expect("utsusu-guest: ready", 180)
    process.write(b"\x1d")
    process.expect("power button pressed", 60)
    process.write(b"\x1d")
    process.expect("compared", 180)
    process.wait(30)
    assert host.sh("cmp /tmp/before /tmp/after && rm /tmp/before /tmp/after && echo same").strip() == "same"


def test_pause_and_resume(host):
    vm = host.start("--cpus", 2).ready()
    vm.type("while sleep 0.1; do read -r up _ </proc/uptime; echo tick $up.; done")
    vm.expect("tick ")
    host.utsusu("pause", vm.name)
    assert host.list()[vm.name]["state"] == "paused"
    before = len(vm.process.stdout)
    host.sh("sleep 5")
    printed = bytes(vm.process.stdout[before:]).decode()
    assert printed.count("tick") <= 2, "a paused guest prints nothing but what was under way"
    host.utsusu("resume", vm.name)
    assert host.list()[vm.name]["state"] == "running"
    vm.expect("tick ")
    vm.expect("tick ")
    ticks = [float(t) for t in re.findall(r"tick ([\d.]+)\.\s", vm.output())]
    assert ticks == sorted(ticks), "the guest's clock never goes back"
    host.utsusu("stop", vm.name, "--force")
    assert vm.wait() == 0


def test_pause_twice_is_no_error(host):
    name = host.detach()
    for word in ("pause", "pause", "resume", "resume"):
        host.utsusu(word, name)
    host.utsusu("stop", name, "--force")
    gone(host, name)


def test_power_button_is_refused_by_a_deaf_guest_then_force(host):
    """The tiny guest has nobody who listens to the button: the deadline comes, and is told."""
    vm = host.start().ready()
    result = host.utsusu("stop", vm.name, "--timeout", "3s")
    assert "by force in 3 s" in result.stderr.decode()
    assert "stopped by force" in result.text
    assert vm.wait() == 0


def test_power_button_ends_a_guest_that_listens(host):
    """A listener on the guest's button device: the event comes as ACPI says, and the guest powers off."""
    vm = host.start().ready()
    button = vm.sh("for i in /sys/class/input/event*; do grep -q 'Power Button' $i/device/name && echo ${i##*/}; "
                   "done").split()[0]
    # Opened before that is told: an event that nobody listens to is gone.
    vm.type(f"exec 3</dev/input/{button}; (dd bs=24 count=1 <&3 2>/dev/null; poweroff -f) & echo lis''tens")
    vm.expect("listens")
    result = host.utsusu("stop", vm.name, "--timeout", "150s", timeout=200)
    assert "by force" not in result.text, result
    assert vm.wait() == 0


def test_sigterm_presses_the_button_and_twice_ends(host):
    vm = host.start().ready()
    vm.process.send_signal(signal.SIGTERM)
    host.until(lambda: "power button pressed" in vm.errors(), what="told")
    # The signal went to the VM's process and to its keeper, as from a service manager: that is one wish.
    assert vm.sh("echo alive").strip() == "alive"
    host.sh("sleep 1.5")
    vm.process.send_signal(signal.SIGTERM)
    assert vm.wait() == 0


@pytest.mark.parametrize("victim", ["vm", "keeper", "both"])
def test_killed_vm_hinders_nobody(host, victim):
    with host.folder() as folder:
        host.sh(f"truncate -s 8M {folder}/d")
        name = host.detach("--disk", f"path={folder}/d")
        pid = host.info(name)["pid"]
        keeper = keeper_of(host, pid)
        host.run(["kill", "-9", *{"vm": [str(pid)], "keeper": [keeper], "both": [keeper, str(pid)]}[victim]])
        if victim == "keeper":
            # What it kept is kept by nobody now; whatever the VM does, the list must be true.
            state = host.list().get(name, {"state": "gone"})["state"]
            alive = host.sh(f"kill -0 {pid} && echo yes || echo no").strip() == "yes"
            assert (state == "running") == alive, (state, alive)
            if alive:
                host.utsusu("stop", name, "--force")
        host.until(lambda: not host.processes(), what="no process left")
        assert host.states().get(name, "dead") == "dead"
        # The same name, the same disk.
        again = host.detach("--disk", f"path={folder}/d", name=name)
        assert host.list()[again]["state"] == "running"
        host.utsusu("stop", again, "--force")
        gone(host, name)


def test_dead_vm_says_why(host):
    name = host.detach()
    host.run(["kill", "-9", str(host.info(name)["pid"])])
    host.until(lambda: host.states().get(name) == "dead", what="dead")
    assert "signal 9" in host.list()[name]["message"] and "signal 9" in host.utsusu("list").text
    info = host.utsusu("info", name, check=False)
    assert info.returncode == 6 and b"signal 9" in info.stderr, info
    again = host.detach(name=name)
    host.utsusu("stop", again, "--force")
    gone(host, name)


def test_stopped_vm_that_is_frozen_is_told(host):
    """A VM's process that hangs: list says so and does not hang itself; the next word ends it."""
    name = host.detach()
    pid = host.info(name)["pid"]
    host.run(["kill", "-STOP", str(pid)])
    assert host.states()[name] == "silent"
    host.run(["kill", "-CONT", str(pid)])
    host.until(lambda: host.states()[name] == "running", what="running")
    host.utsusu("stop", name, "--force")
    gone(host, name)


def test_name_in_use_is_refused(host):
    name = host.detach()
    result = host.utsusu("run", name, *host.arguments([]), check=False)
    assert result.returncode == 5 and name in result.stderr.decode()
    host.utsusu("stop", name, "--force")
    gone(host, name)


def test_ten_vms_at_once(host):
    names = [host.detach("--memory", "128M") for _ in range(10)]
    assert [host.states()[name] for name in names] == ["running"] * 10
    pids = {host.info(name)["pid"] for name in names}
    assert len(pids) == 10
    console = host.console(names[7]).ready(600)
    console.process.kill()
    for name in names:
        host.utsusu("stop", name, "--force")
    host.until(lambda: not host.states(), what="all gone")


# What the kernel has given out, as far as it counts it. Names to look for when a test fails.
COUNTS = {
    "open files": "cut -f1 /proc/sys/fs/file-nr",
    "sockets": "sed -n 's/sockets: used //p' /proc/net/sockstat",
    # The processors' own parts of the count are put together first.
    "memory of memfds": "echo 1 >/proc/sys/vm/stat_refresh; grep Shmem: /proc/meminfo",
    "locks": "wc -l </proc/locks",
    "mounts": "wc -l </proc/mounts",
    "names": "ls /run/utsusu 2>/dev/null | wc -l",
    "files in /tmp": "ls /tmp | wc -l",
    "interfaces": "ls /sys/class/net | wc -l",
    "processes": "ls -d /proc/[0-9]* | wc -l",
}


def counts(host):
    text = host.sh("; ".join(f"echo \"$({command})\"" for command in COUNTS.values()))
    return dict(zip(COUNTS, text.splitlines()))


def test_starts_and_stops_leak_nothing(host, long):
    cycles = 2000 if long else 100
    words = " ".join(f"'{word}'" for word in host.arguments(["--cpus", "2"]))
    once = (f"{host.programs}/utsusu run cycle --detach {words} >/dev/null && "
            f"{host.programs}/utsusu stop cycle --force >/dev/null || exit 1; ")
    host.sh(once)
    before = counts(host)
    host.sh(f"for i in $(seq {cycles}); do {once} done", timeout=60 * cycles)
    after = {}

    def even():
        # The counting itself opens files and starts processes; those differ by a few from time to time.
        after.update(counts(host))
        return all(abs(int(re.search(r"\d+", after[k])[0]) - int(re.search(r"\d+", before[k])[0])) <=
                   (cycles // 10 if k == "open files" else 4 if k == "processes" else 0) for k in before)

    try:
        host.until(even, timeout=60)
    except AssertionError:
        assert after == before


def held(host, pid):
    files = int(host.sh(f"ls /proc/{pid}/fd | wc -l"))
    threads = int(host.sh(f"ls /proc/{pid}/task | wc -l"))
    return files, threads


def test_resets_leak_nothing(host):
    with host.folder() as folder, host.tap("leak0"):
        host.sh(f"truncate -s 8M {folder}/d")
        vm = host.start("--cpus", 2, "--disk", f"path={folder}/d", "--net", "tap=leak0").ready()
        pid = vm.pid
        before = held(host, pid)
        for _ in range(3):
            vm.type("reboot -f")
            vm.ready()
        assert held(host, pid) == before
        vm.power_off()


def test_clients_leak_nothing(host):
    name = host.detach()
    pid = host.info(name)["pid"]
    before = held(host, pid)
    words = f"{host.programs}/utsusu info {name} >/dev/null; " \
            f"timeout 0.2 {host.programs}/utsusu console {name} </dev/null >/dev/null 2>&1"
    host.sh(f"for i in 1 2 3 4 5 6 7 8 9 10; do {words}; done; true")
    host.until(lambda: held(host, pid) == before, timeout=60, what="as many descriptors and threads as before")
    host.utsusu("stop", name, "--force")
    gone(host, name)
