# SPDX-License-Identifier: Apache-2.0
"""A recording of a busy VM, the page of it, and a browser."""

import subprocess
import sys

import pytest
from selenium.common.exceptions import WebDriverException

sys.dont_write_bytecode = True

from programs import BUILD, Server, start_browser  # noqa: E402

STARTS = 3              # of the browser, before it is given up
RECORDS = 2_000_000
RATE = 200_000          # a second


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="as in tests/lab; here none is slow")


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes minutes; runs with --long")


@pytest.fixture(scope="session")
def recording(tmp_path_factory):
    """Ten seconds at 200,000 requests a second."""
    path = tmp_path_factory.mktemp("web") / "busy.utsusu"
    subprocess.run([BUILD / "tests/web/make_recording", path, str(RECORDS), str(RATE)], check=True)
    yield path
    path.unlink()


@pytest.fixture
def start_server():
    """Starts servers that end with the test, however that goes."""
    started = []

    def start(*arguments, **more):
        started.append(Server(*arguments, **more))
        return started[-1]
    yield start
    for one in started:
        assert one.end() == 0


@pytest.fixture
def server(recording):
    one = Server("--web", "--from", recording)
    yield one
    assert one.end() == 0


@pytest.fixture(scope="session")
def small_recording(tmp_path_factory):
    """A hundredth of a second."""
    path = tmp_path_factory.mktemp("web") / "small.utsusu"
    subprocess.run([BUILD / "tests/web/make_recording", path, "2000", str(RATE)], check=True)
    return path


@pytest.fixture
def small_server(small_recording):
    one = Server("--web", "--from", small_recording)
    yield one
    assert one.end() == 0


@pytest.fixture
def live_server():
    """A VM that makes its requests while one looks."""
    one = Server(str(RATE), program="tests/web/live_page")
    yield one
    assert one.end() == 0


@pytest.fixture(scope="session")
def chromium():
    driver = _started()
    yield driver
    driver.quit()


def _started():
    """A busy machine may need another try; one on which no browser starts at all tests the page's door only."""
    for _ in range(STARTS):
        try:
            return start_browser()
        except WebDriverException as error:
            why = error.msg
    pytest.skip(f"Chromium does not start on this machine: {why}")
