"""Cuts of the network between workers, and between a worker and Kafka, by relays."""

import time

from death import CALM_SECONDS, begin, moved_between
from report import Window, anew_in_place, tasks_of, verdict
from relay import Rule

CUT_SECONDS = 15
VICTIM = 1


def cut(options, group, cuts):
    """Each of these cuts for 15 s, then healed: who was evicted, what moved, and what that did to the records."""
    begin(options, group)
    windows, figures, since = [], {}, time.monotonic()
    for _ in range(options.rounds):
        for what, make in cuts.items():
            before, lives = group.await_running(), lives_of(group)
            time.sleep(CALM_SECONDS)
            start = time.monotonic()
            make(group)
            time.sleep(CUT_SECONDS)
            cut_places = group.places(0)
            heal(group)
            for worker in group.workers:
                group.await_healthy(worker)
            # Who was evicted several times comes back late. Who was not keeps what it has, even or not.
            group.await_settled()
            places = group.await_running()
            group.settle()
            moved = [unit for unit in before if cut_places.get(unit) != before[unit]]
            windows.append(Window(start, time.monotonic(), tasks_of({*moved, *moved_between(before, places)}), (start - CALM_SECONDS, start)))
            evicted = sum(life != lives_of(group).get(worker) for worker, life in lives.items())
            figures[f"{what}: evicted"] = figures.get(f"{what}: evicted", 0) + evicted
            figures[f"{what}: units moved"] = figures.get(f"{what}: units moved", 0) + len(moved)
    return {**figures, "units that ran anew in place": anew_in_place(group, since), **verdict(group, windows)}


def lives_of(group):
    return group.members(0)


def heal(group):
    for worker in group.workers:
        worker["relay"].heal()
    for relay in group.kafka_relays:
        relay.heal()


def to_victim(group):
    """Nobody reaches it."""
    group.workers[VICTIM]["relay"].cut()


def from_victim(group):
    """It reaches nobody."""
    for worker in group.workers:
        if worker["number"] != VICTIM:
            worker["relay"].cut(VICTIM)


def both_ways(group):
    to_victim(group)
    from_victim(group)


def between_two(group):
    """It and one other do not reach each other; the third reaches both."""
    group.workers[0]["relay"].cut(VICTIM)
    group.workers[VICTIM]["relay"].cut(0)


def one_way_between_two(group):
    """One other does not reach it."""
    group.workers[VICTIM]["relay"].set(0, inbound=Rule(cut=True))


def from_kafka(group):
    group.kafka_relays[VICTIM].cut()


def from_both(group):
    both_ways(group)
    from_kafka(group)


def cut_gossip(options, group):
    """What workers say to each other is cut off while all reach Kafka."""
    return cut(options, group, {"one way between two": one_way_between_two, "between two": between_two, "nobody reaches one": to_victim,
                                "one reaches nobody": from_victim, "one, both ways": both_ways})


def cut_kafka(options, group):
    """One worker does not reach Kafka, but the others."""
    return cut(options, group, {"one without Kafka": from_kafka})


def cut_both(options, group):
    """One worker reaches neither Kafka nor the others."""
    return cut(options, group, {"one without anything": from_both})
