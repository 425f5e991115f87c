"""Parts that are worked on side by side."""

from __future__ import annotations

import threading

import pytest
import torch

from vreid_cli.runtime.threads import side_by_side, threads_for


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_parts(threads: int) -> None:
    # The first part ends only when the last of its round has, where there is one.
    gate = threading.Event()

    def work(part: int) -> int:
        if part == 0 and threads > 1:
            assert gate.wait(60)
        gate.set()
        return part * part

    assert list(side_by_side(work, range(7), threads=threads)) == [part * part for part in range(7)]


def test_every_part_computes_on_one_thread_and_the_caller_has_its_own_again() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert threads_for(torch.device("cpu")) == 3
        assert list(side_by_side(lambda _: torch.get_num_threads(), range(6), threads=2)) == [1] * 6
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_gpu_does_one_part_after_the_other() -> None:
    assert threads_for(torch.device("cuda")) == 1


def test_an_error_is_raised_in_its_place_and_what_waits_is_left_out() -> None:
    begun = []

    def work(part: int) -> int:
        begun.append(part)
        if part == 3:
            raise ValueError("part 3")
        return part

    results = side_by_side(work, range(1000), threads=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="part 3"):
        next(results)
    assert len(begun) < 10


def test_no_more_parts_are_begun_than_are_asked_for_and_a_few() -> None:
    begun = []
    results = side_by_side(lambda part: begun.append(part), range(1000), threads=2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(begun) <= 3
