# SPDX-License-Identifier: Apache-2.0
"""What protection costs a guest, and how soon it goes on when its machine is lost.

Each figure that has a floor has it from the same run, the same machine and the same guest:

    protect.pause       how long the guest stands still for an epoch, beside copying as many pages and the walk over vCPUs' and devices' state
    protect.redis       what a database does for clients that wait for each answer, beside the same one unprotected and as late
    protect.failover    from the power cut to the next reply to a client that lost none, with and without the time until the silence is believed
    protect.bytes       bytes on the wire for each byte that the guest wrote
    protect.idle        what a guest costs that does nothing

How long it stands still and how many pages that was is what the VM says of itself (utsusu status); everything else is measured from outside.
"""

from benchmarks.failure import Failure
from benchmarks.frame import Row, bench_rows
from benchmarks.protected import DETECT, DETECTS, Late, Protected

MIB = 1 << 20
SECONDS = 10        # that are looked at


def with_vm(stage, monitor, kind, memory, measure):
    """measure(pair, name of the VM) while its guest serves."""
    pair = stage.protected_pair()
    vm = pair.vm(kind, memory)
    running = monitor.start(pair, vm)
    try:
        running[0].expect("utsusu-guest: ready", 120)
        return measure(pair, monitor.vm_name)
    finally:
        monitor.end(pair, running)


# The pause

def define_pause(case, buffer, memory):
    """`buffer`: MiB that the guest writes over and over, as fast as it can."""
    def run(stage, monitor):
        def measure(pair, name):
            state = pair.state_ns(name)
            pair.ask("fill 8", f"dirty {buffer * 1024 * 100} {buffer}")
            pair.protect(name)
            _, _, seen = pair.while_protected(name, SECONDS)
            pair.ask("dirty 0 0")
            if not seen.get("pages"):
                raise Failure(f"no epoch with pages: {seen}")
            floor = pair.copy_ns(seen["pages"]) + state
            pair.check_memory(monitor)
            return {f"protect.pause-{case}": seen["pause_p50_ns"] / floor, f"protect.pause-{case}-ms": seen["pause_p50_ns"] / 1e6,
                    f"protect.pause-{case}-floor": floor / 1e6, f"protect.pause-{case}-pages": seen["pages"]}

        return with_vm(stage, monitor, "load", memory, measure)

    run.__doc__ = f"A guest that writes {buffer} MiB over and over: an epoch's pause, of its floor."
    bench_rows([Row(f"protect.pause-{case}", "of the floor"), Row(f"protect.pause-{case}-ms", "ms"), Row(f"protect.pause-{case}-floor", "ms"),
                Row(f"protect.pause-{case}-pages", "pages")], ours=Protected(), runs=3)(run)


define_pause("1m", 1, 256)
define_pause("10m", 10, 256)
define_pause("100m", 100, 512)
define_pause("400m", 400, 1024)


# A database

def define_redis(clients):
    """Each pair: ours protected, then ours unprotected with its output as late as it was held just before."""
    def run(stage, monitor):
        def measure(pair, name):
            pair.await_redis()
            free = pair.redis_rate(clients)
            if isinstance(monitor, Late):
                pair.later(pair.hold_s)
                try:
                    rate = pair.redis_rate(clients)
                finally:
                    pair.later(0)
            else:
                pair.protect(name)
                rate = pair.redis_rate(clients)
                pair.hold_s = pair.while_protected(name, 0)[1]["hold_p50_ns"] / 1e9
            return {f"protect.redis-{clients}": rate, f"protect.redis-{clients}-of-free": rate / free,
                    f"protect.redis-{clients}-held": pair.hold_s * 1000}

        return with_vm(stage, monitor, "redis", 1024, measure)

    run.__doc__ = f"Redis, {clients} clients that wait for each answer: beside one that is not protected, and as late."
    bench_rows([Row(f"protect.redis-{clients}", "SETs/s", more_is_better=True), Row(f"protect.redis-{clients}-of-free", "of unprotected", more_is_better=True),
                Row(f"protect.redis-{clients}-held", "ms")], ours=Protected(), peer=Late(), runs=3)(run)


for number in (1, 50, 200):
    define_redis(number)


# A machine that is lost

def _failover(stage, monitor):
    """Power cut of the owner's machine: seconds to the next reply; the clients' log is whole, or there is no figure."""
    def measure(pair, name):
        pair.ask("fill 64", "dirty 1024 8")
        pair.protect(name)
        with pair.history("sequence:0.005", "sequence:0.02") as seen:
            before, after = pair.cut_power()
            pair.await_role(name, "solo", DETECTS, host=1)
            pair.ask("status")
        if problems := seen[0].problems():
            raise Failure(f"something was lost: {problems[:3]}")
        pair.check_memory(monitor)
        silence = seen[0].next_after(after) - before
        return {"protect.failover": silence, "protect.failover-beyond": silence - DETECT}

    return with_vm(stage, monitor, "load", 512, measure)


bench_rows([Row("protect.failover", "s"), Row("protect.failover-beyond", "s beyond detection")], ours=Protected(), runs=3)(_failover)


# The wire, and doing nothing

def define_bytes(case, kib, buffer):
    def run(stage, monitor):
        def measure(pair, name):
            pair.ask(f"dirty {kib} {buffer}")
            pair.protect(name)
            pair.ask("status")
            (sent, cpu, seconds), _, _ = pair.while_protected(name, SECONDS)
            written = int(pair.ask("status")[0][3])
            pair.ask("dirty 0 0")
            return {f"protect.bytes-{case}": sent / max(written, 1), f"protect.bytes-{case}-rate": sent / seconds / MIB,
                    f"protect.bytes-{case}-cpu": cpu / seconds}

        return with_vm(stage, monitor, "load", 512, measure)

    run.__doc__ = f"{kib} KiB a second of random pages in {buffer} MiB."
    bench_rows([Row(f"protect.bytes-{case}", "for each written"), Row(f"protect.bytes-{case}-rate", "MiB/s"), Row(f"protect.bytes-{case}-cpu", "processors")],
               ours=Protected(), runs=3)(run)


define_bytes("1m", 1024, 32)
define_bytes("8m", 8192, 32)


def _idle(stage, monitor):
    """A guest that nobody asks anything: epochs, bytes and time of its host's, protected and (cpu) not."""
    def measure(pair, name):
        _, before, seconds_before = pair.over(SECONDS)
        pair.protect(name)
        (sent, cpu, seconds), first, last = pair.while_protected(name, SECONDS)
        epochs = last["epochs"] - first["epochs"]
        return {"protect.idle": cpu / seconds, "protect.idle-free": before / seconds_before, "protect.idle-bytes": sent / seconds / 1024,
                "protect.idle-epochs": epochs / seconds}

    return with_vm(stage, monitor, "load", 256, measure)


bench_rows([Row("protect.idle", "processors"), Row("protect.idle-free", "processors"), Row("protect.idle-bytes", "KiB/s"), Row("protect.idle-epochs", "a second")],
           ours=Protected(), runs=3)(_idle)
