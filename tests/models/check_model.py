#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Checks a model with spin, then the C functions against the model.

  check_model.py MODEL REPLAY [WRONG_REPLAY...]

Exhaustively, in the sizes that MODELS tells; then once for each rule that is taken out, which must be missed. Then random
simulations of the model, and trails to what they did not meet, are taken through REPLAY: each step that the model can take at least
once. Last come differences that must be noticed: what the model does without a rule, where a function decides on that, and
replays with a fault in the function.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from typing import Callable

SKIPPED = 77


@dataclass
class Size:
    """Of a model that shall be explored to its end."""
    defines: str
    about: str
    endless: bool = False       # look for what goes round for ever instead: steps of the model that are not marked as progress


@dataclass
class Way:
    """One way in which a model is used."""
    sizes: list
    long_sizes: list
    faults: dict                # the number of a rule: sizes in which its absence shows
    simulation: Callable        # the defines of a seed
    seeds: int
    long_seeds: int
    trails: str                 # defines to look for steps that simulations do not meet
    defines: str = ""           # of all of these
    arguments: list = field(default_factory=list)   # of REPLAY
    reach: str = "assert(false)"                    # how the model stops at a step
    goals: dict = field(default_factory=dict)       # numbers, and the sizes in which the model comes there
    unseen: set = field(default_factory=set)        # rules of which the functions know nothing; None: those faults are not replayed


def crashing(n):
    return Size(f"-DCRASHES={n}", f"{n} crashes")


def hand_over(defines, arguments, faults):
    return Way([crashing(2)], [crashing(4)], {fault: "-DCRASHES=1" for fault in faults}, lambda seed: "-DCALM" if seed % 4 else "", 60, 5000,
               "-DCRASHES=1", defines, arguments, unseen=None)


ONE = "-DHOSTS=2 -DCOPIES=1 -DEPOCHS=2 "        # protected once
TWO = "-DHOSTS=2 -DCOPIES=2 "                   # and again, on a host that was left or crashed
THREE = "-DHOSTS=3 -DCOPIES=2 "                 # or on a third
CALM_SIZES = [
    Size(TWO + "-DEPOCHS=2 -DREVISIONS=6 -DOFF -DPEACE", "two copies, power-off, peace"),
    Size(ONE + "-DREVISIONS=4 -DSTARTS=1 -DOFF -DPEACE", "a start from the disks, power-off, peace"),
    Size(ONE + "-DREVISIONS=4 -DOFF -DPEACE", "nothing goes round for ever in the peace", endless=True),
]


def simulation_of_ownership(seed):
    """Long lives with all that may happen; in between short ones, of what happens to one that does not crash."""
    if seed % 3 == 0:
        return "-DNOISE -DHOSTS=2 -DCOPIES=1 -DREVISIONS=5 -DEPOCHS=8 -DCRASHES=0"
    noise = "-DNOISE " if seed % 2 else ""
    return f"{noise}-DCALM={seed // 3 % 9} -DHOSTS=3 -DCOPIES=3 -DREVISIONS=8 -DEPOCHS=8 -DCRASHES=2 -DSTARTS=1 -DOFF"


