"""One worker of one side with a number of connectors, and the phases that are measured on it."""

import concurrent.futures
import http.client
import json
import re
import subprocess
import time

from common import EXAMPLES, START_SECONDS, Process, answers, free_port, java_worker, plugin_folder, request, worker_properties

SIDES = ["node", "embedded", "java"]


def source(number):
    return {"connector.class": "FileStreamSource", "topic": f"source-{number}"}


def sink(number):
    return {"connector.class": "FileStreamSink", "topics": f"sink-{number}"}


# What each of them makes per number, and so how many connectors.
KINDS = {"sources": [source], "sinks": [sink], "pairs": [source, sink]}
# What a worker says that cannot take a request at the moment. Java answers 409 while its group rebalances.
NOT_NOW = [409, 500, 503]
RETRY_SECONDS = 0.02
# A look at all statuses costs the worker something: the pause before the next one is so many times what the last one took.
LOOK_SECONDS = 0.01
LOOK_PAUSES = 4
SETTLE_SECONDS = 3
REST_SECONDS = 10
STATUS_OF_UNIT = re.compile(r"status-(?:connector|task)-many-(\d+)(?:-\d+)?\t")
# connect-node logs that a unit runs or has ended, which is when it writes its status.
LOG_OF_UNIT = re.compile(r'.*connector="many-(\d+)".*: (?:running|ended)$')


class OverLimit(Exception):
    """A phase takes longer than it may."""


