# SPDX-License-Identifier: Apache-2.0
"""The lab's parts that need no machine."""

import os
import subprocess

import pytest
from labkit import Lab, LabError, disks, host, packages, wires
from labkit.initramfs import Initramfs
from labkit.kernels import Kernel


@pytest.mark.parametrize("text, size", [("1G", 1 << 30), ("64M", 64 << 20), ("4k", 4096),
                                        ("512", 512), ("2GiB", 2 << 30)])
def test_sizes(text, size):
    assert disks.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "G", "-1M", "1T1", "much"])
def test_wrong_sizes_are_refused(text):
    with pytest.raises(LabError, match="size"):
        disks.parse_size(text)


def test_quantities_of_wires():
    assert wires.parse_rate("100mbit") == 12_500_000
    assert wires.parse_delay("1.5ms") == 1_500_000
    assert wires.parse_loss("0.5%") == 5000


@pytest.mark.parametrize("options", [{"machines": 0}, {"machines": 9}, {"colour": "red"}])
def test_impossible_labs_are_refused(options):
    with pytest.raises(LabError):
        Lab(**options)


def test_archive_is_one_that_cpio_reads(tmp_path):
    archive = Initramfs()
    archive.file("a/b/file", "text", 0o755)
    archive.link("a/link", "b/file")
    archive.device("dev/console", 5, 1)
    done = subprocess.run(["busybox", "cpio", "-idv"], input=archive.data(), cwd=tmp_path,
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a/b/file").read_text() == "text"
    assert (tmp_path / "a/link").readlink().as_posix() == "b/file"


def test_modules_come_after_what_they_need(tmp_path):
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/vmlinuz-6").touch()
    modules = tmp_path / "lib/modules/6"
    modules.mkdir(parents=True)
    (modules / "modules.dep").write_text("k/top-most.ko: k/mid.ko k/low.ko\nk/mid.ko: k/low.ko\n"
                                         "k/low.ko:\nk/other.ko:\n")
    (modules / "modules.builtin").write_text("k/inside.ko\n")
    found = Kernel(tmp_path).module_files(["top_most", "inside", "low"])
    assert [path.name for path in found] == ["low.ko", "mid.ko", "top-most.ko"]
    with pytest.raises(LabError, match="module nosuch"):
        Kernel(tmp_path).module_files(["nosuch"])


def test_accelerator_goes_by_the_processor(monkeypatch):
    monkeypatch.setattr(host, "cpu_flags", lambda: {"sse2"})
    assert "tcg,thread=multi" in host.accelerator()[0]
    monkeypatch.setattr(host, "cpu_flags", lambda: {"svm"})
    monkeypatch.setattr(host.os, "access", lambda *_: True)
    assert host.accelerator()[1] == "kvm_amd" and "kvm" in host.accelerator()[0]


def test_old_emulator_without_a_newer_one_takes_turns(monkeypatch):
    def none_there(names):
        raise LabError("backports", "no network")

    host.emulator.cache_clear()
    monkeypatch.setattr(host, "cpu_flags", lambda: {"sse2"})
    monkeypatch.setattr(host, "_version", lambda program: (7, 2))
    monkeypatch.setattr(host.BACKPORTS, "files", none_there)
    assert host.emulator() == ("qemu-system-x86_64", False)
    assert "tcg,thread=single" in host.accelerator()[0]
    monkeypatch.setattr(host, "_version", lambda program: (8, 1))
    host.emulator.cache_clear()
    assert host.emulator() == ("qemu-system-x86_64", True)
    host.emulator.cache_clear()


def test_own_package_lists_are_fetched_when_old_and_kept_when_that_fails(monkeypatch, tmp_path):
    monkeypatch.setenv("UTSUSU_CACHE", str(tmp_path))
    lists, fetched = packages.OwnLists("own", "amd64"), []
    monkeypatch.setattr(lists, "_update", lambda: fetched.append(1))
    lists.prepare()
    lists.prepare()
    assert fetched == [1]
    os.utime(lists.folder / "ready", (0, 0))
    lists.prepare()
    assert fetched == [1, 1]

    def fails():
        raise LabError("apt-get update", "no network")

    monkeypatch.setattr(lists, "_update", fails)
    os.utime(lists.folder / "ready", (0, 0))
    lists.prepare()
    (lists.folder / "ready").unlink()
    with pytest.raises(LabError, match="no network"):
        lists.prepare()
