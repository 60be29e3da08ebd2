"""Runs the same job on connect-node, over Kafka and over a directory, on the Java worker and on the bare Kafka client, in turn, and compares them.

Standard library only. Start it by bench/side-by-side/run, which builds what it needs.
"""

import argparse
import filecmp
import json
import os
import pathlib
import re
import shutil
import statistics
import sys
import tempfile
import time

from common import (
    ROOT, START_SECONDS, Broker, Process, answers, expect, floor, free_port, java_worker, number, patience, plugin_folder, request,
    worker_properties,
)

LINE_BYTES = 100
# So that an offset flush falls into each phase.
FLUSH = {"offset.flush.interval.ms": "1000"}
PHASE_SECONDS = 300
# Long enough for a worker to be idle, and to see two offset flushes after a phase.
IDLE_SECONDS = 3
WRITTEN = "kafka_connect_source_task_source_record_write_total"
TAIL_SECONDS = 2
# What is shown: key in the results, title, unit, whether more is better.
FIGURES = [
    ("start_seconds", "start to first answer", "s", False),
    ("idle_mib", "memory, idle", "MiB", False),
    ("peak_mib", "memory, peak", "MiB", False),
    ("source_lines_per_second", "source", "lines/s", True),
    ("source_cpu_seconds_per_million", "source, CPU", "s/million", False),
    ("sink_lines_per_second", "sink", "lines/s", True),
    ("sink_cpu_seconds_per_million", "sink, CPU", "s/million", False),
]


def main():
    options = parse_options()
    work = pathlib.Path(tempfile.mkdtemp(prefix="side-by-side-", dir=ROOT / "target"))
    try:
        source_file = work / "lines.txt"
        write_lines(source_file, options.lines)
        with Broker(work) as broker:
            rounds = []
            for number in range(1, options.rounds + 1):
                results = {}
                for side in options.sides:
                    print(f"round {number} of {options.rounds}: {side}", file=sys.stderr, flush=True)
                    place = work / f"{number}-{side}"
                    place.mkdir()
                    run = {"node": run_node, "embedded": run_embedded, "java": run_java, "floor": run_floor}[side]
                    results[side] = run(options, broker, place, source_file, f"{side}-{number}")
                rounds.append(results)
    except BaseException:
        print(f"logs are kept in {work}", file=sys.stderr)
        raise
    shutil.rmtree(work)
    report(options, rounds)


def parse_options():
    parser = argparse.ArgumentParser(prog="bench/side-by-side/run", description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=1_000_000, help="lines of the job (default 1000000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--sides", default="node,java,floor", help="which, and in which order (default node,java,floor)")
    parser.add_argument("--node", default=str(ROOT / "target/release/connect-node"), help="the connect-node to measure")
    parser.add_argument("--json", default=str(ROOT / "target/side-by-side.json"), help="where all figures go")
    options = parser.parse_args()
    options.sides = options.sides.split(",")
    unknown = set(options.sides) - {"node", "embedded", "java", "floor"}
    if unknown or options.lines < 1 or options.rounds < 1:
        parser.error("--sides takes node, embedded, java and floor; --lines and --rounds at least 1")
    return options


def write_lines(path, count):
    filler = "x" * (LINE_BYTES - 20)
    with open(path, "w", encoding="ascii") as file:
        for start in range(0, count, 10_000):
            file.writelines(f"{number:020}{filler}\n" for number in range(start, min(start + 10_000, count)))


def run_node(options, broker, place, source_file, name):
    port = free_port()
    command = [options.node, "distributed", worker_properties(broker.address, place, name, port, FLUSH)]
    return run_worker(options, broker, place, source_file, name, command, port)


def run_embedded(options, _broker, place, source_file, name):
    """Nobody else can read the directory: the worker's own count of acknowledged records says when the source is done."""
    port = free_port()
    command = [options.node, "distributed", worker_properties(f"embedded:{place / 'data'}", place, name, port, FLUSH)]
    return run_worker(options, None, place, source_file, name, command, port)


def run_java(options, broker, place, source_file, name):
    port = free_port()
    plugin_folder(place)
    command = java_worker("-Xmx1g", worker_properties(broker.address, place, name, port, FLUSH))
    return run_worker(options, broker, place, source_file, name, command, port)


def run_floor(options, broker, place, source_file, name):
    broker.create_topic(name)
    result = {}
    for phase, command in [("source", "produce"), ("sink", "consume")]:
        cost = floor(command, broker.address, name, options.lines)
        note_phase(result, phase, options.lines, cost["seconds"], cost["cpu_seconds"])
    return result


