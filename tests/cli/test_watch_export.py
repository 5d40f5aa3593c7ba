#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Reports and exports of requests that are known: test_watch_export.py UTSUSU UTSUSU_WATCH MAKE_SCENES.

The requests are those of make_scenes.c. What is exported is opened with the tools that it is for.
"""

import collections
import json
import os
import re
import shutil
import subprocess
import sys
import unittest

from test_cli import RESOURCE
from test_watch import Watch

SECOND = 1000000000
START = 1767323045 * SECOND
ACCESSES, PCI, DISK, NET = 3004, 1, 780, 2000
SCENES = ["idle", "cpu", "disk", "net", "console", "idle", "idle"]


def needs(tool):
    return unittest.skipUnless(shutil.which(tool), f"{tool} is not installed")


def run(*words, data=None):
    done = subprocess.run(words, input=data, capture_output=True, check=False, timeout=60)
    return done.returncode, done.stdout, done.stderr.decode()


class Report(Watch):
    def report(self, *words):
        lines = [json.loads(line) for line in self.left("--report", "--json", *words).splitlines()]
        self.assertEqual(list(lines[0]) + list(lines[-1]), ["watch", "end"])
        return [line["window"] for line in lines if "window" in line], lines[-2]["total"]

    def test_each_scene_has_its_class(self):
        windows, total = self.report("--window", "1s")
        self.assertEqual([window["bound"] for window in windows], SCENES)
        self.assertEqual(total["bound"], "light")
        self.assertEqual(total["records"], ACCESSES + PCI + DISK + NET)
        self.assertEqual((total["begin_us"], total["end_us"]), (START // 1000, START // 1000 + 7000000))

    def test_the_numbers_are_those_of_the_scenes(self):
        total = self.report()[1]
        devices = {device["device"]: device for device in total["devices"]}
        disk, net = devices["virtio-blk.0"]["requests"], devices["virtio-net.0"]["requests"]
        self.assertEqual((disk["count"], disk["failed"], disk["bytes"]), (DISK, 1, DISK << 16))
        self.assertEqual(disk["operations"], {"read": DISK - 1, "flush": 1})
        self.assertGreater(disk["sequential"], DISK - 10)
        self.assertEqual((net["count"], net["in"], net["out"]), (NET, NET // 4, NET * 3 // 4))
        self.assertEqual(disk["latency"]["max_ns"], 30000000)
        for permille in ("p50_ns", "p90_ns", "p99_ns"):
            self.assertAlmostEqual(disk["latency"][permille], 5000000, delta=950000)
        self.assertEqual(devices["serial"]["accesses"]["count"], 2900)
        self.assertAlmostEqual(total["vcpus"][1]["cpu"], 0.95 / 7, delta=0.01)

    def test_what_repeats_shows_its_period(self):
        windows = self.report("--window", "1s")[0]
        self.assertEqual(windows[6]["period"]["device"], "rtc")
        self.assertAlmostEqual(windows[6]["period"]["ns"], 10000000, delta=100000)
        self.assertGreater(windows[6]["period"]["permille"], 900)
        self.assertIsNone(windows[1]["period"])

    def test_the_hottest_instruction_is_disassembled(self):
        hottest = self.report()[1]["instructions"][0]
        self.assertEqual((hottest["instruction"], hottest["text"], hottest["device"], hottest["count"]),
                         ("0xffffffff810003fd", "in al, dx", "serial", 1900))

    def test_the_filter_of_an_oddity_shows_it(self):
        odd = self.report()[1]["odd"]
        self.assertEqual(sorted(found["what"] for found in odd), ["errors", "errors", "polling", "unclaimed"])
        for found in odd:
            shown = len(self.left("--follow", "--filter", found["filter"]).splitlines())
            # What is counted is that the answer was the same again.
            self.assertEqual(shown - (found["what"] == "polling"), found["count"], found)

    def test_text(self):
        text = self.left("--report", "--window", "1s")
        rows = [line.split()[:2] for line in text.splitlines() if line.startswith("03:04:")][:7]
        self.assertEqual(rows, [[f"03:04:{5 + i:02}.000", scene] for i, scene in enumerate(SCENES)])
        for part in ("Bound by: light (no other rule holds", "0xffffffff810003fd: in al, dx",
                     "look closer: --filter 'unclaimed && port==0x80'",
                     "1 request of virtio-blk.0 failed, the last one with EIO"):
            self.assertIn(part, text)

    def test_a_filter_narrows_it(self):
        total = self.report("--filter", "net")[1]
        self.assertEqual([device["device"] for device in total["devices"]], ["virtio-net.0"])

    def test_a_recording_gives_the_same_report(self):
        self.assertEqual(self.watch("--from", self.recorded(), "--report").splitlines()[1:],
                         self.left("--report").splitlines()[1:])


class Export(Watch):
    def export(self, form, *words):
        path = os.path.join(self.work, f"out.{form}")
        self.left("--export", form, "--output", path, *words)
        return path


class Safety(Export):
    def test_nothing_is_replaced(self):
        path = self.file("there", b"precious")
        for form in ("perfetto", "ctf", "pcapng", "json"):
            self.bad(RESOURCE, "there is something already", "watch", "vm1", "--post-mortem", "--export", form,
                     "--output", path)
            with open(path, "rb") as file:
                self.assertEqual(file.read(), b"precious")

    def test_a_directory_with_something_is_left_alone(self):
        path = os.path.join(self.work, "trace")
        os.mkdir(path)
        self.file(os.path.join(path, "metadata"), b"")
        self.bad(RESOURCE, "name a directory that is new or empty", "watch", "vm1", "--post-mortem", "--export",
                 "ctf", "--output", path)
        os.remove(os.path.join(path, "metadata"))
        self.left("--export", "ctf", "--output", path)

    def test_an_empty_file_is_filled(self):
        path = self.file("out.json", b"")
        self.left("--export", "json", "--output", path)
        self.assertGreater(os.path.getsize(path), 1000)

    def test_only_the_owner_may_read_it(self):
        for form in ("pcapng", "ctf"):
            self.assertEqual(os.stat(self.export(form)).st_mode & 0o077, 0)

    def test_a_full_disk_is_told(self):
        for form in ("perfetto", "pcapng", "json"):
            done = self.utsusu("watch", "vm1", "--post-mortem", "--export", form, "--output", "/dev/full")
            self.assertEqual(done.returncode, RESOURCE)
            self.assertIn("utsusu: /dev/full: there is no room for more", done.stderr)

    def test_a_pipe_may_close(self):
        words = [self.program, "watch", "vm1", "--post-mortem", "--export", "json", "--output", "-"]
        with subprocess.Popen(words, env=self.environment, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as child:
            child.stdout.read(100)
            child.stdout.close()
            self.assertEqual(child.wait(timeout=60), 0, child.stderr.read())


class Json(Export):
    def test_it_is_what_is_printed(self):
        with open(self.export("json"), encoding="utf-8") as file:
            self.assertEqual(file.read(), self.left("--json"))

    def test_a_filter_narrows_it(self):
        with open(self.export("json", "--filter", "disk && failed"), encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        self.assertEqual([line["error"] for line in lines if "error" in line], ["EIO"])
        self.assertEqual(len(lines), 3)


@needs("tshark")
class Pcapng(Export):
    FIELDS = ("frame.time_epoch", "frame.len", "frame.cap_len", "frame.interface_name",
              "frame.packet_flags_direction", "frame.comment", "udp.dstport")

    def frames(self, path):
        status, out, err = run("tshark", "-r", path, "-n", "-T", "fields", "-E", "separator=;",
                               *[word for field in self.FIELDS for word in ("-e", field)])
        self.assertEqual(status, 0, err)
        return [line.split(";") for line in out.decode().splitlines()]

    def test_every_frame_is_there(self):
        frames = self.frames(self.export("pcapng"))
        self.assertEqual(len(frames), NET)
        self.assertEqual({tuple(frame[1:4]) for frame in frames}, {("1514", "192", "virtio-net.0")})
        self.assertEqual({frame[6] for frame in frames}, {"9"})
        directions = collections.Counter(int(frame[4], 16) for frame in frames)
        self.assertEqual(directions, {2: NET * 3 // 4, 1: NET // 4})
        self.assertEqual([index for index, frame in enumerate(frames) if frame[5]], [7])
        self.assertEqual(frames[7][5], "EIO")

    def test_times_are_exact(self):
        frames = self.frames(self.export("pcapng"))
        for index in (0, 1, 1999):
            seconds, fraction = frames[index][0].split(".")
            self.assertEqual(int(seconds) * SECOND + int(fraction), START + 3 * SECOND + index * SECOND // 2000)


@needs("babeltrace2")
class Ctf(Export):
    def events(self, *words):
        status, out, err = run("babeltrace2", "--clock-seconds", "--no-delta", self.export("ctf", *words))
        self.assertEqual((status, err), (0, ""))
        return out.decode().splitlines()

    def test_every_request_is_there(self):
        kinds = collections.Counter(line.split("] ")[1].split(":")[0] for line in self.events())
        self.assertEqual(kinds, {"pio": ACCESSES, "pci": PCI, "disk": DISK, "net": NET})

    def test_fields(self):
        lines = self.events()
        failed = [line for line in lines if "status = -5" in line]
        self.assertEqual(len(failed), 2)
        self.assertIn('device = "virtio-blk.0", operation = ( "read" : container = 0 ), '
                      "offset = 13107200, length = 65536", failed[0])
        polled = [line for line in lines if "address = 0x3FD" in line]
        self.assertEqual(len(polled), 1900)
        self.assertIn("instruction = 0xFFFFFFFF810003FD, verdict = ( \"on\" : container = 2 ), mode = 64, "
                      "n_code = 1, code = [ [0] = 0xEC ], rax = 0x60", polled[0])

    def test_times_never_go_back(self):
        times = [float(line.split("]")[0][1:]) for line in self.events()]
        self.assertEqual(times, sorted(times))
        self.assertAlmostEqual(times[0], 1767323047, places=3)

    def test_a_stream_is_of_one_ring(self):
        path = self.export("ctf", "--filter", "disk")
        self.assertEqual(sorted(os.listdir(path)), ["metadata", "stream_2_blk.0:0"])


def fields(data):
    """Number and value of each field of a protobuf message."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7f) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        elif key & 7 == 2:
            length = varint()
            at += length
            yield key >> 3, data[at - length:at]
        else:
            raise ValueError(f"no wire type {key & 7} is written")