OWNERSHIP = Way(
    [Size(THREE + "-DEPOCHS=2 -DREVISIONS=7", "three hosts, two failovers"),
     Size(TWO + "-DEPOCHS=2 -DREVISIONS=7", "two hosts, two failovers"), *CALM_SIZES],
    [Size(THREE + "-DEPOCHS=3 -DREVISIONS=7", "three hosts, two failovers"),
     Size(TWO + "-DEPOCHS=3 -DREVISIONS=8 -DCRASHES=2 -DSTARTS=1", "two hosts, two failovers, a start"),
     Size(THREE + "-DEPOCHS=2 -DREVISIONS=6 -DPEACE", "three hosts, peace"), *CALM_SIZES],
    {1: THREE + "-DEPOCHS=2 -DREVISIONS=4 -DCRASHES=0", 10: ONE + "-DREVISIONS=3 -DSTARTS=1",
     **{fault: ONE + "-DREVISIONS=4" for fault in (2, 3, 4, 5, 6, 7, 8, 9, 11, 16)},
     **{fault: ONE + "-DREVISIONS=4 -DOFF -DPEACE" for fault in (12, 13, 14, 15, 17)}},
    simulation_of_ownership,
    150, 5000, ONE + "-DREVISIONS=4 -DSTARTS=1 -DOFF -DNOISE",
    reach="met = 1", unseen={2, 13, 17},
    goals={1: THREE + "-DEPOCHS=2 -DREVISIONS=7", 2: ONE + "-DREVISIONS=4", 3: ONE + "-DREVISIONS=4 -DOFF",
           4: ONE + "-DREVISIONS=6 -DOFF -DSTARTS=1", 5: TWO + "-DEPOCHS=2 -DREVISIONS=5"})

MODELS = {
    "handover": [hand_over("", [], range(1, 7)), hand_over("-DPOSTCOPY", ["--postcopy"], range(7, 9))],
    "ownership": [OWNERSHIP],
}


@dataclass
class Bench:
    """Where one way of a model is checked."""
    way: Way
    model: str
    replay: str
    folder: str
    long: bool
    told: list = field(default_factory=list)        # what simulations and trails printed


def run(command, folder, **more):
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=7200, check=False, **more)


def verify(bench, model, defines, optimise="-O0", endless=False):
    """(states, errors, what pan said) of everything that the model can do, or up to the first error."""
    made = run(["spin", *defines.split(), "-a", model], bench.folder)
    if made.returncode:
        sys.exit(made.stdout)
    built = run(["gcc", optimise, "-w", "-DNP" if endless else "-DSAFETY", f"-DMEMLIM={16000 if bench.long else 2000}",
                 "-o", "pan", "pan.c"], bench.folder)
    if built.returncode:
        sys.exit(built.stdout)
    said = run(["./pan", "-m200000"] + ["-l"] * endless, bench.folder).stdout
    errors = re.search(r"errors: (\d+)", said)
    states = re.search(r"(\d+) states, stored", said)
    if not errors or not states or "search not completed" in said.lower() and errors[1] == "0":
        sys.exit(said)
    return int(states[1]), int(errors[1]), said


def trail(bench, model, defines):
    return run(["spin", *defines.split(), "-t", "-T", "-B", model], bench.folder).stdout


def verify_size(bench, size):
    defines, begun = f"{size.defines} {bench.way.defines}", time.monotonic()
    states, errors, said = verify(bench, bench.model, defines, "-O1", size.endless)
    print(f"{size.about}: {states} states, {errors} errors, {time.monotonic() - begun:.1f} s", flush=True)
    if errors:
        print(said)
        print(trail(bench, bench.model, defines))
        sys.exit("the model does not hold; its way there is above")


def verify_without(bench, fault):
    defines = f"-DFAULT={fault} {bench.way.faults[fault]} {bench.way.defines}"
    states, errors, _said = verify(bench, bench.model, defines)
    print(f"without rule {fault}: {states} states, {errors} errors", flush=True)
    if not errors:
        sys.exit(f"the model holds without rule {fault}: then it does not check that rule")
    if bench.way.unseen is None or fault in bench.way.unseen:
        return
    if not replayed(bench, bench.replay, trail(bench, bench.model, defines)).returncode:
        sys.exit(f"the functions do as the model does without rule {fault}")


def lines_of(bench):
    """What the model can tell, each as a pattern of the line, or of its part, that it prints."""
    text = run(["gcc", "-E", "-P", "-x", "c", *f"{bench.way.trails} {bench.way.defines}".split(), bench.model], None).stdout
    told = {told for told in re.findall(r'printf\("([^"]*)"', text) if not re.search(r" (dies|leaves)\\n$", told)}
    return {told: re.compile(("" if told.startswith(" ") else "^") +
                             re.escape(told.replace("\\n", "")).replace("%e", r"\w+").replace("%d", r"\d+") +
                             ("$" if told.endswith("\\n") else ""), re.MULTILINE) for told in told}


