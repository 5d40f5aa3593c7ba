# SPDX-License-Identifier: Apache-2.0
"""Disks that forget at a power cut what was not flushed."""

import errno
import subprocess

import pytest
from labkit import Lab
from labkit.volatile import VolatileDisk
from nbd import Nbd, NbdError

SECTOR = 512
MIB = 1 << 20


class OneDisk:
    """A disk as a lab has it, without machines: connections stand for them."""

    bound = True

    def __init__(self, folder, size=80 * MIB, keep=0):
        self.folder, self.options, self._state = folder, {"keep_unflushed": keep}, {}
        (folder / "file").write_bytes(b"")
        with open(folder / "file", "r+b") as file:
            file.truncate(size)
        self.disk = VolatileDisk(self, "one", folder / "file")
        self.disk.start()

    def remember(self, key, value):
        self._state[key] = value

    def state(self, key):
        return self._state.get(key)

    def port(self, name):
        self.name = name
        return Nbd(self.disk.socket, name)

    def cut(self, client, name):
        """How many sectors were forgotten."""
        client.cut()
        self.name = name
        return self.disk.await_cut(self)

    def content(self, offset, length):
        with open(self.folder / "file", "rb") as file:
            file.seek(offset)
            return file.read(length)


@pytest.fixture
def make(tmp_path_factory):
    made = []

    def one(**options):
        made.append(OneDisk(tmp_path_factory.mktemp("disk"), **options))
        return made[-1]

    yield one
    for each in made:
        each.disk.stop()


def test_unflushed_write_is_seen_and_forgotten(make):
    one = make()
    a = one.port("A")
    a.write(4096, b"n" * 1024)
    assert a.read(3584, 2048) == bytes(512) + b"n" * 1024 + bytes(512)
    assert one.content(4096, 1024) == bytes(1024)
    assert one.cut(a, "A") == 2
    assert one.port("A").read(4096, 1024) == bytes(1024)


def test_flushed_write_stays(make):
    one = make()
    a = one.port("A")
    a.write(0, b"f" * SECTOR)
    a.flush()
    a.write(SECTOR, b"n" * SECTOR)
    assert one.cut(a, "A") == 1
    assert one.port("A").read(0, 1024) == b"f" * SECTOR + bytes(SECTOR)


def test_forced_write_stays_and_takes_no_other_along(make):
    one = make()
    a = one.port("A")
    a.write(0, b"n" * SECTOR)
    a.write(SECTOR, b"u" * SECTOR, fua=True)
    assert one.cut(a, "A") == 1
    assert one.content(0, 1024) == bytes(SECTOR) + b"u" * SECTOR


def test_older_flushed_version_comes_back(make):
    one = make()
    a = one.port("A")
    a.write(0, b"1" * SECTOR)
    a.flush()
    a.write(0, b"2" * SECTOR)
    one.cut(a, "A")
    assert one.port("A").read(0, SECTOR) == b"1" * SECTOR


def test_machines_see_each_other_and_lose_their_own(make):
    one = make()
    a, b = one.port("A"), one.port("B")
    a.write(0, b"a" * SECTOR)
    b.write(SECTOR, b"b" * SECTOR)
    assert b.read(0, SECTOR) == b"a" * SECTOR
    b.flush()       # does not count for what A wrote
    assert one.cut(a, "A") == 1
    assert b.read(0, 1024) == bytes(SECTOR) + b"b" * SECTOR


def test_what_one_flushed_survives_the_cut_of_one_who_wrote_over_it(make):
    one = make()
    a, b = one.port("A"), one.port("B")
    a.write(0, b"a" * SECTOR)
    b.write(0, b"b" * SECTOR)
    a.flush()
    assert one.cut(b, "B") == 1
    assert a.read(0, SECTOR) == b"a" * SECTOR


def test_coin_keeps_some_and_the_same_ones_again(make):
    def cut_after_writes(keep):
        one = make(keep=keep)
        a = one.port("A")
        a.write(0, b"w" * (256 * SECTOR))
        forgotten = one.cut(a, "A")
        kept = [one.content(i * SECTOR, 1) == b"w" for i in range(256)]
        assert forgotten == 256 - sum(kept)
        return kept

    first = cut_after_writes(7)
    assert 80 < sum(first) < 176
    assert cut_after_writes(7) == first != cut_after_writes(8)


def test_cache_has_an_end(make):
    """More than it holds is written back, and all of it is read as it was written."""
    one = make()
    a = one.port("A")
    for number in range(72):
        a.write(number * MIB, bytes([number]) * MIB)
    for number in (0, 40, 71):
        assert a.read(number * MIB, MIB) == bytes([number]) * MIB
    assert 0 < one.cut(a, "A") <= 64 * MIB // SECTOR


def test_connection_of_a_machine_that_came_again_counts_no_more(make):
    one = make()
    old = one.port("A")
    old.write(0, b"o" * SECTOR)
    new = one.port("A")
    assert new.read(0, SECTOR) == bytes(SECTOR)
    with pytest.raises(NbdError, match=str(errno.EIO)):
        old.write(0, b"o" * SECTOR)
    new.write(0, b"n" * SECTOR)
    old.cut()
    assert new.read(0, SECTOR) == b"n" * SECTOR


def test_parts_of_sectors_are_refused(make):
    a = make().port("A")
    with pytest.raises(NbdError, match=str(errno.EINVAL)):
        a.write(100, b"x" * 100)


def test_wrong_parameters_are_told(tmp_path):
    from labkit.programs import plugin
    done = subprocess.run(["nbdkit", "-f", "-U", str(tmp_path / "s"), str(plugin("volatile")), "colour=red"],
                          capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and "colour: no such parameter" in done.stderr


MARKS = """
import os
folder = "/var/lib/utsusu"
def mark(name, durably):
    file = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(file, b"marked")
    if durably:
        os.fdatasync(file)
mark("with", True)
mark("without", False)
"""


@pytest.fixture(scope="module")
def after_a_cut(emulator):
    """A machine that had its power cut just when a program had written two marks, one of them durably."""
    with Lab(memory=512) as lab:
        a = lab["A"]
        a.run(["python3", "-c", MARKS])
        assert a.run("cat /var/lib/utsusu/with /var/lib/utsusu/without").text == "markedmarked"
        a.kill()
        a.start()
        yield a


def test_missing_fsync_is_caught(after_a_cut):
    assert after_a_cut.run("cat /var/lib/utsusu/without", check=False).text == ""


def test_fsync_is_enough(after_a_cut):
    assert after_a_cut.run("cat /var/lib/utsusu/with").text == "marked"


def test_shared_disk_forgets_with_its_machine(pair):
    a, b = pair["A"], pair["B"]
    disk = a.disk("shared")
    write = f"dd of={disk} bs=4096 conv=sync oflag=direct%s seek=%d status=none"
    a.run("echo kept | " + write % (",dsync", 10))
    a.run("echo lost | " + write % ("", 11))
    assert b.run(f"dd if={disk} bs=4096 count=1 skip=11 iflag=direct").stdout.startswith(b"lost")
    assert a.kill() >= 8
    a.start()
    for one in (a, b):
        assert one.run(f"dd if={disk} bs=4096 count=1 skip=10 iflag=direct").stdout.startswith(b"kept")
        assert one.run(f"dd if={disk} bs=4096 count=1 skip=11 iflag=direct").stdout == bytes(4096)
