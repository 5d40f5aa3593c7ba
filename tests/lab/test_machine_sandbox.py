# SPDX-License-Identifier: Apache-2.0
"""The VM's process has given up all rights by the time that its guest runs, and so has its keeper."""

import pytest

STATUS = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
NONE = "0" * 16


def statuses(host, pid):
    """What /proc says of each thread: {name of thread: {field: value}}"""
    text = host.sh(f"cd /proc/{pid}/task && for t in *; do cat $t/status; echo; done")
    threads = {}
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(":", 1) for line in block.splitlines() if ":" in line)
        threads[fields["Name"].strip()] = {key: fields[key].split() for key in STATUS}
    return threads


@pytest.fixture(scope="module")
def confined(host_of_all):
    host = host_of_all
    with host.folder() as folder, host.tap("sand0"):
        host.sh(f"truncate -s 8M {folder}/d")
        name = host.detach("--cpus", 2, "--disk", f"path={folder}/d", "--net", "tap=sand0")
        host.shared.add(name)
        try:
            yield host, host.info(name)["pid"]
        finally:
            host.shared.remove(name)
            host.utsusu("stop", name, "--force")


def test_every_thread_is_filtered_and_without_rights(confined):
    threads = statuses(*confined)
    kinds = {name.rstrip("0123456789:.") for name in threads}
    assert len(threads) >= 5 and "vcpu" in kinds, threads.keys()
    for name, status in threads.items():
        assert status["Seccomp"] == ["2"], name
        assert status["NoNewPrivs"] == ["1"], name
        assert status["Uid"] == status["Gid"] == ["65534"] * 4, name
        assert status["Groups"] == [], name
        for caps in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert status[caps] == [NONE], (name, caps)


def test_root_is_empty_and_read_only(confined):
    host, pid = confined
    assert host.sh(f"ls -A /proc/{pid}/root/").strip() == ""
    mounts = host.sh(f"cat /proc/{pid}/mounts").splitlines()
    assert len(mounts) == 1 and " ro," in mounts[0], mounts
    assert host.run(f"touch /proc/{pid}/root/x", check=False).returncode != 0


def test_namespaces_are_its_own(confined):
    host, pid = confined
    for kind in ("mnt", "net", "ipc", "uts"):
        own, outside = host.sh(f"readlink /proc/{pid}/ns/{kind} /proc/self/ns/{kind}").split()
        assert own != outside, kind
    assert host.sh(f"wc -l </proc/{pid}/net/dev").strip() == "3", "two lines of title, and lo"


def test_descriptors_are_those_it_needs(confined):
    """Nothing that leads to other files: no folder of the host, no terminal, no other VM's socket."""
    host, pid = confined
    links = host.sh(f"for f in /proc/{pid}/fd/*; do readlink $f; done").splitlines()
    allowed = ("anon_inode:", "/guest-ram (deleted)", "socket:", "/dev/null", "/dev/kvm", "/dev/net/tun", "/scratch/",
               "/run/utsusu/", "pipe:", *[str(p) for p in host.guest_files()])
    strange = [link for link in links if not link.startswith(allowed)]
    assert not strange, strange


def test_keeper_is_confined(confined):
    host, pid = confined
    keeper = host.sh(f"grep ^PPid: /proc/{pid}/status").split()[1]
    (status,) = statuses(host, keeper).values()
    assert status["Seccomp"] == ["2"] and status["NoNewPrivs"] == ["1"]


def test_guest_runs_for_an_ordinary_user(host):
    """With access to /dev/kvm and nothing else, by way of a user namespace."""
    host.sh("useradd -m -s /bin/sh -U plain 2>/dev/null || true; mkdir -p /tmp/plain && chown plain /tmp/plain && "
            "chmod 700 /tmp/plain && mkdir -p /tmp/guest && chmod 755 /tmp/guest && "
            f"cp {host.arguments([])[1]} /tmp/guest/kernel && cp {host.arguments([])[3]} /tmp/guest/initrd && "
            "chmod 644 /tmp/guest/*")
    as_user = ["setpriv", "--reuid=plain", "--regid=plain", "--clear-groups", "env",
               "XDG_RUNTIME_DIR=/tmp/plain", "HOME=/home/plain"]
    vm = host.start("--kernel", "/tmp/guest/kernel", "--initrd", "/tmp/guest/initrd", command=as_user)
    vm.ready()
    pid = host.run([*as_user, f"{host.programs}/utsusu", "info", vm.name, "--json"]).text
    pid = int(pid.split('"pid":')[1].split(",")[0].strip(" }\n"))
    user = host.sh("id -u plain").strip()
    for name, status in statuses(host, pid).items():
        assert status["Seccomp"] == ["2"] and status["NoNewPrivs"] == ["1"], name
        assert status["CapEff"] == status["CapPrm"] == [NONE], name
        assert status["Uid"] == [user] * 4, name
    assert host.sh(f"ls -A /proc/{pid}/root/").strip() == ""
    assert "ShmemPmdMapped:        0 kB" not in host.sh(f"grep -A 30 guest-ram /proc/{pid}/smaps"), "huge pages"
    vm.power_off()
    assert host.sh("ls -A /tmp/plain/utsusu").strip() == ""
    host.sh("rm -r /tmp/plain /tmp/guest")
