"""Which worker does which part next: every part is done once, whoever is lost, and parts with a home go home."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vreid_cli.engines.schedule import MOST_DEATHS, Schedule


def test_parts_are_begun_in_their_order_and_workers_take_several_where_they_may():
    schedule = Schedule([*"abcde"])
    assert schedule.take(1, most=2) == ["a", "b"]
    assert schedule.take(2) == ["c"]
    schedule.finish(1)
    assert schedule.take(1, most=9) == ["d", "e"]
    assert schedule.left == 3


def test_what_a_lost_worker_took_is_done_next_each_part_alone():
    schedule = Schedule([*"abcd"])
    schedule.take(1, most=3)
    schedule.lose(1)
    assert [schedule.take(worker, most=9) for worker in (2, 3, 4)] == [["a"], ["b"], ["c"]]
    assert schedule.take(5, most=9) == ["d"]


def test_a_part_that_killed_three_workers_is_given_up_and_only_that():
    schedule = Schedule([*"abc"])
    schedule.take(0, most=3)  # this death is nobody's
    schedule.lose(0)
    for _ in range(MOST_DEATHS):
        assert schedule.given_up == []
        assert schedule.take(1) == ["a"]
        schedule.lose(1)
    assert schedule.given_up == ["a"]
    assert (schedule.take(1), schedule.take(2), schedule.left) == (["b"], ["c"], 2)


def test_parts_of_a_home_go_to_the_worker_that_has_it_until_it_is_lost():
    schedule = Schedule(["a1", "b1", "a2", "b2"], home=lambda part: part[0])
    assert (schedule.take(1), schedule.take(2)) == (["a1"], ["b1"])
    schedule.finish(2)
    assert schedule.take(2) == ["b2"]
    schedule.lose(1)
    assert schedule.take(3) == ["a1"]
    schedule.finish(3)
    assert schedule.take(3) == ["a2"]


def test_a_worker_without_a_home_takes_over_one_of_several():
    schedule = Schedule(["a1", "b1", "a2", "b2"], home=lambda part: part[0])
    for part in ("a1", "b1"):
        assert schedule.take(1) == [part]
        schedule.finish(1)
    assert schedule.take(2) == ["a2"]
    assert schedule.take(1) == ["b2"]
    assert schedule.take(3) == []


def test_nobody_works_far_ahead_of_results_that_are_needed_first():
    parts = [f"{home}{number}" for number in range(50) for home in "ab"]
    schedule = Schedule(parts, home=lambda part: part[0])
    schedule.take("slow")
    done = 0
    while schedule.take("fast"):
        schedule.finish("fast")
        done += 1
    assert 1 <= done <= 4


@given(
    homes=st.lists(st.integers(0, 3), min_size=1, max_size=20),
    with_homes=st.booleans(),
    events=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["finish", "lose"])), max_size=60),
)
def test_every_part_is_done_once_or_given_up(homes: list[int], with_homes: bool, events: list[tuple[int, str]]):
    parts = list(range(len(homes)))
    schedule = Schedule(parts, home=homes.__getitem__ if with_homes else None)
    busy: dict[int, list[int]] = {}
    done: list[int] = []
    # Afterwards workers are lost no more, and then it must come to an end.
    for worker, event in [*events, *((worker, "finish") for _ in parts for worker in range(4))] * 2:
        if taken := busy.pop(worker, []):
            if event == "finish":
                schedule.finish(worker)
                done += taken
            else:
                schedule.lose(worker)
        elif taken := schedule.take(worker, most=2):
            busy[worker] = taken
    assert sorted([*done, *schedule.given_up]) == parts
    assert schedule.left == 0
