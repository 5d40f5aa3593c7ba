# SPDX-License-Identifier: Apache-2.0
"""An etcd on three machines: it serves, leadership goes where it is wanted, members and their machines come back with what they had."""

import pytest
from labkit import Lab, LabError
from labkit.etcd import Etcd


@pytest.fixture(scope="module")
def etcd(emulator):
    with Lab(machines=3, memory=1024, state_disk=1 << 30) as lab:
        one = Etcd(list(lab.machines.values()))
        one.start()
        yield one


def test_records_survive_a_members_death(etcd):
    etcd.put("v1", '{"mode":"solo"}')
    etcd["A"].kill()
    assert not etcd["A"].runs()
    assert etcd.records()["v1"]["mode"] == "solo"
    etcd.start("A")
    assert all(one and one["healthy"] for one in etcd.status().values())


def test_leadership_goes_where_it_is_wanted(etcd):
    for name in "AB":
        etcd.lead(name)
        assert etcd.leader() == name
        etcd.keep_leader_off(name)
        assert etcd.leader() == "C"


def test_without_a_majority_nobody_answers(etcd):
    etcd.keep_leader_off("A")
    etcd["A"].freeze()
    etcd["B"].freeze()
    try:
        with pytest.raises(LabError):
            etcd.records()
    finally:
        etcd["A"].thaw()
        etcd["B"].thaw()
    etcd.await_healthy()
    assert "v1" in etcd.records()


def test_machine_without_power_comes_back_with_its_member(etcd):
    etcd.keep_leader_off("A")
    etcd.put("v2", '{"mode":"solo"}')
    machine = etcd["A"].machine
    machine.kill()
    etcd.put("v3", '{"mode":"solo"}')
    machine.start()
    etcd.start("A")
    etcd.lead("A")      # it has caught up
    assert {"v1", "v2", "v3"} <= set(etcd.records())