class Run:
    """One worker, in several lives. The phases are called in their order, and leave their figures in `figures`."""

    def __init__(self, options, broker, work, kind, side, count, name=None):
        self.options, self.broker, self.side, self.topics = options, broker, side, count
        self.kinds = KINDS[kind]
        self.count = count * len(self.kinds)
        self.name = name or f"{side}-{kind}-{count}"
        self.place = work / self.name
        self.files = self.place / "files"
        self.files.mkdir(parents=True)
        self.log = self.place / "worker.log"
        self.servers = f"embedded:{self.place / 'data'}" if side == "embedded" else broker.address
        self.figures = {}
        self.process = None
        self.deadline = 0
        self.prepare()

    def prepare(self):
        """What is there before the first worker: idle files of the sources, topics of the sinks, the file of the changed one."""
        if self.side == "java":
            plugin_folder(self.place)
        if source in self.kinds:
            for number in range(self.count):
                self.file(number).touch()
            self.changed_file().touch()
        if sink in self.kinds:
            subprocess.run([EXAMPLES / "bench_topics", self.servers, "sink", str(self.topics)], check=True)

    def file(self, number):
        return self.files / str(number)

    def changed_file(self):
        return self.files / "changed"

    def config(self, number, file):
        at, kind = divmod(number, len(self.kinds))
        return {**self.kinds[kind](at), "tasks.max": "1", "file": str(file)}

    def begin_phase(self):
        self.deadline = time.monotonic() + self.options.limit_seconds

    def check_limit(self):
        self.process.check_alive()
        if time.monotonic() >= self.deadline:
            raise OverLimit

    def launch(self):
        """Each life has a port of its own: states of an older one bear another worker_id."""
        self.port = free_port()
        properties = worker_properties(self.servers, self.place, self.name, self.port)
        node = [self.options.node, "distributed", properties]
        self.process = Process(java_worker("-Xmx2g", properties) if self.side == "java" else node, self.log)

    def stop(self):
        """At the end of all phases, which one that is over its limit may have brought about."""
        if self.process is not None:
            self.process.stop()

    def start(self):
        begin = time.monotonic()
        self.launch()
        while not answers(self.port):
            self.check_limit()
            time.sleep(LOOK_SECONDS)
        self.figures["start_seconds"] = time.monotonic() - begin

    def create(self):
        begin = time.monotonic()
        answered = [self.post(number) for number in range(self.count)]
        self.note_answers("create", answered)
        self.await_all_running()
        self.figures["running_seconds"] = time.monotonic() - begin

    def create_together(self):
        begin = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(self.options.clients) as clients:
            answered = list(clients.map(self.post, range(self.count)))
        self.note_answers("together", answered)
        self.await_all_running()
        self.figures["together_running_seconds"] = time.monotonic() - begin
        self.figures["broker_mib"] = self.broker.process.memory_mib("VmRSS")

    def rest(self):
        time.sleep(SETTLE_SECONDS)
        self.process.check_alive()
        self.figures["rest_mib"] = self.process.memory_mib("VmRSS")
        self.figures["rest_threads"] = self.process.status("Threads")
        self.figures["rest_descriptors"] = sum(1 for _ in self.process.descriptors())
        begin, before = time.monotonic(), self.process.cpu_seconds()
        time.sleep(REST_SECONDS)
        spent = self.process.cpu_seconds() - before
        self.figures["rest_cpu_percent"] = 100 * spent / (time.monotonic() - begin)

    def change(self):
        """The new configuration has another file; the connector runs with it when the worker has that one open."""
        number = self.count // 2
        before = self.others(number)
        begin = time.monotonic()
        config = self.config(number, self.changed_file())
        self.ask("PUT", f"/connectors/many-{number}/config", config, [200])
        while not (str(self.changed_file()) in self.open_files() and self.runs(f"many-{number}")):
            self.check_limit()
            time.sleep(LOOK_SECONDS)
        self.figures["change_seconds"] = time.monotonic() - begin
        time.sleep(SETTLE_SECONDS)
        self.figures["change_others"] = self.others(number) - before

    def restart(self):
        begin = time.monotonic()
        if not self.process.stop(self.options.limit_seconds):
            raise OverLimit
        self.figures["stop_seconds"] = time.monotonic() - begin
        begin = time.monotonic()
        self.launch()
        self.await_all_running()
        self.figures["restart_seconds"] = time.monotonic() - begin

    def delete(self):
        begin = time.monotonic()
        answered = [self.ask("DELETE", f"/connectors/many-{number}", None, [204]) for number in range(self.count)]
        self.note_answers("delete", answered)
        while self.open_files():
            self.check_limit()
            time.sleep(LOOK_SECONDS)
        self.figures["delete_seconds"] = time.monotonic() - begin

    def post(self, number):
        body = {"name": f"many-{number}", "config": self.config(number, self.file(number))}
        return self.ask("POST", "/connectors", body, [201])

    def ask(self, method, path, body, good):
        """Asks until it is carried out: seconds from the first attempt to that answer, and how often it was refused before."""
        begin, refused = time.monotonic(), 0
        while True:
            self.check_limit()
            try:
                status, text = request(self.port, method, path, body)
            except (OSError, http.client.HTTPException) as error:
                status, text = 503, str(error)
            # What was answered with an error may have been carried out after all.
            done_before = refused and (status == 404 if method == "DELETE" else "already exists" in text)
            if status in good or done_before:
                return time.monotonic() - begin, refused
            if status not in NOT_NOW:
                raise RuntimeError(f"{method} {path} answered {status}: {text}")
            refused += 1
            self.figures["last_refusal"] = f"{method} {path}: {status} {text}"
            time.sleep(RETRY_SECONDS)

    def note_answers(self, phase, answered):
        taken = sorted(1000 * seconds for seconds, _ in answered)
        self.figures[f"{phase}_p50_ms"] = percentile(taken, 50)
        self.figures[f"{phase}_p99_ms"] = percentile(taken, 99)
        self.figures[f"{phase}_max_ms"] = taken[-1]
        self.figures[f"{phase}_refused"] = sum(1 for _, refused in answered if refused)

    def await_all_running(self):
        while True:
            self.check_limit()
            begin = time.monotonic()
            statuses = self.get("/connectors?expand=status") or {}
            if len(statuses) == self.count and all(self.is_running(entry["status"]) for entry in statuses.values()):
                return
            time.sleep(max(LOOK_SECONDS, LOOK_PAUSES * (time.monotonic() - begin)))

    def runs(self, connector):
        status = self.get(f"/connectors/{connector}/status")
        return status is not None and self.is_running(status)

    def is_running(self, status):
        """In this life of the worker, connector and task."""
        units = [status["connector"], *status["tasks"]]
        for unit in units:
            if unit["state"] == "FAILED":
                raise RuntimeError(f"a unit of {status['name']} failed: {unit.get('trace')}")
        here = ("RUNNING", f"127.0.0.1:{self.port}")
        return len(units) == 2 and all((unit["state"], unit["worker_id"]) == here for unit in units)

    def get(self, path):
        """`None` where there is no answer yet."""
        try:
            status, text = request(self.port, "GET", path)
        except (OSError, http.client.HTTPException):
            return None
        return json.loads(text) if status == 200 else None

    def open_files(self):
        """Files of connectors that the worker has open: every task that runs has its own."""
        return {path for path in self.process.descriptors() if path.startswith(f"{self.files}/")}

    def others(self, number):
        """How often something was said of all connectors and tasks but those of one, so far: records of the status topic; lines of the log
        where nobody else can read the topic while the worker runs."""
        if self.side == "embedded":
            return count_others(LOG_OF_UNIT, self.log.read_text().splitlines(), number)
        command = [self.options.node, "topics", "--bootstrap-servers", self.servers, "tail", f"{self.name}-status",
                   "--from-beginning", "--once", "--keys"]
        lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        return count_others(STATUS_OF_UNIT, lines, number)


def count_others(pattern, lines, number):
    numbers = (int(match[1]) for match in map(pattern.match, lines) if match)
    return sum(1 for other in numbers if other != number)


def percentile(ordered, percent):
    """The smallest value that so many per cent are not above."""
    return ordered[-(-len(ordered) * percent // 100) - 1]


def warm_up(options, broker, work):
    """The broker's first worker waits for code to be loaded and for Kafka's own topics; nobody's figures shall have that."""
    run = Run(options, broker, work, "sources", "node", 1, "warm-up")
    run.deadline = time.monotonic() + START_SECONDS
    try:
        run.start()
        run.create()
    finally:
        run.stop()
