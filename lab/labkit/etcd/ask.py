#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in a machine: asks etcd's JSON gateway, for what the lab does to its members.

ask.py post URL PATH JSON       one question, its answer as it comes
ask.py status URL...            a JSON line: {URL: {"member":, "leader":, "healthy":}}; null for who does not answer
ask.py await SECONDS URL...     returns when each of them has answered a question that needs a majority
"""

import json
import sys
import time
import urllib.request

PATIENCE = 5        # seconds of one question


def post(url, path, body, timeout=PATIENCE):
    request = urllib.request.Request(url + path, json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return json.load(answer)


def status(url):
    """A member that has no leader still says who it is."""
    try:
        said = post(url, "/v3/maintenance/status", {})
        return {"member": said["header"]["member_id"], "leader": said.get("leader", "0"), "healthy": is_healthy(url)}
    except (OSError, ValueError, KeyError):
        return None


def is_healthy(url):
    try:
        post(url, "/v3/kv/range", {"key": "YQ=="})      # linearizable: the leader asks a majority
    except (OSError, ValueError):
        return False
    return True


def await_all(seconds, *urls):
    due = time.monotonic() + float(seconds)
    for url in urls:
        while not is_healthy(url):
            if time.monotonic() > due:
                sys.exit(f"{url} does not answer")
            time.sleep(0.1)


def main(verb, *words):
    if verb == "post":
        print(json.dumps(post(words[0], words[1], json.loads(words[2]))))
    elif verb == "status":
        print(json.dumps({url: status(url) for url in words}))
    else:
        await_all(*words)


if __name__ == "__main__":
    main(*sys.argv[1:])
