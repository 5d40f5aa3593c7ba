# SPDX-License-Identifier: Apache-2.0
"""Who may see the page: asked without a browser."""

import json
import os
import socket

import pytest


def test_token_works_once(small_server):
    status, headers, _ = small_server.ask(small_server.entrance)
    assert status == 303
    assert "HttpOnly" in headers["Set-Cookie"] and "SameSite=Strict" in headers["Set-Cookie"]
    status, headers, body = small_server.ask(small_server.entrance)
    assert status == 403 and b"once" in body
    assert headers["Set-Cookie"] is None


@pytest.mark.parametrize("token", ["", "0" * 32, "x" * 5000], ids=["empty", "wrong", "long"])
def test_wrong_token_is_refused_and_uses_nothing_up(small_server, token):
    assert small_server.ask(f"/open?token={token}")[0] == 403
    assert small_server.ask("/open")[0] == 403
    assert small_server.enter()


@pytest.mark.parametrize("path", ["/", "/app.js", "/style.css", "/data/about", "/data/state",
                                  "/data/view?from=0&to=10&columns=1", "/data/rows", "/nothing"])
def test_nothing_without_a_session(small_server, path):
    secrets = small_server.enter()
    assert small_server.ask(path)[0] == 403
    assert small_server.ask(path, {"Cookie": secrets["Cookie"][:-1] + "x"})[0] == 403


def test_cookie_alone_gives_no_data(small_server):
    """A browser sends it to every port of the host."""
    secrets = small_server.enter()
    cookie = {"Cookie": secrets["Cookie"]}
    assert small_server.ask("/", cookie)[0] == 200
    assert small_server.ask("/data/about", cookie)[0] == 403
    assert small_server.ask("/data/about", cookie | {"X-Utsusu-Key": "0" * 32})[0] == 403
    assert small_server.ask("/data/about", secrets)[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1",
                                  "127.0.0.1.evil.example:{port}", "localhost", ""])
def test_other_hosts_are_refused(small_server, host):
    secrets = small_server.enter()
    host = host.format(port=small_server.port)
    assert small_server.ask("/data/about", secrets | {"Host": host})[0] in (400, 403)
    assert small_server.ask("/", secrets | {"Host": host})[0] in (400, 403)
    good = {"Host": f"localhost:{small_server.port}"}
    assert small_server.ask("/data/about", secrets | good)[0] == 200


def test_only_get(small_server):
    secrets = small_server.enter()
    assert small_server.ask("/data/about", secrets, method="DELETE")[0] == 405
    assert small_server.ask("/data/about", secrets, method="OPTIONS")[0] == 405


def test_headers_forbid_other_origins_and_inline_code(small_server):
    _, headers, _ = small_server.ask("/", small_server.enter())
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert headers["Access-Control-Allow-Origin"] is None
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_listens_on_loopback_only(small_server):
    with open("/proc/net/tcp", encoding="ascii") as file:
        places = [line.split()[1] for line in file.readlines()[1:] if line.split()[3] == "0A"]
    ours = [place for place in places if int(place.split(":")[1], 16) == small_server.port]
    assert ours == [f"0100007F:{small_server.port:04X}"]


def test_port_is_the_one_asked_for_or_an_error(small_recording, start_server):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AssertionError):
            start_server("--web", "--from", small_recording, "--port", str(port))
    one = start_server("--web", "--from", small_recording, "--port", str(port))
    assert one.port == port
    assert one.end() == 0


BAD = [
    "view?from=5&to=5", "view?from=9&to=5", "view?from=-1&to=5", "view?from=0&to=10&columns=0",
    "view?from=0&to=10&columns=100000", "view?from=0&to=99999999999999999999", "view?from=0x10&to=20",
    "rows?limit=1000000", "rows?older=2", "rows?cursor=abc", "record", "record?id=99999999", "nothing",
    "rows?filter=" + "a" * 2000, "rows?filter=%01%ff%3C", "view?from=0&to=10&filter=((((((((",
]


@pytest.mark.parametrize("query", BAD, ids=[one[:40] for one in BAD])
def test_bad_questions_are_answered(small_server, query):
    secrets = small_server.enter()
    status, _, body = small_server.ask(f"/data/{query}", secrets)
    assert status in (400, 404)
    assert json.loads(body)["error"]
    assert small_server.ask("/data/about", secrets)[0] == 200


def test_great_requests_are_refused(small_server):
    secrets = small_server.enter()
    status, _, _ = small_server.ask("/data/rows?filter=" + "a" * 100_000, secrets)
    assert status in (413, 414, 431)
    with socket.create_connection(("127.0.0.1", small_server.port)) as greedy:
        greedy.sendall(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000)
        assert b" 200 " not in greedy.recv(200)
    assert small_server.ask("/data/about", secrets)[0] == 200


def test_many_connections_do_not_end_it(small_server):
    secrets = small_server.enter()
    idle = [socket.create_connection(("127.0.0.1", small_server.port)) for _ in range(40)]
    for one in idle:
        one.close()
    assert small_server.ask("/data/about", secrets)[0] == 200


def test_enter_makes_a_new_link(small_recording, start_server):
    ours, its = os.openpty()
    one = start_server("--web", "--from", small_recording, terminal=its)
    secrets = one.enter()
    os.write(ours, b"\n")
    another = one.next_address()
    assert another != one.entrance
    assert one.ask(one.entrance)[0] == 403
    assert one.ask(another)[0] == 303
    assert one.ask("/data/about", secrets)[0] == 200
    assert one.end() == 0
    os.close(ours)
    os.close(its)
