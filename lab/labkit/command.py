# SPDX-License-Identifier: Apache-2.0
"""The command line: decodes a whole command, then does it."""

import argparse
import json
import os
import sys

from . import cache, disks, host, paths, terminal
from .errors import LabError
from .guests import GUESTS, guest
from .lab import Lab, clean, names
from .progress import Progress

DESCRIPTION = """Emulated machines with a real KVM in them, and the fresh build of this tree.

  lab up --machines 2          two machines and a wire, in a few seconds
  lab shell A                  a shell in the first one; what you build is there at once
  lab run B -- uname -a        a command; its output and exit status come back
  lab cut AB; lab heal AB      the wire between them
  lab kill A; lab up           a power cut, and power on again
  lab down                     the end of them
"""


def parser():
    top = argparse.ArgumentParser(prog="lab", description=DESCRIPTION,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--name", default=os.environ.get("UTSUSU_LAB") or paths.default_lab_name(),
                     metavar="LAB", help="which lab (default: %(default)s, or UTSUSU_LAB)")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name, what, **options):
        added = verbs.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".",
                                 **options)
        added.add_argument("--name", default=argparse.SUPPRESS, metavar="LAB", help="which lab")
        return added

    up = verb("up", "start the machines; those that run go on")
    up.add_argument("--machines", type=int, metavar="N", help="how many (default 1)")
    up.add_argument("--cpus", type=int, metavar="N", help=f"processors of each (default here: {host.processors()})")
    up.add_argument("--memory", type=int, metavar="MB", help="memory of each (default 2048)")
    up.add_argument("--nvme", action="store_true", default=None, help="give each an NVMe disk")
    up.add_argument("--nic", action="store_true", default=None, help="give each an 82574L")
    up.add_argument("--scsi", action="store_true", default=None,
                    help="give each a SCSI disk with persistent reservations")
    up.add_argument("--share-disk", metavar="SIZE", type=disks.parse_size,
                    help="give all the same NVMe disk")
    up.add_argument("--state-disk", metavar="SIZE", type=disks.parse_size,
                    help="how much each remembers in /var/lib/utsusu (default 128M)")
    up.add_argument("--keep-unflushed", metavar="SEED", type=int,
                    help="a power cut keeps some of what was not flushed, by a coin of this seed")
    up.add_argument("--bridge", action="store_true", default=None,
                    help="the wire ends in a bridge, br0, for the taps of VMs")
    up.add_argument("--vtx", action="store_true", default=None,
                    help="a machine with VT-x, by Bochs: slow, alone, and without the host's files")

    shell = verb("shell", "a shell in a machine")
    shell.add_argument("machine")

    run = verb("run", "run a command in a machine", usage="lab run MACHINE [--tty] -- COMMAND...")
    run.add_argument("machine")
    run.add_argument("--tty", action="store_true", help="give it a terminal")
    run.add_argument("command", nargs="+")

    for name, what in (("kill", "a power cut: the machine ends at once"),
                       ("freeze", "let a machine stand still"),
                       ("thaw", "let a frozen machine go on")):
        one = verb(name, what)
        one.add_argument("machine")
        if name == "freeze":
            one.add_argument("--qmp", action="store_true", help="stop its clocks as well")

    for name, what in (("cut", "cut a wire"), ("heal", "mend a wire, at full speed"),
                       ("slow", "make a wire slow, late or lossy")):
        one = verb(name, what)
        one.add_argument("wire", metavar="WIRE", help="AB; with more than two machines also C")
        if name == "slow":
            one.add_argument("--rate", metavar="RATE", help="for example 100mbit")
            one.add_argument("--delay", metavar="TIME", help="for example 5ms, each way")
            one.add_argument("--loss", metavar="PERCENT", help="for example 1%%")

    status = verb("status", "what runs")
    status.add_argument("--json", action="store_true", help="for programs")

    down = verb("down", "end the machines and take everything away")
    down.add_argument("--all", action="store_true", help="every lab of this user")

    guests = verb("guests", "systems to run in VMs, built from Debian packages")
    actions = guests.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = actions.add_parser("build", help="build those that are not in the cache")
    build.add_argument("guest", nargs="*")
    actions.add_parser("list", help="which there are")
    prune = actions.add_parser("prune", help="take away what was not used for some days")
    prune.add_argument("--days", type=int, default=30, metavar="N", help="(default 30)")
    where = actions.add_parser("path", help="the files of one, as JSON")
    where.add_argument("guest")
    return top


