# SPDX-License-Identifier: Apache-2.0
"""Networks: packets both ways over taps, offloads, queues, vhost, passt, and a tap that goes away."""

import json

import pytest

HOST, GUEST = "10.9.0.1", "10.9.0.2"
# Bits of the features that the driver took, as sysfs shows them (VIRTIO 1.2, 5.1.3).
CSUM, GUEST_CSUM, GUEST_TSO4, HOST_TSO4, MULTIQUEUE = 0, 1, 7, 11, 22


def start(host, tap, options="", **more):
    vm = host.start("--cpus", 2, "--memory", "384M", "--net", f"tap={tap}{options}", guest="tools",
                    cmdline=f"utsusu.ip={GUEST}/24", **more)
    return vm.ready()


def features(vm):
    return vm.sh("cat /sys/class/net/eth0/device/features").strip()


def ping(host, count=3):
    return host.run(["ping", "-c", str(count), "-W", "20", GUEST], timeout=120, check=False).returncode == 0


def megabits(result):
    end = json.loads(result)["end"]
    return end["sum_received"]["bits_per_second"] / 1e6


def iperf(host, vm, *options):
    """From the machine to the guest; with -R from the guest to the machine."""
    vm.type("iperf3 -s -1 -D; sleep 1; echo ser''ves")
    vm.expect("serves")
    result = host.run(["iperf3", "-c", GUEST, "-t", "3", "--json", *options], timeout=180)
    return megabits(result.text)


@pytest.mark.parametrize("options", ["", ",vhost=on"], ids=["own", "vhost"])
def test_packets_both_ways(host, options):
    with host.tap("n0", f"{HOST}/24"):
        vm = start(host, "n0", options)
        assert ping(host)
        assert vm.sh(f"ping -c 3 {HOST} >/dev/null && echo yes").strip() == "yes"
        assert iperf(host, vm) > 1
        assert iperf(host, vm, "-R") > 1
        vm.power_off()


def test_offloads_are_agreed_on(host):
    with host.tap("n0", f"{HOST}/24"):
        vm = start(host, "n0")
        taken = features(vm)
        for bit in (CSUM, GUEST_CSUM, GUEST_TSO4, HOST_TSO4):
            assert taken[bit] == "1", (bit, taken)
        vm.power_off()


def test_large_packets_arrive_whole(host):
    """A checksum or a segmentation done wrong shows in bytes that differ."""
    with host.tap("n0", f"{HOST}/24"):
        vm = start(host, "n0")
        vm.type("nc -l -p 7000 >/tmp/got; md5sum </tmp/got; echo recei''ved")
        host.sh("head -c 20000000 /dev/urandom >/tmp/sent")
        host.until(lambda: host.run(f"timeout 100 /run/lab/bin/nc {GUEST} 7000 </tmp/sent", check=False)
                   .returncode == 0, what="sent")
        text = vm.expect("received")
        assert host.sh("md5sum </tmp/sent; rm /tmp/sent").split()[0] in text
        vm.power_off()


def test_several_queues(host):
    with host.tap("n0", f"{HOST}/24", queues=2):
        vm = start(host, "n0", ",queues=2")
        assert features(vm)[MULTIQUEUE] == "1"
        assert vm.sh("ls -d /sys/class/net/eth0/queues/tx-* | wc -l").strip() == "2"
        assert ping(host)
        assert iperf(host, vm, "-P", "4") > 1
        vm.power_off()


def test_address_is_the_one_given(host):
    with host.tap("n0", f"{HOST}/24"):
        vm = start(host, "n0", ",mac=52:54:00:aa:bb:cc")
        assert vm.sh("cat /sys/class/net/eth0/address").strip() == "52:54:00:aa:bb:cc"
        vm.power_off()


def test_address_belongs_to_the_name(host):
    seen = set()
    for _ in range(2):
        with host.tap("n0", f"{HOST}/24"):
            vm = start(host, "n0", name="fixed")
            seen.add(vm.sh("cat /sys/class/net/eth0/address").strip())
            vm.power_off()
    assert len(seen) == 1


@pytest.mark.parametrize("options", ["", ",vhost=on"], ids=["own", "vhost"])
def test_vanished_tap_leaves_the_vm_alone(host, options):
    with host.tap("n0", f"{HOST}/24"):
        vm = start(host, "n0", options)
        assert ping(host)
        host.run(["ip", "link", "del", "n0"])
        vm.sh(f"ping -c 2 -W 1 {HOST} >/dev/null", check=False)
        assert vm.sh("echo alive").strip() == "alive"
        assert host.list()[vm.name]["state"] == "running"
        vm.power_off()


def test_network_goes_on_after_a_reset(host):
    with host.tap("n0", f"{HOST}/24"):
        vm = start(host, "n0")
        assert ping(host)
        vm.type("reboot -f")
        vm.ready()
        assert ping(host)
        vm.power_off()


def test_bad_wire_loses_packets_and_nothing_else(host):
    with host.tap("n0", f"{HOST}/24"):
        vm = start(host, "n0", ",filter=drop:nth=3")
        vm.sh(f"ping -c 12 -i 0.2 -W 2 {HOST}", check=False)
        assert vm.sh("echo alive").strip() == "alive"
        sent, got = vm.sh("cat /sys/class/net/eth0/statistics/tx_packets "
                          "/sys/class/net/eth0/statistics/rx_packets").split()
        assert int(got) < int(sent)
        vm.power_off()


def test_a_tap_that_is_not_there_is_made_and_taken_away(host):
    """For those who may do so; others are told the command."""
    vm = host.start("--net", "tap=made0").ready()
    assert host.sh("cat /sys/class/net/made0/tun_flags").strip()
    vm.power_off()
    host.until(lambda: host.run("test ! -e /sys/class/net/made0", check=False).returncode == 0, what="gone")


@pytest.fixture
def default_route(host):
    """passt takes addresses from the machine's own: it needs a way out, if only one that leads nowhere."""
    host.sh("modprobe dummy && ip link add out0 type dummy && ip address add 192.0.2.2/24 dev out0 && "
            "ip link set out0 up && ip route add default via 192.0.2.1")
    yield
    host.sh("ip link del out0")


def test_user_network(host, default_route):
    """The guest asks by DHCP and reaches a server on the machine, without any right there."""
    server = host.machine.start_command(
        "mkdir -p /tmp/www && echo from-the-machine >/tmp/www/page && cd /tmp/www && "
        "exec python3 -m http.server --bind 127.0.0.1 8080")
    try:
        vm = host.start("--net", "user").ready()
        lease = vm.sh("udhcpc -i eth0 -n -q -t 10 -s /bin/true 2>&1")
        assert "192.0.2.2" in lease, lease
        vm.sh("ip address add 192.0.2.2/24 dev eth0 && ip route add default via 192.0.2.1")
        host.until(lambda: host.run("echo | /run/lab/bin/nc 127.0.0.1 8080", check=False).returncode == 0,
                   what="the server answers")
        assert vm.sh("wget -q -O - http://192.0.2.1:8080/page").strip() == "from-the-machine"
        vm.power_off()
        host.until(lambda: "passt" not in host.sh("cat /proc/[0-9]*/comm 2>/dev/null"), what="passt ended")
    finally:
        server.kill()
        server.wait(30)


def test_user_network_without_a_way_out_is_refused(host):
    if host.sh("ip route show default").strip():
        pytest.skip("this machine has a default route")
    line = host.refused("run", "u", *host.arguments(["--net", "user"]), status=3)
    assert "net user" in line and "route" in line
