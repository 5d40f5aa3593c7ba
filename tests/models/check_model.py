#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the model of the hand-over with spin, then the C functions against the model.

  check_model.py MODEL REPLAY

Exhaustively, for a number of crashes; then once for each rule that is taken out, which must be missed. Then random simulations of
the model, and trails to what they did not meet, are taken through REPLAY: each step that the model can take at least once. All of
this without and with post-copy.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

FAULTS = range(1, 7)
POSTCOPY = ["-DPOSTCOPY"]
POSTCOPY_FAULTS = range(7, 9)
SKIPPED = 77


def run(command, folder, **more):
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=1500, check=False, **more)


def verify(model, folder, defines, optimise="-O0"):
    """(states, errors, what pan said) of everything that the model can do, or up to the first error."""
    made = run(["spin", *defines, "-a", model], folder)
    if made.returncode:
        sys.exit(made.stdout)
    built = run(["gcc", optimise, "-w", "-DSAFETY", "-o", "pan", "pan.c"], folder)
    if built.returncode:
        sys.exit(built.stdout)
    said = run(["./pan", "-m200000"], folder).stdout
    errors = re.search(r"errors: (\d+)", said)
    states = re.search(r"(\d+) states, stored", said)
    if not errors or not states or "search not completed" in said and errors[1] == "0":
        sys.exit(said)
    return int(states[1]), int(errors[1]), said


def verify_all(model, folder, mode, crashes):
    defines = [f"-DCRASHES={crashes}", *mode]
    states, errors, said = verify(model, folder, defines, "-O2")
    print(f"{crashes} crashes: {states} states, {errors} errors")
    if errors:
        print(said)
        print(run(["spin", *defines, "-t", "-T", model], folder).stdout)
        sys.exit("the model does not hold; its way there is above")
    for fault in POSTCOPY_FAULTS if mode else FAULTS:
        states, errors, said = verify(model, folder, ["-DCRASHES=1", f"-DFAULT={fault}", *mode])
        print(f"without rule {fault}: {states} states, {errors} errors")
        if not errors:
            sys.exit(f"the model holds without rule {fault}: then it does not check that rule")


def lines_of(model, mode):
    """What the model can tell, each as a pattern of the line that it prints."""
    text = run(["gcc", "-E", "-P", "-x", "c", *mode, model], None).stdout
    told = re.findall(r'printf\("((?:sm|sd|dm|dd) [^"]*)\\n"', text)
    lines = {line for line in told if not re.search(r" (dies|leaves)$", line)}
    return {re.compile(re.escape(line).replace("%e", r"\w+") + "$"): line for line in lines}


def replayed(said, replay, mode, what):
    """The lines, after the C functions took the same steps."""
    done = run([replay, *(["--postcopy"] if mode else [])], None, input=said)
    if done.returncode:
        print(said)
        sys.exit(f"{what}: {done.stdout}")
    return said.splitlines(), int(done.stdout.split()[0])


def simulate(model, folder, replay, mode, seed):
    defines = mode + (["-DCALM"] if seed % 4 else [])
    said = run(["spin", *defines, f"-n{seed}", "-T", "-u5000", model], folder).stdout
    return replayed(said, replay, mode, " ".join(["seed", str(seed)] + defines))


def trail_to(model, folder, replay, mode, line):
    """A way to a step that simulations seldom take: what the checker finds when that step is said to be wrong."""
    with open(model, encoding="utf-8") as file:
        text = file.read()
    told = f'printf("{line}\\n")'
    wrong = os.path.join(folder, "wrong.pml")
    with open(wrong, "w", encoding="utf-8") as file:
        file.write(text.replace(told, told + "; assert(false)"))
    if not verify(wrong, folder, ["-DCRASHES=1", *mode])[1]:
        sys.exit(f"never happens in the model: {line}")
    return replayed(run(["spin", "-DCRASHES=1", *mode, "-t", "-T", wrong], folder).stdout, replay, mode,
                    f"the way to '{line}'")


def replay_all(model, folder, replay, mode, seeds):
    waits, steps = lines_of(model, mode), 0
    total = len(waits)
    for seed in range(1, seeds + 1):
        said, n = simulate(model, folder, replay, mode, seed)
        steps += n
        for pattern in [pattern for pattern in waits if any(map(pattern.match, said))]:
            del waits[pattern]
    for pattern, line in sorted(waits.items(), key=lambda item: item[1]):
        said, n = trail_to(model, folder, replay, mode, line)
        steps += n
        if not any(map(pattern.match, said)):
            sys.exit(f"the way to '{line}' does not come there")
    print(f"{seeds} simulations and {len(waits)} trails: {steps} steps of {total} kinds replayed")


def main():
    model, replay = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    long = bool(os.environ.get("UTSUSU_TEST_LONG"))
    if not shutil.which("spin"):
        print("spin is not installed: scripts/dependencies build")
        sys.exit(SKIPPED)
    with tempfile.TemporaryDirectory() as folder:
        model = shutil.copy(model, folder)  # the checker writes its way beside it
        for mode in ([], POSTCOPY):
            verify_all(model, folder, mode, 4 if long else 2)
            replay_all(model, folder, replay, mode, 5000 if long else 60)


if __name__ == "__main__":
    main()
