#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""utsusu watch on what a dead VM left and on recordings: test_watch.py UTSUSU UTSUSU_WATCH MAKE_STORE.

The requests are those of make_store.c; a VM that runs is watched by the tests of the lab.
"""

import json
import os
import shutil
import subprocess
import sys
import unittest

import test_cli
from test_cli import BUSY, NOT_FOUND, RESOURCE, USAGE, Case

WATCH, MAKE_STORE = (sys.argv + ["", "", ""])[2:4]
BACKGROUND = ("mode normal", "that is all there is")


class Watch(Case):
    def setUp(self):
        super().setUp()
        shutil.copy(WATCH, os.path.join(self.work, "utsusu-watch"))
        self.environment["TZ"] = "UTC"
        self.leave("vm1")

    def leave(self, name, *words):
        """The runtime directory as after the death of a watched VM."""
        folder = os.path.join(self.runtime, name)
        os.makedirs(folder, mode=0o700)
        os.chmod(self.runtime, 0o700)
        self.file(os.path.join(folder, "lock"), b"")
        subprocess.run([MAKE_STORE, os.path.join(folder, "requests"), *words], check=True)

    def watch(self, *words, **more):
        """Standard output, of a watch that ended well."""
        done = self.utsusu("watch", *words, **more)
        self.assertEqual(done.returncode, 0, (words, done.stderr))
        return done.stdout

    def left(self, *words):
        return self.watch("vm1", "--post-mortem", *words)

    def objects(self, *words):
        return [json.loads(line) for line in self.left("--json", *words).splitlines()]

    def recorded(self, *words):
        path = os.path.join(self.work, "night.utsusu")
        self.left("--record", path, *words)
        return path


class Options(Watch):
    def test_impossible_combinations(self):
        for message, *words in [
                ("NAME: is missing; give the VM's name, or --from FILE", "--follow"),
                ("--follow: does not go with --json; keep one of them", "vm1", "--follow", "--json"),
                ("--web: does not go with --export; keep one of them", "vm1", "--web", "--export", "ctf",
                 "--output", "x"),
                ("--report: does not go with --record; keep one of them", "vm1", "--report", "--record", "x"),
                ("--from: does not go with NAME; keep one of them", "vm1", "--from", "x"),
                ("--from: does not go with --all; keep one of them", "--from", "x", "--all"),
                ("--from: does not go with --lossless; keep one of them", "--from", "x", "--lossless"),
                ("--post-mortem: does not go with --exact; keep one of them", "vm1", "--post-mortem", "--exact"),
                ("--registers: does not go with --web; keep one of them", "vm1", "--registers", "--web"),
                ("--window: needs --report; give --report", "vm1", "--window", "10s"),
                ("--port: needs --web; give --web", "vm1", "--port", "8080"),
                ("--export: needs --output; give --output PATH", "vm1", "--export", "ctf"),
                ("--output: needs --export; give --export perfetto|ctf|pcapng|json", "vm1", "--output", "x"),
                ("--rotate: needs --record; give --record FILE", "vm1", "--rotate", "1M"),
                ("--files: needs --rotate; give --rotate SIZE", "vm1", "--record", "x", "--files", "3")]:
            with self.subTest(words=words):
                self.bad(USAGE, message, "watch", *words)

    def test_bad_values(self):
        for message, *words in [
                ("--flter: unknown option; did you mean --filter?", "vm1", "--flter", "out"),
                ("'VM1' is no name of a VM", "VM1"),
                ("--rotate: '1K' is out of range", "vm1", "--record", "x", "--rotate", "1K"),
                ("--export: 'svg'", "vm1", "--export", "svg", "--output", "x"),
                ("--count: '0' is out of range", "vm1", "--count", "0"),
                ("--for: 'ever'", "vm1", "--for", "ever")]:
            with self.subTest(words=words):
                self.bad(USAGE, message, "watch", *words)

    def test_filters_tell_the_column(self):
        for column, text in [(1, "lattency>5us"), (8, "out && lattency>5us"), (12, "out &&     && in"), (6, "dev==")]:
            with self.subTest(filter=text):
                done = self.utsusu("watch", "vm1", "--post-mortem", "--filter", text)
                self.assertEqual((done.returncode, done.stdout), (USAGE, ""))
                self.assertRegex(done.stderr, rf"^utsusu: .*:{column}: .*\n$")

    def test_no_such_vm(self):
        self.bad(NOT_FOUND, "other: no such VM", "watch", "other")
        self.bad(NOT_FOUND, "other: left no requests", "watch", "other", "--post-mortem")

    def test_a_dead_vm_says_where_its_requests_are(self):
        self.bad(NOT_FOUND, "vm1: its process died; see its last requests with utsusu watch --post-mortem vm1",
                 "watch", "vm1")

    def test_without_the_program(self):
        os.unlink(os.path.join(self.work, "utsusu-watch"))
        done = self.utsusu("watch", "vm1")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, "^utsusu: utsusu-watch: cannot be started: .*; install it .*\n$")

    def test_symbols_that_are_none(self):
        self.bad(RESOURCE, "/nonexistent", "watch", "vm1", "--post-mortem", "--symbols", "/nonexistent")
        self.bad(RESOURCE, "/nonexistent", "watch", "vm1", "--post-mortem", "--symbols", "/nonexistent@0x1000")


class Lines(Watch):
    def test_columns(self):
        self.assertEqual(self.left("--count", "3").splitlines(), [
            "03:04:05.001000  vcpu0          serial        in    port 0x3fd          0x60          10.0 us"
            "  0xffffffff81000000: in al, dx",
            "03:04:05.002000  vcpu1          serial        out   port 0x3f8          0x42          10.0 us"
            "  0xffffffff81000010: out dx, al",
            "03:04:05.003000  vcpu0          serial        out   port 0x3f8          0x43          10.0 us"
            "  0xffffffff81000020: out dx, al"])

    def test_what_failed(self):
        self.assertEqual(self.left("--filter", "status!=0").splitlines(), [
            "03:04:05.010000  disk:0         disk          write sector 72           4096 bytes     300 us  EIO"])

    def test_nobody_answers(self):
        self.assertIn("[no device]", self.left("--filter", "unclaimed"))

    def test_registers(self):
        lines = self.left("--registers", "--count", "1").splitlines()
        self.assertEqual(len(lines), 2)
        self.assertTrue(lines[1].startswith("    rax=60 rcx=0 rdx=3fd "), lines[1])

    def test_filters_that_match_nothing_and_everything(self):
        self.assertEqual(self.left("--filter", "port==1"), "")
        self.assertEqual(len(self.left("--filter", "in || !in").splitlines()), 40)

    def test_what_is_about_the_watch_is_on_standard_error(self):
        done = self.utsusu("watch", "vm1", "--post-mortem")
        for line, words in zip(done.stderr.splitlines(), BACKGROUND, strict=True):
            self.assertIn(words, line)

    def test_symbols(self):
        path = self.file("kallsyms", b"ffffffff81000000 T serial_in\nffffffff81000010 T serial_out\n"
                                     b"ffffffff81000030 T end\n")
        lines = self.left("--symbols", path, "--count", "3").splitlines()
        self.assertIn(" serial_in", lines[0])
        self.assertIn("serial_out+0x10", lines[2])
        low = self.file("System.map", b"ffffffff80000000 T serial_in\nffffffff80000010 T serial_out\n"
                                      b"ffffffff80000030 T end\n")
        self.assertEqual(self.left("--symbols", low + "@0x1000000", "--count", "3").splitlines(), lines)

    def test_a_reader_that_stops_reading(self):
        process = subprocess.Popen([self.program, "watch", "vm1", "--post-mortem"], env=self.environment,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.close()
        self.assertEqual((process.wait(20), process.stderr.read().count(b"cannot")), (0, 0))
        process.stderr.close()


class Json(Watch):
    def test_first_and_last_line(self):
        lines = self.objects()
        self.assertEqual(lines[0]["watch"], {"vm": "vm1", "origin": "post-mortem", "mode": "normal", "unseen": ["the local APIC: its registers are inside KVM",
                                                "writes that ring the doorbells of queues"],
                                             "filter": "", "format": 1})
        self.assertEqual(lines[-1], {"end": {"reason": "no-more", "records": 40, "lost": 0}})
        self.assertEqual(len(lines), 42)

    def test_an_access(self):
        access = self.objects("--filter", "out", "--count", "1")[1]
        registers = access.pop("registers")
        self.assertEqual((registers["rax"], registers["rdx"], registers["rip"]),
                         ("0x42", "0x3f8", "0xffffffff81000010"))
        instruction = access.pop("instruction")
        self.assertEqual((instruction["text"], instruction["bytes"], instruction["verdict"]),
                         ("out dx, al", "ee", "on"))
        self.assertEqual(access, {
            "time": "2026-01-02T03:04:05.002000000Z", "time_us": 1767323045002000, "latency_ns": 10001,
            "ring": "vcpu1", "sequence": 1, "kind": "pio", "vcpu": 1, "device": "serial", "operation": "out",
            "address": "0x3f8", "size": 1, "data": "0x42", "element": 0})

    def test_a_disk_request(self):
        self.assertEqual(self.objects("--filter", "dev==disk", "--count", "1")[1], {
            "time": "2026-01-02T03:04:05.010000000Z", "time_us": 1767323045010000, "latency_ns": 300000,
            "ring": "disk:0", "sequence": 1, "kind": "disk", "queue": 0, "device": "disk", "operation": "write",
            "offset": 36864, "sector": 72, "length": 4096, "status": -5, "error": "EIO"})

    def test_the_reason_of_the_end(self):
        self.assertEqual(self.objects("--count", "5")[-1]["end"], {"reason": "count", "records": 5, "lost": 0})

    def test_the_rings_hold_the_last_ones(self):
        """1024 for each vCPU of 1800, and all 400 of the disk."""
        self.leave("vm2", "4000")
        lines = [json.loads(line) for line in self.watch("vm2", "--post-mortem", "--json").splitlines()]
        self.assertEqual(lines[-1]["end"], {"reason": "no-more", "records": 2448, "lost": 0})
        self.assertEqual(lines[1:-1], sorted(lines[1:-1], key=lambda one: one["time"]))
        self.assertEqual([one["sequence"] for one in lines[1:-1] if one["ring"] == "vcpu0"], list(range(977, 2001)))


class Recordings(Watch):
    def test_a_recording_shows_the_same(self):
        path = self.recorded()
        self.assertEqual(self.watch("--from", path), self.left())
        requests = self.watch("--from", path, "--json").splitlines()[1:-1]
        self.assertEqual(requests, self.left("--json").splitlines()[1:-1])

    def test_a_filter_records_less(self):
        path = self.recorded("--filter", "dev==disk")
        self.assertEqual(len(self.watch("--from", path).splitlines()), 4)

    def test_a_recording_of_a_recording(self):
        path, again = self.recorded(), os.path.join(self.work, "again.utsusu")
        self.watch("--from", path, "--filter", "in", "--record", again)
        self.assertEqual(self.watch("--from", again), self.left("--filter", "in"))

    def test_a_count_ends_it(self):
        self.assertEqual(len(self.watch("--from", self.recorded("--count", "7")).splitlines()), 7)

    def test_files_that_are_there_are_not_overwritten(self):
        path = self.recorded()
        done = self.utsusu("watch", "vm1", "--post-mortem", "--record", path)
        self.assertEqual((done.returncode, done.stdout), (RESOURCE, ""))
        self.assertIn(path, done.stderr)

    def test_rotation_keeps_so_many(self):
        self.leave("big", "200000")
        path = os.path.join(self.work, "big.utsusu")
        self.watch("big", "--post-mortem", "--record", path)
        first = os.path.join(self.work, "small.utsusu")
        self.watch("--from", path, "--record", first, "--rotate", "1M", "--files", "2")
        self.assertLessEqual(len([name for name in os.listdir(self.work) if name.startswith("small")]), 2)

    def test_files_that_are_none(self):
        for name, content in [("empty", b""), ("text", b"no recording\n" * 1000), ("zeros", bytes(65536))]:
            with self.subTest(name=name):
                path = self.file(name, content)
                self.bad(RESOURCE, path, "watch", "--from", path)
        self.bad(RESOURCE, "/nonexistent", "watch", "--from", "/nonexistent")
        self.bad(RESOURCE, self.work, "watch", "--from", self.work)

    def test_a_recording_that_was_cut(self):
        path = self.recorded()
        whole = open(path, "rb").read()
        left = self.left()
        for size in (len(whole) // 3, len(whole) // 2, len(whole) - 100, len(whole) - 1):
            with self.subTest(size=size):
                cut = self.file("cut", whole[:size])
                done = self.utsusu("watch", "--from", cut)
                self.assertIn(done.returncode, (0, RESOURCE), done.stderr)
                for line in done.stdout.splitlines():
                    self.assertIn(line, left)

    def test_where_nothing_can_be_written(self):
        self.bad(RESOURCE, "/nonexistent/x", "watch", "vm1", "--post-mortem", "--record", "/nonexistent/x")

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full")
    def test_output_that_is_full(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([self.program, "watch", "vm1", "--post-mortem", "--json"], env=self.environment,
                                  stdout=full, stderr=subprocess.PIPE, encoding="utf-8", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("No space left", done.stderr)


class Stores(Watch):
    def test_stores_that_are_none(self):
        for name, content in [("text", b"text" * 100000), ("empty", b""), ("short", b"utuwatch" * 10)]:
            with self.subTest(name=name):
                self.file(os.path.join(self.runtime, "vm1", "requests"), content)
                self.bad(RESOURCE, "vm1: ", "watch", "vm1", "--post-mortem")

    def test_a_vm_that_lives(self):
        lock = os.path.join(self.runtime, "vm1", "lock")
        holder = subprocess.Popen([sys.executable, "-c", "import fcntl, struct, sys\n"
                                   "f = open(sys.argv[1], 'r+')\n"
                                   "fcntl.fcntl(f, 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))\n"
                                   "print(flush=True)\nsys.stdin.read()", lock],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            holder.stdout.readline()
            self.bad(BUSY, "vm1: lives; leave out --post-mortem", "watch", "vm1", "--post-mortem")
        finally:
            holder.communicate()


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:],
                  testRunner=unittest.TextTestRunner(resultclass=test_cli.Result, verbosity=0))
