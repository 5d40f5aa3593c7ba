#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The command line as a person meets it: test_cli.py PROGRAM.

Bad input gives exactly one line on standard error, the documented exit status, and leaves nothing.
"""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
import unittest

PROGRAM = sys.argv[1] if len(sys.argv) > 1 else ""
HERE = os.path.dirname(os.path.abspath(__file__))
USAGE, HOST, RESOURCE, BUSY, NOT_FOUND, GUEST = 2, 3, 4, 5, 6, 7
KVM = os.access("/dev/kvm", os.R_OK | os.W_OK)


class Case(unittest.TestCase):
    def setUp(self):
        self.work = tempfile.mkdtemp(prefix="utsusu-cli-")
        self.runtime = os.path.join(self.work, "runtime")
        self.program = os.path.join(self.work, "utsusu")
        shutil.copy(PROGRAM, self.program)
        shutil.copy(os.path.join(HERE, "fake_vm.py"), os.path.join(self.work, "utsusu-vm"))
        self.kernel = self.file("vmlinuz", b"kernel")
        self.environment = dict(os.environ, UTSUSU_RUNTIME_DIR=self.runtime)

    def tearDown(self):
        for name in self.names():
            self.utsusu("stop", name, "--force")
        deadline = time.monotonic() + 10
        while self.names() and time.monotonic() < deadline:     # its lock goes before its folder
            time.sleep(0.01)
        left = self.names()
        shutil.rmtree(self.work)
        self.assertEqual(left, [], "left in the runtime directory")

    def file(self, name, content):
        path = os.path.join(self.work, name)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def names(self):
        return sorted(os.listdir(self.runtime)) if os.path.isdir(self.runtime) else []

    def utsusu(self, *words, **more):
        return subprocess.run([self.program, *words], env=self.environment, capture_output=True,
                              encoding="utf-8", timeout=60, check=False,
                              stdin=more.get("stdin", subprocess.DEVNULL), **{
                                  key: value for key, value in more.items() if key != "stdin"})

    def good(self, *words, **more):
        done = self.utsusu(*words, **more)
        said = [line for line in done.stderr.splitlines() if not line.startswith("utsusu: waiting for ")]   # a busy computer
        self.assertEqual((done.returncode, said), (0, []), words)
        return done.stdout

    def bad(self, status, message, *words):
        done = self.utsusu(*words)
        self.assertEqual(done.returncode, status, (words, done.stderr))
        self.assertEqual(done.stdout, "", words)
        self.assertEqual(done.stderr.count("\n"), 1, (words, done.stderr))
        self.assertTrue(done.stderr.startswith("utsusu: "), done.stderr)
        self.assertIn(message, done.stderr)

    def dumped(self, *words):
        """The configuration that utsusu-vm was given."""
        return json.loads(self.good("run", "--kernel", self.kernel, "--cmdline", "dump", *words))

    def start(self, name, *words):
        self.assertEqual(self.good("run", name, "--kernel", self.kernel, "--detach", *words), name + "\n")


class BadInput(Case):
    def test_command_lines(self):
        for status, message, *words in [
                (USAGE, "COMMAND: is missing"),
                (USAGE, "'rnu': unknown command; did you mean run?", "rnu"),
                (USAGE, "'frobnicate': unknown command; see utsusu help", "frobnicate"),
                (USAGE, "'rnu': unknown command", "help", "rnu"),
                (USAGE, "NAME: is missing", "info"),
                (USAGE, "NAME: is missing", "stop", "--force"),
                (USAGE, "'b': is one argument too many; see utsusu info --help", "info", "a", "b"),
                (USAGE, "'../etc' is no name of a VM", "info", "../etc"),
                (USAGE, "--jsn: unknown option; did you mean --json?", "list", "--jsn"),
                (USAGE, "--timeout: '2h' is out of range", "stop", "a", "--timeout", "2h"),
                (USAGE, "--timeout: has no value", "stop", "a", "--timeout"),
                (USAGE, "--cpus: unknown option", "list", "--cpus", "2"),
                (NOT_FOUND, "a: no such VM", "info", "a"),
                (NOT_FOUND, "a: no such VM", "pause", "a"),
                (NOT_FOUND, "a: no such VM", "resume", "a"),
                (NOT_FOUND, "a: no such VM", "stop", "a"),
                (NOT_FOUND, "a: no such VM", "console", "a")]:
            with self.subTest(words=words):
                self.bad(status, message, *words)
        self.assertEqual(self.names(), [])

    def test_run(self):
        good = ["run", "--kernel", self.kernel]
        for status, message, *words in [
                (USAGE, "kernel: is missing; give --kernel FILE", "run"),
                (USAGE, "--cpus count: '0' is out of range", *good, "--cpus", "0"),
                (USAGE, "--kernel: is given twice", *good, "--kernel", "x"),
                (USAGE, "(and 1 more: add --check to see all)", *good, "--cpus", "0", "--memory", "1"),
                (USAGE, "--disk path: is missing", *good, "--disk", "readonly"),
                (USAGE, "--net: does not say what to use", *good, "--net", "queues=1"),
                (USAGE, "console: stdio does not go with detach", *good, "--detach", "--console", "stdio"),
                (USAGE, "--name: 'A' is no name of a VM", *good, "A"),
                (RESOURCE, "--config: /nonexistent: No such file", *good, "--config", "/nonexistent"),
                (RESOURCE, "--config: /dev/zero: Invalid argument", *good, "--config", "/dev/zero")]:
            with self.subTest(words=words):
                self.bad(status, message, *words)
        self.assertEqual(self.names(), [])

    @unittest.skipUnless(KVM, "no /dev/kvm")
    def test_run_without_what_it_needs(self):
        good = ["run", "--kernel", self.kernel]
        for status, message, *words in [
                (RESOURCE, "kernel: /nonexistent: No such file", "run", "--kernel", "/nonexistent"),
                (RESOURCE, "is no regular file", "run", "--kernel", self.work),
                (RESOURCE, "initrd: /nonexistent", *good, "--initrd", "/nonexistent"),
                (RESOURCE, "/nonexistent", *good, "--disk", "path=/nonexistent"),
                (RESOURCE, self.work, *good, "--disk", "path=" + self.work),
                (RESOURCE, "fd=900 is not open", *good, "--net", "fd=900"),
                (HOST, "hugepages=on needs", *good, "--memory", "2G,hugepages=on")]:
            with self.subTest(words=words):
                self.bad(status, message, *words)
        self.assertEqual(self.names(), [])

    def test_configuration_files(self):
        for content, message in [
                ("", ":1:0: is no JSON"),
                ("{\n  \"cpus\": }", ":2:11: is no JSON"),
                ("{\"cpus\": 1, \"cpus\": 2}", "duplicate object key"),
                ("[]", "must not be a list; give an object"),
                ("{\"kernle\": \"x\"}", "unknown key 'kernle'; did you mean 'kernel'?"),
                ("{\"cpus\": {\"count\": \"2\"}}", "cpus.count: must not be text in quotes"),
                ("{\"disk\": [{}]}", "disk[0].path: is missing"),
                ("{\"kernel\": \"a\\u0000b\"}", "is no JSON"),
                ("\xff", "is no JSON"),
                ("[" * 5000, "is no JSON")]:
            with self.subTest(content=content[:40]):
                path = self.file("vm.json", content.encode("latin-1"))
                self.bad(USAGE, message, "run", "--kernel", self.kernel, "--config", path)
        big = self.file("big.json", b" " * (1024 * 1024 + 1))
        self.bad(RESOURCE, "give a JSON file of at most 1M", "run", "--config", big)

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([self.program, "help"], stdout=full, stderr=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr.count(b"\n"), 1)

    def test_runtime_directory_of_others(self):
        os.mkdir(self.runtime, 0o700)
        os.chmod(self.runtime, 0o777)
        self.bad(HOST, "can be written by others", "list")
        os.chmod(self.runtime, 0o700)


class Check(Case):
    def test_all_problems_at_once(self):
        done = self.utsusu("run", "--check", "--kernel", "/nonexistent", "--cpus", "0", "--disk",
                           "path=/nonexistent", "--net", "fd=900", "--memroy", "1G")
        self.assertEqual(done.returncode, USAGE)
        for part in ("--cpus count", "--memroy: unknown option", "kernel: /nonexistent", "disk", "fd=900"):
            self.assertIn(part, done.stderr)
        self.assertTrue(all(line.startswith("utsusu: ") for line in done.stderr.splitlines()))
        self.assertEqual(self.names(), [])

    def test_json(self):
        done = self.utsusu("run", "--check", "--json", "--kernel", "/nonexistent", "--cpus", "0")
        answer = json.loads(done.stdout)
        self.assertFalse(answer["ok"])
        self.assertIn("--cpus count: '0' is out of range; give a number from 1 to 64",
                      [problem["message"] for problem in answer["problems"]])
        self.assertEqual(done.stderr, "")

    @unittest.skipUnless(KVM, "no /dev/kvm")
    def test_good(self):
        disk = self.file("disk", bytes(1 << 20))
        out = self.good("run", "db", "--check", "--kernel", self.kernel, "--cpus", "2", "--disk",
                        "path=" + disk)
        self.assertEqual(out, "db: can run: 2 vCPUs, 512M of memory, 1 disk, 0 networks\n")
        self.assertEqual(self.names(), [])

    @unittest.skipUnless(KVM, "no /dev/kvm")
    def test_one_disk_under_two_names(self):
        disk = self.file("disk", bytes(1 << 20))
        os.symlink(disk, disk + "2")
        self.bad(RESOURCE, "is the same disk as disk[0]", "run", "--check", "--kernel", self.kernel,
                 "--disk", "path=" + disk, "--disk", "path=" + disk + "2,readonly")


class Documents(Case):
    DOCUMENT = os.path.join(HERE, "..", "..", "docs", "getting-started.md")

    def setUp(self):
        super().setUp()
        with open(self.DOCUMENT, encoding="utf-8") as file:
            self.text = file.read()

    def test_the_example_file_is_understood(self):
        for example in re.findall(r"```json\n(.*?)```", self.text, re.DOTALL):
            path = self.file("vm.json", example.encode())
            answer = json.loads(self.utsusu("run", "--check", "--json", "--config", path).stdout)
            self.assertEqual([problem for problem in answer["problems"] if problem["status"] == USAGE], [])

    def test_options_and_commands_exist(self):
        known = "".join(self.good(*words) for words in (
            ["help"], *(["help", name] for name in ("run", "stop", "list", "cpu-baseline"))))
        for option in set(re.findall(r"`(--[a-z]+)", self.text)):
            self.assertIn(option, known)
        for command in set(re.findall(r"utsusu ([a-z-]+)", self.text)) - {"directory"}:
            self.assertRegex(known, rf"(?m)^(  |utsusu ){command}\b")


class Help(Case):
    def test_every_command_explains_itself(self):
        overview = self.good("help")
        commands = re.findall(r"^  ([a-z-]+) ", overview, re.MULTILINE)
        self.assertIn("run", commands)
        for command in commands:
            text = self.good(command, "--help")
            self.assertTrue(text.startswith(f"utsusu {command}: "), text)
            self.assertEqual(text, self.good("help", command))
            self.assertLessEqual(max(len(line) for line in text.splitlines()), 100)

    def test_version(self):
        self.assertRegex(self.good("version"), r"^utsusu \d+\.\d+\.\d+\n$")
        self.assertEqual(self.good("--version"), self.good("version"))

    def test_manual_is_clean(self):
        if not shutil.which("groff"):
            self.skipTest("no groff")
        page = self.good("--man")
        done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z"], input=page, capture_output=True,
                              encoding="utf-8", check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_completion(self):
        script = self.file("completion", self.good("--bash-completion").encode())

        def words(*line):
            program = (f'source {script}; PATH={self.work}:$PATH; COMP_WORDS=({" ".join(line)} "");'
                       f' COMP_CWORD={len(line)}; compopt() {{ :; }}; _utsusu; echo "${{COMPREPLY[@]}}"')
            return subprocess.run(["bash", "-c", program], capture_output=True, encoding="utf-8",
                                  env=self.environment, check=True).stdout.split()

        self.assertIn("doctor", words("utsusu"))
        self.assertIn("--memory", words("utsusu", "run"))
        self.assertIn("--no-rng", words("utsusu", "run"))
        self.assertIn("--timeout", words("utsusu", "stop"))
        self.assertEqual(words("utsusu", "run", "--net"), ["tap=", "user", "fd=", "mac=", "queues=", "vhost=",
                                                            "filter="])

    def test_doctor(self):
        done = self.utsusu("doctor")
        self.assertIn(done.returncode, (0, HOST))
        self.assertRegex(done.stdout, r"(?m)^(ok|missing) +kvm ")
        findings = json.loads(self.utsusu("doctor", "--json").stdout)
        for finding in findings:
            self.assertEqual(finding["verdict"] == "ok", "way_out" not in finding, finding)
        missing = any(finding["verdict"] == "missing" for finding in findings)
        self.assertEqual(done.returncode, HOST if missing else 0)


class Baseline(Case):
    """Machines that are made up: what counts is what is said of them."""

    # A maker's leaf 0, and enough of leaf 1 and above to be told apart.
    AMD = {"ebx": 0x68747541, "edx": 0x69746e65, "ecx": 0x444d4163}
    INTEL = {"ebx": 0x756e6547, "edx": 0x49656e69, "ecx": 0x6c65746e}

    def machine(self, name, vendor):
        leaf = dict(vendor, leaf=0, subleaf=0, indexed=False, eax=1)
        text = json.dumps({"host": name, "cpuid": [leaf]})
        return self.file(name + ".json", text.encode())

    def test_makers_that_differ(self):
        files = [self.machine("a", self.AMD), self.machine("b", self.INTEL)]
        self.assertIn("different makers: no VM can move", self.good("cpu-baseline", *files))
        answer = json.loads(self.good("cpu-baseline", "--json", *files))
        self.assertTrue(answer["vendors_differ"])
        self.assertIn({"host": "b", "model": "v2", "lacks": "ssse3"}, answer["notes"])

    def test_one_line_for_each_machine_and_model(self):
        lines = self.good("cpu-baseline", self.machine("a", self.AMD)).splitlines()
        self.assertIn("No fixed model runs on this machine", lines[0])
        self.assertEqual([line.split()[0] for line in lines[1:]], ["a", "a"])

    def test_bad_files(self):
        for content, status, message in [
                ("", USAGE, ":1:0: is no JSON"),
                ("{}", USAGE, "host: is missing"),
                ("{\"host\": \"a\", \"cpuid\": [{\"leaf\": 4294967296}]}", USAGE, "cpuid[0].leaf: '4294967296'"),
                ("{\"host\": \"a\", \"cpuid\": [" + ",".join(["{}"] * 257) + "]}", USAGE, "at most 256")]:
            path = self.file("bad.json", content.encode())
            self.bad(status, message, "cpu-baseline", path)
        self.bad(RESOURCE, "/nonexistent: No such file", "cpu-baseline", "/nonexistent")
        self.bad(USAGE, "too many; give at most 64", "cpu-baseline", *[self.machine("a", self.AMD)] * 65)

    @unittest.skipUnless(KVM, "no /dev/kvm")
    def test_this_machine_agrees_with_its_file(self):
        path = self.file("here.json", self.good("cpu-baseline", "--show").encode())
        here, file = (json.loads(self.good("cpu-baseline", "--json", *paths)) for paths in ([], [path]))
        self.assertEqual(here, file)


@unittest.skipUnless(KVM, "no /dev/kvm")
class Run(Case):
    def test_options_arrive(self):
        config = self.dumped("db", "--cpus", "2,max=4", "--net", "user", "--no-rng",
                             "--uuid", "0F0E0D0C-0B0A-4908-8706-050403020100")
        self.assertEqual(config["name"], "db")
        self.assertEqual(config["uuid"], "0f0e0d0c-0b0a-4908-8706-050403020100")
        self.assertEqual(config["cpus"], {"count": 2, "max": 4, "model": "host"})
        self.assertEqual(config["memory"]["size"], "512M")
        self.assertEqual(config["net"], [{"user": True, "queues": 1, "vhost": False}])
        self.assertFalse(config["rng"])
        self.assertEqual(config["console"], "stdio")

    def test_each_vm_has_a_uuid(self):
        one, other = (self.dumped("db")["uuid"] for _ in range(2))
        self.assertRegex(one, "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
        self.assertNotEqual(one, other)

    def test_options_replace_the_file(self):
        disk = self.file("disk", bytes(1 << 20))
        path = self.file("vm.json", json.dumps({
            "name": "file", "cpus": {"count": 3, "max": 4}, "memory": "1G",
            "disk": [{"path": "/nonexistent"}, {"path": "/nonexistent2"}]}).encode())
        config = self.dumped("--config", path, "--cpus", "2", "--disk", "path=" + disk)
        self.assertEqual(config["name"], "file")
        self.assertEqual((config["cpus"]["count"], config["cpus"]["max"]), (2, 4))
        self.assertEqual(config["memory"]["size"], "1G")
        self.assertEqual([entry["path"] for entry in config["disk"]], [disk])

    def test_names_are_found(self):
        self.start("vm1")
        self.assertEqual(self.dumped()["name"], "vm2")

    def test_a_name_in_use(self):
        self.start("db")
        self.bad(BUSY, "db: a VM of this name runs; give another name", "run", "db", "--kernel", self.kernel)

    def test_what_the_vm_says_is_told(self):
        self.bad(GUEST, "guest: cannot boot; give another kernel", "run", "db", "--kernel", self.kernel,
                 "--detach", "--cmdline", "refuse")
        self.assertEqual(self.names(), [])

    def test_a_vm_that_dies_at_once(self):
        self.bad(1, "db: its process ended before the guest ran: its last words", "run", "db", "--kernel",
                 self.kernel, "--detach", "--cmdline", "die")
        self.assertEqual(self.names(), [])

    def test_an_interrupted_start_leaves_nothing(self):
        run = subprocess.Popen([self.program, "run", "db", "--kernel", self.kernel, "--detach", "--cmdline",
                                "hang"], env=self.environment, stderr=subprocess.PIPE, encoding="utf-8")
        while self.names() != ["db"] or not self.processes():
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=60)
        self.assertEqual((run.returncode, errors),
                         (1, "utsusu: db: interrupted before the guest ran; it is ended, start it again\n"))
        self.assertEqual((self.names(), self.processes()), ([], []))

    def processes(self):
        """Those that run our stand-in, with a child of its own."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
                    found += [pid] if os.path.join(self.work, "utsusu-vm") in file.read() else []
            except OSError:
                pass
        return found if len(found) != 1 else []

    def test_no_program_to_run(self):
        os.unlink(os.path.join(self.work, "utsusu-vm"))
        self.bad(1, "utsusu-vm: cannot be started: No such file", "run", "--kernel", self.kernel)
        self.bad(1, "utsusu-vm: cannot be started: No such file", "run", "--kernel", self.kernel, "--detach")
        self.assertEqual(self.names(), [])


