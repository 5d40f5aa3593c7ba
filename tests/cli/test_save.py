#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""save and restore with real VMs of a few instructions. test_save.py UTSUSU (utsusu-vm and utsusu-move beside it)"""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM = sys.argv[1] if len(sys.argv) > 1 else ""
FAILED, USAGE, HOST, RESOURCE, BUSY, NOT_FOUND = 1, 2, 3, 4, 5, 6
WAIT = 30
HAS_KVM = os.access("/dev/kvm", os.R_OK | os.W_OK)
BASE = 0x100000

# PVH, 32 bits: eax = 0x200000; again: inc dword [eax]; wait; print 64 + the count's low 6 bits on the serial port.
CODE = bytes.fromhex("b800002000 ff00 8b18 b900000100 e2fe 66baf803 89d8 243f 0440 ee b800002000 ebe3")


def kernel():
    note = struct.pack("<III", 4, 4, 18) + b"Xen\0" + struct.pack("<I", BASE)
    start = 64 + 2 * 56
    code = CODE.ljust(64, b"\x90")
    return (b"\x7fELF\x02\x01\x01" + bytes(9)
            + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, BASE, 64, 0, 0, 64, 56, 2, 0, 0, 0)
            + struct.pack("<IIQQQQQQ", 1, 7, start, BASE, BASE, len(code), len(code), 4096)
            + struct.pack("<IIQQQQQQ", 4, 4, start + len(code), 0, 0, len(note), len(note), 4) + code + note)


