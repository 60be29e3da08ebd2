"""Gossip in bad weather: datagrams that are lost, and datagrams that nobody of the group has sent."""

import contextlib
import json
import os
import random
import re
import socket
import subprocess
import time

from common import request
from death import CALM_SECONDS, begin
from relay import Inbound, Rule
from report import Window, anew_in_place, verdict

LOSSY_WORKERS, LOSS = 5, 0.3
LOOK_SECONDS = 0.5
FLOODED = 1
FLOOD_SECONDS, FLOOD_RATE, FLOOD_SLICE_SECONDS = 60, 10_000, 0.01
# The most that a datagram holds.
HUGE = 65_507
COUNTER = re.compile(r'^kafka_connect_worker_gossip_datagrams_total\{.*outcome="(\w+)".*\} (\d+)', re.MULTILINE)


def loss(options, group):
    """Five workers lose a part of all that they gossip, beside processes that do nothing but burn CPU."""
    begin(options, group, LOSSY_WORKERS)
    lives, places = group.members(0), group.await_running()
    passed, dropped = counted(group)
    unheard, changed, evictions = Spells(), Spells(), 0
    time.sleep(CALM_SECONDS)
    start = time.monotonic()
    for worker in group.workers:
        worker["relay"].set(inbound=Rule(loss=LOSS), outbound=Rule(loss=LOSS))
    with burning(options.burners):
        while time.monotonic() < start + options.seconds:
            time.sleep(LOOK_SECONDS)
            for worker in group.workers:
                unheard.look(worker["number"], unheard_by(worker, group))
            now = group.members(0)
            evictions += changed.look(0, {number for number in lives if now.get(number) != lives[number]})
            lives |= {number: life for number, life in now.items() if life is not None}
    end = time.monotonic()
    after = group.await_running()
    passed, dropped = (now - before for now, before in zip(counted(group), (passed, dropped)))
    moved = sum(1 for unit in places if places[unit] != after[unit])
    return {"workers": LOSSY_WORKERS, "seconds": options.seconds, "datagrams that came through": passed, "datagrams that were lost": dropped,
            "times that a worker had not heard another one, who lived": unheard.count, "evictions": evictions, "units moved": moved,
            "units that ran anew in place": anew_in_place(group, start),
            **verdict(group, [Window(start, end, set(), (start - CALM_SECONDS, start))])}


class Spells:
    """How often something began to hold."""

    def __init__(self):
        self.held, self.count = {}, 0

    def look(self, key, holds):
        begun = len(holds - self.held.get(key, set()))
        self.held[key] = holds
        self.count += begun
        return begun


def unheard_by(worker, group):
    """Living members whose gossip this worker has lost."""
    members = json.loads(request(worker["port"], "GET", "/cluster")[1])["members"]
    numbers = {other["id"]: other["number"] for other in group.workers}
    return {numbers[member["worker_id"]] for member in members if not member["heard"] and member["worker_id"] != worker["id"]}


def counted(group):
    relays = [worker["relay"] for worker in group.workers]
    return sum(relay.datagrams for relay in relays), sum(relay.dropped for relay in relays)


@contextlib.contextmanager
def burning(count):
    burners = [subprocess.Popen(["sha256sum", "/dev/zero"], stdout=subprocess.DEVNULL) for _ in range(count)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def flood(options, group):
    """Bad datagrams at the gossip port of one worker, of which there are several kinds."""
    heard, inbound = [], Inbound.datagram_received

    def keep(self, data, address):
        if len(heard) < 100:
            heard.append(data)
        inbound(self, data, address)

    Inbound.datagram_received = keep
    begin(options, group)
    Inbound.datagram_received = inbound
    lives, starts, before = group.members(0), group.starts(), counters(group)
    quiet = group.idle_cpu(FLOODED, CALM_SECONDS)
    start, process = time.monotonic(), group.workers[FLOODED]["process"]
    cpu = process.cpu_seconds()
    sent = send(group.workers[FLOODED]["port"], kinds(heard))
    end = time.monotonic()
    cpu = 100 * (process.cpu_seconds() - cpu) / (end - start)
    group.await_running()
    rises = {what: count - before.get(what, 0) for what, count in counters(group).items() if count > before.get(what, 0)}
    return {"datagrams sent": sent, "a second": sent / (end - start), "CPU of the worker before, % of a core": quiet, "CPU of the worker, % of a core": cpu,
            "evicted": sum(life != group.members(0).get(number) for number, life in lives.items()), "units that ran anew": group.starts() - starts,
            **{f"counter: {what}": rise for what, rise in sorted(rises.items())},
            **verdict(group, [Window(start, end, set(), (start - CALM_SECONDS, start))])}


def counters(group):
    text = request(group.workers[FLOODED]["port"], "GET", "/metrics")[1]
    return {what: int(count) for what, count in COUNTER.findall(text)}


def kinds(heard):
    """Ways to make a bad datagram, of some that are good: random, cut off, as long as can be, forged, heard before, and lengths that promise more than there is."""
    def good():
        return random.choice(heard)

    def forged():
        data = bytearray(good())
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        return bytes(data)

    return [lambda: os.urandom(random.randrange(1, 1400)), lambda: good()[:random.randrange(len(good()))], lambda: good()[:1] + os.urandom(HUGE - 1),
            lambda: (good() + os.urandom(HUGE))[:HUGE], forged, good, lambda: good()[:9] + b"\xfd" + b"\xff" * 64, lambda: b"\xff" * 512]


def send(port, ways):
    """For a minute, evenly. What the machine cannot send in its time is left out."""
    made = [make() for make in ways for _ in range(64)]
    random.shuffle(made)
    sent, start = 0, time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", port))
        while (now := time.monotonic()) < start + FLOOD_SECONDS:
            for _ in range(min(int((now - start) * FLOOD_RATE) - sent, FLOOD_RATE)):
                # A full buffer of the receiver is its affair.
                with contextlib.suppress(OSError):
                    sender.send(made[sent % len(made)])
                sent += 1
            time.sleep(FLOOD_SLICE_SECONDS)
    return sent
