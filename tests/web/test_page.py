# SPDX-License-Identifier: Apache-2.0
"""The page in a browser, on ten seconds of a VM with 200,000 requests a second."""

import json
from urllib.parse import urlsplit

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from conftest import RATE, RECORDS
from page import Page
from programs import set_dark

FREEZE = 2000       # ms without a frame
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def page(chromium, server):
    """The page with all of the recording; at the end nothing was complained of and nothing left the host."""
    one = Page(chromium, server)
    one.wait_ready(RECORDS)
    yield one
    assert one.complaints() == []
    places = one.run("return performance.getEntries().map((entry) => entry.name)")
    places = [urlsplit(place) for place in places if "://" in place]
    assert places and {place.netloc for place in places} == {urlsplit(server.address).netloc}
    one.close()


@pytest.fixture
def small_page(chromium, small_server):
    one = Page(chromium, small_server)
    one.wait_ready(2000)
    yield one
    one.close()


def test_pictures_are_drawn(page):
    assert page.coloured("timeline") > 20_000
    assert page.coloured("heatmap") > 5_000
    assert page.coloured("overview") > 5_000
    assert page.find("#sites").find_elements(By.CSS_SELECTOR, "li")
    assert "out dx, al" in page.text("#sites")


def test_page_says_what_it_shows(page):
    assert page.text("#vm") == "busy.utsusu"
    assert page.text("#mode").startswith("mode normal")
    assert page.text("#lost") == "none lost"
    assert "token" not in page.driver.current_url and "#" not in page.driver.current_url


def test_no_freeze_while_it_loads_and_moves(page):
    assert page.longest_pause() < FREEZE
    for _ in range(12):
        page.find("#zoom-in").click()
        page.drag("timeline", (300, 60), (420, 60))
    page.find("#zoom-all").click()
    page.filter("latency>30us")
    page.wait("the filter", lambda: 0 < page.total() < RECORDS and page.state() == "ready")
    page.drag("timeline", (300, 60), (500, 60), shift=True)
    page.filter("")
    page.find("#zoom-all").click()
    page.wait_ready(RECORDS)
    assert page.longest_pause() < FREEZE


def test_zoom_to_single_requests(page):
    whole = page.span()
    page.find("#zoom-in").click()
    page.wait("zoom", lambda: page.span() < 0.6 * whole)
    for _ in range(14):
        page.find("#zoom-in").click()
    page.wait("a few requests", lambda: 0 < page.total() < 500)
    assert page.coloured("timeline") > 200
    page.find("#zoom-all").click()
    page.wait("all again", lambda: abs(page.span() - whole) < 0.01)


def test_keys(page):
    body = page.find("body")
    body.send_keys("+", "+")
    page.wait("zoom", lambda: 2.4 < page.span() < 2.6)
    before = page.text("#window-text")
    body.send_keys(Keys.ARROW_RIGHT)
    page.wait("pan", lambda: page.text("#window-text") != before)
    assert 2.4 < page.span() < 2.6
    body.send_keys("?")
    page.wait("help", lambda: page.find("#help").is_displayed())
    assert "latency" in page.text("#help-words")
    page.find("#help button").click()
    body.send_keys("/")
    assert page.driver.switch_to.active_element.get_attribute("id") == "filter"


def test_brush_zooms_to_what_is_marked(page):
    page.drag("timeline", (243, 60), (343, 60), shift=True)
    page.wait("the window", lambda: page.span() < 2)
    assert 1.4 < page.span() < 2      # 100 of about 600 pixels of ten seconds


def test_overview_chooses_a_stretch(page):
    page.drag("overview", (250, 15), (310, 15))
    page.wait("the window", lambda: page.span() < 1.2)
    page.wait("less", lambda: page.state() == "ready" and 0 < page.total() < RECORDS / 5)


def test_filter_shows_only_what_matches(page):
    page.filter("dev==serial && out")
    page.wait("the table", lambda: page.rows() and all(
        row[2] == "serial" and row[3] == "pio out" for row in page.rows()))
    page.wait("the pictures", lambda: page.state() == "ready" and 0 < page.total() < RECORDS / 2)
    page.find("#filter-clear").click()
    page.wait_ready(RECORDS)


def test_filter_that_matches_nothing(page):
    page.filter("port==0x9999")
    page.wait("no line", lambda: page.state() == "ready" and not page.rows() and page.total() == 0)
    assert page.text("#rows-note") == "No request here matches."


def test_error_in_a_filter_points_at_the_column(small_page):
    small_page.filter("dev==serial && lattency>5us")
    small_page.wait("the error", lambda: small_page.find("#filter-error").is_displayed())
    pointer, _, message = small_page.find("#filter-error").get_property("textContent").partition("\n")
    assert pointer.index("^") == len("dev==serial && ")
    assert "lattency" in message
    small_page.filter("dev==serial")
    small_page.wait("no error", lambda: not small_page.find("#filter-error").is_displayed())


