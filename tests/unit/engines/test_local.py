"""The engine that works in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vreid_cli.engines.engine import Engine
from vreid_cli.engines.local import LocalEngine


def test_each_result_comes_before_the_next_part_is_begun():
    begun: list[int] = []

    def work(parts: Sequence[int]) -> Iterator[int]:
        for part in parts:
            begun.append(part)
            yield 10 * part

    engine: Engine = LocalEngine()
    results = engine.map(work, [1, 2, 3])
    assert (next(results), begun) == (10, [1])
    assert (list(results), begun) == ([20, 30], [1, 2, 3])