def replayed(bench, replay, said):
    return run([replay, *bench.way.arguments], None, input=said)


def replay_one(bench, said, what):
    """How many steps the C functions took as the model did."""
    done = replayed(bench, bench.replay, said)
    if done.returncode:
        print(said)
        sys.exit(f"{what}: {done.stdout}")
    bench.told.append(said)
    return int(done.stdout.split()[0])


def simulate(bench, seed):
    defines = f"{bench.way.simulation(seed)} {bench.way.defines}".split()
    said = run(["spin", *defines, f"-n{seed}", "-T", "-B", "-u5000", bench.model], bench.folder).stdout
    return said, replay_one(bench, said, " ".join(["seed", str(seed)] + defines))


def trail_to(bench, told):
    """A way to a step that simulations seldom take: what the checker finds when that step is said to be wrong."""
    with open(bench.model, encoding="utf-8") as file:
        text = file.read()
    step = f'printf("{told}"'
    places = re.findall(re.escape(step) + r"[^;)]*\)", text)
    wrong = os.path.join(bench.folder, "wrong.pml")
    for place in set(places):
        text = text.replace(place, f"{place}; {bench.way.reach}")
    with open(wrong, "w", encoding="utf-8") as file:
        file.write(text)
    defines = f"{bench.way.trails} {bench.way.defines}"
    if not verify(bench, wrong, defines)[1]:
        sys.exit(f"never happens in the model: {told}")
    said = trail(bench, wrong, defines)
    return said, replay_one(bench, said, f"the way to '{told}'")


def trail_to_goal(bench, goal):
    defines = f"-DGOAL={goal} {bench.way.goals[goal]} {bench.way.defines}"
    if not verify(bench, bench.model, defines)[1]:
        sys.exit(f"the model does not come to goal {goal}")
    return replay_one(bench, trail(bench, bench.model, defines), f"the way to goal {goal}")


def replay_all(bench):
    waits, steps = lines_of(bench), 0
    total, seeds = len(waits), bench.way.long_seeds if bench.long else bench.way.seeds
    for seed in range(1, seeds + 1):
        said, n = simulate(bench, seed)
        steps += n
        waits = {told: pattern for told, pattern in waits.items() if not pattern.search(said)}
    for told, pattern in sorted(waits.items()):
        said, n = trail_to(bench, told)
        steps += n
        if not pattern.search(said):
            sys.exit(f"the way to '{told}' does not come there")
    steps += sum(trail_to_goal(bench, goal) for goal in bench.way.goals)
    print(f"{seeds} simulations and {len(waits) + len(bench.way.goals)} trails: {steps} steps of {total} kinds replayed", flush=True)


def notice(bench, wrong):
    after = next((i for i, said in enumerate(bench.told, 1) if replayed(bench, wrong, said).returncode), None)
    if not after:
        sys.exit(f"{wrong} does as the model does")
    print(f"{os.path.basename(wrong)}: noticed in simulation or trail {after}")


def check(bench, wrong_replays):
    for size in bench.way.long_sizes if bench.long else bench.way.sizes:
        verify_size(bench, size)
    for fault in sorted(bench.way.faults):
        verify_without(bench, fault)
    replay_all(bench)
    for wrong in wrong_replays:
        notice(bench, wrong)


def main():
    model, replay, *wrong = map(os.path.abspath, sys.argv[1:])
    if not shutil.which("spin"):
        print("spin is not installed: scripts/dependencies build")
        sys.exit(SKIPPED)
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copy(model, folder)       # the checker writes its way beside it
        for way in MODELS[os.path.basename(model).removesuffix(".pml")]:
            check(Bench(way, copy, replay, folder, bool(os.environ.get("UTSUSU_TEST_LONG"))), wrong)


if __name__ == "__main__":
    main()
