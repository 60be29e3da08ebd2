"""Workers that end, are killed or are frozen, and brokers that do, under numbered sources and sinks."""

import concurrent.futures
import http.client
import random
import sys
import threading
import time

from common import START_SECONDS, patience, request
from oracle import percentile
from report import Window, anew_in_place, tasks_of, verdict
from steps import Topics, shares

# Nothing goes on for so long before each death, to compare with.
CALM_SECONDS = 4
# What runs anew writes within this time.
AFTER_SECONDS = 1
FREEZES = [5, 15, 60]
YOUNG_SECONDS = 3
KILL_EVERY_SECONDS = 10
POSTS, CLIENTS = 500, 20
# The posts are spread over so long, so that several kills fall into them.
POSTING_SECONDS = 40


def begin(options, group, workers=3):
    group.start(workers)
    group.create_both(options.connectors)
    group.await_running()
    group.settle()


def ready_again(group, number, count):
    """A worker that came back has its share, and all units run."""
    group.await_share(number, count)
    group.await_running()
    group.settle()


def share_of(options, group):
    return 2 * (2 * (options.connectors // 2)) // len(group.workers)


def moved_between(before, after):
    return [unit for unit in before if before[unit] != after[unit]]


def during(group, act, settle=AFTER_SECONDS):
    """Does it, waits until all units run, and says which moved and in which window."""
    before = group.await_running()
    time.sleep(CALM_SECONDS)
    start = time.monotonic()
    act()
    places = group.await_running()
    time.sleep(settle)
    end, moved = time.monotonic(), moved_between(before, places)
    length = min(CALM_SECONDS, end - start)
    return start, moved, Window(start, end, tasks_of(moved), (start - length, start))


def leave(options, group):
    """Each worker in turn leaves in order and comes back."""
    begin(options, group, options.workers)
    windows, took, since = [], [], time.monotonic()
    for round_ in range(options.rounds):
        worker = round_ % options.workers

        def act(worker=worker):
            start = time.monotonic()
            group.stop(worker)
            took.append(time.monotonic() - start)

        windows.append(during(group, act)[2])
        group.restart(worker)
        ready_again(group, worker, share_of(options, group))
    return {"orderly ends": options.rounds, "an orderly end, s, median": percentile(sorted(took), 50), "longest": max(took),
            "units that ran anew in place": anew_in_place(group, since), **verdict(group, windows)}


def kill(options, group):
    """Each worker in turn is killed and comes back."""
    begin(options, group, options.workers)
    windows, kills, since = [], [], time.monotonic()
    with Topics(group) as topics:
        for round_ in range(options.rounds):
            worker = round_ % options.workers
            start, moved, window = during(group, lambda worker=worker: group.kill(worker))
            windows.append(window)
            kills.append((worker, start, moved))
            group.restart(worker)
            ready_again(group, worker, share_of(options, group))
        figures = verdict(group, windows)
        steps = shares(group, topics, kills, group.records())
    return {"kills": options.rounds, "units that ran anew in place": anew_in_place(group, since), **figures, **steps}


def two_at_once(options, group):
    """Two of four are killed in the same moment."""
    begin(options, group, 4)
    windows, since = [], time.monotonic()
    for round_ in range(options.rounds):
        pair = [round_ % 4, (round_ + 1) % 4]
        windows.append(during(group, lambda pair=pair: [group.kill(worker) for worker in pair])[2])
        for worker in pair:
            group.launch(group.workers[worker])
        for worker in pair:
            group.await_healthy(group.workers[worker])
            ready_again(group, worker, share_of(options, group))
    return {"times that two were killed": options.rounds, "units that ran anew in place": anew_in_place(group, since),
            **verdict(group, windows)}


def all_at_once(options, group):
    """All are killed in the same moment, and started again."""
    begin(options, group)
    windows, took = [], []
    for _ in range(options.rounds):
        def act():
            for worker in group.workers:
                group.kill(worker["number"])
            start = time.monotonic()
            for worker in group.workers:
                group.launch(worker)
            for worker in group.workers:
                group.await_healthy(worker)
            group.await_running()
            took.append(time.monotonic() - start)

        start, _, window = during(group, act)
        windows.append(window._replace(moved=set(group.names)))
        group.settle()
    return {"times that all were killed": options.rounds, "from the starts until all run, s, worst": max(took), **verdict(group, windows)}


def young(options, group):
    """A fourth worker is killed 3 s after it has joined."""
    begin(options, group)
    windows, since, number = [], time.monotonic(), None
    for _ in range(options.rounds):
        if number is None:
            number = group.new_worker()["number"]
        group.launch(group.workers[number])
        group.await_healthy(group.workers[number])
        time.sleep(YOUNG_SECONDS)
        before = group.places()
        start = time.monotonic()
        group.kill(number)
        places = group.await_running()
        time.sleep(AFTER_SECONDS)
        held = [unit for unit in places if before.get(unit, number) == number]
        windows.append(Window(start, time.monotonic(), tasks_of(held), None))
        group.settle()
    return {"young workers killed": options.rounds, "units that ran anew in place": anew_in_place(group, since), **verdict(group, windows)}


def suspend(options, group):
    """One of three is stopped by a signal for 5, 15 and 60 s and goes on."""
    begin(options, group)
    windows, evicted, back = [], 0, []
    for round_ in range(options.rounds):
        for seconds in FREEZES:
            worker = round_ % 3
            lives = group.members((worker + 1) % 3)

            def act(worker=worker, seconds=seconds):
                group.freeze(worker)
                start = time.monotonic()
                group.await_running()
                time.sleep(max(0.0, seconds - (time.monotonic() - start)))

            windows.append(during(group, act)[2])
            start = time.monotonic()
            group.thaw(worker)
            group.await_healthy(group.workers[worker])
            ready_again(group, worker, share_of(options, group))
            back.append(time.monotonic() - start)
            evicted += group.members((worker + 1) % 3)[worker] != lives[worker]
    return {"times that one was stopped by a signal": len(windows), "of these evicted": evicted,
            "from going on until it has its share again, s, worst": max(back), **verdict(group, windows)}


def broker(options, group):
    """The broker is ended and killed by turns, and comes back."""
    begin(options, group)
    windows, back, since = [], [], time.monotonic()
    lives = group.members(0)
    for round_ in range(options.rounds):
        time.sleep(CALM_SECONDS)
        start = time.monotonic()
        (group.broker.kill if round_ % 2 else group.broker.stop)()
        group.broker.start()
        up = time.monotonic()
        await_flow(group, up)
        back.append(time.monotonic() - up)
        group.await_running()
        windows.append(Window(start, time.monotonic(), set(group.names), (start - CALM_SECONDS, start)))
        group.settle()
    return {"times that the broker was restarted": options.rounds, "from its port until all sinks write, s, worst": max(back),
            "workers evicted": sum(group.members(0).get(worker) != life for worker, life in lives.items()),
            "units that ran anew in place": anew_in_place(group, since), **verdict(group, windows)}


def await_flow(group, since):
    """Until all workers are healthy and each sink has written."""
    for _ in patience(START_SECONDS, 0.02, "sinks write again"):
        if all(at is not None and at > since for at in group.files.last_arrivals().values()):
            break
    for worker in group.alive():
        group.await_healthy(worker)


def writers_kill(options, group):
    """500 POSTs from 20 clients to five workers, one of which is killed every 10 s and comes back."""
    begin(options, group, 5)
    since, down, log = time.monotonic(), Down(group), []
    names = [f"w{number}" for number in range(POSTS)]
    killer = threading.Thread(target=down.run)
    killer.start()
    try:
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as clients:
            answers = list(clients.map(lambda name: post(group, down, name, since, log), names))
    finally:
        down.over.set()
        killer.join()
    posted = time.monotonic() - since
    group.names += names
    group.await_running()
    running = time.monotonic() - since
    group.settle()
    for line in log[:20]:
        print(f"  FINDING {group.name}: {line}", file=sys.stderr)
    statuses = [status for status, _, _ in answers]
    taken = sorted(1000 * seconds for _, seconds, _ in answers)
    return {"kills": down.kills, "answers 201": statuses.count(201), "409 to who asked again": statuses.count(409),
            "asked again": sum(again for _, _, again in answers), "answers and failures of living workers that must not be": len(log),
            "POST p50, ms": percentile(taken, 50), "p99": percentile(taken, 99), "longest": taken[-1],
            "all answered, s": posted, "all running, s": running, "units that ran anew in place": anew_in_place(group, since),
            **verdict(group, [])}


class Down:
    """Kills one worker after the other until it is over, and knows which may be dead."""

    def __init__(self, group):
        self.group, self.over, self.kills = group, threading.Event(), 0
        # Worker -> when it was last killed and when it was healthy again.
        self.times = {}

    def run(self):
        while not self.over.wait(KILL_EVERY_SECONDS / 2):
            worker = self.kills % len(self.group.workers)
            self.times[worker] = (time.monotonic(), float("inf"))
            self.group.kill(worker)
            self.kills += 1
            self.over.wait(KILL_EVERY_SECONDS / 4)
            self.group.restart(worker)
            self.times[worker] = (self.times[worker][0], time.monotonic())
            self.over.wait(KILL_EVERY_SECONDS / 4)

    def was_dead(self, worker, begin, end):
        killed, back = self.times.get(worker, (float("inf"), float("-inf")))
        return killed <= end and begin <= back


def post(group, down, name, since, log):
    """Status, seconds and how often it was asked again: only of a worker that was dead, at another one."""
    due = since + POSTING_SECONDS * int(name[1:]) / POSTS
    time.sleep(max(0.0, due - time.monotonic()))
    start, again = time.monotonic(), 0
    while True:
        at, asked = random.randrange(len(group.workers)), time.monotonic()
        config = {**group.idle(), "tasks.max": "1", "name": name}
        try:
            status, text = request(group.workers[at]["port"], "POST", "/connectors", {"name": name, "config": config})
        except (OSError, http.client.HTTPException) as error:
            if not down.was_dead(at, asked, time.monotonic()):
                log.append(f"{name} at {at}, which lived: {error!r}")
        else:
            if status in [201, 409]:
                if status == 409 and not again:
                    log.append(f"{name} at {at}: {status} {text}")
                return status, time.monotonic() - start, again
            if not down.was_dead(at, asked, time.monotonic()) or status < 500:
                log.append(f"{name} at {at}: {status} {text}")
        again += 1
        time.sleep(0.1)
