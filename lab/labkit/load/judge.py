# SPDX-License-Identifier: Apache-2.0
"""What the clients of history.py saw, judged: nothing acknowledged is lost, nothing goes back, no connection ends.

    history = History.of_lines(text)
    history.problems()          as texts; none: all is well
    history.longest()           seconds of the longest silence
    history.next_after(t)       when the first reply came that was waited for at that moment, or was asked for after it

What it cannot see, and who sees it:
  - what was put out and reached nobody here: broadcasts, packets to others, a frame that was lost on its way (wiretap.py has the frames);
  - two VMs that both answer, where the network sends all to one of them (the tests ask both hosts; the frames again);
  - an effect without a reply: an operation of unknown outcome may have been done or not, once. Done twice it is seen by the counters;
  - memory and disk that no operation touches (load.c's "check" and "status" look at those), and a durable count that is right in memory
    and not on the disk (newest_count() of moves.py reads the disk);
  - a reply that was changed into another right one: of load.c's that takes a wrong chain of 64 bits, of Redis' none is known;
  - what happens before the first reply and after the last: tests wait for some more replies behind each fault.
"""

import json
import re

from .history import MASK, value_of

NEXT = re.compile(r"next (\d+) (\d+) ([0-9a-f]{16})")
COUNTED = re.compile(r"counted (\d+) (\d+) (\d+) (\d+) (\d+)")


def mix(x):
    """load.c's."""
    x = (x + 0x9e3779b97f4a7c15) & MASK
    x = ((x ^ x >> 30) * 0xbf58476d1ce4e5b9) & MASK
    x = ((x ^ x >> 27) * 0x94d049bb133111eb) & MASK
    return x ^ x >> 31


