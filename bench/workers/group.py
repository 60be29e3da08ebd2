"""Workers of one group, and what their connectors wrote."""

import http.client
import json
import random
import re
import subprocess
import time

from common import START_SECONDS, Process, answers, free_port, patience, request, worker_properties

LOOK_SECONDS = 0.02
SETTLE_SECONDS = 1.5
# Records a second of each source: a gap is known to 20 ms.
THROUGHPUT = 50
# Each record says when it was made.
WITH_TIME = {"complete.record.data": "true", "value.converter": "org.apache.kafka.connect.json.JsonConverter",
             "value.converter.schemas.enable": "false"}
RUNNING = re.compile(r".*(?:task|connector)\{connector=\"([^\"]+)\"(?: task=(\d+))?\}.*: running$")


class Group:
    """Workers by number; one that was stopped comes back under its address."""

    def __init__(self, node, broker, place):
        self.node, self.broker, self.place = node, broker, place
        self.place.mkdir()
        self.name = place.name
        self.workers, self.names = [], []
        self.seen_claims = {}
        # Kafka's clock against ours.
        self.clock = time.time() - time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for worker in self.workers:
            if worker["process"] is not None:
                worker["process"].stop()

    def start(self, count):
        for _ in range(count):
            self.launch(self.new_worker())
        for worker in self.workers:
            self.await_healthy(worker)

    def new_worker(self):
        number = len(self.workers)
        place = self.place / str(number)
        place.mkdir()
        worker = {"number": number, "port": free_port(), "place": place, "process": None}
        worker["properties"] = worker_properties(self.broker.address, place, self.name, worker["port"],
                                                 {"offset.flush.interval.ms": "1000"})
        self.workers.append(worker)
        return worker

    def launch(self, worker):
        # Verifiable sources print each record.
        command = ["sh", "-c", 'exec "$@" >/dev/null', "worker", self.node, "distributed", worker["properties"]]
        worker["process"] = Process(command, worker["place"] / "worker.log")

    def await_healthy(self, worker):
        for _ in patience(START_SECONDS, LOOK_SECONDS, "a healthy worker"):
            worker["process"].check_alive()
            try:
                if request(worker["port"], "GET", "/health")[0] == 200:
                    return
            except (OSError, http.client.HTTPException):
                pass

    def add(self):
        """Until it answers REST."""
        worker = self.new_worker()
        self.launch(worker)
        for _ in patience(START_SECONDS, 0.002, "an answer"):
            if answers(worker["port"]):
                return worker["number"]
        raise AssertionError("patience raises")

    def stop(self, number):
        worker = self.workers[number]
        assert worker["process"].stop(), "the worker did not leave"
        assert worker["process"].child.returncode == 0, f"the worker ended with {worker['process'].child.returncode}"
        worker["process"] = None

    def kill(self, number):
        self.workers[number]["process"].child.kill()
        self.workers[number]["process"].child.wait()
        self.workers[number]["process"] = None

    def restart(self, number):
        self.launch(self.workers[number])
        self.await_healthy(self.workers[number])

    def alive(self):
        return [worker for worker in self.workers if worker["process"] is not None]

    def create(self, count):
        """At workers taken at random."""
        for number in range(count):
            name = f"v{number}"
            status, _ = self.post(name, random.choice(self.alive())["number"])
            assert status == 201, f"{name} was answered with {status}"
            self.names.append(name)

    def numbered(self, name):
        """A source whose records can be followed."""
        return {"connector.class": "VerifiableSourceConnector", "topic": f"{self.name}-{name}", "throughput": str(THROUGHPUT), **WITH_TIME}

    def idle(self):
        """A source with nothing to do."""
        file = self.place / "idle"
        file.touch()
        return {"connector.class": "FileStreamSource", "topic": "idle", "file": str(file)}

    def post(self, name, at, source=None):
        config = {**(source or self.numbered(name)), "tasks.max": "1", "name": name}
        begin = time.monotonic()
        status, text = request(self.workers[at]["port"], "POST", "/connectors", {"name": name, "config": config})
        if status not in [201, 409]:
            raise RuntimeError(f"POST {name} at {at}: {status} {text}")
        return status, time.monotonic() - begin

    def places(self):
        """Unit -> worker, of those that run on a living worker."""
        port = random.choice(self.alive())["port"]
        statuses = json.loads(request(port, "GET", "/connectors?expand=status")[1])
        alive = {f"127.0.0.1:{worker['port']}": worker["number"] for worker in self.alive()}
        places = {}
        for name, entry in statuses.items():
            status = entry["status"]
            for unit, at in [("connector", status["connector"]), *((task["id"], task) for task in status["tasks"])]:
                if at["state"] in ["RUNNING", "PAUSED"] and at["worker_id"] in alive:
                    places[f"{name}/{unit}"] = alive[at["worker_id"]]
        return places

    def await_running(self):
        for _ in patience(120, LOOK_SECONDS, "all units run"):
            places = self.places()
            if len(places) == 2 * len(self.names):
                return places
        raise AssertionError("patience raises")

    def loads(self, places):
        return [sum(1 for at in places.values() if at == worker["number"]) for worker in self.workers]

    def await_loads(self, right):
        for _ in patience(120, LOOK_SECONDS, "even loads"):
            places = self.places()
            if right(self.loads(places)):
                return places
        raise AssertionError("patience raises")

    def settle(self):
        time.sleep(SETTLE_SECONDS)

    def runs(self):
        """Lines of all logs that say that a unit runs."""
        for worker in self.workers:
            for line in (worker["place"] / "worker.log").read_text().splitlines():
                if match := RUNNING.match(line):
                    yield f"{match[1]}/{match[2] or 'connector'}"

    def starts(self):
        return sum(1 for _ in self.runs())

    def claims(self):
        """How often each unit has begun to run since this was last asked."""
        counts = {}
        for unit in self.runs():
            counts[unit] = counts.get(unit, 0) + 1
        since = {unit: count - self.seen_claims.get(unit, 0) for unit, count in counts.items()}
        self.seen_claims = counts
        return since

    def records(self):
        """Connector -> time on our clock and number of each record, in the order of the topic."""
        found = {}
        for name in self.names:
            command = [self.node, "topics", "--bootstrap-servers", self.broker.address, "tail", f"{self.name}-{name}",
                       "--from-beginning", "--once"]
            lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
            values = map(json.loads, lines)
            found[name] = [(value["time_ms"] / 1000 - self.clock, value["seqno"]) for value in values]
        return found

    def idle_cpu(self, number, seconds):
        process = self.workers[number]["process"]
        begin, before = time.monotonic(), process.cpu_seconds()
        time.sleep(seconds)
        return 100 * (process.cpu_seconds() - before) / (time.monotonic() - begin)

    def memory(self, number):
        return self.workers[number]["process"].memory_mib("VmRSS")

    def pause(self, name, at):
        """Until its status says so."""
        port = self.workers[at]["port"]
        assert request(port, "PUT", f"/connectors/{name}/pause")[0] == 202
        for _ in patience(60, 0.005, "a pause"):
            if json.loads(request(port, "GET", f"/connectors/{name}/status")[1])["connector"]["state"] == "PAUSED":
                return


def percentile(ordered, percent):
    """The smallest value that so many per cent are not above."""
    return ordered[-(-len(ordered) * percent // 100) - 1]
