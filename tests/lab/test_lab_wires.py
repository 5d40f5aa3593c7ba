# SPDX-License-Identifier: Apache-2.0
"""Wires between machines: cut, slow, whole again."""

import re

import pytest
from labkit import Lab, LabError


def reaches(machine, other, tries=10):
    """Whether one of some pings comes back; a cable just plugged in needs a moment."""
    return machine.run(["busybox", "ping", "-c", "1", "-W", "1", other.address],
                       check=False).returncode == 0 or (
        tries > 1 and reaches(machine, other, tries - 1))


def round_trip_ms(machine, other):
    text = machine.run(["busybox", "ping", "-c", "5", "-i", "0.2", other.address]).text
    return float(re.search(r"min/avg/max = ([\d.]+)", text).group(1))


def test_cut_and_heal(pair):
    a, b = pair["A"], pair["B"]
    assert reaches(a, b) and reaches(b, a)
    pair.wires.cut("AB")
    assert pair.wires.status() == {"AB": "cut"}
    assert a.run(["cat", "/sys/class/net/wire0/carrier"]).text == "0\n"
    assert not reaches(a, b, tries=1)
    pair.wires.heal("AB")
    assert reaches(a, b) and pair.wires.status() == {"AB": "whole"}


def test_names_of_machines_are_known(pair):
    assert pair["A"].run(["busybox", "ping", "-c", "1", "B"]).returncode == 0


def test_delay_is_the_one_asked_for(pair):
    a, b = pair["A"], pair["B"]
    assert reaches(a, b)
    pair.wires.slow("AB", delay="50ms")
    assert 100 <= round_trip_ms(a, b) < 160
    pair.wires.heal("AB")
    assert round_trip_ms(a, b) < 50


def test_rate_bounds_what_passes(pair):
    server = pair["A"].start_command(["iperf3", "-s", "-1", "--forceflush"])
    pair.wires.slow("AB", rate="20mbit")
    try:
        server.expect("listening", 20)
        text = pair["B"].run(["iperf3", "-c", "A", "-t", "4", "-f", "m"], timeout=60).text
        got = float(re.search(r"([\d.]+) Mbits/sec\s+receiver", text).group(1))
        assert 12 < got <= 20.5
    finally:
        pair.wires.heal("AB")
        server.disconnect()


def test_loss_loses(pair):
    pair.wires.slow("AB", loss="100%")
    assert not reaches(pair["A"], pair["B"], tries=2)
    pair.wires.heal("AB")
    assert reaches(pair["A"], pair["B"])


def test_wire_survives_a_power_cut_of_one_end(pair):
    a, b = pair["A"], pair["B"]
    b.kill()
    assert not reaches(a, b, tries=1)
    b.start()
    assert reaches(a, b)


def test_frozen_machine_does_not_block_the_others(emulator):
    with Lab(machines=3, memory=512, cpus=1) as lab:
        a, b, c = (lab[name] for name in "ABC")
        assert reaches(a, b) and reaches(a, c) and reaches(b, c)
        c.freeze()
        a.run("busybox ping -c 1 -W 1 C; busybox nc -u -w 1 C 9 </dev/zero & "
              "sleep 2; kill $!; true", check=False)
        assert reaches(a, b)
        c.thaw()
        lab.wires.cut("BC")
        assert not reaches(b, c, tries=2)
        assert reaches(a, b) and reaches(a, c)
        assert b.run(["cat", "/sys/class/net/wire0/carrier"]).text == "1\n"
        lab.wires.cut("A")
        assert a.run(["cat", "/sys/class/net/wire0/carrier"]).text == "0\n"
        assert lab.wires.status() == {"AB": "cut", "AC": "cut", "BC": "cut"}


@pytest.mark.parametrize("wire, options", [("AC", {"rate": "1mbit"}), ("AB", {}),
                                           ("AB", {"rate": "5"}), ("AB", {"delay": "1 year"}),
                                           ("AB", {"loss": "some"})])
def test_nonsense_is_refused_with_a_way_out(pair, wire, options):
    with pytest.raises(LabError, match=";"):
        pair.wires.slow(wire, **options)
