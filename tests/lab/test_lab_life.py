# SPDX-License-Identifier: Apache-2.0
"""Machines come, stand still, die and come again; nothing outlives its lab."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import TREE
from labkit import Lab, LabError, process
from labkit.paths import labs_directory

LAB = str(TREE / "lab/lab")
STARTER = f"""
import sys; sys.path.insert(0, {str(TREE / "lab")!r}); sys.dont_write_bytecode = True
from labkit import Lab
lab = Lab(machines=2, memory=512).up()
print(lab.name, *(lab.state(who)["pid"] for who in ("machine A", "machine B", "switch")), flush=True)
sys.stdin.read()
"""


def emulator_of(lab, name="A"):
    return lab.state(f"machine {name}")


def command(*arguments):
    return subprocess.run([LAB, *arguments], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL)


def test_power_cut_and_power_on(emulator):
    with Lab(memory=512) as lab:
        lab["A"].run("touch /tmp/here")
        first = emulator_of(lab)
        lab["A"].kill()
        assert lab["A"].state() == "off" and not process.alive(first)
        with pytest.raises(LabError, match="it is off"):
            lab["A"].run("true")
        lab["A"].start()
        assert lab["A"].run("test -e /tmp/here", check=False).returncode == 1
        other = Lab(memory=512)
        with other:  # two labs at once
            assert other["A"].run(["hostname"]).text == "A\n"
            other["A"].kill()
            assert lab["A"].run(["true"]).returncode == 0
        assert lab["A"].state() == "running"
    assert not process.alive(emulator_of(lab)) and not lab.folder.exists()


@pytest.mark.parametrize("qmp", [False, True])
def test_frozen_machine_stands_still_and_goes_on(machine, qmp):
    counter = machine.start_command("i=0; while true; do i=$((i+1)); echo $i; sleep 0.05; done")
    counter.expect("3\n")
    machine.freeze(qmp=qmp)
    assert machine.state() == ("paused" if qmp else "frozen")
    time.sleep(0.2)
    before = len(counter.stdout)
    time.sleep(0.5)
    assert len(counter.stdout) == before
    machine.thaw()
    assert machine.state() == "running"
    deadline = time.monotonic() + 10
    while len(counter.stdout) == before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(counter.stdout) > before
    counter.disconnect()


def test_killed_starter_leaves_nothing(emulator):
    starter = subprocess.Popen([sys.executable, "-c", STARTER], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    name, *pids = starter.stdout.readline().split()
    processes = [process.identity(int(pid)) for pid in pids]
    starter.kill()
    starter.wait()
    deadline = time.monotonic() + 10
    while any(map(process.alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [one for one in processes if process.alive(one)]
    command("--name", "nobody", "up", "--machines", "99")  # any "up" cleans
    assert not (labs_directory() / name).exists()


def test_interrupted_starter_leaves_nothing(emulator):
    starter = subprocess.Popen([sys.executable, "-c", STARTER], stdin=subprocess.PIPE,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1.5)
    starter.send_signal(signal.SIGINT)
    starter.wait(30)
    left = [path for path in labs_directory().glob(f"*-{starter.pid}-*")]
    assert not left


def test_lab_of_the_command_line_outlives_it_until_down(emulator):
    name = f"test-{os.getpid()}"
    up = command("up", "--name", name, "--memory", "512")
    try:
        assert up.returncode == 0, up.stderr
        assert "machine A starts" in up.stderr
        again = command("up", "--name", name)
        assert again.returncode == 0 and "starts" not in again.stderr
        other = command("up", "--name", name, "--memory", "600")
        assert other.returncode == 125 and "'lab down' first" in other.stderr
        listed = {lab["name"]: lab for lab in json.loads(command("status", "--json").stdout)}
        assert listed[name]["machines"]["A"]["state"] == "running"
    finally:
        down = command("down", "--name", name)
    assert down.returncode == 0
    assert command("run", "--name", name, "A", "--", "true").returncode == 125
    assert not (labs_directory() / name).exists()


def test_dead_emulator_is_told_with_its_reason(emulator):
    with pytest.raises(LabError, match="machine A: its emulator ended"):
        Lab(memory=1 << 30).up()
