"""Figures of a scenario from what its connectors wrote and its workers logged."""

import collections
import sys

import oracle
from oracle import percentile

# The names of the connectors whose tasks had to move, and the time of it; and as much time before it, with nothing going on.
Window = collections.namedtuple("Window", "begin end moved calm")


def tasks_of(units):
    return {unit.rpartition("/")[0] for unit in units if not unit.endswith("/connector")}


def verdict(group, windows):
    """What was lost, doubled, out of order and run twice; how long moved and untouched tasks were silent. Each finding is printed."""
    records = group.records()
    kinds = {"sources": set(records) - set(group.sinks), "sinks": set(group.sinks)}
    figures = {}
    for kind, names in kinds.items():
        if names:
            its = {name: records[name] for name in sorted(names)}
            figures |= {f"{kind}: {what}": value for what, value in
                        {**order(group, kind, its), **silences(its, windows)}.items()}
    return {**figures, **run_twice(group)}


def order(group, kind, records):
    """Lost, doubled, inversions and overlaps by what is in topics and files."""
    count = group.feed.count if kind == "sinks" else None
    # A record of a source is made when it is polled; a line of a sink says nothing of the sink, but when it arrives.
    at = 1 if kind == "sinks" else 0
    missing = {name: oracle.lost(entries, count) for name, entries in records.items()}
    late = {name: oracle.inversions(entries) for name, entries in records.items()}
    both = {name: oracle.overlap(entries, at) for name, entries in records.items()}
    for name in records:
        tell(group, "lost", name, missing[name])
        tell(group, "out of order", name, [(number, f"made {made:.3f}, arrived {arrived:.3f}") for made, arrived, number in late[name]])
    return {"lost": sum(map(len, missing.values())), "doubled": sum(map(oracle.doubled, records.values())),
            "inversions": sum(map(len, late.values())), "longest overlap by data, s": max(both.values(), default=0.0)}


def tell(group, what, name, found):
    if found:
        print(f"  FINDING {group.name}: {name} {what} ({len(found)}): {found[:10]}", file=sys.stderr, flush=True)


def silences(records, windows):
    """Of the tasks that moved, and of the others beside as much time before."""
    def gaps(right):
        return sorted(gap for window in windows for name in records for gap in right(name, window))

    moved = gaps(lambda name, window: [oracle.longest_gap(records[name], window.begin, window.end)] if name in window.moved else [])
    others = gaps(lambda name, window: [] if name in window.moved else [oracle.longest_gap(records[name], window.begin, window.end)])
    calm = gaps(lambda name, window: [oracle.longest_gap(records[name], *window.calm, within=True)] if window.calm else [])
    return {**spread("silence of a moved task, s", moved), **spread("longest gap of an untouched task, s", others),
            **spread("longest gap of any task in up to 4 s before, s", calm)}


def spread(what, ordered):
    if not ordered:
        return {}
    values = " / ".join(f"{value:.2f}" for value in [percentile(ordered, 50), percentile(ordered, 99), ordered[-1]])
    return {f"{what}: median / p99 / worst of {len(ordered)}": values}


def run_twice(group):
    """By the logs of the workers. While a process was stopped by a signal it ran nothing."""
    frozen = {worker["number"]: worker["frozen"] for worker in group.workers}
    parts = [part for run in group.runs() for part in oracle.without(run, frozen[run.worker])]
    found = oracle.overlaps(parts)
    for unit, seconds, one, other in found[:10]:
        print(f"  FINDING {group.name}: {unit} ran for {seconds:.3f} s at {one.worker} and {other.worker}, "
              f"since {other.begin:.3f} ({other.begin - group.clock:.3f})", file=sys.stderr, flush=True)
    return {"units that ran twice at once, by the logs": len(found),
            "the longest of these, s": max((seconds for _, seconds, _, _ in found), default=0.0)}


def anew_in_place(group, begin):
    """Units that began anew where they ran already; `begin` on our clock."""
    return len(oracle.in_place(group.runs(), begin + group.clock, float("inf")))
