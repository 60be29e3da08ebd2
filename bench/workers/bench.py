"""What joins, leaves, restarts and many writers do to the connectors of a group of workers.

Standard library only. Start it by bench/workers/run, which builds what it needs.
"""

import argparse
import concurrent.futures
import json
import pathlib
import random
import shutil
import sys
import tempfile
import time

from common import ROOT, Broker, number
from group import Group, percentile


def main():
    options = parse_options()
    work = pathlib.Path(tempfile.mkdtemp(prefix="workers-", dir=ROOT / "target"))
    results = {}
    try:
        with Broker(work) as broker:
            for name in options.scenarios.split(","):
                print(f"{name}:", file=sys.stderr, flush=True)
                with Group(options.node, broker, work / name) as group:
                    results[name] = SCENARIOS[name](options, group)
                print(json.dumps(results[name]), file=sys.stderr, flush=True)
    except BaseException:
        print(f"logs are kept in {work}", file=sys.stderr)
        raise
    if options.keep_logs:
        print(f"logs are kept in {work}", file=sys.stderr)
    else:
        shutil.rmtree(work)
    pathlib.Path(options.json).write_text(json.dumps(results, indent=2) + "\n")
    for name, figures in results.items():
        print(f"\n{name}\n\n| | |\n| --- | ---: |")
        for what, value in figures.items():
            print(f"| {what} | {value if isinstance(value, (int, str, list)) else number(value)} |")


def parse_options():
    parser = argparse.ArgumentParser(prog="bench/workers/run", description=__doc__.splitlines()[0])
    parser.add_argument("--scenarios", default=",".join(SCENARIOS), help="which, in order (default all)")
    parser.add_argument("--connectors", type=int, default=60, help="of join, leave and rolling (default 60)")
    parser.add_argument("--rounds", type=int, default=10, help="of leave (default 10)")
    parser.add_argument("--many", type=int, default=10_000, help="connectors of many (default 10000)")
    parser.add_argument("--node", default=str(ROOT / "target/release/connect-node"), help="the connect-node to measure")
    parser.add_argument("--keep-logs", action="store_true", help="keep the workers' logs; RUST_LOG says what they hold")
    parser.add_argument("--json", default=str(ROOT / "target/workers.json"), help="where all figures go")
    return parser.parse_args()


def join(options, group):
    """A fourth worker joins three."""
    group.start(3)
    group.create(options.connectors)
    before = group.await_running()
    starts = group.starts()
    begin = time.monotonic()
    worker = group.add()
    answered = time.monotonic()
    share = 2 * options.connectors // 4
    places = group.await_loads(lambda loads: loads[worker] >= share)
    even = time.monotonic()
    places = group.await_running()
    moved = [unit for unit in before if before[unit] != places[unit]]
    group.settle()
    figures = {"start to first answer, s": answered - begin, "first answer to even load, s": even - answered,
               "its share": share, "units moved": len(moved), "units that ran anew": group.starts() - starts,
               "loads": group.loads(places)}
    return {**figures, **gaps(group, [(begin, time.monotonic(), tasks_of(moved))])}


