# SPDX-License-Identifier: Apache-2.0
"""A kernel under GDB: Debian's own gdb, in the machine where the VM runs, and Debian's kernel as the guest.

The kernel is not moved (nokaslr), so its addresses can be asked for once, in /proc/kallsyms. The emulated SVM does not
intercept INT3, so no test here has more breakpoints than there are debug registers; tests/unit/test_debug_kvm.c has.
"""

import json
import re
import signal

import pytest
from labkit.kernels import kernel

SYMBOLS = ("__x64_sys_sync", "__x64_sys_mkdir", "start_kernel", "linux_banner", "jiffies_64", "panic_timeout")


class Gdb:
    """gdb in the machine, connected to a VM; commands are typed, what it prints is waited for."""

    def __init__(self, host, socket):
        self.process = host.machine.start_command("exec gdb -nx -q 2>&1")
        self._seen = self._marks = 0
        for line in ("set pagination off", "set confirm off", "set width 0"):
            self.do(line)
        self.do(f"target remote {socket}", until="in ??")

    def expect(self, text, timeout=120):
        output = bytes(self.process.expect(text, timeout, self._seen))
        start, self._seen = self._seen, output.find(text.encode(), self._seen) + len(text.encode())
        return output[start:self._seen].decode(errors="replace")

    def type(self, line):
        self.process.write(line.encode() + b"\n")

    def do(self, line, until=None):
        """What gdb prints for a command, up to `until` or to the command's end."""
        self._marks += 1
        mark = f"mark-{self._marks}-"
        self.type(line)
        if until:
            return self.expect(until)
        self.type(f"echo {mark}\\n")
        return self.expect(mark).replace("(gdb) ", "")[:-len(mark)]

    def value(self, expression):
        return int(re.search(r"= (-?\w+)", self.do(f"p/x {expression}"))[1], 16)

    def go(self):
        self.do("continue", until="Continuing.")

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)
        self.expect("received signal SIGINT")
        self.expect("in ??")

    def stop_at(self, what):
        """Waits for a stop whose line holds the words."""
        self.expect(what)
        self.expect("in ??")

    def leave(self):
        self.do("detach")
        self.end()

    def end(self):
        self.process.kill()
        self.process.wait(30)


@pytest.fixture
def path(host):
    """Where the VM's debugger socket is."""
    name = f"/run/{host.new_name('gdb')}"
    yield name
    host.run(["rm", "-f", name])


def start(host, path, *options):
    return host.start("--cpus", 2, "--gdb", f"path={path}", *options, cmdline="nokaslr").ready()


@pytest.fixture(scope="module")
def symbols(host_of_all):
    vm = host_of_all.start(cmdline="nokaslr").ready()
    lines = vm.sh(f"grep -E ' ({'|'.join(SYMBOLS)})$' /proc/kallsyms").splitlines()
    vm.power_off()
    found = {line.split()[2]: int(line.split()[0], 16) for line in lines if line}
    assert set(found) == set(SYMBOLS)
    return found


def test_attach_look_and_leave(host, path, symbols):
    vm = start(host, path)
    assert host.sh(f"stat -c %a {path}").strip() == "600"
    gdb = Gdb(host, path)
    registers = gdb.do("info registers")
    values = {line.split()[0]: line.split()[1] for line in registers.splitlines() if len(line.split()) > 1}
    assert int(values["rip"], 16) >= 0xffffffff81000000
    assert "PE" in registers and "LMA" in registers, "cr0 and efer are told by their bits"
    assert {"fs_base", "gs_base", "k_gs_base", "cr2", "cr3", "cr4", "cr8"} <= set(values)
    assert int(values["gs_base"], 16) > 1 << 63, "the kernel's own"
    assert "xmm15" in gdb.do("info vector") and "mxcsr" in gdb.do("info float") + gdb.do("info registers mxcsr")
    threads = gdb.do("info threads")
    assert "vCPU 0: 64-bit, ring 0" in threads and "vCPU 1: 64-bit, ring 0" in threads
    assert f"{gdb.value('$rip'):#x}" in gdb.do("x/i $rip")
    assert "Linux version 6." in gdb.do(f"x/s {symbols['linux_banner']:#x}")
    gdb.do("thread 2")
    info = gdb.do("monitor info")
    assert "vCPU 1: 64-bit" in info and "cr3 0x" in info
    assert "Cannot access memory at address 0x10" in gdb.do("x/b 0x10")
    gdb.do("monitor physical on")
    assert "Cannot" not in gdb.do("x/b 0x10")
    assert host.info(vm.name)["state"] == "paused"
    gdb.leave()
    assert vm.sh("echo alive").strip() == "alive"
    assert "a debugger has connected" in vm.errors() and "the guest goes on" in vm.errors()
    vm.power_off()


