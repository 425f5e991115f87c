"""From distances between images to distances between tracks, without a loop over pairs.

Rows and columns of a block of distances are laid out *slot-major*: items of equal length lie together, first
the first image of each, then the second of each, and so on. A minimum over an item's images is then a
reduction over a whole dimension, and sorting an item's values is a handful of element-wise minima and maxima.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import torch

from vreid_cli.ranking.metrics import AGGREGATIONS
from vreid_cli.types.arrays import Int64Array

#: Up to this many values are sorted by a network of comparators, one operation for all pairs of tracks each; beyond
#: it their number grows faster than the work of a sort. ``tests/benchmarks/aggregation.py`` compares the two.
_NETWORK = 64
#: Values that are aggregated at a time, so that they stay in the cache of a core.
_CACHED = 1 << 19


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
        images, nearest = group.view(values, dim=1), out.narrow(1, group.first, group.count)
        if group.length == 1:
            nearest.copy_(images[:, 0])
        else:
            torch.amin(images, dim=1, out=nearest)
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
    for query, group in product(queries.groups, items.groups):
        pairs = group.view(query.view(distances, dim=0), dim=2)  # query image, query, item's image, item
        columns = slice(group.first, group.first + group.count)
        for some in _pieces(pairs):
            values = list(pairs[:, some].unbind(0))
            for step in range(1, len(values) if running else 0):
                values[step] = torch.minimum(values[step], values[step - 1])
            # Walked backwards, the running minima at an image rise.
            slots = [each[:, image] for image in range(group.length) for each in reversed(values)]
            rows = slice(query.first + some.start, query.first + some.stop)
            for name, block in aggregate(slots, wanted, run=query.length if running else 1).items():
                results[name][rows, columns] = block
    return results


def _pieces(pairs: torch.Tensor) -> Iterator[slice]:
    """Queries whose (images, queries, item's images, items) values stay in the cache of a core; on a GPU all."""
    count = pairs.shape[1]
    step = max(1, count * _CACHED // pairs.numel()) if pairs.device.type == "cpu" else count
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def aggregate(values: Sequence[torch.Tensor], aggregations: Iterable[str], *, run: int = 1) -> dict[str, torch.Tensor]:
    """Aggregate n tensors of one shape, element by element; they are not changed, and one alone is its own result.

    Args:
        values: The n tensors.
        aggregations: Names in :data:`~vreid_cli.ranking.metrics.AGGREGATIONS`, which says of which of the sorted
            values each is the mean.
        run: So many tensors, one after the other, rise already.

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
    ordered = _smallest(values, frozenset(some), run=run)
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


def _smallest(values: Sequence[torch.Tensor], places: frozenset[int], *, run: int) -> Sequence[torch.Tensor]:
    """The values sorted element by element, right at these places; at the others anything may stand."""
    if not places or len(values) == 1:
        return values
    if len(values) > _NETWORK:
        return torch.stack(list(values)).sort(dim=0).values.unbind(0)
    slots = list(values)
    comparators, order = _network(len(values), places, run)
    for low, high, keep_low, keep_high in comparators:
        one, other = slots[low], slots[high]
        if keep_low:
            slots[low] = torch.minimum(one, other)
        if keep_high:
            slots[high] = torch.maximum(one, other)
    return [slots[slot] for slot in order]


@lru_cache(maxsize=4096)
def _network(
    count: int, places: frozenset[int], run: int
) -> tuple[tuple[tuple[int, int, bool, bool], ...], tuple[int, ...]]:
    """Comparators that bring the right values to these places, which of their two outcomes is needed, and the slots.

    Runs of this length rise already, and are merged. Place i is in slot ``order[i]`` then.

    Source: Batcher's odd-even merge sort (Knuth, The Art of Computer Programming 3, algorithm 5.2.2M), walked
    backwards to leave out what no wanted place depends on.
    """
    comparators, order = _comparators(count, run)
    needed = {order[place] for place in places}
    kept = []
    for low, high in reversed(comparators):
        if low in needed or high in needed:
            kept.append((low, high, low in needed, high in needed))
            needed |= {low, high}
    return tuple(reversed(kept)), order


def _comparators(count: int, run: int) -> tuple[list[tuple[int, int]], tuple[int, ...]]:
    """Pairs of slots that are compared one after the other to merge the runs, and the slot of each place then."""
    # The method merges runs of 1, 2, 4, … places: ours are filled up by places of no slot, where infinity would stand.
    span = 1 << (run - 1).bit_length()
    slots = [first + i if i < run else None for first in range(0, count, run) for i in range(span)]
    pairs = []
    while span < len(slots):
        step = span
        while step >= 1:
            for start in range(step % span, len(slots) - step, 2 * step):
                for i in range(start, min(start + step, len(slots) - step)):
                    low, high = slots[i], slots[i + step]
                    if i // (2 * span) != (i + step) // (2 * span) or high is None:
                        continue
                    if low is None:
                        slots[i], slots[i + step] = high, None
                    else:
                        pairs.append((low, high))
            step //= 2
        span *= 2
    return pairs, tuple(slot for slot in slots if slot is not None)