def leave(options, group):
    """Each worker in turn leaves in order and comes back."""
    group.start(3)
    group.create(options.connectors)
    group.await_running()
    windows, untouched, took = [], 0, []
    for round_ in range(options.rounds):
        worker = round_ % 3
        before, starts, begin = group.await_running(), group.starts(), time.monotonic()
        group.stop(worker)
        took.append(time.monotonic() - begin)
        places = group.await_running()
        moved = [unit for unit in before if before[unit] != places[unit]]
        untouched += group.starts() - starts - len(moved)
        windows.append((begin, time.monotonic() + 1, tasks_of(moved)))
        group.restart(worker)
        group.await_loads(lambda loads, worker=worker: loads[worker] >= 2 * options.connectors // 3)
        group.await_running()
        group.settle()
    return {"orderly ends": options.rounds, "an orderly end, s, median": percentile(sorted(took), 50), "longest": max(took),
            "untouched units that ran anew": untouched, **gaps(group, windows)}


def kill(options, group):
    """Each worker in turn is killed and comes back."""
    group.start(3)
    group.create(options.connectors)
    group.await_running()
    windows = []
    for round_ in range(options.rounds):
        worker = round_ % 3
        before, begin = group.await_running(), time.monotonic()
        group.kill(worker)
        places = group.await_running()
        moved = [unit for unit in before if before[unit] != places[unit]]
        windows.append((begin, time.monotonic() + 1, tasks_of(moved)))
        group.restart(worker)
        group.await_loads(lambda loads, worker=worker: loads[worker] >= 2 * options.connectors // 3)
        group.await_running()
        group.settle()
    return {"kills": options.rounds, **gaps(group, windows)}


def rolling(options, group):
    """Five workers are restarted one after the other."""
    group.start(5)
    group.create(options.connectors)
    places = group.await_running()
    group.claims()
    moves, most_of_one = dict.fromkeys(places, 0), 0
    begin = time.monotonic()
    for worker in range(5):
        group.stop(worker)
        group.restart(worker)
        group.await_loads(lambda loads, worker=worker: loads[worker] >= 2 * options.connectors // 5)
        group.await_running()
        for unit, count in group.claims().items():
            most_of_one = max(most_of_one, count)
            moves[unit] += count
    windows = [(begin, time.monotonic(), tasks_of(places))]
    group.settle()
    return {"most moves of a unit while one worker is restarted": most_of_one, "most moves of a unit in all": max(moves.values()),
            "moves of a unit in all, mean": sum(moves.values()) / len(moves), **gaps(group, windows)}


def writers(options, group):
    """500 POSTs from 20 clients to five workers."""
    group.start(5)
    names = [f"w{n}" for n in range(500)]
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(20) as clients:
        answers = list(clients.map(lambda name: group.post(name, random.randrange(5), group.idle()), names))
    created = time.monotonic()
    group.names += names
    group.await_running()
    running = time.monotonic()
    taken = sorted(1000 * seconds for _, seconds in answers)
    statuses = [status for status, _ in answers]
    return {"answers 201": statuses.count(201), "other answers": sorted(set(statuses) - {201}), "POST p50, ms": percentile(taken, 50),
            "POST p99, ms": percentile(taken, 99), "all created, s": created - begin, "all running, s": running - begin,
            "units that ran twice": group.starts() - 1000}


def same_name(options, group):
    """Five workers create one name at once, 100 times."""
    group.start(5)
    odd = 0
    with concurrent.futures.ThreadPoolExecutor(5) as clients:
        for round_ in range(100):
            name = f"same-{round_}"
            statuses = sorted(status for status, _ in clients.map(lambda at, name=name: group.post(name, at, group.idle()), range(5)))
            odd += statuses != [201, 409, 409, 409, 409]
    return {"rounds": 100, "rounds without exactly one 201 and four 409": odd}


def many(options, group):
    """Ten thousand connectors: a worker that joins, a change, and idleness."""
    group.start(1)
    names = [f"m{n}" for n in range(options.many)]
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda name: group.post(name, 0, group.idle()), names))
    assert all(status == 201 for status, _ in answers), "not all were created"
    created = time.monotonic() - begin
    group.names += names
    group.await_running()
    time.sleep(5)
    cpu = group.idle_cpu(0, 10)
    begin = time.monotonic()
    worker = group.add()
    ready = time.monotonic() - begin
    share = options.many
    group.await_loads(lambda loads: loads[worker] >= share)
    level = time.monotonic() - begin
    group.await_running()
    begin = time.monotonic()
    group.pause(names[len(names) // 2], worker)
    return {"created with 16 clients, s": created, "idle CPU of one worker, % of a core": cpu, "memory, MiB": group.memory(0),
            "second worker ready after, s": ready, "load even after, s": level, "pause acted on after, s": time.monotonic() - begin}


def tasks_of(units):
    return {unit.rpartition("/")[0] for unit in units if not unit.endswith("/connector")}


def gaps(group, windows):
    """Lost and doubled records of all connectors, and how long those that moved were silent."""
    records = group.records()
    lost = doubled = 0
    for entries in records.values():
        numbers = [seqno for _, seqno in entries]
        lost += len(set(range(max(numbers, default=-1) + 1)) - set(numbers))
        doubled += len(numbers) - len(set(numbers))
    silent = sorted(longest_gap(records[name], begin, end) for begin, end, names in windows for name in names)
    if not silent:
        return {"lost": lost, "doubled": doubled}
    return {"lost": lost, "doubled": doubled, "silence of a moved task, s, median": percentile(silent, 50),
            "p99": percentile(silent, 99), "longest silence, s": silent[-1]}


def longest_gap(entries, begin, end):
    """Between two records, in seconds, of those that touch the window."""
    times = [at for at, _ in entries]
    pairs = [(a, b) for a, b in zip(times, times[1:]) if b >= begin and a <= end]
    return max((b - a for a, b in pairs), default=0.0)


SCENARIOS = {"join": join, "leave": leave, "kill": kill, "rolling": rolling, "writers": writers, "same_name": same_name, "many": many}


if __name__ == "__main__":
    main()
