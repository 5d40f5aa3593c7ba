# SPDX-License-Identifier: Apache-2.0
"""The programs that tests of the page run: `utsusu watch --web`, and Debian's Chromium without a window."""

import http.client
import os
import re
import signal
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

BUILD = Path(os.environ.get("UTSUSU_BUILD") or Path(__file__).resolve().parents[2] / "build")
WIDTH, HEIGHT = 1280, 800


class Server:
    """A running `utsusu-watch --web`, or what looks like one."""

    def __init__(self, *arguments, program="src/programs/utsusu-watch", terminal=None):
        """`terminal`: a descriptor of one that it is to sit at; otherwise it has none."""
        command = [BUILD / program, *arguments]
        if terminal is not None:
            command = ["setsid", "--ctty", *command]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL if terminal is None else terminal,
            stdout=subprocess.PIPE, text=True)
        self.entrance = self.next_address()

    def next_address(self):
        """The path of the next link that it prints."""
        said = []
        for line in self._process.stdout:
            said.append(line.rstrip())
            if found := re.match(r"http://127\.0\.0\.1:(\d+)(/open\?token=[0-9a-f]{32})$", line):
                self.port = int(found[1])
                return found[2]
        self.end()
        raise AssertionError(f"no address: {said}")

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path, headers=None, method="GET", body=None):
        """Status, headers and body of an answer, without a browser."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        found = answer.status, answer.headers, answer.read()
        connection.close()
        return found

    def enter(self):
        """Uses the token: the headers that show so from then on."""
        status, headers, _ = self.ask(self.entrance)
        assert status == 303
        return {"Cookie": headers["Set-Cookie"].split(";")[0],
                "X-Utsusu-Key": urlsplit(headers["Location"]).fragment}

    def end(self):
        """Its exit status after Ctrl-C."""
        if not self._process.stdout.closed:
            self._process.send_signal(signal.SIGINT)
            self._process.stdout.close()
        return self._process.wait(timeout=20)


def start_browser():
    options = Options()
    for argument in ("--headless=new", f"--window-size={WIDTH},{HEIGHT}", "--disable-dev-shm-usage",
                     "--disable-background-networking", "--no-first-run"):
        options.add_argument(argument)
    if os.geteuid() == 0:       # its sandbox is not for root
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
    driver.set_script_timeout(60)
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                           {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False})
    return driver


def set_dark(driver, dark):
    """As a reader's system says it: dark, or whatever it is without."""
    wish = [{"name": "prefers-color-scheme", "value": "dark"}] if dark else []
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": wish})
