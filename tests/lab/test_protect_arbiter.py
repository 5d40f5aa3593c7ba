# SPDX-License-Identifier: Apache-2.0
"""Hosts ask the etcd of the lab: members that are killed, frozen or out of reach are named, and a majority is what counts."""

import json


def check(protecting, host):
    result = protecting.order(host, "arbiter", "check", "--json", check=False)
    told = json.loads(result.text)
    return result.returncode, [one["url"] for one in told["members"] if one["answers"]]


def test_each_member_answers_both_hosts(protecting):
    for host in "AB":
        assert check(protecting, host) == (0, protecting.etcd.endpoints)


def test_member_that_is_gone_is_named_and_not_missed(protecting):
    protecting.etcd["B"].kill()
    status, serve = check(protecting, "A")
    assert status == 0 and protecting.etcd["B"].url not in serve and len(serve) == 2


def test_without_a_majority_nobody_can_be_asked(protecting):
    protecting.etcd["A"].freeze()
    protecting.etcd["C"].freeze()
    status, serve = check(protecting, "B")
    assert status != 0 and serve == []


def test_host_that_is_cut_off_cannot_ask(protecting):
    """Its own member is there, and alone."""
    protecting.lab.wires.cut("AB")
    protecting.lab.wires.cut("AC")
    status, serve = check(protecting, "A")
    assert status != 0 and serve == []
    assert check(protecting, "B")[0] == 0