def test_breakpoints_are_hit(host, path, symbols):
    vm = start(host, path)
    gdb = Gdb(host, path)
    for kind in ("break", "hbreak", "tbreak"):
        gdb.do(f"{kind} *{symbols['__x64_sys_sync']:#x}")
        gdb.go()
        vm.type(f"sync; echo syn''ced-{kind}")
        gdb.stop_at("reakpoint ")
        assert gdb.value("$rip") == symbols["__x64_sys_sync"]
        gdb.do("delete")
        gdb.go()
        vm.expect(f"synced-{kind}")
        gdb.interrupt()
    gdb.do(f"watch *(long *){symbols['jiffies_64']:#x}")
    values = []
    for _ in range(3):
        gdb.go()
        gdb.stop_at("Hardware watchpoint")
        values.append(gdb.value(f"*(long *){symbols['jiffies_64']:#x}"))
    assert values == sorted(set(values)), "each stop is a new value"
    gdb.do("delete")
    gdb.leave()
    vm.power_off()


STEP = """python
steps = bad = 0
places = set()
for _ in range(100):
    frame = gdb.newest_frame()
    pc = frame.pc()
    what = frame.architecture().disassemble(pc)[0]
    word = what["asm"].split()[0]
    gdb.execute("stepi", to_string=True)
    steps, after = steps + 1, gdb.newest_frame().pc()
    places.add(after)
    straight = not word.startswith(("j", "call", "ret", "iret", "rep", "loop", "sys", "int"))
    if straight and after != pc + what["length"]:
        bad += 1
print("stepped", steps, "bad", bad, "places", len(places))
end"""


def test_single_steps_follow_the_code(host, path, symbols):
    vm = start(host, path)
    gdb = Gdb(host, path)
    gdb.do(f"tbreak *{symbols['__x64_sys_sync']:#x}")
    gdb.go()
    vm.type("sync; echo syn''ced")
    gdb.stop_at("reakpoint ")
    result = re.search(r"stepped (\d+) bad (\d+) places (\d+)", gdb.do(STEP))
    steps, bad, places = map(int, result.groups())
    assert steps == 100 and bad == 0 and places > 30
    gdb.go()
    vm.expect("synced")
    gdb.interrupt()
    gdb.leave()
    vm.power_off()


def test_registers_and_memory_are_changed(host, path, symbols):
    """mkdir returns before it began, with an error of our choice; a variable of the kernel gets another value."""
    vm = start(host, path)
    gdb = Gdb(host, path)
    gdb.do(f"break *{symbols['__x64_sys_mkdir']:#x}")
    gdb.go()
    vm.type("mkdir /made || echo ref''used")
    gdb.stop_at("reakpoint ")
    gdb.do("set $rax = -28")
    gdb.do("set $rip = *(long *)$rsp")
    gdb.do("set $rsp = $rsp + 8")
    gdb.do(f"set {{int}}{symbols['panic_timeout']:#x} = 77")
    gdb.do("delete")
    gdb.go()
    assert "No space left" in vm.expect("refused")
    assert vm.sh("ls -d /made", check=False)[0] != 0
    assert vm.sh("cat /proc/sys/kernel/panic").strip() == "77"
    gdb.interrupt()
    gdb.leave()
    vm.power_off()


