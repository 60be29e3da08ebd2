"""How a worker with one to thousands of connectors starts, rests, changes and ends: connect-node and the Java worker, in turn.

Standard library only. Start it by bench/many-connectors/run, which builds what it needs.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import sys
import tempfile

from common import ROOT, Broker, number
from measure import KINDS, SIDES, OverLimit, Run, warm_up

OPEN_FILES = 100_000
# What is shown: key in the results, title, unit.
FIGURES = [
    ("start_seconds", "start to first answer, no connectors", "s"),
    ("running_seconds", "one POST after the other, until all run", "s"),
    ("create_p50_ms", "a POST, p50", "ms"),
    ("create_p99_ms", "a POST, p99", "ms"),
    ("create_max_ms", "a POST, max", "ms"),
    ("create_refused", "POSTs that were refused at first", ""),
    ("rest_mib", "memory when all run", "MiB"),
    ("rest_threads", "threads", ""),
    ("rest_descriptors", "open descriptors", ""),
    ("rest_cpu_percent", "CPU at rest, of a core", "%"),
    ("change_seconds", "one change, until it runs", "s"),
    ("change_others", "status records of others after it", ""),
    ("stop_seconds", "stop", "s"),
    ("restart_seconds", "start, until all run", "s"),
    ("delete_seconds", "one DELETE after the other, until all are gone", "s"),
    ("delete_p50_ms", "a DELETE, p50", "ms"),
    ("delete_p99_ms", "a DELETE, p99", "ms"),
    ("together_running_seconds", "POSTs of many clients, until all run", "s"),
    ("together_p50_ms", "such a POST, p50", "ms"),
    ("together_p99_ms", "such a POST, p99", "ms"),
    ("together_refused", "such POSTs that were refused at first", ""),
    ("broker_mib", "memory of the broker then", "MiB"),
]


def main():
    options = parse_options()
    raise_open_files()
    work = pathlib.Path(tempfile.mkdtemp(prefix="many-connectors-", dir=ROOT / "target"))
    runs = []
    try:
        with Broker(work) as broker:
            warm_up(options, broker, work)
            for kind in options.kinds:
                for side, count in planned(options, kind):
                    if not gave_up(runs, kind, side):
                        runs.append(measure(options, broker, work, kind, side, count))
                        save(options, runs)
    except BaseException:
        print(f"logs are kept in {work}", file=sys.stderr)
        raise
    if any("error" in run for run in runs):
        print(f"some runs failed; logs are kept in {work}", file=sys.stderr)
    else:
        shutil.rmtree(work)
    report(options, runs)


def raise_open_files():
    """For the broker and all workers: to what thousands of sinks need, or to the hard limit where only root may raise that."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        most = max(hard, OPEN_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def parse_options():
    parser = argparse.ArgumentParser(prog="bench/many-connectors/run", description=__doc__.splitlines()[0])
    parser.add_argument("--counts", default="1,10,100,300,1000,3000", help="connectors (default 1,10,100,300,1000,3000)")
    parser.add_argument("--kinds", default="sources,sinks", help="which, and in which order (default sources,sinks)")
    parser.add_argument("--sides", default="node,embedded,java", help="the same (default node,embedded,java)")
    parser.add_argument("--java-max-count", default="sources=1000,sinks=300",
                        help="more than so many are not asked of Java (default sources=1000,sinks=300)")
    parser.add_argument("--limit-seconds", type=float, default=900, help="how long a phase may take (default 900)")
    parser.add_argument("--clients", type=int, default=16, help="clients that create together (default 16; 0: not measured)")
    parser.add_argument("--node", default=str(ROOT / "target/release/connect-node"), help="the connect-node to measure")
    parser.add_argument("--json", default=str(ROOT / "target/many-connectors.json"), help="where all figures go")
    options = parser.parse_args()
    try:
        options.counts = sorted({int(count) for count in options.counts.split(",")})
        bounds = (entry.split("=") for entry in options.java_max_count.split(","))
        options.java_max_count = {kind: int(count) for kind, count in bounds}
    except ValueError:
        parser.error("--counts takes numbers, --java-max-count is like sources=1000,sinks=300")
    options.kinds, options.sides = options.kinds.split(","), options.sides.split(",")
    if set(options.kinds) - set(KINDS) or set(options.sides) - set(SIDES):
        parser.error(f"--kinds takes {', '.join(KINDS)}; --sides takes {', '.join(SIDES)}")
    if options.counts[0] < 1 or options.limit_seconds <= 0 or options.clients < 0:
        parser.error("--counts and --limit-seconds are more than 0, --clients is not less")
    return options


def planned(options, kind):
    most = options.java_max_count.get(kind, options.counts[-1])
    return [(side, count) for count in options.counts for side in options.sides if side != "java" or count <= most]


def gave_up(runs, kind, side):
    """Whether a smaller count could not be created in time."""
    return any(run["gave_up"] for run in runs if (run["kind"], run["side"]) == (kind, side))


def measure(options, broker, work, kind, side, count):
    """All phases of one worker. One that passes the limit says so; after one that the others build on, they are left out."""
    print(f"{kind}: {count} on {side}", file=sys.stderr, flush=True)
    run = Run(options, broker, work, kind, side, count)
    outcome = {"kind": kind, "side": side, "count": count, "gave_up": False, "figures": run.figures}
    phases = [("start_seconds", run.start), ("running_seconds", run.create), (None, run.rest), ("change_seconds", run.change),
              ("restart_seconds", run.restart), ("delete_seconds", run.delete)]
    if options.clients:
        phases.append(("together_running_seconds", run.create_together))
    try:
        for key, phase in phases:
            try:
                run.begin_phase()
                phase()
            except OverLimit:
                run.figures[key] = f"> {options.limit_seconds:g}"
                outcome["gave_up"] |= key in ["start_seconds", "running_seconds"]
                if key != "change_seconds":
                    break
    except (OSError, RuntimeError) as error:
        print(f"{kind}: {count} on {side} failed: {error}", file=sys.stderr, flush=True)
        outcome["error"] = str(error)
    finally:
        run.stop()
    if "error" not in outcome:
        shutil.rmtree(run.place)
    return outcome


def save(options, runs):
    machine = {"cores": os.cpu_count(), "kernel": os.uname().release, "load_after": os.getloadavg()[0],
               "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0]}
    figures = {"limit_seconds": options.limit_seconds, "clients": options.clients, "machine": machine, "runs": runs}
    pathlib.Path(options.json).write_text(json.dumps(figures, indent=2) + "\n")


def report(options, runs):
    for kind in options.kinds:
        of_kind = {(run["side"], run["count"]): run["figures"] for run in runs if run["kind"] == kind}
        columns = [(side, count) for side in options.sides for count in options.counts if (side, count) in of_kind]
        print(f"\n{kind}\n")
        print("| | unit | " + " | ".join(f"{side} {count}" for side, count in columns) + " |")
        print("| --- | --- |" + " ---: |" * len(columns))
        for key, title, unit in FIGURES:
            print(f"| {title} | {unit} | " + " | ".join(cell(of_kind[column].get(key)) for column in columns) + " |")
    print(f"\nall figures: {options.json}", file=sys.stderr)


def cell(value):
    """Counts are whole; what passed its limit is text already."""
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else number(value)


if __name__ == "__main__":
    main()