@unittest.skipUnless(HAS_KVM, "needs /dev/kvm")
class Save(unittest.TestCase):
    def setUp(self):
        self.work = tempfile.mkdtemp(prefix="utsusu-save-")
        self.file = os.path.join(self.work, "vm.saved")
        self.state = os.path.join(self.work, "state")
        run = os.path.join(self.work, "run")
        os.mkdir(run, 0o700)
        os.mkdir(self.state, 0o700)
        self.environment = dict(os.environ, UTSUSU_RUNTIME_DIR=run, UTSUSU_STATE_DIR=self.state)
        with open(os.path.join(self.work, "kernel"), "wb") as file:
            file.write(kernel())
        self.good("run", "guest", "--detach", "--memory", "64M", "--kernel", os.path.join(self.work, "kernel"))

    def tearDown(self):
        for name in self.states():
            self.utsusu("stop", name, "--force")
        shutil.rmtree(self.work)

    def fill(self):
        """Another guest, with memory that it does not touch by itself: 4 MiB in some chunks of the file."""
        initrd = os.path.join(self.work, "initrd")
        with open(initrd, "wb") as file:
            file.write(os.urandom(4 << 20))
        self.good("stop", "guest", "--force")
        self.good("run", "guest", "--detach", "--memory", "64M", "--kernel", os.path.join(self.work, "kernel"),
                  "--initrd", initrd)

    def utsusu(self, *words, **more):
        return subprocess.run([PROGRAM, *words], env=self.environment, capture_output=True, encoding="utf-8", timeout=WAIT,
                              check=False, stdin=subprocess.DEVNULL, **more)

    def good(self, *words):
        done = self.utsusu(*words)
        self.assertEqual(done.returncode, 0, (words, done.stderr))
        return done

    def bad(self, status, message, *words):
        done = self.utsusu(*words)
        self.assertEqual(done.returncode, status, (words, done.stdout, done.stderr))
        self.assertIn(message, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1 + done.stderr.count("utsusu-move:"), done.stderr)

    def states(self):
        return {vm["name"]: vm["state"] for vm in json.loads(self.good("list", "--json").stdout)}

    def config(self, name):
        return json.loads(self.good("info", name, "--json").stdout)["config"]

    def break_at(self, point):
        with open(os.path.join(self.state, "failpoint"), "w", encoding="utf-8") as file:
            file.write(point)

    def assert_runs_unsaved(self):
        self.assertEqual(self.states(), {"guest": "running"})
        self.assertEqual([name for name in os.listdir(self.work) if "saved" in name], [])

    def test_a_vm_is_saved_and_runs_again(self):
        uuid = self.config("guest")["uuid"]
        self.assertIn("is saved in", self.good("save", "guest", self.file).stdout)
        self.assertEqual(self.states(), {})
        self.assertEqual(os.stat(self.file).st_mode & 0o777, 0o600)
        self.assertIn("guest runs", self.good("restore", self.file).stdout)
        self.assertEqual(self.states(), {"guest": "running"})
        self.assertEqual(self.config("guest")["uuid"], uuid)

    def test_a_saved_vm_is_not_started_from_its_disks(self):
        """Its file would be restored on what that wrote."""
        run = ["run", "guest", "--detach", "--memory", "64M", "--kernel", os.path.join(self.work, "kernel")]
        self.good("save", "guest", self.file)
        self.bad(BUSY, f"was saved in the file {self.file} and is there", *run)
        self.assertIn("--run-here", self.good("resolve", "guest").stdout)
        self.good("restore", self.file, "copy", "--clone")
        self.bad(BUSY, "was saved in the file", *run)
        self.good("restore", self.file)
        self.good("stop", "guest", "--force")
        self.good(*run)
        # And by a person's word.
        self.good("save", "guest", self.file, "--force")
        self.good("resolve", "guest", "--run-here")
        self.good(*run)

    def test_a_save_that_fails_leaves_no_note(self):
        self.break_at("source.ready:kill")
        self.bad(FAILED, "died", "save", "guest", self.file)
        self.break_at("")
        self.assertEqual(self.states(), {"guest": "running"})
        self.good("stop", "guest", "--force")
        self.good("run", "guest", "--detach", "--memory", "64M", "--kernel", os.path.join(self.work, "kernel"))

    def test_json_tells_the_end(self):
        end = json.loads(self.good("save", "guest", self.file, "--json").stdout.splitlines()[-1])
        self.assertEqual(end["end"], "ran")
        end = json.loads(self.good("restore", self.file, "--json").stdout.splitlines()[-1])
        self.assertEqual(end["end"], "ran")

    def test_a_file_runs_once_and_is_cloned_often(self):
        self.good("save", "guest", self.file)
        self.good("restore", self.file, "again")
        self.bad(BUSY, "was restored already, by user", "restore", self.file)
        self.bad(USAGE, "give its NAME", "restore", self.file, "--clone")
        os.chmod(self.file, 0o400)
        self.good("restore", self.file, "one", "--clone")
        self.good("restore", self.file, "two", "--clone")
        self.assertEqual(self.states(), {"again": "running", "one": "running", "two": "running"})
        self.assertEqual(len({self.config(name)["uuid"] for name in self.states()}), 3)

    def test_what_is_there_is_kept(self):
        with open(self.file, "w", encoding="utf-8") as file:
            file.write("precious")
        self.bad(USAGE, "is there already", "save", "guest", self.file)
        self.assertEqual(self.states(), {"guest": "running"})
        self.good("save", "guest", self.file, "--force")
        self.good("restore", self.file)

    def test_what_is_no_saved_vm_is_refused(self):
        self.bad(NOT_FOUND, "No such file", "restore", self.file)
        self.bad(USAGE, "is not a saved VM", "restore", os.path.join(self.work, "kernel"))
        self.bad(NOT_FOUND, "no such VM", "save", "nobody", self.file)
        self.bad(USAGE, "cannot be made", "save", "guest", os.path.join(self.work, "nowhere", "file"))
        self.assert_runs_unsaved()

    def test_damage_is_refused_and_the_file_stays_unused(self):
        self.good("save", "guest", self.file)
        with open(self.file, "r+b") as file:
            whole = file.read()
            file.truncate(len(whole) - 100)
        self.bad(FAILED, "cut off", "restore", self.file)
        at = whole.rindex(b"\x28\xb5\x2f\xfd") + 40  # in the last pages
        with open(self.file, "wb") as file:
            file.write(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:])
        self.bad(FAILED, "a checksum does not fit", "restore", self.file, "--load-first")
        self.assertEqual(self.states(), {})
        with open(self.file, "wb") as file:
            file.write(whole)
        self.good("restore", self.file)

    @unittest.skipUnless(os.access("/dev/userfaultfd", os.R_OK | os.W_OK), "needs /dev/userfaultfd")
    def test_damage_that_is_found_while_it_runs_ends_it(self):
        self.good("save", "guest", self.file)
        with open(self.file, "r+b") as file:
            whole = file.read()
            at = whole.rindex(b"\x28\xb5\x2f\xfd") + 40
            file.seek(at)
            file.write(bytes([whole[at] ^ 1]))
        self.bad(FAILED, "ran, and was ended, as its memory cannot be loaded: file: damaged", "restore", self.file)
        self.assertEqual(self.states(), {"guest": "dead"})
        self.bad(NOT_FOUND, "memory were still to come, and will not: file: damaged", "info", "guest")
        self.bad(BUSY, "was restored already", "restore", self.file)

    def test_a_mover_that_dies_before_the_commit_leaves_it_running(self):
        for point in ("start", "begun", "stopped", "state", "last-round", "ready"):
            self.break_at(f"source.{point}:kill")
            done = self.utsusu("save", "guest", self.file)
            self.assertEqual(done.returncode, FAILED, (point, done.stderr))
            self.assertIn("died", done.stderr)
            self.assert_runs_unsaved()

    def test_a_mover_that_dies_after_the_commit_leaves_it_in_one_place(self):
        self.break_at("source.given:kill")
        self.bad(FAILED, "died", "save", "guest", self.file)
        self.assert_runs_unsaved()
        self.break_at("source.settled:kill")
        self.good("save", "guest", self.file)
        self.assertEqual(self.states(), {})

    def test_a_restore_whose_mover_dies_leaves_the_file(self):
        self.good("save", "guest", self.file)
        for point in ("start", "machine", "rehearsed", "round", "loaded", "commit"):
            self.break_at(f"destination.{point}:kill")
            self.bad(FAILED, "died", "restore", self.file)
            self.assertEqual(self.states(), {}, point)
        self.break_at("destination.ran:kill")
        self.good("restore", self.file, "--load-first")
        self.assertEqual(self.states(), {"guest": "running"})
        self.bad(BUSY, "was restored already", "restore", self.file, "other")

    @unittest.skipUnless(os.access("/dev/userfaultfd", os.R_OK | os.W_OK), "needs /dev/userfaultfd")
    def test_a_mover_that_dies_while_it_loads_is_its_end(self):
        self.fill()
        self.good("save", "guest", self.file)
        self.break_at("destination.ran:kill")
        self.bad(FAILED, "died before all its memory was there; the file stays marked as used", "restore", self.file)
        self.assertEqual(self.states(), {"guest": "dead"})
        self.bad(BUSY, "was restored already", "restore", self.file, "other")

    def test_ctrl_c_leaves_it_running(self):
        self.break_at("source.stopped:stop")
        with subprocess.Popen([PROGRAM, "save", "guest", self.file], env=self.environment, stderr=subprocess.PIPE,
                              stdin=subprocess.DEVNULL, encoding="utf-8") as saving:
            end = time.monotonic() + WAIT
            while not (stopped := self.stopped_mover(saving.pid)) and time.monotonic() < end:
                time.sleep(0.05)
            saving.send_signal(signal.SIGINT)
            time.sleep(0.2)
            os.kill(stopped, signal.SIGCONT)
            _, errors = saving.communicate(timeout=WAIT)
        self.assertEqual(saving.returncode, FAILED, errors)
        self.assertIn("cancelled; it runs as before", errors)
        self.assert_runs_unsaved()

    def restore_to_the_stop(self):
        """A restore whose mover stands still as soon as the guest runs, and that mover."""
        self.fill()
        self.good("save", "guest", self.file)
        self.break_at("destination.ran:stop")
        restoring = subprocess.Popen([PROGRAM, "restore", self.file], env=self.environment, stdout=subprocess.PIPE,
                                     stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, encoding="utf-8")
        end = time.monotonic() + WAIT
        while not (stopped := self.stopped_mover(restoring.pid)) and time.monotonic() < end:
            time.sleep(0.05)
        self.addCleanup(restoring.wait)
        self.addCleanup(restoring.stdout.close)
        self.addCleanup(self.kill, stopped)
        os.remove(os.path.join(self.state, "failpoint"))
        self.assertIn("guest runs", restoring.stdout.readline())
        return restoring, stopped

    @staticmethod
    def kill(pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    @unittest.skipUnless(os.access("/dev/userfaultfd", os.R_OK | os.W_OK), "needs /dev/userfaultfd")
    def test_it_runs_before_its_memory_is_there(self):
        other = os.path.join(self.work, "other.saved")
        restoring, stopped = self.restore_to_the_stop()
        self.assertEqual(self.states(), {"guest": "running"})
        self.bad(BUSY, "its memory is still being loaded, ", "save", "guest", other)
        os.kill(stopped, signal.SIGCONT)
        self.assertIn("all of its memory is loaded", restoring.stdout.readline())
        self.assertEqual(restoring.wait(WAIT), 0)
        self.good("save", "guest", other)
        self.good("restore", other)

    @unittest.skipUnless(os.access("/dev/userfaultfd", os.R_OK | os.W_OK), "needs /dev/userfaultfd")
    def test_ctrl_c_while_it_loads_leaves_that_to_the_mover(self):
        restoring, stopped = self.restore_to_the_stop()
        restoring.send_signal(signal.SIGINT)
        self.assertEqual(restoring.wait(WAIT), 0)
        self.assertIn("runs on while the rest of its memory is loaded", restoring.stdout.readline())
        self.assertEqual(self.states(), {"guest": "running"})
        os.kill(stopped, signal.SIGCONT)
        other = os.path.join(self.work, "other.saved")
        end = time.monotonic() + WAIT
        while (done := self.utsusu("save", "guest", other)).returncode == BUSY and time.monotonic() < end:
            time.sleep(0.1)
        self.assertEqual(done.returncode, 0, done.stderr)

    @staticmethod
    def stopped_mover(parent):
        with open(f"/proc/{parent}/task/{parent}/children", encoding="utf-8") as file:
            children = file.read().split()
        for child in children:
            with open(f"/proc/{child}/stat", encoding="utf-8") as file:
                if file.read().rpartition(")")[2].split()[0] == "T":
                    return int(child)
        return 0

    @unittest.skipUnless(os.geteuid() == 0, "mounts a small file system")
    def test_a_full_disk_leaves_it_running(self):
        small = os.path.join(self.work, "small")
        os.mkdir(small)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "small", small], check=False).returncode:
            self.skipTest("cannot mount")
        try:
            self.bad(RESOURCE, "no room for it", "save", "guest", os.path.join(small, "file"))
            self.assertEqual(os.listdir(small), [])
        finally:
            subprocess.run(["umount", small], check=True)
        self.assert_runs_unsaved()


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
