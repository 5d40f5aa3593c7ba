# SPDX-License-Identifier: Apache-2.0
"""watch --exact: what is judged of instructions, put to the proof on a guest under load."""

import json


def test_judgements_are_proved(host):
    with host.folder() as folder, host.tap("x0", "10.9.5.1/24"):
        host.sh(f"truncate -s 64M {folder}/d")
        vm = host.start("--cpus", 2, "--disk", f"path={folder}/d", "--net", "tap=x0", guest="tools",
                        cmdline="utsusu.ip=10.9.5.2/24").ready()
        vm.type("fio --name=v --filename=/dev/vda --rw=randrw --bs=4k --size=32M --direct=1 --ioengine=libaio "
                "--iodepth=4 --time_based --runtime=600 --thread >/dev/null & ping -q -i 0.05 10.9.5.1 >/dev/null & "
                "while :; do echo busy; sleep 0.1; done")
        result = host.utsusu("watch", vm.name, "--exact", "--all", "--json", "--filter", "access", "--for", "8s")
        lines = [json.loads(line) for line in result.text.splitlines()]
        proved = lines[-1]["end"]["exact"]
        assert proved["stepped"] >= 3 and proved["differed"] == 0, proved
        verdicts = [line["instruction"]["verdict"] for line in lines if "instruction" in line]
        assert "stepped" in verdicts and len(verdicts) > 100
        unsure = [verdict for verdict in verdicts if verdict in ("ambiguous", "unknown", "not-judged")]
        assert len(unsure) < len(verdicts) / 100, unsure
        # It goes on as before.
        vm.expect("busy")
        host.utsusu("stop", vm.name, "--force")
        vm.wait()


def test_steps_are_for_those_who_asked(host):
    vm = host.start().ready()
    client = ("import json, socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); f = s.makefile('rw')\n"
              "for line in sys.argv[2:]:\n"
              "    f.write(line + chr(10)); f.flush(); print(f.readline().strip())")
    answers = host.run(["/usr/bin/python3", "-c", client, f"/run/utsusu/{vm.name}/socket",
                        '{"command": "step-at", "addresses": "0x1000"}',
                        '{"command": "watch", "exact": true}',
                        '{"command": "step-at", "addresses": "0x1000,0x2000,0x3000,0x4000,0x5000"}',
                        '{"command": "step-at", "addresses": "here"}',
                        '{"command": "step-at", "addresses": "0xffffffff81000000"}',
                        '{"command": "step-at"}']).text.splitlines()
    kinds = ["error" if "error" in json.loads(answer) else "ok" for answer in answers]
    assert kinds == ["error", "ok", "error", "error", "ok", "ok"], answers
    assert vm.sh("echo alive").strip().endswith("alive")
    vm.power_off()
