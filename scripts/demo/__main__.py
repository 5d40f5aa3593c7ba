# SPDX-License-Identifier: Apache-2.0
"""An unmodified Debian with a database on utsusu: booted, used, looked at, stopped, booted again; then a move."""

import re
import sys
import time

from checks import build, process
from checks.report import Report

from labkit.errors import LabError

from demo import move, protect
from demo import place as places
from demo.place import Console
from demo.say import chapter, figures, say

TAP = "demo0"
HOST_ADDRESS, GUEST_ADDRESS = "10.79.0.1", "10.79.0.2"
READY = "utsusu-guest: ready"
CMDLINE = ("root=/dev/vda rw console=ttyS0 net.ifnames=0 quiet systemd.show_status=1 "
           f"ip={GUEST_ADDRESS}::{HOST_ADDRESS}:255.255.255.0::eth0:none")
REDIS = f"redis-cli -h {GUEST_ADDRESS}"


class Story:
    def __init__(self, place):
        self.place = place
        self.figures = []       # (what, figure) of the table at the end

    def prepare(self):
        chapter("A network between the VM and its host")
        for command in (f"ip tuntap add {TAP} mode tap vnet_hdr",
                        f"ip address add {HOST_ADDRESS}/24 dev {TAP}", f"ip link set {TAP} up"):
            self.run(command)

    def run(self, command, shown=True, **options):
        if shown:
            say(f"$ {command}")
        output = self.place.run(re.sub(r"(^|\d )utsusu ", rf"\1{self.place.programs}/utsusu ", command), **options)
        for line in output.strip().splitlines() if shown else []:
            say(f"  {line}")
        return output

    def measured(self, what, seconds):
        self.figures.append((what, f"{seconds:.2f} s"))
        say(f"-> {what}: {seconds:.2f} s")

    def boot(self, which):
        """Starts the VM and waits until its database answers."""
        guest = self.place.guest
        command = [f"{self.place.programs}/utsusu", "run", "demo", "--kernel", guest["kernel"],
                   "--initrd", guest["initrd"], "--cmdline", CMDLINE, "--cpus", "1",
                   "--memory", "1G", "--disk", f"path={self.place.disk}", "--net", f"tap={TAP}",
                   "--console", "stdio"]
        say("$ " + " ".join(["utsusu", *(f"'{word}'" if " " in word else word for word in command[1:])]))
        started = time.monotonic()
        self.vm = self.place.start(command)
        self.console = Console(self.vm, show_console)
        self.console.wait_for(READY, 180)
        self.measured(f"{which} start to systemd's last unit", time.monotonic() - started)
        self.await_answer()
        self.measured(f"{which} start to Redis' answer", time.monotonic() - started)

    def await_answer(self):
        deadline = time.monotonic() + 60
        while "PONG" not in self.run(f"timeout 2 {REDIS} ping || true", shown=False):
            if time.monotonic() > deadline:
                raise RuntimeError("Redis in the guest does not answer on its network card")
            time.sleep(0.1)

    def use(self):
        chapter("The database is used from outside the VM")
        self.run(f"{REDIS} set promise 'it keeps running'")
        self.run(f"{REDIS} get promise")
        output = self.run(f"redis-benchmark -h {GUEST_ADDRESS} -t set,get -n 5000 -c 20 -q | tr '\\r' '\\n'"
                          " | grep 'per second'", timeout=180)
        for name, rate in re.findall(r"(SET|GET): ([\d.]+) requests per second", output):
            self.figures.append((f"Redis {name}, 20 clients over virtio-net", f"{float(rate):,.0f} a second"))

    def look(self):
        chapter("What runs, and what it is made of")
        self.run("utsusu list")
        self.run("utsusu info demo")

    def watch(self):
        """The guest is the same, and knows nothing of it."""
        chapter("Every request that it makes, while it makes them")
        load = f"redis-benchmark -h {GUEST_ADDRESS} -t set -n 1000000 -c 20 -q >/dev/null"
        self.run(f"timeout 40 {load} 2>&1 &", shown=False)
        time.sleep(1)
        self.run("utsusu watch demo --follow --count 6 2>&1")
        self.run("utsusu watch demo --follow --all --filter 'mmio && out' --count 4 2>&1")
        say("What that tells of the VM:")
        self.run("utsusu watch demo --report --for 3s 2>&1")
        self.run("pkill redis-benchmark || true", shown=False)
        chapter("Stopped on one request, looked at, and let go on")
        self.run(f"(sleep 2; timeout 5 {REDIS} ping) >/dev/null 2>&1 &", shown=False)
        self.run("echo continue | timeout 60 utsusu watch demo --break 'dev==virtio-net.0 && out && mmio' --count 1 2>&1")
        self.await_answer()

    def pause(self):
        chapter("It stands still, and goes on")
        self.run("utsusu pause demo")
        answer = self.run(f"timeout 1 {REDIS} ping || echo 'no answer: the guest stands still'")
        if "PONG" in answer:
            raise RuntimeError("a paused guest answered")
        started = time.monotonic()
        self.run("utsusu resume demo")
        self.await_answer()
        self.measured("resume to Redis' answer", time.monotonic() - started)

    def stop(self, which):
        chapter("The power button")
        started = time.monotonic()
        self.run("utsusu stop demo", timeout=120)
        self.vm.wait(30)
        self.measured(f"power button to the {which} end", time.monotonic() - started)
        self.run("utsusu list")

    def keeps(self):
        chapter("The same disk again: what was promised is still there")
        self.boot("second")
        answer = self.run(f"{REDIS} get promise")
        if "it keeps running" not in answer:
            raise RuntimeError("the database lost what it had confirmed")


def show_console(line):
    """Of the some hundred lines of a start, those that tell where it is."""
    plain = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]|\x1b[c78]", "", line).strip()
    if re.search(r"Welcome|Reached target|edis|utsusu|Power", plain):
        say(f"  | {plain}")


def tell(place):
    story = Story(place)
    story.prepare()
    chapter("An unmodified Debian: its kernel package, its initrd, its root file system on a raw disk")
    story.boot("first")
    story.use()
    story.look()
    story.watch()
    story.pause()
    story.stop("first")
    story.keeps()
    story.stop("second")
    return story.figures


def main():
    process.adopt_descendants()
    chapter("Building")
    if not build.make("build", Report()):
        return 1
    chosen = places.choose()
    chapter("Where")
    say(chosen.about)
    say("the guest is built from Debian's packages the first time: that takes some minutes")
    try:
        with chosen as place:
            measured = tell(place)
        measured += move.tell()
        if "--protect" in sys.argv[1:]:
            measured += protect.tell()
        chapter("What was measured")
        figures(measured)
    except KeyboardInterrupt:
        say("interrupted; ending what runs")
        return 130
    except (LabError, RuntimeError, OSError) as error:
        say(f"./demo: {error}")
        return 1
    finally:
        process.sweep()
    return 0


sys.exit(main())
