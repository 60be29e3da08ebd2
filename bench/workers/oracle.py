"""What must hold of what connectors wrote and of what workers logged. Pure: lists in, figures out.

An entry is (made, arrived, number): seconds on one clock, in the order in which it stands in its topic or file.
"""

import collections
import datetime
import re

LINE = re.compile(r"^(\S+Z)\s+[A-Z]+ .*(?:task|connector)\{connector=\"([^\"]+)\"(?: task=(\d+))?\}.*: "
                  r"(running|ended|paused|stopped|failed|suspended|goes on)\b")
Run = collections.namedtuple("Run", "unit worker life begin end goes_on", defaults=[False])
BEGINS, ENDS = ["running", "goes on"], ["ended", "paused", "stopped", "failed", "suspended"]


def percentile(ordered, percent):
    """The smallest value that so many per cent are not above."""
    return ordered[-(-len(ordered) * percent // 100) - 1]


def lost(entries, count=None):
    """Numbers that are not there, of so many or else below the greatest one."""
    numbers = {number for _, _, number in entries}
    return sorted(set(range(max(numbers, default=-1) + 1 if count is None else count)) - numbers)


def doubled(entries):
    return len(entries) - len({number for _, _, number in entries})


def chains(entries):
    """For each entry the place of its chain: a chain is what one runner wrote, each number one more than the one before."""
    # Last number -> chains that end there, the one that was written to last at the end.
    ends, places, count = collections.defaultdict(list), [], 0
    for _, _, number in entries:
        if before := ends[number - 1]:
            place = before.pop()
        else:
            place, count = count, count + 1
        ends[number].append(place)
        places.append(place)
    return apart(places, count)


def apart(places, count):
    """Who begins by chance where an earlier runner was ended is one of its own: nobody who came in between writes any more."""
    last = {place: at for at, place in enumerate(places)}
    newest, now, apart_ = -1, {}, []
    for at, place in enumerate(places):
        if now.get(place, place) < newest and last_of(newest, last, now) < at:
            now[place], count = count, count + 1
        place = now.get(place, place)
        newest = max(newest, place)
        apart_.append(place)
    return apart_


def last_of(place, last, now):
    """Where the chain that is called so now has its last entry."""
    return next((last[was] for was, is_ in now.items() if is_ == place), last.get(place, -1))


def inversions(entries):
    """Entries of an earlier runner that stand behind the first one of a later runner."""
    newest, found = -1, []
    for entry, place in zip(entries, chains(entries)):
        if place < newest:
            found.append(entry)
        newest = max(newest, place)
    return found


def overlap(entries, at):
    """The longest time for which a runner wrote on after a later one had begun; `at` 0: by when it was made, 1: by when it arrived."""
    first, last = {}, {}
    for entry, place in zip(entries, chains(entries)):
        first[place] = min(entry[at], first.get(place, entry[at]))
        last[place] = max(entry[at], last.get(place, entry[at]))
    longest = 0.0
    for place in range(1, len(first)):
        longest = max(longest, max(last[earlier] for earlier in range(place)) - first[place])
    return longest


def longest_gap(entries, begin, end, at=1, within=False):
    """Between two entries, in seconds, of those that touch the window or, `within`, lie in it."""
    times = sorted(entry[at] for entry in entries)
    pairs = [(a, b) for a, b in zip(times, times[1:]) if b >= begin and (b if within else a) <= end]
    return max((b - a for a, b in pairs), default=0.0)


def first_after(entries, begin, at=1):
    return min((entry[at] for entry in entries if entry[at] > begin), default=None)


def seconds(stamp):
    """The time of a line of a log, since 1970."""
    return datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


def log_events(text):
    """Time since 1970, unit and what happened, of a worker's log."""
    for line in text.splitlines():
        if match := LINE.match(line):
            yield seconds(match[1]), f"{match[2]}/{match[3] or 'connector'}", match[4]


def runs(worker, events, ends):
    """What one worker ran and when: by its log, and by when its process was ended, which no log tells. Without an end: open."""
    found, open_, lives = [], {}, sorted(ends)
    life = 0

    def close(unit, at):
        if unit in open_:
            begin, goes_on = open_.pop(unit)
            found.append(Run(unit, worker, life, begin, at, goes_on))

    for at, unit, what in events:
        while life < len(lives) and at > lives[life]:
            for left in list(open_):
                close(left, lives[life])
            life += 1
        if what in BEGINS:
            open_.setdefault(unit, (at, what == "goes on"))
        elif what in ENDS:
            close(unit, at)
    for left in list(open_):
        close(left, lives[life] if life < len(lives) else float("inf"))
    return found


def without(run, frozen):
    """The parts of a run in which its process was not stopped by a signal."""
    parts = [run]
    for begin, end in frozen:
        parts = [part for whole in parts for part in
                 [whole._replace(end=min(whole.end, begin)), whole._replace(begin=max(whole.begin, end))] if part.begin < part.end]
    return parts


def overlaps(all_runs):
    """Two workers that ran one unit at once: unit, seconds, and both runs; the longest first."""
    of = collections.defaultdict(list)
    for run in all_runs:
        of[run.unit].append(run)
    found = []
    for unit, its in of.items():
        its.sort(key=lambda run: run.begin)
        for at, one in enumerate(its):
            for other in its[at + 1:]:
                both = min(one.end, other.end) - other.begin
                if both > 0 and (one.worker, one.life) != (other.worker, other.life):
                    found.append((unit, both, one, other))
    return sorted(found, key=lambda overlap: -overlap[1])


def in_place(all_runs, begin, end):
    """Units that began to run anew where they ran already, in one life of a worker and nowhere else in between."""
    of = collections.defaultdict(list)
    for run in sorted(all_runs, key=lambda run: run.begin):
        of[run.unit].append(run)
    pairs = [(one, other) for its in of.values() for one, other in zip(its, its[1:])]
    return [other for one, other in pairs
            if begin <= other.begin <= end and not other.goes_on and (one.worker, one.life) == (other.worker, other.life)]
