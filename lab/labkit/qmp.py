# SPDX-License-Identifier: Apache-2.0
"""The emulator's control socket."""

import json
import socket

from .errors import LabError


class Qmp:
    def __init__(self, path, timeout=10):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
            self._lines = self._socket.makefile("r")
            self._lines.readline()
            self.execute("qmp_capabilities")
        except OSError as error:
            self._socket.close()
            raise LabError("emulator", f"its control socket does not answer ({error})",
                           "see 'lab status'")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._lines.close()
        self._socket.close()

    def execute(self, command, **arguments):
        request = {"execute": command, "arguments": arguments}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            line = self._lines.readline()
            if not line:
                raise LabError(f"emulator, {command}", "it closed its control socket")
            answer = json.loads(line)
            if "error" in answer:
                raise LabError(f"emulator, {command}", answer["error"]["desc"])
            if "return" in answer:
                return answer["return"]