def test_click_on_a_line_shows_the_request(page):
    page.filter("dev==serial && out")
    page.wait("the table", lambda: page.rows() and all(
        row[2] == "serial" and row[3] == "pio out" for row in page.rows()))
    page.choose(1)
    page.wait("details", lambda: page.driver.find_elements(By.CSS_SELECTOR, "#detail .registers"))
    text = page.text("#detail")
    for expected in ("port 0x3f8", "out dx, al", "rip", "ffffffff814a1230", "rflags"):
        assert expected in text
    page.driver.execute_cdp_cmd("Browser.grantPermissions", {
        "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": page.server.address})
    page.find("#detail .copy").click()
    page.wait("the copy", lambda: page.text("#detail .copy") == "Copied")
    copied = page.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert json.loads(copied)["address"] == "0x3f8"
    page.find("#scroller").send_keys(Keys.ARROW_DOWN)
    page.wait("the next line", lambda: page.chosen() == 2)


def test_disk_requests_have_no_registers(page):
    page.filter("kind==disk && status!=0")
    page.wait("the table", lambda: page.rows() and all(row[7] == "EIO" for row in page.rows()))
    page.choose(0)
    page.wait("details", lambda: "EIO" in page.text("#detail"))
    assert not page.driver.find_elements(By.CSS_SELECTOR, "#detail .registers")


def test_click_on_an_instruction_filters_for_it(page):
    page.find("#sites button").click()
    page.wait("the filter", lambda: page.find("#filter").get_property("value").startswith("insn==0x"))
    page.wait("fewer", lambda: page.state() == "ready" and 0 < page.total() < RECORDS)


def test_drag_over_latencies_filters_for_them(page):
    page.drag("heatmap", (200, 30), (600, 90))
    page.wait("the filter", lambda: "latency>=" in page.find("#filter").get_property("value"))
    page.wait("the table", lambda: page.state() == "ready" and page.rows())


def test_more_lines_come_while_one_scrolls(page):
    page.filter("kind==pio")
    page.wait("a page", lambda: len(page.rows()) >= 100 and all("pio" in row[3] for row in page.rows()))
    for _ in range(3):
        lines = len(page.rows())
        page.run("const s = document.getElementById('scroller'); s.scrollTop = s.scrollHeight")
        page.wait("more", lambda: len(page.rows()) > lines)
    numbers = page.run("return [...document.querySelectorAll('#rows tr')].map((line) => Number(line.dataset.id))")
    assert all(one > next_one for one, next_one in zip(numbers, numbers[1:]))


def test_names_are_text_never_markup(page):
    page.filter("address==0xfe006000")
    page.wait("the table", lambda: page.rows() and all(row[2] == EVIL for row in page.rows()))
    assert not page.driver.find_elements(By.CSS_SELECTOR, "img")


def test_end_of_the_server_is_told(chromium, small_recording, start_server):
    one = start_server("--web", "--from", small_recording)
    page = Page(chromium, one)
    page.wait_ready(2000)
    assert one.end() == 0
    page.wait("the end", lambda: page.state() == "gone")
    assert page.text("#alive") == "utsusu watch has ended"
    page.close()


def test_dark(chromium, small_server):
    set_dark(chromium, True)
    page = Page(chromium, small_server)
    page.wait_ready(2000)
    colour = page.run("return getComputedStyle(document.body).backgroundColor")
    assert max(int(part) for part in colour[4:-1].split(",")) < 64
    assert page.coloured("timeline") > 1000
    set_dark(chromium, False)
    page.close()


def test_all_fits_a_small_screen(page):
    sizes = page.run("""return [document.documentElement.scrollWidth, document.documentElement.scrollHeight,
        document.getElementById("scroller").clientHeight]""")
    assert sizes[0] <= 1280 and sizes[1] <= 800 and sizes[2] >= 120


@pytest.fixture
def live_page(chromium, live_server):
    one = Page(chromium, live_server)
    one.wait("requests", lambda: one.total() > 0)
    yield one
    assert one.complaints() == []
    one.close()


def test_live_shows_what_comes(live_page):
    assert live_page.find("#live").get_attribute("aria-pressed") == "true"
    totals = set()
    live_page.wait("more and more", lambda: totals.add(live_page.total()) or len(totals) > 10)
    live_page.wait("a second", lambda: live_page.total() > RATE)
    assert live_page.coloured("timeline") > 500 and live_page.rows()
    assert live_page.text("#lost") == "none lost"
    assert live_page.longest_pause() < FREEZE


def test_pause_stands_still_and_live_goes_on(live_page):
    live_page.wait("a second", lambda: live_page.total() > RATE)
    live_page.find("body").send_keys(Keys.SPACE)
    live_page.wait("pause", lambda: live_page.text("#live") == "Go live")
    stretch, seen = live_page.text("#window-text"), live_page.text("#alive")
    live_page.wait("others are seen meanwhile", lambda: live_page.text("#alive") != seen)
    assert live_page.text("#window-text") == stretch
    live_page.filter("kind==disk")
    live_page.wait("the filter", lambda: live_page.rows() and all("disk" in row[3] for row in live_page.rows()))
    live_page.filter("")
    live_page.wait("all of them", lambda: live_page.state() == "ready" and live_page.total() > RATE)
    paused = live_page.total()
    live_page.find("#live").click()
    live_page.wait("live", lambda: live_page.total() > paused and live_page.text("#live") == "Live")


def test_live_at_full_speed_with_a_filter(live_page):
    live_page.filter("dev==serial && latency>8us")
    live_page.wait("matches", lambda: live_page.rows() and all(row[2] == "serial" for row in live_page.rows()))
    before = live_page.rows()[0]
    live_page.wait("newer ones", lambda: live_page.rows() and live_page.rows()[0] != before)
    assert live_page.longest_pause() < FREEZE
