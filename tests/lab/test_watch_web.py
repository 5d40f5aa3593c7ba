# SPDX-License-Identifier: Apache-2.0
"""utsusu watch --web on a VM that runs: what the page is told, and what it shows when the VM ends.

The page itself is tested in a browser on recordings (tests/web).
"""

import json
import re
import signal

from vms import PATIENCE

# Both run in the machine: the first opens the page by its link and prints the session's secrets.
VISIT = r"""
import http.client, re, sys

port = int(re.search(r":(\d+)/", sys.argv[1])[1])
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
connection.request("GET", sys.argv[1][sys.argv[1].index("/open"):])
headers = connection.getresponse().headers
print(headers["Set-Cookie"].split(";")[0], headers["Location"].split("#")[1])
"""
# The second asks.
ASK = r"""
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=60)
connection.request("GET", sys.argv[2], headers={"Cookie": sys.argv[3], "X-Utsusu-Key": sys.argv[4]})
print(connection.getresponse().read().decode())
"""


class Visitor:
    """Somebody at the page of a VM, in the machine."""

    def __init__(self, host, name):
        self._host = host
        self.process = host.machine.start_command([f"{host.programs}/utsusu", "watch", name, "--web"])
        host.until(lambda: re.search(rb"token=[0-9a-f]{32}\n", bytes(self.process.stdout)), what="the link")
        said = bytes(self.process.stdout).decode()
        self.mode = said.splitlines()[0]
        link = said.splitlines()[-1]
        self._port = re.search(r":(\d+)/", link)[1]
        self._secrets = host.run(["/usr/bin/python3", "-c", VISIT, link]).text.split()

    def ask(self, path):
        return json.loads(self._host.run(
            ["/usr/bin/python3", "-c", ASK, self._port, path, *self._secrets]).text)

    def rows(self, condition):
        return self.ask(f"/data/rows?filter={condition}")["rows"]

    def leave(self):
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE)


def test_page_of_a_running_vm(host):
    host.sh("ip link set lo up")
    vm = host.start().ready()
    visitor = Visitor(host, vm.name)
    try:
        assert visitor.mode.startswith(f"{vm.name}: mode normal; not seen: ")
        vm.sh("echo seen-by-the-page")
        rows = host.until(lambda: visitor.rows("dev==serial%26%26out"), what="requests")
        assert all(row[3] == "serial" and row[4] == "pio out" for row in rows)
        assert rows[0][9] == "out dx, al"
        record = visitor.ask(f"/data/record?id={rows[0][0]}")
        assert f"port {dict(record['registers'])['rdx']}" == rows[0][5]
        state = visitor.ask("/data/state")
        assert state["mode"] == "normal" and state["unseen"] and not state["over"]
        vm.power_off()
        host.until(lambda: visitor.ask("/data/state")["end_text"] == "the VM ended", what="the end is told")
        assert visitor.rows("dev==serial%26%26out"), "what was seen is still there"
    finally:
        assert visitor.leave() == 0
