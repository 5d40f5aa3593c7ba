# SPDX-License-Identifier: Apache-2.0
"""Commands in a machine: what comes back is exactly what the command did."""

import fcntl
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import termios
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import TREE
from labkit import LabError
from labkit.channel import PORTS

LAB = str(TREE / "lab/lab")


def test_status_and_streams_are_kept_apart(machine):
    result = machine.run("echo out; echo err >&2; exit 3", check=False)
    assert (result.returncode, result.stdout, result.stderr) == (3, b"out\n", b"err\n")


def test_signal_is_a_negative_status(machine):
    assert machine.run("kill -9 $$", check=False).returncode == -signal.SIGKILL


def test_missing_command_is_status_127(machine):
    result = machine.run(["no-such-command"], check=False)
    assert result.returncode == 127
    assert b"no-such-command: No such file or directory" in result.stderr


def test_checked_failure_tells_what_was_said(machine):
    with pytest.raises(LabError, match="exit status 4.*the reason"):
        machine.run("echo the reason >&2; exit 4")


def test_bytes_pass_unchanged_in_both_directions(machine):
    data = os.urandom(3 << 20)
    assert machine.run(["cat"], input=data).stdout == data


def test_input_that_nobody_reads_does_not_block(machine):
    assert machine.run("true", input=bytes(4 << 20)).returncode == 0


def test_arguments_and_environment_arrive_as_given(machine):
    odd = "a b\n\"c\" $HOME '\\ \u00e9"
    result = machine.run(["sh", "-c", 'printf %s "$1$ODD"', "sh", odd], env={"ODD": odd})
    assert result.text == odd + odd


def test_commands_run_side_by_side(machine):
    with ThreadPoolExecutor(PORTS - 2) as pool:
        results = pool.map(lambda n: machine.run(f"sleep 0.3; echo {n}").text, range(PORTS - 2))
        assert [int(text) for text in results] == list(range(PORTS - 2))


def test_one_command_is_watched_by_another(machine):
    cat = machine.start_command(["cat"])
    cat.write(b"ping\n")
    cat.expect("ping")
    assert "cat" in machine.run("ps").text
    cat.close_stdin()
    assert cat.wait(10) == 0


def test_daemon_does_not_hold_its_starter(machine):
    start = time.monotonic()
    assert machine.run("sleep 31415 & echo started").text == "started\n"
    assert time.monotonic() - start < 10
    machine.run("pkill -f 'sleep 3141[5]'")


def test_time_out_ends_the_command(machine):
    with pytest.raises(TimeoutError, match="still running after 0.5 s"):
        machine.run(["sleep", "27182"], timeout=0.5)
    machine.run("for i in $(seq 50); do pgrep -f 'sleep 2718[2]' || exit 0; sleep 0.1; done; exit 1")


def test_killed_client_takes_its_command_along(machine, lab_of_one):
    client = subprocess.Popen([LAB, "--name", lab_of_one.name, "run", "A", "--", "sleep", "16180"],
                              stdin=subprocess.DEVNULL)
    machine.run("for i in $(seq 100); do pgrep -f 'sleep 1618[0]' && exit 0; sleep 0.1; done; exit 1")
    client.kill()
    client.wait()
    machine.run("for i in $(seq 50); do pgrep -f 'sleep 1618[0]' || exit 0; sleep 0.1; done; exit 1")


def test_client_killed_while_it_sends_spoils_no_later_command(machine, lab_of_one):
    for _ in range(3):
        with open("/dev/zero", "rb") as zero:
            client = subprocess.Popen([LAB, "--name", lab_of_one.name, "run", "A", "--",
                                       "cat"], stdin=zero, stdout=subprocess.DEVNULL)
            time.sleep(0.4)
            client.kill()
            client.wait()
        for number in range(4):
            assert machine.run(["echo", str(number)]).text == f"{number}\n"


def test_terminal_has_the_size_asked_for_and_changes_it(machine):
    shell = machine.start_command(["bash", "--norc"], tty=True, size=(33, 77), env={"TERM": "dumb"})
    shell.write(b"test -t 0 && stty size; echo ma''rk1\n")
    assert b"33 77" in shell.expect("mark1")
    shell.resize(44, 88)
    shell.write(b"stty size; echo ma''rk2\n")
    assert b"44 88" in shell.expect("mark2")
    shell.write(b"exit 5\n")
    assert shell.wait(10) == 5


def test_command_line_has_the_same_exactness(lab_of_one, machine):
    data = os.urandom(200_000)
    done = subprocess.run([LAB, "--name", lab_of_one.name, "run", "A", "--", "sh", "-c",
                           "cat; echo err >&2; exit 9"], input=data, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (9, data, b"err\n")


def test_shell_is_a_terminal_like_the_one_it_was_called_from(lab_of_one, machine):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(LAB, [LAB, "--name", lab_of_one.name, "shell", "A"])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 71, 0, 0))
    output = b""

    def until(text):
        nonlocal output
        while text not in output:
            assert select.select([terminal], [], [], 30)[0], f"no {text!r} in {output!r}"
            output += os.read(terminal, 4096)

    until(b"A:")  # the prompt, which names the machine
    os.write(terminal, b"stty size; hostname; echo do''ne\n")
    until(b"done")
    assert b"31 71" in output and b"\nA\r" in output
    os.write(terminal, b"sleep 1000\n")
    time.sleep(0.5)
    os.write(terminal, b"\x03echo in''terrupted\n")
    until(b"interrupted")
    os.write(terminal, b"exit 6\n")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 6


def test_a_command_takes_less_than_a_fifth_of_a_second(machine):
    def one():
        start = time.monotonic()
        machine.run(["true"])
        return time.monotonic() - start

    times = [one() for _ in range(20)]
    print(f"median {statistics.median(times) * 1000:.0f} ms", file=sys.stderr)
    assert statistics.median(times) < 0.2