def do_up(arguments, progress):
    asked = {key: getattr(arguments, key) for key in
             ("machines", "cpus", "memory", "nvme", "nic", "scsi", "share_disk", "state_disk", "keep_unflushed", "bridge", "vtx")
             if getattr(arguments, key) is not None}
    clean(progress)
    if arguments.name in names():
        lab = Lab.attach(arguments.name)
        other = [key for key, value in asked.items() if lab.options[key] != value]
        if other:
            raise LabError(f"--{other[0].replace('_', '-')}",
                           f"lab {lab.name} is up without it", "'lab down' first")
    else:
        lab = Lab(arguments.name, bound=False, **asked)
    lab.up(progress)
    progress.say("running: " + ", ".join(lab.machines) + "; 'lab shell A' is next")


def do_down(arguments, progress):
    for name in names() if arguments.all else [arguments.name]:
        Lab.attach(name).down()
        progress.say(f"lab {name} is down")


def do_run(arguments, _progress):
    return terminal.run(Lab.attach(arguments.name)[arguments.machine], arguments.command,
                        arguments.tty)


def do_shell(arguments, _progress):
    return terminal.run(Lab.attach(arguments.name)[arguments.machine], ["bash", "-l"], True)


def do_kill(arguments, progress):
    forgotten = Lab.attach(arguments.name)[arguments.machine].kill()
    if forgotten:
        progress.say(f"{forgotten} sectors that were not flushed are gone")


def do_freeze(arguments, _progress):
    Lab.attach(arguments.name)[arguments.machine].freeze(arguments.qmp)


def do_thaw(arguments, _progress):
    Lab.attach(arguments.name)[arguments.machine].thaw()


def do_cut(arguments, _progress):
    Lab.attach(arguments.name).wires.cut(arguments.wire)


def do_heal(arguments, _progress):
    Lab.attach(arguments.name).wires.heal(arguments.wire)


def do_slow(arguments, _progress):
    Lab.attach(arguments.name).wires.slow(arguments.wire, arguments.rate, arguments.delay,
                                          arguments.loss)


def do_status(arguments, _progress):
    labs = [Lab.attach(name).status() for name in names()]
    if arguments.json:
        print(json.dumps(labs, indent=1))
        return
    if not labs:
        print("no lab is up; 'lab up' starts one")
    for lab in labs:
        print(f"{lab['name']}" + (" (of a running test)" if lab["bound"] else ""))
        for name, machine in lab["machines"].items():
            print(f"  machine {name}  {machine['state']:8} {machine['address']}  "
                  f"{machine['folder']}")
        for name, state in lab["wires"].items():
            print(f"  wire {name}  {state}")


def do_guests(arguments, progress):
    if arguments.action == "list":
        for name, (what, _) in GUESTS.items():
            print(f"{name:12} {what}")
    elif arguments.action == "path":
        print(json.dumps(guest(arguments.guest), indent=1))
    elif arguments.action == "prune":
        for name in cache.prune(arguments.days):
            progress.say(f"took away {name}")
    else:
        for name in arguments.guest or GUESTS:
            with progress.step(f"guest {name}"):
                guest(name)


def main(argv):
    arguments = parser().parse_args(argv)
    progress = Progress()
    try:
        return globals()[f"do_{arguments.verb}"](arguments, progress) or 0
    except (LabError, TimeoutError, PermissionError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 125
    except FileNotFoundError as error:
        print(f"lab: {error.filename}: not found; run 'scripts/dependencies lab' as root",
              file=sys.stderr)
        return 125
    except KeyboardInterrupt:
        return 130
