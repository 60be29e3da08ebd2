"""What the time of a take-over goes to, from the logs of the workers and from what comes into their topics."""

import json
import re
import subprocess
import threading
import time

import oracle
from oracle import percentile

# What workers log when they begin to hold another one for dead.
SUSPECTED = re.compile(r"^(\S+Z)\s+[A-Z]+ .*(?:does not answer|is suspected|is held for dead|connection .* was lost)")
COUNTING = re.compile(r"^(\S+Z)\s+[A-Z]+ .*task\{connector=\"([^\"]+)\" task=(\d+)\}.*: counting\b")


class Topics:
    """Follows the config and status topics and notes when each record could be read."""

    def __init__(self, group):
        self.group = group
        self.records = {"configs": [], "status": []}
        self.children = []
        for topic, records in self.records.items():
            command = [group.node, "topics", "--bootstrap-servers", group.broker.address, "tail", f"{group.name}-{topic}", "--keys",
                       "--from-beginning"]
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            self.children.append(child)
            threading.Thread(target=self.follow, args=(child, records), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self.children:
            child.kill()
            child.wait()

    def follow(self, child, records):
        for line in child.stdout:
            key, _, value = line.rstrip("\n").partition("\t")
            records.append((time.monotonic(), key, None if value == "null" else json.loads(value)))

    def evicted(self, worker, since):
        """When the tombstone of its member record could be read."""
        key = f"worker-{worker}"
        return next((at for at, found, value in self.records["configs"] if at > since and found == key and value is None), None)

    def claimed(self, unit, since):
        """When the first claim by another life could be read."""
        name, _, task = unit.rpartition("/")
        key = f"status-connector-{name}" if task == "connector" else f"status-task-{name}-{task}"
        lives = [(at, value["incarnation"]) for at, found, value in self.records["status"]
                 if found == key and value and value.get("held") and "incarnation" in value]
        before = next((life for at, life in reversed(lives) if at <= since), None)
        return next((at for at, life in lives if at > since and life != before), None)


def log_times(group, pattern):
    """Time on our clock and the rest of each line that matches."""
    for worker in group.workers:
        for line in (worker["place"] / "worker.log").read_text(errors="replace").splitlines():
            if match := pattern.match(line):
                yield oracle.seconds(match[1]) - group.clock, match


def shares(group, topics, kills, records):
    """Of each kill (worker, when, moved units): how long each step took, as median and worst over all moved tasks."""
    suspected = sorted(at for at, _ in log_times(group, SUSPECTED))
    counting = sorted((at, match[2]) for at, match in log_times(group, COUNTING))
    running = sorted((at - group.clock, unit) for worker in group.workers
                     for at, unit, what in oracle.log_events((worker["place"] / "worker.log").read_text(errors="replace"))
                     if what == "running")
    steps = {}
    for worker, begin, moved in kills:
        evicted = topics.evicted(group.workers[worker]["id"], begin)
        seen = [at for at in suspected if begin < at < (evicted or begin)]
        for unit in moved:
            name, _, task = unit.rpartition("/")
            if task == "connector":
                continue
            kind = "sink" if name in group.sinks else "source"
            first = oracle.first_after(records[name], begin)
            runs = next((at for at, what in running if what == unit and at > begin), None)
            marks = [("kill", begin), ("detection", seen[-1] if seen else None), ("eviction", evicted),
                     ("claim", topics.claimed(unit, begin)),
                     ("ageing", next((at for at, found in counting if found == name and at > begin), None)),
                     ("ageing and start" if kind == "sink" else "start", runs), ("first record", first)]
            add(steps, kind, marks)
    return {what: " / ".join(f"{value:.2f}" for value in [percentile(sorted(taken), 50), max(taken)]) for what, taken in steps.items()}


def add(steps, kind, marks):
    """The time between a mark and the one before it that is known."""
    known = [mark for mark in marks if mark[1] is not None]
    for (_, before), (what, at) in zip(known, known[1:]):
        # What is noted by different processes may differ by what it takes to note it.
        steps.setdefault(f"step of a {kind}: {what}, s, median / worst", []).append(max(0.0, at - before))
    steps.setdefault(f"step of a {kind}: all, s, median / worst", []).append(known[-1][1] - known[0][1])