class History:
    def __init__(self, entries):
        self.operations = [one for one in entries if "client" in one]
        self.ok = [one for one in self.operations if one["outcome"] == "ok"]
        self.whole = any(one.get("whole") for one in entries)

    @classmethod
    def of_lines(cls, text):
        """A last line may be cut short."""
        return cls([json.loads(line) for line in text.splitlines() if line.endswith("}")])

    def clients(self):
        return sorted({one["client"] for one in self.operations})

    def of(self, client):
        return [one for one in self.operations if one["client"] == client]

    # Times

    def longest(self, client=None, after=0.0):
        """Seconds that the slowest reply took, and of one client or all."""
        return max((one["end"] - max(one["start"], after) for one in self.ok
                    if client in (None, one["client"]) and one["end"] > after), default=0.0)

    def next_after(self, moment, client=None):
        """The end of the first operation that was acknowledged after that moment; None: there is none."""
        return min((one["end"] for one in self.ok if one["end"] > moment and client in (None, one["client"])), default=None)

    def last_durable(self):
        """The highest durable count that was acknowledged."""
        return max((int(found[1]) for one in self.ok if (found := COUNTED.fullmatch(one["reply"]))), default=0)

    # What is wrong

    def problems(self, connections=1):
        """As texts. `connections`: how many each client may have had."""
        if not self.ok:
            return ["nothing was acknowledged"]
        found = []
        for client in self.clients():
            found += [f"{client}: {one}" for one in self._of_connections(client, connections)]
            found += [f"{client}: {one}" for one in getattr(self, "_of_" + client.split(".")[0])(client)]
        found += self._of_counter("next", NEXT, "sequence") + self._of_counter("counted", COUNTED, "count")
        return found + self._of_incr()

    def _of_connections(self, client, allowed):
        operations = self.of(client)
        used = {(one["connection"], one["port"]) for one in operations if "connection" in one}
        broken = [one for one in operations if one["outcome"] == "unknown"]
        if len(used) > allowed or (broken and len(broken) >= allowed):
            why = f": {broken[0]['why']} at operation {broken[0]['id']}" if broken else ""
            yield f"its connection did not last, there were {len(used)}{why}"
        if not any(one["outcome"] == "ok" for one in operations):
            yield "nothing was acknowledged"
        refused = [one for one in operations if one["outcome"] == "fail"]
        if len(refused) >= allowed:
            yield f"nobody took its connection: {refused[0]['why']} at operation {refused[0]['id']}"

    def _of_sequence(self, client):
        """Each reply is that of what was asked, and of all that was asked before on its connection."""
        chain, connection = 0, None
        for one in self.of(client):
            if one.get("connection") != connection:
                chain, connection = 0, one.get("connection")
            chain = mix(chain ^ one["id"])
            if one["outcome"] != "ok":
                continue
            found = NEXT.fullmatch(one["reply"])
            if not found or int(found[2]) != one["id"]:
                yield f"operation {one['id']} was answered {one['reply']!r}"
            elif int(found[3], 16) != chain:
                yield f"operation {one['id']}: the guest does not know what was asked before it, or knows more"
                return

    def _of_count(self, client):
        """The guest's clocks go on, too."""
        before = None
        for one in (one for one in self.of(client) if one["outcome"] == "ok"):
            found = COUNTED.fullmatch(one["reply"])
            if not found or int(found[2]) != one["id"]:
                yield f"operation {one['id']} was answered {one['reply']!r}"
                continue
            now = [int(word) for word in found.groups()]
            if before and (now[2] <= before[2] or now[3] <= before[3]):
                yield f"operation {one['id']}: a clock of the guest's went back"
            if now[4] > (before[4] if before else 0):
                yield f"operation {one['id']}: the guest saw {now[4]} errors of its memory, disk or clocks"
            before = now

    def _of_redis(self, client):
        for one in (one for one in self.of(client) if one["outcome"] == "ok"):
            verb, key = one["asked"].split()
            value = value_of(int(key[1:])) if verb == "GET" else ""
            expected = {"INCR": r":\d+", "SET": r"\+OK", "GET": rf"\${len(value)} {value}"}[verb]
            if not re.fullmatch(expected, one["reply"]):
                lost = "what was acknowledged is lost: " if verb == "GET" else ""
                yield f"operation {one['id']}: {lost}{one['asked']} was answered {one['reply']!r}"

    def _of_counter(self, what, pattern, kind):
        """One counter that all clients of a kind share: (number, operation)."""
        return self._counted(what, [(int(found[1]), one) for one in self.ok if (found := pattern.fullmatch(one["reply"]))],
                             [one for one in self.operations if one["client"].startswith(kind + ".")])

    def _of_incr(self):
        asked = [one for one in self.operations if one["asked"].startswith("INCR")]
        return self._counted("INCR", [(int(one["reply"][1:]), one) for one in asked
                                      if one["outcome"] == "ok" and re.fullmatch(r":\d+", one["reply"])], asked)

    @staticmethod
    def _counted(what, values, asked):
        """Each operation adds one: what ended before another began has the lower number, none is there twice, and a number that nobody was
        told belongs to an operation of unknown outcome."""
        found, latest = [], None
        values = sorted(values, key=lambda pair: pair[0])
        for (a, one), (b, other) in zip(values, values[1:]):
            if a == b:
                found.append(f"{what} {a} was acknowledged twice: {one['client']} {one['id']}, {other['client']} {other['id']}")
        for value, one in values:
            if latest and latest[1]["start"] > one["end"]:
                found.append(f"{what} went back: {latest[0]} was asked for when {value} had been acknowledged")
            if not latest or one["start"] > latest[1]["start"]:
                latest = (value, one)
        if values:
            holes = values[-1][0] - values[0][0] + 1 - len({value for value, _ in values})
            unknown = sum(one["outcome"] == "unknown" for one in asked)
            if holes > unknown:
                found.append(f"{what}: {holes} were done that nobody asked for, or twice; {unknown} have an unknown outcome")
        return found

    def check(self, **options):
        problems = self.problems(**options)
        assert not problems, "\n".join(problems[:10])