def test_killed_debugger_lets_the_guest_go_on(host, path, symbols):
    vm = start(host, path)
    gdb = Gdb(host, path)
    gdb.do(f"break *{symbols['__x64_sys_sync']:#x}")
    gdb.go()
    vm.type("sync; echo syn''ced")
    gdb.stop_at("reakpoint ")
    gdb.process.send_signal(signal.SIGKILL)
    vm.expect("synced")
    assert vm.sh("sync && echo again").strip() == "again", "its breakpoint has gone with it"
    assert "gdb: the debugger has left; the guest goes on" in vm.errors()
    gdb.end()
    # And while it runs.
    gdb = Gdb(host, path)
    gdb.do(f"break *{symbols['__x64_sys_sync']:#x}")
    gdb.go()
    gdb.process.send_signal(signal.SIGKILL)
    gdb.process.wait(30)
    host.until(lambda: vm.errors().count("the debugger has left") == 2, what="left")
    assert vm.sh("sync && echo again").strip() == "again"
    vm.power_off()


def test_commands_while_a_debugger_holds_it(host, path):
    vm = start(host, path)
    gdb = Gdb(host, path)
    result = host.utsusu("resume", vm.name, check=False)
    assert result.returncode == 5 and b"a debugger holds the VM" in result.stderr, result
    host.utsusu("pause", vm.name)
    gdb.go()
    assert host.info(vm.name)["state"] == "paused", "the user's pause holds"
    assert host.info(vm.name)["paused_by"] == "user"
    host.utsusu("resume", vm.name)
    assert vm.sh("echo alive").strip() == "alive"
    gdb.interrupt()
    assert host.info(vm.name)["paused_by"] == "debugger" and "debugger" in host.utsusu("list").text
    second = host.machine.start_command(["gdb", "-nx", "-batch", "-ex", f"target remote {path}"])
    assert second.wait(120) is not None
    assert "a second debugger" in vm.errors()
    host.utsusu("stop", vm.name, "--force")
    assert vm.wait() == 0
    gdb.end()


def test_the_end_of_the_guest_is_told(host, path):
    vm = start(host, path)
    gdb = Gdb(host, path)
    gdb.go()
    vm.type("poweroff -f")
    gdb.expect("exited normally")
    assert vm.wait() == 0
    gdb.end()


def test_kill_ends_the_vm(host, path):
    vm = start(host, path)
    gdb = Gdb(host, path)
    gdb.do("kill")
    assert vm.wait() == 0
    assert "the debugger ends the VM" in vm.errors()
    gdb.end()


def test_from_the_first_instruction(host, path, symbols):
    """The guest waits; a breakpoint in a kernel that has not unpacked itself is hit all the same."""
    vm = host.start("--cpus", 2, "--gdb", f"{path},wait=on", cmdline="nokaslr")
    host.until(lambda: "waits for a debugger" in vm.errors(), what="told")
    assert host.info(vm.name)["state"] == "paused"
    gdb = Gdb(host, path)
    first = gdb.value("$rip")
    assert first < 1 << 32 and "not started" in gdb.do("info threads")
    gdb.do(f"break *{symbols['start_kernel']:#x}")
    gdb.go()
    gdb.stop_at("reakpoint ")
    assert gdb.value("$rip") == symbols["start_kernel"]
    gdb.leave()
    vm.ready()
    vm.power_off()


def test_a_reset_under_the_debugger(host, path, symbols):
    vm = start(host, path)
    gdb = Gdb(host, path)
    gdb.do(f"tbreak *{symbols['start_kernel']:#x}")
    gdb.go()
    vm.type("reboot -f")
    gdb.stop_at("reakpoint ")
    assert gdb.value("$rip") == symbols["start_kernel"]
    gdb.leave()
    vm.ready()
    vm.power_off()


