# SPDX-License-Identifier: Apache-2.0
"""Moves between two machines: how long they take, how long the guest is silent, what they send, what they cost the guest.

Silence is what a third machine sees that asks every 10 ms; bytes are those that the source's card sent; the total is from the
order to its end. All that is taken in the same way for both monitors, and what the wire carries just before (by iperf3; for moves with
TLS by OpenSSL's own programs), beside the same guest and the same client. A move that did not end within the cap counts as the cap.
"""

from benchmarks.failure import Failure
from benchmarks.frame import Row, bench_rows, progress
from benchmarks.monitors import UtsusuMoves
from benchmarks.pair import BEFORE, CAP, Pair
from benchmarks.peers import QemuMoves

MIB = 1 << 20


def rows(case, total, link=None):
    """`total`: the goal of the ratio of times; `link`: the least share of the wire in the bulk."""
    return [Row(f"move.total-{case}", "s", total), Row(f"move.down-{case}", "s", 0.5), Row(f"move.bytes-{case}", "MiB", 1.0),
            Row(f"move.link-{case}", "of the wire", link, more_is_better=True, judge_ratio=False)]


def measure(stage, monitor, case, memory, *, prepare, kind="load", huge=False, beside=None):
    """Starts a VM, has it work, moves it. `beside`: what client.py does meanwhile, and some seconds before."""
    pair = stage.pair()
    vm = pair.vm(kind, memory, huge)
    pair.pages_for(vm)
    running = monitor.start(pair, vm)
    try:
        running[0].expect("utsusu-guest: ready", 120)
        prepare(pair)
        seen = pair.move(monitor.order(pair, vm), beside, tls=monitor.tls)
        if kind == "load":
            pair.check_memory(monitor)
    finally:
        monitor.end(pair, running)
    if not seen.finished:
        progress(f"{monitor.name}: not finished after {CAP} s")
    return seen, {f"move.total-{case}": seen.total, f"move.down-{case}": seen.down,
                  f"move.bytes-{case}": seen.sent / MIB, f"move.link-{case}": seen.rate / seen.wire}


def define(case, about, total, streams=2, tls=False, link=None, runs=3, **options):
    """A case whose guest has something in its memory, and does little."""
    def run(stage, monitor):
        return measure(stage, monitor, case, **options)[1]

    run.__doc__ = about
    bench_rows(rows(case, total, link), peer=QemuMoves(streams, tls), ours=UtsusuMoves(streams=streams, tls=tls), runs=runs)(run)


def fill(mib):
    def prepare(pair):
        pair.ask(f"fill {mib}")
    return prepare


def dirty(share):
    """Memory is written at this share of what the wire carries, whole pages of random data in a buffer of 128 MiB."""
    def prepare(pair):
        pair.ask("fill 64", f"dirty {int(share * pair.wire() / 1024)} 128")
    return prepare


# The case of which QEMU's untuned figures are known: 153 MB, 7.96 s, 56 ms, a fifth of the wire.
SMALL = {"memory": 512, "prepare": fill(64)}
define("64m", "512 MiB with 64 MiB of random data, 2 streams.", 0.3, link=0.9, **SMALL)
define("64m-1", "The same with 1 stream.", 0.3, streams=1, link=0.9, **SMALL)
define("64m-4", "The same with 4 streams.", 0.3, streams=4, link=0.9, **SMALL)
define("64m-tls", "The same with 2 streams and TLS.", 0.3, tls=True, link=0.9, **SMALL)
define("64m-huge", "The same in huge pages.", 0.3, huge=True, link=0.9, **SMALL)
define("64m-huge-tls", "The same in huge pages with TLS.", 0.3, huge=True, tls=True, link=0.9, **SMALL)
define("2g", "2 GiB, mostly empty.", 0.3, memory=2048, prepare=fill(16))
define("2g-tls", "2 GiB, mostly empty, with TLS.", 0.3, tls=True, memory=2048, prepare=fill(16))
for _share in (25, 50, 100):
    define(f"dirty{_share}", f"Memory written at {_share} % of the wire's rate.", 0.6, memory=1024, prepare=dirty(_share / 100))


def _redis(stage, monitor):
    """1 GiB with Redis under constant writes."""
    seen, figures = measure(stage, monitor, "redis", 1024, kind="redis", prepare=Pair.await_redis, beside="redis")
    figures["move.slowdown"] = share_during(seen)
    return figures


def share_during(seen):
    """What Redis did during the move, of what it did in the seconds before it, both a second."""
    work = seen.beside
    per_slot, interval = work["series"], work["interval"]
    first = int((seen.start - work["start"]) / interval)
    last = max(int((seen.start + seen.total - work["start"]) / interval), first + 1)
    before = per_slot[max(first - int(BEFORE / interval), 0):first]
    meanwhile = per_slot[first:last] + [0] * (last - len(per_slot))
    if not before or not sum(before):
        raise Failure("Redis did nothing before the move")
    return (sum(meanwhile) / len(meanwhile)) / (sum(before) / len(before))


bench_rows([*rows("redis", 0.6), Row("move.slowdown", "of before", 1.0, more_is_better=True)],
           peer=QemuMoves(), ours=UtsusuMoves(), runs=3)(_redis)