@unittest.skipUnless(KVM, "no /dev/kvm")
class Running(Case):
    def setUp(self):
        super().setUp()
        self.start("db", "--cpus", "2")

    def pid(self):
        return json.loads(self.good("info", "db", "--json"))["pid"]

    def test_list(self):
        lines = self.good("list").splitlines()
        self.assertEqual(lines[0].split(), ["NAME", "STATE", "PROCESS", "VCPUS", "MEMORY", "UPTIME"])
        self.assertEqual(lines[1].split(), ["db", "running", str(self.pid()), "2", "512M", "1:01"])
        self.assertEqual(json.loads(self.good("list", "--json"))[0]["config"]["cpus"]["count"], 2)

    def test_info(self):
        text = self.good("info", "db")
        self.assertIn("state: running\n", text)
        self.assertIn("  kernel: " + self.kernel + "\n", text)

    def test_pause_and_resume(self):
        self.good("pause", "db")
        self.assertIn(" paused ", self.good("list"))
        self.good("resume", "db")
        self.assertIn(" running ", self.good("list"))

    def test_stop(self):
        done = self.utsusu("stop", "db")
        self.assertEqual((done.returncode, done.stdout), (0, "db: stopped\n"))
        self.assertEqual(self.names(), [])

    def test_stop_by_force(self):
        self.assertEqual(self.good("stop", "db", "--force"), "db: stopped by force\n")

    def test_stop_at_the_deadline(self):
        self.start("deaf", "--cmdline", "deaf")
        begin = time.monotonic()
        done = self.utsusu("stop", "deaf", "--timeout", "1s")
        self.assertEqual((done.returncode, done.stdout), (0, "deaf: stopped by force\n"))
        self.assertIn("deaf: the guest does not listen to its power button yet; by force in 1 s", done.stderr)
        self.assertGreater(time.monotonic() - begin, 0.9)

    def test_the_dead_are_told(self):
        os.kill(self.pid(), signal.SIGKILL)
        deadline = time.monotonic() + 60
        while " dead " not in self.good("list"):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        self.bad(NOT_FOUND, "db: its process died; start it anew with utsusu run db", "info", "db")
        self.start("db")
        self.assertIn(" running ", self.good("list"))

    def test_the_dead_have_last_words(self):
        self.start("doomed", "--cmdline", "crash")
        deadline = time.monotonic() + 60
        while "doomed               dead" not in self.good("list"):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        self.bad(NOT_FOUND, "doomed: its process died: its last words; start it anew", "info", "doomed")
        self.assertEqual(self.good("stop", "doomed"), "doomed: was dead already; what it left is removed\n")
        self.assertEqual(self.names(), ["db"])

    def test_a_vm_that_hangs_is_told(self):
        pid = self.pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            self.bad(1, "db: has not answered for 5 s", "info", "db")
        finally:
            os.kill(pid, signal.SIGCONT)

    def test_console(self):
        """On a terminal of its own: what was printed, keys through, Ctrl-] detaches."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(self.program, ["utsusu", "console", "db"], self.environment)
        seen = b""

        def until(part):
            nonlocal seen
            while part not in seen:
                seen += os.read(terminal, 1000)

        signal.alarm(20)
        until(b"Ctrl-] detaches")
        until(b"login: ")
        os.write(terminal, b"abc\x03")
        until(b"ABC\x03")
        os.write(terminal, b"\x1d")
        until(b"detached; the VM goes on")
        signal.alarm(0)
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        os.close(terminal)

    def test_a_console_that_is_ended_gives_the_terminal_back(self):
        looked, has_looked = os.pipe()
        pid, terminal = pty.fork()
        if pid == 0:
            os.read(looked, 1)
            os.execve(self.program, ["utsusu", "console", "db"], self.environment)
        before, seen = termios.tcgetattr(terminal), b""
        os.write(has_looked, b"x")
        os.close(looked)
        os.close(has_looked)
        signal.alarm(20)
        while b"login: " not in seen:
            seen += os.read(terminal, 1000)
        os.kill(pid, signal.SIGTERM)
        while b"detached" not in seen:
            seen += os.read(terminal, 1000)
        self.assertEqual(termios.tcgetattr(terminal), before)
        signal.alarm(0)
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        os.close(terminal)

    def test_console_of_a_pipe(self):
        done = subprocess.Popen([self.program, "console", "db"], env=self.environment, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.assertEqual(done.stdout.read(7), b"login: ")
        self.good("stop", "db", "--force")
        self.assertEqual(done.wait(10), 0)
        done.stdout.close()


class Result(unittest.TextTestResult):
    """The lines that ./check counts."""

    def startTest(self, test):
        super().startTest(test)
        print(f"[ RUN      ] {test.id().split('.', 1)[1]}", flush=True)

    def stopTest(self, test):
        bad = any(test is case or getattr(case, "test_case", None) is test
                  for case, _ in self.failures + self.errors)
        skipped = [reason for case, reason in self.skipped if case is test]
        word = " FAILED  " if bad else " SKIPPED " if skipped else "      OK "
        print(*skipped, f"[ {word.strip():>8} ] {test.id().split('.', 1)[1]}", sep="\n" if skipped else "")
        super().stopTest(test)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:],
                  testRunner=unittest.TextTestRunner(resultclass=Result, verbosity=0))
