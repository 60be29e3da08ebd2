"""How long lines take through other connectors while one sink of a thousand blocks in `put`.

Standard library only. Start it by bench/many-connectors/run-blocked, which builds what it needs.
"""

import argparse
import array
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import termios
import time

from bench import raise_open_files
from common import EXAMPLES, ROOT, START_SECONDS, Broker, number, patience
from measure import Run, percentile

# What the blocked sink has before it: more than a pipe and every queue on the way hold.
BLOCKED_LINES = 200_000
BLOCKED_LINE = "x" * 99
# Connectors whose lines are timed, so many of one after the other. A source that was idle looks at its file once a second: its first line tells of
# nothing else, and is not counted.
TIMED = 10
IN_A_ROW = 20
PAUSE_SECONDS = 0.02
LOOK_SECONDS = 0.0005
LINE_SECONDS = 60


def main():
    options = parse_options()
    raise_open_files()
    work = pathlib.Path(tempfile.mkdtemp(prefix="blocked-", dir=ROOT / "target"))
    results = []
    with Broker(work) as broker:
        for side in options.sides.split(","):
            results.append(measure(options, broker, work, side))
    shutil.rmtree(work)
    pathlib.Path(options.json).write_text(json.dumps(results, indent=2) + "\n")
    report(results)


def parse_options():
    parser = argparse.ArgumentParser(prog="bench/many-connectors/run-blocked", description=__doc__.splitlines()[0])
    parser.add_argument("--sinks", type=int, default=1000, help="sinks beside the blocked one (default 1000)")
    parser.add_argument("--sides", default="node,embedded", help="which, and in which order (default node,embedded)")
    parser.add_argument("--seconds", type=float, default=600, help="how long it blocks (default 600)")
    parser.add_argument("--before-seconds", type=float, default=60, help="how long lines are timed before (default 60)")
    parser.add_argument("--node", default=str(ROOT / "target/release/connect-node"), help="the connect-node to measure")
    parser.add_argument("--json", default=str(ROOT / "target/blocked.json"), help="where all figures go")
    options = parser.parse_args()
    if options.sinks < TIMED:
        parser.error(f"--sinks is at least {TIMED}")
    options.limit_seconds = 900
    return options


def measure(options, broker, work, side):
    run = Run(options, broker, work, "sinks", side, options.sinks)
    subprocess.run([EXAMPLES / "bench_topics", run.servers, "blocked", "1"], check=True)
    run.begin_phase()
    try:
        run.start()
        run.create()
        timed = range(0, run.count, run.count // TIMED)
        for sink in timed:
            feed(run, f"feed-{sink}", f"sink-{sink}")
        before = time_lines(run, timed, options.before_seconds)
        with blocked_sink(run) as pipe:
            began = time.monotonic()
            while_blocked = time_lines(run, timed, options.seconds)
            blocked_seconds = time.monotonic() - began
            state = run.get("/connectors/blocked/status")["tasks"][0]["state"]
            arrived = drain(pipe)
    finally:
        run.stop()
    return {"side": side, "sinks": run.count, "before": figures(before), "while_blocked": figures(while_blocked),
            "blocked_seconds": blocked_seconds, "state": state, "lines_after": arrived}


def feed(run, name, topic):
    """A source from a file of this name into a topic."""
    (run.files / name).touch()
    config = {"connector.class": "FileStreamSource", "topic": topic, "file": str(run.files / name)}
    run.ask("POST", "/connectors", {"name": name, "config": config}, [201])


def time_lines(run, sinks, seconds):
    """Writes lines for one of the sinks after the other and waits until each is in its file: the milliseconds that they took."""
    taken, end, turn = [], time.monotonic() + seconds, 0
    while time.monotonic() < end:
        sink = sinks[turn // IN_A_ROW % len(sinks)]
        target = run.file(sink)
        size = target.stat().st_size if target.exists() else 0
        begin = time.monotonic()
        with open(run.files / f"feed-{sink}", "a", encoding="utf-8") as file:
            file.write(f"line {turn}\n")
        for _ in patience(LINE_SECONDS, LOOK_SECONDS, f"line {turn} in {target}"):
            if target.exists() and target.stat().st_size > size:
                break
        if turn % IN_A_ROW:
            taken.append(1000 * (time.monotonic() - begin))
        turn += 1
        time.sleep(PAUSE_SECONDS)
    run.process.check_alive()
    return taken


@contextlib.contextmanager
def blocked_sink(run):
    """A sink that writes to a pipe which is open at its other end and not read, with more before it than fits."""
    path = run.files / "pipe"
    os.mkfifo(path)
    pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        holds = fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
        (run.files / "feed-blocked").write_text(f"{BLOCKED_LINE}\n" * BLOCKED_LINES)
        config = {"connector.class": "FileStreamSink", "topics": "blocked-0", "file": str(path)}
        run.ask("POST", "/connectors", {"name": "blocked", "config": config}, [201])
        feed(run, "feed-blocked", "blocked-0")
        for _ in patience(START_SECONDS, LOOK_SECONDS, "a full pipe"):
            # Full is where the next piece does not fit; the pages of a pipe need not be.
            if waiting_bytes(pipe) > holds // 2:
                break
        yield pipe
    finally:
        os.close(pipe)


def waiting_bytes(pipe):
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def drain(pipe):
    """Reads at last: how many lines come."""
    expected, got = BLOCKED_LINES * (len(BLOCKED_LINE) + 1), 0
    for _ in patience(LINE_SECONDS, LOOK_SECONDS, "the lines of the blocked sink"):
        with contextlib.suppress(BlockingIOError):
            while part := os.read(pipe, 1 << 20):
                got += len(part)
        if got >= expected:
            return got // (len(BLOCKED_LINE) + 1)
    raise AssertionError("patience raises")


def figures(taken):
    taken = sorted(taken)
    return {"lines": len(taken), "p50_ms": percentile(taken, 50), "p99_ms": percentile(taken, 99), "max_ms": taken[-1]}


def report(results):
    print("| | lines | p50 ms | p99 ms | max ms |\n| --- | ---: | ---: | ---: | ---: |")
    for result in results:
        for key, what in [("before", "before"), ("while_blocked", f"one blocked for {result['blocked_seconds']:.0f} s")]:
            cells = " | ".join(f"{result[key][name]:,}" if name == "lines" else number(result[key][name])
                               for name in ["lines", "p50_ms", "p99_ms", "max_ms"])
            print(f"| {result['side']}, {result['sinks']:,} sinks, {what} | {cells} |")
        print(f"| {result['side']}: the blocked task was {result['state']}, and wrote afterwards | "
              f"{result['lines_after']:,} | | | |")


if __name__ == "__main__":
    main()
