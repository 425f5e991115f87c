"""From distances between images to distances between tracks, without a loop over pairs.

Rows and columns of a block of distances are laid out *slot-major*: items of equal length lie together, first
the first image of each, then the second of each, and so on. A minimum over an item's images is then a
reduction over a whole dimension, and sorting an item's values is a handful of element-wise minima and maxima.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from vreid_cli.ranking.metrics import AGGREGATIONS
from vreid_cli.types.arrays import Int64Array

#: Up to this many values are sorted by a network of comparators, one operation for all pairs of tracks each; beyond
#: it their number grows faster than the work of a sort. ``tests/benchmarks/aggregation.py`` compares the two.
_NETWORK = 64


@dataclass(frozen=True)
class SlotGroup:
    """Items of one length: ``length`` slots of ``count`` rows each, from row ``start`` on.

    Attributes:
        length: Images of each item.
        start: First row of the group in the slot-major layout.
        first: Position of its first item, with the items in the order of the layout.
        count: Number of items.
    """

    length: int
    start: int
    first: int
    count: int

    def view(self, values: torch.Tensor, *, dim: int) -> torch.Tensor:
        """The group's part of ``values`` with dimension ``dim`` split into (length, count)."""
        part = values.narrow(dim, self.start, self.length * self.count)
        split: torch.Tensor = part.unflatten(dim, (self.length, self.count))
        return split


