"""Workers of one group, and what their connectors wrote."""

import http.client
import json
import os
import random
import re
import signal
import subprocess
import time

from common import START_SECONDS, Process, answers, free_port, patience, request, worker_properties
from oracle import log_events, percentile, runs
from relay import Relay
from sinks import Feed, Files

__all__ = ["Group", "percentile"]

LOOK_SECONDS = 0.02
SETTLE_SECONDS = 1.5
RUNNING_SECONDS = 180
# Records a second of each source and lines of each topic that sinks read: a gap is known to 20 ms.
THROUGHPUT = 50
# Each record says when it was made.
WITH_TIME = {"complete.record.data": "true", "value.converter": "org.apache.kafka.connect.json.JsonConverter",
             "value.converter.schemas.enable": "false"}
RUNNING = re.compile(r".*(?:task|connector)\{connector=\"([^\"]+)\"(?: task=(\d+))?\}.*: running$")


class Group:
    """Workers by number; one that was stopped comes back under its address. `relayed`: what others send to a worker, and what workers and
    Kafka tell each other, passes relays."""

    def __init__(self, node, broker, place, relayed=False, kafka_relays=()):
        self.node, self.broker, self.place, self.relayed = node, broker, place, relayed
        self.kafka_relays = kafka_relays
        self.place.mkdir()
        self.name = place.name
        self.workers, self.names, self.sinks = [], [], []
        self.feed = self.files = None
        self.seen_claims = {}
        # Kafka's clock against ours.
        self.clock = time.time() - time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for worker in self.workers:
            if worker["process"] is not None:
                # One that is frozen would not end.
                os.kill(worker["process"].child.pid, signal.SIGCONT)
                worker["process"].stop()
            if worker["relay"] is not None:
                worker["relay"].close()
        if self.feed is not None:
            self.feed.abandon()
        if self.files is not None:
            self.files.close()

    def start(self, count):
        for _ in range(count):
            self.launch(self.new_worker())
        for worker in self.workers:
            self.await_healthy(worker)

    def new_worker(self):
        number, port = len(self.workers), free_port()
        place = self.place / str(number)
        place.mkdir()
        worker = {"number": number, "port": port, "place": place, "process": None, "relay": None, "id": f"127.0.0.1:{port}",
                  # When its process was ended, and when it was stopped by a signal; seconds since 1970.
                  "ends": [], "frozen": [], "is_frozen": False}
        servers, settings = self.broker.address, {"offset.flush.interval.ms": "1000"}
        if self.relayed:
            worker["relay"] = Relay(port, self.processes)
            at = worker["relay"].port
            worker["id"] = f"127.0.0.1:{at}"
            settings |= {"rest.advertised.host.name": "127.0.0.1", "rest.advertised.port": at,
                         "cluster.advertised.listener": f"127.0.0.1:{at}"}
            if number < len(self.kafka_relays):
                servers = f"127.0.0.1:{self.kafka_relays[number].port}"
        worker["properties"] = worker_properties(servers, place, self.name, port, settings)
        self.workers.append(worker)
        return worker

    def processes(self):
        """Living workers by number."""
        return {worker["number"]: worker["process"].child.pid for worker in self.workers if worker["process"] is not None}

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
        self.ended(worker)

    def kill(self, number):
        worker = self.workers[number]
        worker["process"].check_alive()
        worker["process"].child.kill()
        worker["process"].child.wait()
        self.ended(worker)

    def ended(self, worker):
        worker["process"] = None
        worker["ends"].append(time.time())

    def freeze(self, number):
        worker = self.workers[number]
        os.kill(worker["process"].child.pid, signal.SIGSTOP)
        worker["frozen"].append((time.time(), float("inf")))
        worker["is_frozen"] = True

    def thaw(self, number):
        worker = self.workers[number]
        worker["frozen"][-1] = (worker["frozen"][-1][0], time.time())
        os.kill(worker["process"].child.pid, signal.SIGCONT)
        worker["is_frozen"] = False

    def restart(self, number):
        self.launch(self.workers[number])
        self.await_healthy(self.workers[number])

    def alive(self):
        return [worker for worker in self.workers if worker["process"] is not None and not worker["is_frozen"]]

    def create(self, count):
        """Sources at workers taken at random."""
        for number in range(count):
            self.create_one(f"v{number}", self.numbered(f"v{number}"))

    def create_both(self, count):
        """Half sources, half sinks, each of which reads a topic of its own."""
        self.feed = Feed(self.broker.address, f"{self.name}-feed", count // 2, THROUGHPUT)
        self.files = Files(self.place)
        for number in range(count // 2):
            self.create_one(f"v{number}", self.numbered(f"v{number}"))
            file = self.files.add(f"s{number}")
            self.sinks.append(f"s{number}")
            self.create_one(f"s{number}", {"connector.class": "FileStreamSink", "topics": f"{self.name}-feed-{number}", "file": str(file)})

    def create_one(self, name, config):
        status, _ = self.post(name, random.choice(self.alive())["number"], config)
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

    def places(self, at=None):
        """Unit -> worker, of those that run on a living worker."""
        at = random.choice(self.alive()) if at is None else self.workers[at]
        statuses = json.loads(request(at["port"], "GET", "/connectors?expand=status")[1])
        alive = {worker["id"]: worker["number"] for worker in self.alive()}
        places = {}
        for name, entry in statuses.items():
            status = entry["status"]
            for unit, at in [("connector", status["connector"]), *((task["id"], task) for task in status["tasks"])]:
                if at["state"] in ["RUNNING", "PAUSED"] and at["worker_id"] in alive:
                    places[f"{name}/{unit}"] = alive[at["worker_id"]]
        return places

    def await_running(self):
        places = {}
        try:
            for _ in patience(RUNNING_SECONDS, LOOK_SECONDS, "all units run"):
                places = self.places()
                if len(places) == 2 * len(self.names):
                    return places
        except TimeoutError as error:
            units = {f"{name}/{unit}" for name in self.names for unit in ["connector", "0"]}
            raise TimeoutError(f"{error}: not running {sorted(units - set(places))[:20]}") from None
        raise AssertionError("patience raises")

    def loads(self, places):
        return [sum(1 for at in places.values() if at == worker["number"]) for worker in self.workers]

    def await_settled(self):
        """Until all workers are members that have held their share."""
        for _ in patience(RUNNING_SECONDS, LOOK_SECONDS, "all members settled"):
            members = json.loads(request(self.workers[0]["port"], "GET", "/cluster")[1])["members"]
            if len(members) == len(self.alive()) and all(member["settled"] for member in members):
                return

    def await_loads(self, right):
        for _ in patience(RUNNING_SECONDS, LOOK_SECONDS, "even loads"):
            places = self.places()
            if right(self.loads(places)):
                return places
        raise AssertionError("patience raises")

    def await_share(self, number, count):
        """Until a worker has its share of so many units."""
        self.await_loads(lambda loads: loads[number] >= count)

    def members(self, at):
        """Worker -> incarnation, as one worker sees them."""
        members = json.loads(request(self.workers[at]["port"], "GET", "/cluster")[1])["members"]
        numbers = {worker["id"]: worker["number"] for worker in self.workers}
        return {numbers[member["worker_id"]]: member["incarnation"] for member in members if member["worker_id"] in numbers}

    def settle(self):
        time.sleep(SETTLE_SECONDS)

    def starts_of_lines(self):
        """Lines of all logs that say that a unit runs."""
        for worker in self.workers:
            for line in (worker["place"] / "worker.log").read_text().splitlines():
                if match := RUNNING.match(line):
                    yield f"{match[1]}/{match[2] or 'connector'}"

    def starts(self):
        return sum(1 for _ in self.starts_of_lines())

    def claims(self):
        """How often each unit has begun to run since this was last asked."""
        counts = {}
        for unit in self.starts_of_lines():
            counts[unit] = counts.get(unit, 0) + 1
        since = {unit: count - self.seen_claims.get(unit, 0) for unit, count in counts.items()}
        self.seen_claims = counts
        return since

    def runs(self):
        """What ran where and when, by the logs of the workers."""
        found = []
        for worker in self.workers:
            events = log_events((worker["place"] / "worker.log").read_text(errors="replace"))
            found += runs(worker["number"], events, worker["ends"])
        return found

    def records(self):
        """Connector -> entries (see oracle.py) on our clock, of sources in the order of the topic, of sinks in the order of the file."""
        if self.feed is not None:
            self.complete()
        found = {name: self.files.entries(name, self.clock) for name in self.sinks}
        for name in sorted(set(self.names) - set(self.sinks)):
            command = [self.node, "topics", "--bootstrap-servers", self.broker.address, "tail", f"{self.name}-{name}",
                       "--from-beginning", "--once"]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            values = map(json.loads, done.stdout.splitlines() if done.returncode == 0 else [])
            made = [(value["time_ms"] / 1000 - self.clock, value["seqno"]) for value in values]
            # When a record arrived in a topic does not matter here: it is made when it is polled.
            found[name] = [(at, at, seqno) for at, seqno in made]
        return found

    def complete(self):
        """Ends what sinks read, and waits until they have all of it: what never comes is lost."""
        if self.feed.count is None:
            self.feed.end()
            last = self.feed.count - 1
            self.files.await_last(self.sinks, last)

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
