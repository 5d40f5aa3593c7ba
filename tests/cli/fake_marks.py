#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The two marks of a move as the fakes write them (src/move/marks_text.c has their form)."""

import os
import time
import zlib

GIVEN_BYTES, RECORD_BYTES = 512, 64


def _path(name):
    return os.path.join(os.environ["UTSUSU_STATE_DIR"], "given", name)


def given(job, uuid, result="open"):
    text = (f"utsusu-given 1\nname {job['name']}\nuuid {uuid}\ngeneration {job['generation']}\n"
            f"token {job['token']}\npeer {job['peer']}\ntime {time.time_ns()}\nresult {result}\n")
    return finish(text)


def finish(text):
    return (text + f"crc {zlib.crc32(text.encode()):08x}\n").ljust(GIVEN_BYTES, "\n").encode()


def settle(name, result):
    with open(_path(name), "r+b") as file:
        lines = file.read().decode().split("crc ")[0].splitlines()[:-1]
        file.seek(0)
        file.write(finish("\n".join(lines) + f"\nresult {result}\n"))


def take_back(name):
    os.truncate(_path(name), 0)


def taken(token, word):
    text = f"utsusu taken {token} {word:<8} "
    record = text + f"{zlib.crc32(text.encode()):08x}\n"
    assert len(record) == RECORD_BYTES, record
    return record.encode()
