"""What sinks read, and when it arrives in their files."""

import json
import subprocess
import sys
import threading
import time

from common import EXAMPLES, patience

# How often files are looked at: the time at which a line arrived is known to that.
LOOK_SECONDS = 0.01
END_SECONDS = 90


class Feed:
    """Numbered lines into topics of one partition each, by a process that is not under test; it checks that each is there once."""

    def __init__(self, brokers, prefix, topics, rate):
        command = [EXAMPLES / "bench_floor", "feed", brokers, prefix, str(topics), str(rate)]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        # Lines that each topic has, when it has ended.
        self.count = None
        assert self.child.stdout.readline() == "ready\n", "the feed did not start"

    def end(self):
        output, _ = self.child.communicate(timeout=END_SECONDS)
        assert self.child.returncode == 0, "the feed failed"
        self.count = int(output)

    def abandon(self):
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()


class Files:
    """Follows files and notes when each line arrived."""

    def __init__(self, place):
        self.place = place
        self.files = {}
        self.ends = False
        self.thread = threading.Thread(target=self.follow, daemon=True)
        self.thread.start()

    def add(self, name):
        """A file that a sink is to write."""
        path = self.place / f"{name}.txt"
        path.touch()
        self.files[name] = {"file": open(path, "rb"), "rest": b"", "lines": []}
        return path

    def follow(self):
        while not self.ends:
            for file in list(self.files.values()):
                self.take(file)
            time.sleep(LOOK_SECONDS)

    def take(self, file):
        if data := file["file"].read():
            arrived = time.monotonic()
            *lines, file["rest"] = (file["rest"] + data).split(b"\n")
            file["lines"] += [(arrived, line) for line in lines]

    def entries(self, name, clock):
        """See oracle.py."""
        found = []
        for arrived, line in list(self.files[name]["lines"]):
            try:
                value = json.loads(line)
                found.append((value["time_ms"] / 1000 - clock, arrived, value["seqno"]))
            except ValueError:
                # A kill in the middle of a write leaves a part of a line; the whole one comes again.
                if line:
                    print(f"a part of a line in the file of {name}: {line[:80]!r}", file=sys.stderr)
        return found

    def await_last(self, names, last):
        """Until all files have this number."""
        text = f'"seqno":{last},'.encode()
        try:
            for _ in patience(END_SECONDS, 0.1, "the last lines of all sinks"):
                if all(any(text in line for _, line in self.files[name]["lines"][-500:]) for name in names):
                    return
        except TimeoutError as error:
            # What is not there counts as lost.
            print(error, file=sys.stderr)

    def last_arrivals(self):
        return {name: file["lines"][-1][0] if file["lines"] else None for name, file in self.files.items()}

    def close(self):
        self.ends = True
        self.thread.join()
        for file in self.files.values():
            file["file"].close()