def note_phase(result, phase, lines, seconds, cpu_seconds):
    result[f"{phase}_seconds"] = seconds
    result[f"{phase}_lines_per_second"] = lines / seconds
    result[f"{phase}_cpu_seconds_per_million"] = cpu_seconds * 1e6 / lines


def run_worker(options, broker, place, source_file, name, command, port):
    """Start, idle, a source from file to topic, a sink from topic to file."""
    sink_file = place / "sink.txt"
    if broker is not None:
        broker.create_topic(name)
    start = time.monotonic()
    worker = Process(command, place / "worker.log")
    try:
        for _ in patience(START_SECONDS, 0.01, "the first answer of GET /connectors"):
            worker.check_alive()
            if answers(port):
                break
        result = {"start_seconds": time.monotonic() - start}
        time.sleep(IDLE_SECONDS)
        result["idle_mib"] = worker.memory_mib("VmRSS")

        def source_is_done():
            if broker is not None:
                return floor("await-end", broker.address, name, options.lines)
            done = re.compile(rf"^{WRITTEN}{{.*}} {options.lines}$", re.MULTILINE)
            for _ in patience(PHASE_SECONDS, 0.005, f"{options.lines} acknowledged records"):
                worker.check_alive()
                if done.search(request(port, "GET", "/metrics")[1]):
                    return

        def sink_is_done():
            for _ in patience(PHASE_SECONDS, 0.005, f"the last line in {sink_file}"):
                worker.check_alive()
                if sink_file.exists() and sink_file.stat().st_size >= options.lines * (LINE_BYTES + 1):
                    return

        phases = [
            ("source", "FileStreamSource", {"file": source_file, "topic": name}, source_is_done),
            ("sink", "FileStreamSink", {"file": sink_file, "topics": name}, sink_is_done),
        ]
        for phase, connector, settings, wait in phases:
            config = {"connector.class": connector, "tasks.max": 1, **settings}
            cpu, begin = worker.cpu_seconds(), time.monotonic()
            expect(201, port, "POST", "/connectors", {"name": phase, "config": {k: str(v) for k, v in config.items()}})
            wait()
            seconds = time.monotonic() - begin
            time.sleep(TAIL_SECONDS)
            note_phase(result, phase, options.lines, seconds, worker.cpu_seconds() - cpu)
            expect(204, port, "DELETE", f"/connectors/{phase}")
        result["peak_mib"] = worker.memory_mib("VmHWM")
        if not filecmp.cmp(source_file, sink_file, shallow=False):
            raise RuntimeError(f"{sink_file} differs from {source_file}")
        sink_file.unlink()
        return result
    finally:
        worker.stop()


def report(options, rounds):
    medians = {
        side: {key: statistics.median(results[side][key] for results in rounds) for key in rounds[0][side]}
        for side in options.sides
    }
    pairs = [pair for pair in [("node", "java"), ("node", "floor")] if set(pair) <= set(options.sides)]
    ratios = {
        f"{a}/{b}": {key: medians[a][key] / medians[b][key] for key in medians[a] if medians[b].get(key)}
        for a, b in pairs
    }
    sides = options.sides
    print(f"{options.lines} lines of {LINE_BYTES} bytes, one partition; {options.rounds} round(s)\n")
    titles = [*(f"{side} {n}" for side in sides for n in range(1, options.rounds + 1)), *(f"{side} median" for side in sides),
              *ratios]
    print("| | unit | " + " | ".join(titles) + " |")
    print("| --- | --- |" + " ---: |" * len(titles))
    for key, title, unit, more_is_better in FIGURES:
        cells = [number(results[side].get(key)) for side in sides for results in rounds]
        cells += [number(medians[side].get(key)) for side in sides]
        cells += ["-" if key not in ratio else f"{ratio[key]:.2f}" for ratio in ratios.values()]
        print(f"| {title} ({'more' if more_is_better else 'less'} is better) | {unit} | " + " | ".join(cells) + " |")
    machine = {"cores": os.cpu_count(), "kernel": os.uname().release, "load_after": os.getloadavg()[0]}
    figures = {"lines": options.lines, "line_bytes": LINE_BYTES, "machine": machine, "rounds": rounds, "medians": medians,
               "ratios": ratios}
    pathlib.Path(options.json).write_text(json.dumps(figures, indent=2) + "\n")
    print(f"\nall figures: {options.json}", file=sys.stderr)


if __name__ == "__main__":
    main()
