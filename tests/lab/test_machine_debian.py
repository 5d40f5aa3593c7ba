# SPDX-License-Identifier: Apache-2.0
"""An unmodified Debian with its own kernel, its own root file system, and a database that serves."""

import pytest

from labkit.guests import guest

HOST, GUEST = "10.8.0.1", "10.8.0.2"
PATIENCE = 600
DISK = "/dev/disk/by-lab/guest-debian"


@pytest.fixture(scope="module")
def disk(host_of_all):
    """A disk whose writes are forgotten with the machine; older machines were started without it."""
    if host_of_all.run(["test", "-b", DISK], check=False).returncode == 0:
        return DISK
    copy = "/scratch/debian"
    host_of_all.run(["cp", "--sparse=always", guest("debian")["disk"], copy], timeout=PATIENCE)
    return copy


@pytest.fixture
def network(host):
    with host.tap("deb0", f"{HOST}/24"):
        yield "deb0"


def start(host, disk, network):
    return host.start("--cpus", 2, "--memory", "512M", "--disk", f"path={disk}", "--net", f"tap={network}",
                      guest="debian", name="debian", cmdline=f"{guest('debian')['cmdline']} "
                      f"ip={GUEST}::{HOST}:255.255.255.0::eth0:off")


def redis(host, *words):
    result = host.run(["timeout", "30", "redis-cli", "-h", GUEST, *words], check=False)
    return result.text.strip()


def serves(host):
    host.until(lambda: redis(host, "PING") == "PONG", timeout=PATIENCE, what="the database answers")


def test_database_serves_and_survives_a_reboot(host, disk, network):
    vm = start(host, disk, network).ready(PATIENCE)
    serves(host)
    assert redis(host, "SET", "story", "kept") == "OK"
    assert redis(host, "GET", "story") == "kept"
    assert redis(host, "CONFIG", "GET", "appendonly").split() == ["appendonly", "yes"]
    vm.expect("root@debian", PATIENCE)
    pid = vm.pid
    vm.type("systemctl reboot")
    vm.ready(PATIENCE)
    serves(host)
    assert vm.pid == pid
    assert redis(host, "GET", "story") == "kept"
    host.utsusu("stop", "debian", "--timeout", "5m", timeout=PATIENCE)
    assert vm.wait() == 0


def test_stop_lets_it_shut_down_cleanly(host, disk, network):
    vm = start(host, disk, network).ready(PATIENCE)
    serves(host)
    redis(host, "SET", "last", "word")
    result = host.utsusu("stop", "debian", "--timeout", "5m", timeout=PATIENCE)
    assert "by force" not in result.text, result
    assert vm.wait() == 0
    state = host.sh(f"dumpe2fs -h {disk} 2>/dev/null")
    assert "needs_recovery" not in state and "clean" in state.split("Filesystem state:")[1].splitlines()[0]
    again = start(host, disk, network).ready(PATIENCE)
    serves(host)
    assert redis(host, "GET", "last") == "word"
    host.utsusu("stop", "debian", "--timeout", "5m", timeout=PATIENCE)
    assert again.wait() == 0