class Perfetto(Export):
    """By the numbers that Perfetto documents, not by the file that the program is built from."""

    def packets(self, *words):
        with open(self.export("perfetto", *words), "rb") as file:
            return [dict(fields(packet)) for number, packet in fields(file.read()) if number == 1]

    def tracks(self, packets):
        found = {}
        for packet in packets:
            track = dict(fields(packet.get(60, b"")))
            if track:
                found[track[1]] = (track.get(2, b"").decode(), track.get(5))
        return found

    def events(self, packets):
        """(time, type, track, name), in the order in which Perfetto takes them."""
        found = []
        for packet in packets:
            event = dict(fields(packet.get(11, b"")))
            if event:
                found.append((packet[8], event[9], event[11], event.get(23, b"").decode()))
        return sorted(found, key=lambda event: event[0])

    def test_slices_of_a_track_do_not_cross(self):
        stacks = collections.defaultdict(list)
        slices = collections.Counter()
        packets = self.packets()
        tracks = self.tracks(packets)
        for time, kind, track, name in self.events(packets):
            self.assertIn(track, tracks)
            if kind == 1:
                self.assertLessEqual(len(stacks[track]), 1)
                stacks[track].append((time, name))
                slices[tracks[track][0]] += 1
            else:
                self.assertEqual(kind, 2)
                begin, _ = stacks[track].pop()
                self.assertLessEqual(begin, time)
        self.assertEqual([stack for stack in stacks.values() if stack], [])
        self.assertEqual(slices["vcpu0"], ACCESSES + PCI)
        self.assertEqual(slices["virtio-net.0"], NET)
        self.assertEqual(sum(slices[name] for name in slices if name.startswith("virtio-blk.0")), DISK + PCI)

    def test_overlapping_requests_have_lanes(self):
        names = [name for name, parent in self.tracks(self.packets()).values() if parent == 2]
        self.assertEqual(sorted(name for name in names if name.startswith("virtio-blk")),
                         ["virtio-blk.0"] + [f"virtio-blk.0 #{lane}" for lane in range(2, 6)])

    def test_a_nested_access_lies_in_the_one_that_caused_it(self):
        events = self.events(self.packets("--filter", "pci || port==0xcfc"))
        vcpu = [(time - START - 2 * SECOND, kind, name) for time, kind, track, name in events if track >> 40 == 1]
        self.assertEqual(vcpu, [(0, 1, "in port 0xcfc"), (2000, 1, "in pci 00:01.0+0x0"), (12000, 2, ""),
                                (20000, 2, "")])

    def test_the_clock_is_the_walls(self):
        first = self.packets()[0]
        clocks = [dict(fields(clock)) for _, clock in fields(first[6])]
        self.assertEqual(clocks, [{1: 1, 2: START + 2 * SECOND}, {1: 6, 2: START + 2 * SECOND}])
        self.assertEqual(first[13] & 1, 1)

    @needs("protoc")
    def test_protoc_decodes_it(self):
        with open(self.export("perfetto", "--filter", "disk"), "rb") as file:
            status, out, err = run("protoc", "--decode_raw", data=file.read())
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(out.decode().count('"status"'), DISK)

    @needs("protoc")
    def test_nothing_is_written_that_the_description_lacks(self):
        folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../src/view/export")
        with open(self.export("perfetto"), "rb") as file:
            status, out, err = run("protoc", f"--proto_path={folder}", "--decode=perfetto.Trace", "perfetto.proto",
                                   data=file.read())
        self.assertEqual((status, err), (0, ""))
        text = out.decode()
        self.assertIsNone(re.search(r"^\s*\d", text, re.MULTILINE), "a field without a name")
        slices = DISK + NET + 2 * (ACCESSES + PCI)
        self.assertEqual([text.count(f"type: TYPE_SLICE_{end}") for end in ("BEGIN", "END")], [slices, slices])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
