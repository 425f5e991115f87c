"""The sorting network of aggregation against torch's own calls, at the size of VeRi's blocks.

    python tests/benchmarks/aggregation.py

Seconds on two cores. CPU time, which other work on the machine changes least.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from made import machine

from vreid_cli.ranking.aggregation import aggregate
from vreid_cli.ranking.metrics import AGGREGATIONS

#: Rows and columns of a block by the default memory budget.
ROWS, ITEMS = 2048, 680


def cpu_seconds(work: Callable[[], object], *, runs: int = 5) -> float:
    """The least of some runs, after one that does not count."""
    work()
    seconds = []
    for _ in range(runs):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def by_sort(values: torch.Tensor, names: tuple[str, ...]) -> list[torch.Tensor]:
    """All aggregations from one ``torch.sort``."""
    ordered = values.sort(dim=0).values
    return [ordered[list(AGGREGATIONS[name](len(values)))].mean(dim=0) for name in names]


def by_topk(values: torch.Tensor, names: tuple[str, ...]) -> list[torch.Tensor]:
    """The mean of the smaller half from ``torch.topk``, the median from ``torch.kthvalue``."""
    found = []
    for name in names:
        places = AGGREGATIONS[name](len(values))
        if places.start == 0:
            found.append(values.topk(places.stop, dim=0, largest=False, sorted=False).values.mean(dim=0))
        else:
            found.append(torch.stack([values.kthvalue(place + 1, dim=0).values for place in places]).mean(dim=0))
    return found


def main() -> None:
    """Print every figure."""
    torch.set_num_threads(1)
    print(machine())
    generator = torch.Generator().manual_seed(0)
    for length in (2, 4, 6, 7, 12, 24, 64):
        values = torch.rand(length, ROWS // length, ITEMS, generator=generator)
        slots = values.unbind(0)
        for names in (("mean50",), ("med",), tuple(AGGREGATIONS)):
            network, sort, topk = (
                cpu_seconds(work)
                for work in (
                    lambda slots=slots, names=names: aggregate(slots, names),  # type: ignore[misc]
                    lambda values=values, names=names: by_sort(values, names),  # type: ignore[misc]
                    lambda values=values, names=names: by_topk(values, names),  # type: ignore[misc]
                )
            )
            name = names[0] if len(names) == 1 else "all"
            print(
                f"{length:2d} images, {name:6s} network {1e3 * network:6.2f} ms; torch.sort {sort / network:5.1f} x, "
                f"topk or kthvalue {topk / network:5.1f} x as long"
            )


if __name__ == "__main__":
    main()
