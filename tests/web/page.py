# SPDX-License-Identifier: Apache-2.0
"""What tests do with the page, in the words of its reader."""

import time

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

# Runs from the page's first moment on: the longest time between two frames, and console errors that nobody logs.
HEARTBEAT = """
window.heartbeat = { longest: 0, last: performance.now() };
(function beat() {
    const now = performance.now();
    window.heartbeat.longest = Math.max(window.heartbeat.longest, now - window.heartbeat.last);
    window.heartbeat.last = now;
    requestAnimationFrame(beat);
})();
"""

# How many pixels of a canvas are neither clear nor grey: that is, drawn with data.
COLOURED = """
const canvas = document.getElementById(arguments[0]);
const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
let n = 0;
for (let at = 0; at < data.length; at += 4) {
    const [r, g, b] = [data[at], data[at + 1], data[at + 2]];
    n += data[at + 3] && Math.max(r, g, b) - Math.min(r, g, b) > 24;
}
return n;
"""


class Page:
    """The page in a browser. `seconds`: how long a test waits for something."""

    def __init__(self, driver, server, seconds=30):
        self.driver = driver
        self.server = server
        self.seconds = seconds
        self._script = driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument",
                                              {"source": HEARTBEAT})["identifier"]
        driver.get_log("browser")
        driver.get(server.address + server.entrance)

    def close(self):
        self.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument",
                                    {"identifier": self._script})
        self.driver.get("about:blank")

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector):
        return self.find(selector).text

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self, what, condition):
        """Until `condition()` is something; that."""
        end = time.monotonic() + self.seconds
        while not (found := condition()):
            assert time.monotonic() < end, f"{what}: not within {self.seconds} s; {self.told()}"
            time.sleep(0.05)
        return found

    def told(self):
        """Where the page stands, for a failed test's message."""
        return self.run("""return JSON.stringify({
            state: document.documentElement.dataset.state, total: document.getElementById("total").textContent,
            trouble: document.getElementById("filter-error").textContent,
            window: document.getElementById("window-text").textContent })""")

    def state(self):
        return self.run("return document.documentElement.dataset.state")

    def total(self):
        """Requests in the pictures; -1 while that is not known."""
        digits = self.text("#total").split(" ")[0].replace(",", "")
        return int(digits) if digits.isdigit() else -1

    def wait_ready(self, total=None):
        self.wait("all pictures", lambda: self.state() == "ready" and
                  (self.total() >= 0 if total is None else self.total() == total))

    def coloured(self, canvas):
        return self.run(COLOURED, canvas)

    def span(self):
        """Seconds that the window shows."""
        value, unit = self.text("#window-text").split("(")[1].rstrip(")").split(" ")
        return float(value) * {"s": 1, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}[unit]

    def filter(self, text):
        field = self.find("#filter")
        field.clear()
        field.send_keys(text, Keys.ENTER)

    def rows(self):
        """The table's lines as lists of texts."""
        return self.run("""return [...document.querySelectorAll("#rows tr")].map(
            (line) => [...line.children].map((cell) => cell.textContent))""")

    def choose(self, number):
        """Clicks on a line of the table, which may be drawn anew at any moment: found and clicked in one go."""
        self.run("document.querySelectorAll('#rows tr')[arguments[0]].firstChild.click()", number)

    def chosen(self):
        """The number of the line that is chosen; -1: none."""
        return self.run("""return [...document.querySelectorAll("#rows tr")].findIndex(
            (line) => line.hasAttribute("aria-selected"))""")

    def drag(self, canvas, start, end, shift=False):
        """From one place of a canvas to another, in pixels from its left upper corner."""
        target = self.find(f"#{canvas}")
        box = target.size
        place = lambda at: (at[0] - box["width"] // 2, at[1] - box["height"] // 2)  # noqa: E731
        chain = ActionChains(self.driver, duration=30)
        if shift:
            chain.key_down(Keys.SHIFT)
        chain.move_to_element_with_offset(target, *place(start)).click_and_hold()
        for step in range(1, 11):
            part = [a + (b - a) * step // 10 for a, b in zip(start, end)]
            chain.move_to_element_with_offset(target, *place(part))
        chain.release()
        if shift:
            chain.key_up(Keys.SHIFT)
        chain.perform()

    def longest_pause(self):
        """ms between two frames at most, since the page was opened or this was asked last."""
        return self.run("const { longest } = window.heartbeat; window.heartbeat.longest = 0; return longest")

    def complaints(self):
        """Lines of the browser's console."""
        return [entry["message"] for entry in self.driver.get_log("browser")]
