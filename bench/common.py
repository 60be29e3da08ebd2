"""What the benchmarks here share: a broker, processes whose cost can be read, and REST requests. Standard library only."""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
LIB = ROOT / "target/kafka/lib"
EXAMPLES = ROOT / "target/release/examples"
START_SECONDS = 90
STOP_SECONDS = 30
# As long as a worker takes to give up on a request.
REQUEST_SECONDS = 90
TICKS = os.sysconf("SC_CLK_TCK")
JVM = ["-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
       "-XX:+ExplicitGCInvokesConcurrent", "-Djava.awt.headless=true"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def class_path(without=()):
    jars = sorted(jar for jar in LIB.glob("*.jar") if not jar.name.startswith(tuple(without)))
    return ":".join(map(str, jars))


class Process:
    """A child whose output goes to a log, which is stopped by its id, and whose cost can be read."""

    def __init__(self, command, log):
        self.log = log
        with open(log, "ab") as output:
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def check_alive(self):
        if self.child.poll() is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"process ended with code {self.child.returncode}; {self.log} ends with:\n{tail}")

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def status(self, key):
        for line in pathlib.Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1])
        raise RuntimeError(f"no {key} for process {self.child.pid}")

    def memory_mib(self, key):
        return self.status(key) / 1024

    def descriptors(self):
        """What is open: a path, or the kernel's word for what has none."""
        for entry in os.scandir(f"/proc/{self.child.pid}/fd"):
            # It may be closed by now.
            with contextlib.suppress(OSError):
                yield os.readlink(entry)

    def stop(self, seconds=STOP_SECONDS):
        """Whether it ended in time; otherwise it is killed."""
        self.child.terminate()
        try:
            self.child.wait(seconds)
            return True
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            return False


class Broker:
    """One Kafka broker that is its own controller, in a folder of its own. `relayed` names further listeners, each with the port of a
    relay that it advertises in the place of its own."""

    def __init__(self, work, relayed=None):
        self.work = work
        self.address = f"127.0.0.1:{free_port()}"
        self.relayed = relayed or {}
        # Where the relays have to pass on to.
        self.ports = {name: free_port() for name in self.relayed}
        self.java = ["java", "-Xmx1g", *JVM, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", class_path()]
        self.properties = self.work / "broker.properties"

    def __enter__(self):
        controller = f"127.0.0.1:{free_port()}"
        own = f"PLAINTEXT://{self.address},CONTROLLER://{controller}"
        write_properties(self.properties, {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": controller,
            "listeners": own + "".join(f",{name}://127.0.0.1:{port}" for name, port in self.ports.items()),
            "advertised.listeners": own + "".join(f",{name}://127.0.0.1:{port}" for name, port in self.relayed.items()),
            "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in ["PLAINTEXT", "CONTROLLER", *self.relayed]),
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self.work / "broker",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
        })
        subprocess.run([*self.java, "kafka.tools.StorageTool", "format", "--standalone", "-t", "AAAAAAAAAAAAAAAAAAAAAQ",
                        "-c", self.properties], check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        self.start()
        try:
            self.create_topic("warm-up")
        except BaseException:
            self.process.stop()
            raise
        return self

    def __exit__(self, *_):
        self.process.stop()

    def start(self):
        """Also after `stop` or `kill`, with the same data and address. Returns when it takes connections."""
        self.process = Process([*self.java, "kafka.Kafka", self.properties], self.work / "broker.log")
        try:
            self.await_port()
        except BaseException:
            self.process.stop()
            raise

    def stop(self):
        self.process.stop()

    def kill(self):
        self.process.child.kill()
        self.process.child.wait()

    def await_port(self):
        host, port = self.address.split(":")
        for _ in patience(START_SECONDS, 0.1, "the broker's port"):
            self.process.check_alive()
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
                return

    def create_topic(self, name):
        floor("create", self.address, name)


def floor(*arguments):
    command = [EXAMPLES / "bench_floor", *map(str, arguments)]
    done = subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    return json.loads(done.stdout) if done.stdout else None


def patience(seconds, interval, what):
    """Yields until the time is over; the caller leaves the loop when it has what it waits for."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(interval)
    raise TimeoutError(f"{what}: not there after {seconds} s")


def write_properties(path, values):
    path.write_text("".join(f"{key}={value}\n" for key, value in values.items()))


def worker_properties(servers, place, name, port, more=()):
    properties = place / "worker.properties"
    converter = "org.apache.kafka.connect.storage.StringConverter"
    write_properties(properties, {
        "bootstrap.servers": servers,
        "group.id": name,
        "config.storage.topic": f"{name}-configs",
        "offset.storage.topic": f"{name}-offsets",
        "status.storage.topic": f"{name}-status",
        "config.storage.replication.factor": "1",
        "offset.storage.replication.factor": "1",
        "status.storage.replication.factor": "1",
        "key.converter": converter,
        "value.converter": converter,
        "listeners": f"http://127.0.0.1:{port}",
        "plugin.path": place / "plugins",
        **dict(more),
    })
    return properties


def plugin_folder(place):
    """Where the Java worker finds the file connectors, by `plugin.path`."""
    plugin = place / "plugins/connect-file"
    plugin.mkdir(parents=True)
    for jar in LIB.glob("connect-file-*.jar"):
        shutil.copy(jar, plugin)


def java_worker(heap, properties):
    return ["java", heap, *JVM, "-cp", class_path(without=["connect-file-"]),
            "org.apache.kafka.connect.cli.ConnectDistributed", properties]


def request(port, method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_SECONDS)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()


def answers(port):
    """Whether the worker serves requests yet."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return request(port, "GET", "/connectors")[0] == 200
    return False


def expect(status, port, method, path, body=None):
    got, text = request(port, method, path, body)
    if got != status:
        raise RuntimeError(f"{method} {path} answered {got}, not {status}: {text}")


def number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
