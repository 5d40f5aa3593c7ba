# SPDX-License-Identifier: Apache-2.0
"""A whole Debian on a raw disk: its own kernel package, its own initrd, systemd, a database.

Nothing of it is changed; what is added is configuration that an administrator would write.
"""

import os
import shutil
import subprocess
from pathlib import Path

from .. import cache, disks
from ..errors import LabError
from ..packages import AMD64

SUITE = "bookworm"
BASE = ["systemd", "systemd-sysv", "udev", "dbus", "kmod", "iproute2", "procps",
        "initramfs-tools", "linux-image-cloud-amd64"]
VARIANTS = {
    "debian": (["redis-server"], "redis-server.service", 2 << 30),
    "debian-postgresql": (["postgresql", "redis-server"],
                          "redis-server.service postgresql.service", 3 << 30),
}

FILES = {
    "etc/fstab": "LABEL=root / ext4 defaults,discard 0 1\n",
    "etc/hostname": "debian\n",
    "etc/hosts": "127.0.0.1 localhost debian\n",
    # A card without "ip=" on the kernel's command line asks by DHCP.
    "etc/systemd/network/95-card.network":
        "[Match]\nName=en* eth*\n\n[Network]\nDHCP=yes\n\n[DHCPv4]\nClientIdentifier=mac\n",
    "etc/systemd/system/serial-getty@.service.d/root.conf":
        "[Service]\nExecStart=\n"
        "ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200 - $TERM\n",
    "etc/sysctl.d/database.conf": "vm.overcommit_memory = 1\n",
}
READY = """[Unit]
Description=Say on the console that the databases answer
After={services} systemd-networkd.service
Wants={services}

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo "utsusu-guest: ready" >/dev/console'

[Install]
WantedBy=multi-user.target
"""
NOT_NEEDED = ["apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "fstrim.timer",
              "e2scrub_reap.service", "systemd-networkd-wait-online.service"]


def _inputs(name):
    packages, _services, size = VARIANTS[name]
    versions = AMD64.versions(BASE + packages)
    return ["1", Path(__file__), SUITE, str(size), *(f"{n}={v}" for n, v in versions.items())]


def lookup(name):
    """Where the guest's disk is, or would be once it is built."""
    return cache.lookup(f"guest-{name}", _inputs(name)) / "disk"


def _archive():
    """The address of Debian's archive that apt uses here."""
    text = subprocess.run(["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)",
                           "Created-By: Packages"], check=True, text=True,
                          stdout=subprocess.PIPE).stdout
    for line in text.splitlines():
        codename, _, address = line.partition(" ")
        if codename == SUITE:
            return address
    raise LabError("guest debian", f"apt's sources name no {SUITE}", "add Debian 12's archive")


def _bootstrap(root, packages, log):
    with open(log, "wb") as out:
        done = subprocess.run(
            ["debootstrap", "--variant=minbase", "--merged-usr",
             "--include=" + ",".join(BASE + packages), SUITE, str(root), _archive()],
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C",
                 "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"})
    if done.returncode:
        kept = cache.cache_directory() / "debootstrap.log"
        shutil.copy(log, kept)
        raise LabError("debootstrap", f"exit status {done.returncode}", f"see {kept}")


def _configure(root, services):
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    units = root / "etc/systemd/system"
    (units / "guest-ready.service").write_text(READY.format(services=services))
    enable = ["systemd-networkd.service", "systemd-network-generator.service",
              "guest-ready.service", *services.split()]
    subprocess.run(["systemctl", f"--root={root}", "enable", "--quiet", *enable], check=True)
    subprocess.run(["systemctl", f"--root={root}", "mask", "--quiet", *NOT_NEEDED], check=True)
    subprocess.run(["chroot", str(root), "passwd", "--quiet", "--delete", "root"], check=True)
    redis = root / "etc/redis/redis.conf"
    text = redis.read_text()
    for old, new in (("\nbind 127.0.0.1 -::1\n", "\nbind * -::*\n"),
                     ("\nprotected-mode yes\n", "\nprotected-mode no\n"),
                     ("\nappendonly no\n", "\nappendonly yes\n")):
        if old not in text:
            raise LabError("guest debian", f"redis.conf has no line {old.strip()!r}")
        text = text.replace(old, new)
    redis.write_text(text)
    for useless in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(root / useless)
        (root / useless / "partial").mkdir(parents=True)
    (root / "etc/machine-id").write_text("6c61620000000000000000000000abcd\n")


def build(name):
    packages, services, size = VARIANTS[name]
    if os.getuid() != 0:
        raise LabError(f"guest {name}", "only root can make a file system of many owners",
                       "run 'lab guests build' as root once")

    def make(folder):
        root = folder / "root"
        _bootstrap(root, packages, folder / "log")
        _configure(root, services)
        boot = root / "boot"
        shutil.copy(next(boot.glob("vmlinuz-*")), folder / "kernel")
        shutil.copy(next(boot.glob("initrd.img-*")), folder / "initrd")
        disks.blank(folder / "disk", size)
        subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", "-L", "root", "-m", "1", "-d",
                        str(root), str(folder / "disk")], check=True)
        shutil.rmtree(root)

    folder = cache.built(f"guest-{name}", _inputs(name), make)
    return {"kernel": folder / "kernel", "initrd": folder / "initrd", "disk": folder / "disk",
            "cmdline": "root=/dev/vda rw net.ifnames=0"}
