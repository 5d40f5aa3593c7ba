# SPDX-License-Identifier: Apache-2.0
"""Guests are built once, kept by content, and boot."""

import os
import threading
import time

import pytest
from labkit import LabError, cache
from labkit.guests import GUESTS, disks_built, guest

BOOT = ("qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot -machine q35 "
        "-accel kvm -cpu host -serial stdio -m {memory} -kernel {kernel} -initrd {initrd} "
        "-append 'console=ttyS0 quiet {words}'")


def boot(machine, name, words, memory=256):
    files = guest(name)
    return machine.run(BOOT.format(**files, words=words, memory=memory), timeout=90).text


def lines_of(machine, *arguments):
    return [line.strip() for line in boot(machine, *arguments).splitlines()]


def test_tiny_runs_a_word_of_its_command_line(machine):
    lines = lines_of(machine, "tiny", "utsusu.run=echo+plain+words")
    assert lines[:4] == ["utsusu-guest: init", "utsusu-guest: ready", "plain words",
                         "utsusu-guest: exit 0"]


def test_tiny_takes_quoted_words_and_tells_failures(machine):
    lines = lines_of(machine, "tiny", 'utsusu.run="echo 1+1; uname -r; exit 7" panic=1')
    assert "1+1" in lines and "utsusu-guest: exit 7" in lines
    assert any(line.endswith("-cloud-amd64") for line in lines)


@pytest.mark.long
def test_tools_run(machine):
    text = boot(machine, "tools", 'utsusu.run="fio --version; iperf3 -v; stress-ng --version"', 768)
    assert "fio-3" in text and "iperf 3" in text and "stress-ng, version" in text


def test_unknown_guest_is_refused_by_name():
    with pytest.raises(LabError, match="guest nosuch: .*tiny"):
        guest("nosuch")


def test_cache_builds_once_for_many(tmp_path, monkeypatch):
    monkeypatch.setenv("UTSUSU_CACHE", str(tmp_path))
    built = []

    def build(folder):
        built.append(folder)
        time.sleep(0.2)
        (folder / "file").write_text("x")

    threads = [threading.Thread(target=cache.built, args=("thing", ["input"], build))
               for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert (cache.built("thing", ["input"], build) / "file").read_text() == "x"
    cache.built("thing", ["other input"], build)
    assert len(built) == 2


def test_failed_build_leaves_nothing_and_can_be_repeated(tmp_path, monkeypatch):
    monkeypatch.setenv("UTSUSU_CACHE", str(tmp_path))

    def fail(folder):
        (folder / "half").write_text("x")
        raise OSError("no space")

    with pytest.raises(OSError):
        cache.built("thing", ["input"], fail)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    assert cache.built("thing", ["input"], lambda folder: None).is_dir()


def test_prune_takes_only_what_was_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("UTSUSU_CACHE", str(tmp_path))
    old = cache.built("thing", ["old"], lambda folder: None)
    used = cache.built("thing", ["used"], lambda folder: None)
    for path in (old, used):
        os.utime(path, (0, 0))
    cache.built("thing", ["used"], lambda folder: None)
    (tmp_path / "resolved").mkdir(exist_ok=True)
    os.utime(tmp_path / "resolved", (0, 0))
    assert cache.prune(days=30) == [old.name]
    assert not old.exists() and used.exists() and (tmp_path / "resolved").exists()


def test_every_guest_says_what_it_is():
    assert all(what for what, _ in GUESTS.values())
    assert all(image.exists() for _, image in disks_built())
