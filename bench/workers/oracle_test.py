"""What the oracle finds, on small lists: PYTHONPATH=bench/workers python3 -B -m unittest bench/workers/oracle_test.py"""

import unittest

import oracle


def entries(*numbers):
    return [(at, at, number) for at, number in enumerate(numbers)]


class Oracle(unittest.TestCase):
    def test_lost_and_doubled(self):
        self.assertEqual(oracle.lost(entries(0, 1, 3)), [2])
        self.assertEqual(oracle.lost([]), [])
        self.assertEqual(oracle.doubled(entries(0, 1, 1, 2)), 1)

    def test_a_new_owner_may_go_back_once(self):
        self.assertEqual(oracle.inversions(entries(0, 1, 2, 3, 2, 3, 4, 5)), [])
        self.assertEqual(oracle.overlap(entries(0, 1, 2, 3, 2, 3, 4, 5), 0), 0.0)

    def test_an_earlier_owner_may_not_write_behind_it(self):
        late = entries(0, 1, 2, 1, 3, 2, 3, 4)
        self.assertEqual([number for _, _, number in oracle.inversions(late)], [3])
        self.assertEqual(oracle.overlap(late, 0), 1)

    def test_one_that_begins_where_an_earlier_one_ended_is_a_third(self):
        # 0..3 was killed with 1 committed, 2..6 with 3 committed.
        self.assertEqual(oracle.inversions(entries(0, 1, 2, 3, 2, 3, 4, 5, 6, 4, 5, 6, 7)), [])

    def test_runs_end_with_their_process(self):
        found = oracle.runs("w", [(1, "a/0", "running"), (9, "a/0", "running"), (12, "a/0", "ended")], [5])
        self.assertEqual([(run.life, run.begin, run.end) for run in found], [(0, 1, 5), (1, 9, 12)])

    def test_overlaps_are_of_different_workers_and_of_thawed_time(self):
        one, other = oracle.Run("a/0", 0, 0, 0, 20), oracle.Run("a/0", 1, 0, 5, 30)
        self.assertEqual(oracle.overlaps([one, other])[0][1], 15)
        self.assertEqual(oracle.overlaps([*oracle.without(one, [(4, 19)]), other])[0][1], 1)
        self.assertEqual(oracle.overlaps([one, other._replace(worker=0)]), [])

    def test_lines_of_a_log(self):
        line = '2026-11-30T17:00:00.5Z  INFO worker{id="w"}:task{connector="a" task=0}: connect_node::actors::unit: running'
        at, unit, what = next(oracle.log_events(line))
        self.assertEqual((at % 60, unit, what), (0.5, "a/0", "running"))


if __name__ == "__main__":
    unittest.main()
