#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The terminal view on a terminal: test_watch_terminal.py UTSUSU UTSUSU_WATCH MAKE_STORE.

The program runs on a pseudo terminal; keys are pressed, and the screen is read as a terminal would draw it.
"""

import os
import signal
import sys
import unittest

try:
    from terminal import Terminal
except ImportError:
    print("no python3-pyte; scripts/dependencies check installs it")
    sys.exit(77)

import test_cli
from test_cli import USAGE
from test_watch import Watch

UP, DOWN, RIGHT, LEFT, ENTER, ESCAPE = "\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D", "\r", "\x1b"  # of TERM=linux


class View(Watch):
    def on_terminal(self, *words, term="linux", rows=24, columns=80, **environment):
        environment = dict(self.environment, TERM=term, **environment)
        for name in ("LINES", "COLUMNS", *(["TERM"] if term is None else [])):
            environment.pop(name, None)
        terminal = Terminal([self.program, "watch", *words], environment, rows, columns)
        self.addCleanup(terminal.close)
        return terminal

    def left_on_terminal(self, **more):
        terminal = self.on_terminal("vm1", "--post-mortem", **more)
        terminal.wait("that is all there is; q leaves")
        return terminal

    def ends_well(self, terminal, status=0):
        self.assertEqual(terminal.end(), (status, ""))
        self.assertTrue(terminal.is_as_before(), "the terminal is not as it was")


class Screens(View):
    def test_down_to_a_request_and_back(self):
        terminal = self.left_on_terminal(rows=50)
        terminal.wait(r"utsusu watch  vm1 .*mode: normal")
        terminal.wait(r"40 requests .*lost 0")
        terminal.wait(r"^ serial +\d+ +35 ")
        terminal.press(ENTER)
        terminal.wait(r"Devices  > serial$")
        terminal.wait(r"0xffffffff81000010: out dx, al")
        terminal.press(LEFT + DOWN)  # by address: the second
        terminal.press(ENTER)
        terminal.wait(r"> serial > 0xffffffff81000010: out dx, al$")
        terminal.press(ENTER)
        terminal.wait(r"> request$")
        terminal.wait(r"^ time +03:04:05\.0\d+")
        terminal.wait(r"^ > 0xffffffff81000010  ee +out dx, al")
        terminal.wait(r"rdx +00000000000003f8")
        terminal.press("\x7f")
        terminal.wait(r"^ time +vCPU")
        terminal.press(ESCAPE)
        terminal.wait(r"Devices  > serial$")
        terminal.press(ESCAPE)
        terminal.wait(r"1 Devices   2 Addresses")
        terminal.press("q")
        self.ends_well(terminal)

    def test_tabs(self):
        terminal = self.left_on_terminal()
        for key, row in [("2", r"^ port 0x3f8 +serial"), ("3", r"^ disk write +disk"), ("4", r"^ vcpu1 "),
                         ("5", r"^ 03:04:05\.040000 disk:0 +disk +write +sector 312 +4096 B +300 us"),
                         ("1", r"^ disk +\d+ +4 "), ("\t", r"^ port 0x3f8"), ("\x1b\t", r"^ disk +\d+ +4 ")]:
            terminal.press(key)
            terminal.wait(row)

    def test_sorting(self):
        terminal = self.left_on_terminal()
        terminal.press(LEFT)
        terminal.wait(r"sort \(name\)")
        terminal.press(LEFT)
        terminal.wait(r"sort \(max\)")
        terminal.wait(r"^ disk ")
        self.assertRegex(terminal.lines()[4], "^ disk ")
        terminal.press("i")
        terminal.wait(r"sort \(max, turned\)")
        self.assertRegex(terminal.lines()[6], "^ disk ")

    def test_a_filter_as_it_is_typed(self):
        terminal = self.left_on_terminal()
        terminal.press("/dev==disk")
        terminal.wait(r" 4 of 40 requests .*filter dev==disk")
        terminal.press(" && lattency>1us")
        terminal.wait(r"^ {22}\^$")
        terminal.wait(r"did you mean 'latency'")
        terminal.wait(r" 4 of 40 requests .*filter dev==disk$")
        terminal.press("\x15latency<20us\r")
        terminal.wait(r" 36 of 40 requests .*filter latency<20us")
        terminal.wait(r"q quit")
        terminal.press("/\x7f")
        terminal.wait(r"^ {17}\^$")
        terminal.press(ESCAPE)
        terminal.wait(r" 36 of 40 requests .*filter latency<20us")

    def test_a_filter_of_the_command_line(self):
        terminal = self.on_terminal("vm1", "--post-mortem", "--filter", "unclaimed")
        terminal.wait(r" 1 of 40 requests .*filter unclaimed")

    def test_pause_and_help(self):
        terminal = self.left_on_terminal()
        terminal.press(" ")
        terminal.wait("PAUSED$")
        terminal.wait("paused; counting goes on: 0 more requests")
        terminal.press("?")
        terminal.wait("pause the picture")
        terminal.press("??")
        terminal.wait("pause the picture")
        terminal.press("? ")
        terminal.wait("that is all there is; q leaves")

    def test_a_recording_by_its_own_time(self):
        terminal = self.on_terminal("--from", self.recorded())
        terminal.wait(r"utsusu watch  night\.utsusu ")
        terminal.wait("40 requests  in 39.3 ms")
        terminal.press("r")
        terminal.wait("40 requests  in 39.3 ms")
        terminal.press("5" + ENTER)
        terminal.wait(r"2026-01-02T03:04:05\.040000000Z")
        terminal.press("q")
        self.ends_well(terminal)


class Terminals(View):
    def test_sizes(self):
        terminal = self.left_on_terminal(rows=24, columns=80)
        terminal.press("5")
        for rows, columns, what in [(40, 140, r"instruction$"), (24, 60, "latency"), (12, 40, "^ 03:04"),
                                    (5, 20, "too small"), (1, 1, "^t$"), (24, 80, "latency"), (200, 300, "instruction")]:
            terminal.resize(rows, columns)
            terminal.wait(what)
            self.assertLessEqual(max(map(len, terminal.lines())), columns)
        terminal.press("q")
        self.ends_well(terminal)

    def test_no_colours(self):
        for term, environment in [("vt100", {}), ("linux", {"NO_COLOR": "1"})]:
            with self.subTest(term=term):
                terminal = self.on_terminal("vm1", "--post-mortem", term=term, **environment)
                terminal.wait("serial")
                terminal.press("q")
                self.ends_well(terminal)
                self.assertNotRegex(terminal.output, rb"\x1b\[[0-9;]*3[1-7]m")

    def test_terminals_that_are_none(self):
        for term, message in [("dumb", "TERM is 'dumb', a terminal whose cursor cannot be moved"),
                              ("no-such-terminal", "TERM is 'no-such-terminal', which is not known here"),
                              ("", "TERM is not set"), (None, "TERM is not set")]:
            with self.subTest(term=term):
                terminal = self.on_terminal("vm1", "--post-mortem", term=term)
                status, message_seen = terminal.end()
                self.assertEqual((status, terminal.output), (USAGE, b""))
                self.assertRegex(message_seen, rf"^utsusu: watch: {message}.*; give --follow .*\n$")
                self.assertTrue(terminal.is_as_before())

    def test_signals_leave_the_terminal_as_it_was(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            with self.subTest(signal=number):
                terminal = self.on_terminal("vm1", "--post-mortem", term="xterm-256color")
                while b"that is all" not in terminal.output:
                    terminal.read(1)
                self.assertFalse(terminal.is_as_before())
                terminal.process.send_signal(number)
                self.ends_well(terminal)
                self.assertIn(b"\x1b[?1049l", terminal.output[-100:])  # the screen before
                self.assertIn(b"\x1b[?25h", terminal.output[-500:] + b"\x1b[?12l\x1b[?25h")

    def test_ctrl_c(self):
        terminal = self.left_on_terminal()
        terminal.press("\x03")
        self.ends_well(terminal)

    def test_a_terminal_that_goes_away(self):
        terminal = self.left_on_terminal()
        terminal.hang_up()
        self.assertEqual(terminal.process.wait(timeout=60), 0)

    def test_names_of_others(self):
        path = self.recorded()
        with open(path, "r+b") as file:
            content = file.read()
            at = content.index(b"serial\0")
            file.seek(at)
            file.write(b"\x1b[2J\x9b\n\0")
        terminal = self.on_terminal("--from", path)
        terminal.wait(r"^ \?\[2J\?\? ")


def processor_seconds(pid):
    """What a process has used so far: other than a clock on the wall, it says the same on a busy computer."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Load(View):
    def test_a_long_recording_is_read_faster_than_it_was_made(self):
        path, blocks = self.recorded(), 12000
        with open(path, "r+b") as file:
            file.seek(16384)
            block = file.read()
            for _ in range(blocks - 1):
                file.write(block)
        terminal = self.on_terminal("--from", path)
        terminal.wait(f" {40 * blocks} requests ")
        terminal.wait("that is all there is; q leaves")
        rate = 40 * blocks / processor_seconds(terminal.process.pid)
        if os.environ.get("UTSUSU_FAST"):
            self.assertGreater(rate, 200000)
        terminal.press("q")
        self.ends_well(terminal)
        # A terminal is slow: pictures, and only what changed in them.
        self.assertLess(len(terminal.output), 100000)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:],
                  testRunner=unittest.TextTestRunner(resultclass=test_cli.Result, verbosity=0))