def test_bad_sockets_are_refused(host, path):
    options = host.arguments([])
    message = host.refused("run", "bad", *options, "--gdb", "path=/nowhere/s", status=4)
    assert "gdb: no socket can be made at /nowhere/s: No such file" in message
    host.sh(f"touch {path}")
    assert "is no socket" in host.refused("run", "bad", *options, "--gdb", path, status=4)
    check = host.utsusu("run", "bad", "--check", *options, "--gdb", path, check=False)
    assert check.returncode == 4 and "is no socket" in check.text + check.stderr.decode()
    assert "wait needs a socket" in host.refused("run", "bad", *options, "--gdb", "wait=on", status=2)
    assert "107 bytes" in host.refused("run", "bad", *options, "--gdb", "/" + "x" * 107, status=2)
    host.sh(f"rm {path}")
    name = host.detach("--gdb", path)
    second = host.utsusu("run", "bad", *options, "--gdb", path, check=False)
    assert second.returncode == 4 and b"cannot listen" in second.stderr and b"in use" in second.stderr, second
    host.utsusu("stop", name, "--force")
    host.until(lambda: name not in host.list(), what="gone")
    # What that VM left at the path is in nobody's way.
    name = host.detach("--gdb", path)
    host.utsusu("stop", name, "--force")
    host.until(lambda: name not in host.list(), what="gone")


def test_hostile_client(host, path):
    """Bytes that are no protocol at all; the guest goes on when their sender has gone."""
    vm = start(host, path)
    script = ("import socket,sys,random\n"
              "random.seed(5)\n"
              "for i in range(50):\n"
              "    s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
              "    body = bytes(random.choice(b'vCont;csZ0mGPqX,1f:') for _ in range(random.randrange(400)))\n"
              "    data = bytes(random.randrange(256) for _ in range(300)) if i % 2 else \\\n"
              "              b'$' + body + b'#%02x' % (sum(body) & 255)\n"
              "    try: s.sendall(data)\n"
              "    except BrokenPipeError: pass\n"        # the one before it is just leaving
              "    s.close()\n")
    host.run(["python3", "-c", script, path])
    assert vm.sh("echo alive").strip() == "alive"
    assert json.loads(host.utsusu("info", vm.name, "--json").text)["state"] == "running"
    vm.power_off()


def test_a_driver_by_name(host, path):
    """The module's file has its symbols, the guest tells where it is: add-symbol-file, break by name."""
    with host.folder() as folder:
        host.sh(f"truncate -s 8M {folder}/d")
        vm = start(host, path, "--disk", f"path={folder}/d")
        text = vm.sh("cat /sys/module/virtio_blk/sections/.text").strip()
        release = vm.sh("uname -r").strip()
        module = next(kernel("linux-image-cloud-amd64").modules.rglob("virtio_blk.ko"))
        assert release in str(module)
        gdb = Gdb(host, path)
        gdb.do(f"add-symbol-file {module} {text}")
        gdb.do("break virtio_queue_rq", until="Breakpoint 1")
        gdb.go()
        vm.type("dd if=/dev/vda of=/dev/null bs=4k count=1 iflag=direct; echo re''ad")
        gdb.expect("Breakpoint 1, ")
        assert "virtio_queue_rq" in gdb.do("x/i $rip")
        gdb.do("delete")
        gdb.go()
        vm.expect("read")
        gdb.process.send_signal(signal.SIGINT)
        gdb.expect("received signal SIGINT")
        gdb.leave()
        vm.power_off()


BREAK = """import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(json.dumps({"command": "break", "filter": "dev==serial && out && data==0x7e"}).encode() + b"\\n")
print("set", flush=True)
for line in s.makefile():
    print(line, flush=True)
"""


def test_a_request_stops_in_gdb(host, path):
    """Who asked for the breakpoint leaves it to GDB: continue there lets the request go on."""
    vm = start(host, path)
    gdb = Gdb(host, path)
    gdb.go()
    breaker = host.machine.start_command(["python3", "-c", BREAK, f"/run/utsusu/{vm.name}/socket"])
    breaker.expect('"ok"', 60)
    vm.type("printf 'to\\176ld'")     # 0x7e
    gdb.expect("request of serial: write to 0x3f8, data 0x7e")
    gdb.stop_at("received signal SIGTRAP")
    assert "out " in gdb.do("x/i $rip") and gdb.value("$al") == 0x7e
    assert not vm.output().endswith("to~"), "the device has not seen it yet"
    assert host.info(vm.name)["paused_by"] == "debugger, breakpoint on requests"
    breaker.kill()
    breaker.wait(30)
    gdb.go()
    vm.expect("to~ld")
    gdb.interrupt()
    gdb.leave()
    vm.power_off()
