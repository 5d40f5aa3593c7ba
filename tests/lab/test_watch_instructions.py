# SPDX-License-Identifier: Apache-2.0
"""Which instruction made each access: a guest whose listing is known, and Debian's kernel at work."""

import collections
import gzip
import json
import shutil

import pytest
from accesses import NAMED, Listing, Score, build
from labkit import Lab
from vms import LONG_PATIENCE, PROGRAMS

# Records of one access, where they are more than one, in each mode.
ELEMENTS = {
    "rep_insb": 5, "rep_insl": 3, "rep_outsb": 5, "rep_outsw": 3, "rep_outsl_down": 3,
    "rep_movs_to": 3, "rep_movs_from": 3, "rep_movs_both": 6, "movs_both": 2, "rep_stos": 3, "rep_stos_down": 3,
    "xchg": 2, "xchg_byte": 2, "or_imm": 2, "lock_or": 2, "add": 2, "inc": 2, "not": 2, "xadd": 2, "cmpxchg": 2,
    "bts": 2, "shl": 2, "store_across": 2, "load_across": 2, "movups_to": 2, "movups_from": 2,
    "store_eax": 1, "load_eax": 1, "insb": 1, "outsb": 1, "bt": 1, "cmp": 1,
}


@pytest.fixture(scope="module")
def guest_file():
    return build()


@pytest.fixture(scope="module")
def listing(guest_file):
    return Listing(guest_file)


def decoded(text):
    return [json.loads(line) for line in text.splitlines()]


def start(host, guest_file):
    name = host.new_name()
    host.utsusu("run", name, "--detach", "--kernel", guest_file, "--memory", "64M")
    return name


def test_each_kind_of_access_in_each_mode(host, guest_file, listing):
    name = start(host, guest_file)
    score = Score(listing, decoded(
        host.utsusu("watch", name, "--json", "--lossless", "--count", "3000").text))
    assert score.wrong == []
    assert len(score.unnamed) <= score.n / 100, score.unnamed
    assert set(listing.slots.values()) == score.seen
    for access, n in ELEMENTS.items():
        for mode in ("m16", "m32"):
            assert score.records_of(listing, f"{mode}_{access}") == n, (mode, access)
        assert score.records_of(listing, f"m64_{access}") == 2 * n, access
    assert score.verdicts["paired"] > 0
    host.utsusu("stop", name, "--force")


def test_each_kind_of_access_is_known_from_a_recording(host, guest_file, listing):
    name = start(host, guest_file)
    with host.folder() as folder:
        host.utsusu("watch", name, "--lossless", "--record", f"{folder}/r.utsusu", "--count", "3000")
        host.utsusu("stop", name, "--force")
        result = host.utsusu("watch", "--from", f"{folder}/r.utsusu", "--json")
    score = Score(listing, decoded(result.text))
    assert score.n > 2900 and score.wrong == []
    assert len(score.unnamed) <= score.n / 100, score.unnamed
    assert set(listing.slots.values()) == score.seen


@pytest.mark.long
def test_each_kind_of_access_on_vtx(programs, guest_file, listing):
    if not shutil.which("bochs"):
        pytest.skip("no bochs: scripts/dependencies long")
    with Lab(vtx=True, memory=1024, files=[str(guest_file)]) as lab:
        machine = lab["A"]
        machine.run([programs / "utsusu", "run", "t", "--detach", "--kernel", guest_file, "--memory", "64M"],
                    timeout=10 * 60)
        # Its line is a serial one.
        packed = machine.run(f"{programs}/utsusu watch t --json --lossless --count 1500 | gzip -c", timeout=20 * 60)
        machine.run([programs / "utsusu", "stop", "t", "--force"], timeout=5 * 60)
    score = Score(listing, decoded(gzip.decompress(packed.stdout).decode()))
    assert score.wrong == []
    assert len(score.unnamed) <= score.n / 100, score.unnamed
    assert set(listing.slots.values()) == score.seen


# Debian's kernel

LOAD = ("dd if=/dev/vda of=/dev/null bs=64k count=64 iflag=direct 2>/dev/null; "
        "dd if=/dev/zero of=/dev/vda bs=4k count=50 oflag=direct 2>/dev/null; "
        "ip link set eth0 up; ip addr add 10.9.9.2/24 dev eth0; ping -c 20 -i 0.1 -s 1000 10.9.9.1 >/dev/null; "
        "hwclock >/dev/null 2>&1; dmesg | tail -20; true")


def test_debians_kernel_boots_and_works(host):
    """Its accesses are named, but one in a hundred, and those of a place always alike, judged or stepped."""
    out = f"{PROGRAMS}/accesses.json"
    with host.folder() as folder, host.tap("watched", "10.9.9.1/24") as tap:
        host.run(["truncate", "-s", "64M", f"{folder}/disk"])
        vm = host.start("--cpus", 2, "--disk", f"path={folder}/disk", "--net", f"tap={tap}").ready()
        watcher = host.machine.start_command(
            ["sh", "-c", f"exec {PROGRAMS}/utsusu watch {vm.name} --all --exact --json --filter access >{out}"])
        host.until(lambda: host.run(["test", "-s", out], check=False).returncode == 0,
                   what="the watch has begun")
        vm.type("reboot -f")
        vm.ready(LONG_PATIENCE)
        vm.sh(LOAD, LONG_PATIENCE)
        vm.power_off()
        assert watcher.wait(LONG_PATIENCE) == 0, bytes(watcher.stderr)
    records = decoded(host.sh(f"cat {out} && rm {out}"))
    proved = records[-1]["end"]["exact"]
    assert proved["stepped"] >= 3 and proved["differed"] == 0, proved
    accesses = [one for one in records if one.get("kind") in ("pio", "mmio")]
    verdicts = collections.Counter(one["instruction"]["verdict"] for one in accesses)
    named = sum(verdicts[verdict] for verdict in NAMED)
    assert named > 2000 and verdicts["before"] > 100, verdicts
    assert len(accesses) - named <= len(accesses) / 100, verdicts
    places = collections.defaultdict(set)
    for one in accesses:
        if one["instruction"]["verdict"] in NAMED:
            place = one["registers"]["rip"], one["kind"], one["operation"], one["size"]
            places[place].add(one["instruction"]["address"])
    assert [(place, names) for place, names in places.items() if len(names) > 1] == []