@dataclass(frozen=True)
class SlotLayout:
    """How the images of a block of items are laid out.

    Attributes:
        order: (R,) int64: row i of the layout is image ``order[i]`` of the block.
        items: (n,) int64: item i of the layout is item ``items[i]`` of the block.
        groups: One for each length that occurs, shortest first.
    """

    order: Int64Array
    items: Int64Array
    groups: tuple[SlotGroup, ...]

    @property
    def count(self) -> int:
        """Number n of items."""
        return len(self.items)

    def rows_of(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows of the items at these positions of the layout.

        Returns:
            The rows, and for each the index among ``positions`` of its item; both (sum of lengths,) int64.
        """
        described = [(g.length, g.start - g.first, g.count) for g in self.groups]
        table = torch.tensor(described, device=positions.device)
        counts = torch.tensor([g.count for g in self.groups], device=positions.device)
        lengths, shift, stride = table.repeat_interleave(counts, dim=0)[positions].unbind(dim=1)
        owner, slot = runs(lengths)
        return (positions + shift)[owner] + slot * stride[owner], owner


def runs(lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Runs of these (n,) lengths written out one after the other: for each place its run, and where in it.

    Examples:
        >>> owner, place = runs(torch.tensor([2, 1]))
        >>> owner.tolist(), place.tolist()
        ([0, 0, 1], [0, 1, 0])
    """
    owner = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
    return owner, torch.arange(len(owner), device=lengths.device) - (lengths.cumsum(0) - lengths)[owner]


def slot_layout(lengths: Int64Array) -> SlotLayout:
    """Layout of items with these numbers of images, whose images lie one item after the other.

    Args:
        lengths: (n,) images of each item, each at least 1, of one item or more.

    Examples:
        >>> layout = slot_layout(np.array([2, 1, 2]))
        >>> layout.items.tolist(), layout.order.tolist()
        ([1, 0, 2], [2, 0, 3, 1, 4])
    """
    starts = np.cumsum(lengths) - lengths
    orders: list[Int64Array] = []
    items: list[Int64Array] = []
    groups = []
    row = first = 0
    for length in np.unique(lengths):
        members = np.flatnonzero(lengths == length)
        orders.append((starts[members][None, :] + np.arange(length)[:, None]).reshape(-1))
        items.append(members)
        groups.append(SlotGroup(int(length), row, first, len(members)))
        row, first = row + len(orders[-1]), first + len(members)
    return SlotLayout(np.concatenate(orders), np.concatenate(items), tuple(groups))


def nearest_image(values: torch.Tensor, layout: SlotLayout, *, out: torch.Tensor) -> torch.Tensor:
    """Minimum over each item's images: (Q, R) values in slot-major columns to (Q, items) in ``out``.

    The items come in the order of the layout.

    Examples:
        >>> layout = slot_layout(np.array([2, 1]))  # the item of one image comes first
        >>> values = torch.tensor([[5.0, 2.0, 3.0]])[:, layout.order]
        >>> nearest_image(values, layout, out=torch.empty(1, 2)).tolist()
        [[3.0, 2.0]]
    """
    for group in layout.groups:
        torch.amin(group.view(values, dim=1), dim=1, out=out.narrow(1, group.first, group.count))
    return out


def aggregate_tracks(
    distances: torch.Tensor, queries: SlotLayout, items: SlotLayout, aggregations: Iterable[str], *, running: bool
) -> dict[str, torch.Tensor]:
    """Distances of each query's images aggregated to distances of the query.

    By the definition ``paper`` the columns are gallery items. By ``released``, what the authors' released code computes
    and not the formula, they are gallery images: for each in order, the query's images are walked in order and the
    ``running`` minimum is noted at every step; an item's N_r * N_q values are aggregated. Definitions:
    ``docs/definitions.md#track-to-track`` and ``#released``.

    Args:
        distances: (R, C), slot-major on both sides.
        queries: Layout of the rows.
        items: Layout of the columns; one column an item by the definition ``paper``.
        aggregations: How to aggregate.
        running: Whether to aggregate running minima.

    Returns:
        (queries, items) distances by each aggregation, both in the order of their layouts.

    Examples:
        >>> distances = torch.tensor([[0.5], [0.1]])  # from two images of one query
        >>> sides = slot_layout(np.array([2])), slot_layout(np.array([1]))
        >>> aggregate_tracks(distances, *sides, ["min", "mean"], running=False)
        {'min': tensor([[0.1000]]), 'mean': tensor([[0.3000]])}
        >>> aggregate_tracks(torch.tensor([[0.1], [0.5]]), *sides, ["min", "mean"], running=True)
        {'min': tensor([[0.1000]]), 'mean': tensor([[0.1000]])}
    """
    wanted = tuple(aggregations)
    results = {name: distances.new_empty(queries.count, items.count) for name in wanted}
    for query in queries.groups:
        noted = list(query.view(distances, dim=0).unbind(0))
        for slot in range(1, len(noted) if running else 0):
            noted[slot] = torch.minimum(noted[slot], noted[slot - 1])
        for group in items.groups:
            values = [slot for each in noted for slot in group.view(each, dim=1).unbind(1)]
            rows, columns = slice(query.first, query.first + query.count), slice(group.first, group.first + group.count)
            for name, block in aggregate(values, wanted).items():
                results[name][rows, columns] = block
    return results


def aggregate(values: Sequence[torch.Tensor], aggregations: Iterable[str]) -> dict[str, torch.Tensor]:
    """Aggregate n tensors of one shape, element by element; they are not changed, and one alone is its own result.

    Args:
        values: The n tensors.
        aggregations: Names in :data:`~vreid_cli.ranking.metrics.AGGREGATIONS`, which says of which of the sorted
            values each is the mean.

    Returns:
        A tensor of that shape by each name.

    Example:
        >>> values = [torch.tensor([9.0, 1.0]), torch.tensor([1.0, 1.0]), torch.tensor([2.0, 4.0])]
        >>> aggregate(values, ["min", "mean50"])
        {'min': tensor([1., 1.]), 'mean50': tensor([1.5000, 1.0000])}
    """
    count = len(values)
    places = {name: tuple(AGGREGATIONS[name](count)) for name in aggregations}
    some = {place for each in places.values() if len(each) < count for place in each}
    ordered = _smallest(values, frozenset(some))
    return {
        name: _mean(values if len(each) == count else [ordered[place] for place in each])
        for name, each in places.items()
    }


def _mean(values: Sequence[torch.Tensor]) -> torch.Tensor:
    if len(values) == 1:
        return values[0]
    if len(values) > _NETWORK:
        # One after the other, thousands of float32 would lose digits.
        return torch.stack(list(values)).mean(dim=0)
    total = values[0] + values[1]
    for value in values[2:]:
        total += value
    return total.div_(len(values))


def _smallest(values: Sequence[torch.Tensor], places: frozenset[int]) -> Sequence[torch.Tensor]:
    """The values sorted element by element, right at these places; at the others anything may stand."""
    if not places or len(values) == 1:
        return values
    if len(values) > _NETWORK:
        return torch.stack(list(values)).sort(dim=0).values.unbind(0)
    slots = list(values)
    for low, high, keep_low, keep_high in _network(len(values), places):
        one, other = slots[low], slots[high]
        if keep_low:
            slots[low] = torch.minimum(one, other)
        if keep_high:
            slots[high] = torch.maximum(one, other)
    return slots


@lru_cache(maxsize=4096)
def _network(count: int, places: frozenset[int]) -> tuple[tuple[int, int, bool, bool], ...]:
    """Comparators that bring the right values to these places, and which of their two outcomes is needed.

    Source: Batcher's odd-even merge sort (Knuth, The Art of Computer Programming 3, algorithm 5.2.2M), walked
    backwards to leave out what no wanted place depends on.
    """
    needed = set(places)
    kept = []
    for low, high in reversed(_comparators(count)):
        if low in needed or high in needed:
            kept.append((low, high, low in needed, high in needed))
            needed |= {low, high}
    return tuple(reversed(kept))


def _comparators(count: int) -> list[tuple[int, int]]:
    pairs = []
    span = 1
    while span < count:
        step = span
        while step >= 1:
            for start in range(step % span, count - step, 2 * step):
                run = range(start, min(start + step, count - step))
                pairs += [(i, i + step) for i in run if i // (2 * span) == (i + step) // (2 * span)]
            step //= 2
        span *= 2
    return pairs
