"""What joins, leaves, restarts and many writers do to the connectors of a group of workers.

Standard library only. Start it by bench/workers/run, which builds what it needs.
"""

import argparse
import concurrent.futures
import contextlib
import json
import pathlib
import random
import shutil
import sys
import tempfile
import time

import cuts
import death
import noise
from common import ROOT, Broker, free_port, number
from group import Group, percentile
from relay import Relay
from report import Window, tasks_of, verdict


def main():
    options = parse_options()
    work = pathlib.Path(tempfile.mkdtemp(prefix="workers-", dir=ROOT / "target"))
    results = {}
    try:
        groups = work / "groups"
        groups.mkdir()
        with contextlib.ExitStack() as stack:
            broker, relays = start_broker(options, work, stack)
            for name in options.scenarios.split(","):
                print(f"{name}:", file=sys.stderr, flush=True)
                relayed = {"relayed": True, "kafka_relays": relays} if name in RELAYED else {}
                with Group(options.node, broker, groups / name, **relayed) as group:
                    results[name] = SCENARIOS[name](options, group)
                print(json.dumps(results[name], indent=1), file=sys.stderr, flush=True)
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


def start_broker(options, work, stack):
    """The broker, and for scenarios that need them a relay between it and each worker."""
    relays = []
    if set(RELAYED) & set(options.scenarios.split(",")):
        # Where a relay passes on to is known when the broker is.
        relays = [stack.enter_context(contextlib.closing(Relay(free_port()))) for _ in range(CUT_WORKERS)]
    broker = Broker(work, {f"RELAY{number}": relay.port for number, relay in enumerate(relays)})
    for relay, port in zip(relays, broker.ports.values()):
        relay.target = port
    return stack.enter_context(broker), relays


def parse_options():
    parser = argparse.ArgumentParser(prog="bench/workers/run", description=__doc__.splitlines()[0])
    parser.add_argument("--scenarios", default=",".join(SCENARIOS), help="which, in order (default all)")
    parser.add_argument("--connectors", type=int, default=60,
                        help="of all but writers, same_name and many (default 60): sources, where workers die half of them sinks")
    parser.add_argument("--workers", type=int, default=3, help="that leave or are killed in turn (default 3)")
    parser.add_argument("--rounds", type=int, default=10, help="of each scenario in which workers end, brokers do, or links (default 10)")
    parser.add_argument("--many", type=int, default=10_000, help="connectors of many (default 10000)")
    parser.add_argument("--seconds", type=int, default=600, help="of loss (default 600)")
    parser.add_argument("--burners", type=int, default=2, help="processes that burn CPU beside loss (default 2)")
    parser.add_argument("--node", default=str(ROOT / "target/release/connect-node"), help="the connect-node to measure")
    parser.add_argument("--keep-logs", action="store_true", help="keep the workers' logs; CONNECT_NODE_LOG says what they hold")
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


def gaps(group, windows):
    """Lost and doubled records of all connectors, and how long those that moved were silent."""
    return verdict(group, [Window(begin, end, names, None) for begin, end, names in windows])


SCENARIOS = {"join": join, "leave": death.leave, "kill": death.kill, "rolling": rolling, "writers": writers, "same_name": same_name,
             "many": many, "two_at_once": death.two_at_once, "all_at_once": death.all_at_once, "young": death.young,
             "suspend": death.suspend, "broker": death.broker, "writers_kill": death.writers_kill, "cut_gossip": cuts.cut_gossip,
             "cut_kafka": cuts.cut_kafka, "cut_both": cuts.cut_both, "loss": noise.loss, "flood": noise.flood}
# Those in which workers speak to each other and to Kafka through relays.
RELAYED = ["cut_gossip", "cut_kafka", "cut_both", "loss", "flood"]
# Workers of these.
CUT_WORKERS = 3


if __name__ == "__main__":
    main()
