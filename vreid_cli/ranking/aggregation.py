"""From distances between images to distances between tracks, without a loop over pairs.

Rows and columns of a block of distances are laid out *slot-major*: items of equal length lie together, first
the first image of each, then the second of each, and so on. A minimum over an item's images is then a
reduction over a whole dimension.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from vreid_cli.ranking.metrics import Aggregation
from vreid_cli.types import Int64Array


@dataclass(frozen=True)
class SlotGroup:
    """Items of one length: ``length`` slots of ``len(items)`` rows each, from row ``start`` on.

    Attributes:
        length: Images of each item.
        start: First row of the group in the slot-major layout.
        items: (n,) int64 positions of the items in the block.
    """

    length: int
    start: int
    items: torch.Tensor

    def view(self, values: torch.Tensor, *, dim: int) -> torch.Tensor:
        """The group's part of ``values`` with dimension ``dim`` split into (length, n)."""
        part = values.narrow(dim, self.start, self.length * len(self.items))
        split: torch.Tensor = part.unflatten(dim, (self.length, len(self.items)))
        return split


@dataclass(frozen=True)
class SlotLayout:
    """How the images of a block of items are laid out.

    Attributes:
        order: (R,) int64: row i of the layout is image ``order[i]`` of the block.
        groups: One for each length that occurs.
        count: Number of items.
    """

    order: Int64Array
    groups: tuple[SlotGroup, ...]
    count: int


def slot_layout(lengths: Int64Array, device: torch.device) -> SlotLayout:
    """Layout of items with these numbers of images, whose images lie one item after the other.

    Args:
        lengths: (n,) images of each item, each at least 1.
        device: Where the groups' index tensors are kept.
    """
    starts = np.cumsum(lengths) - lengths
    orders = []
    groups = []
    row = 0
    for length in np.unique(lengths):
        items = np.flatnonzero(lengths == length)
        orders.append((starts[items][None, :] + np.arange(length)[:, None]).reshape(-1))
        groups.append(SlotGroup(int(length), row, torch.from_numpy(items).to(device)))
        row += len(orders[-1])
    order = np.concatenate(orders) if orders else np.empty(0, dtype=np.int64)
    return SlotLayout(order.astype(np.int64), tuple(groups), len(lengths))


def nearest_image(values: torch.Tensor, layout: SlotLayout) -> torch.Tensor:
    """Minimum over each item's images: (Q, R) values in slot-major columns to (Q, items)."""
    nearest = values.new_empty(values.shape[0], layout.count)
    for group in layout.groups:
        nearest[:, group.items] = group.view(values, dim=1).amin(dim=1)
    return nearest


def aggregate_queries(distances: torch.Tensor, layout: SlotLayout, aggregation: Aggregation) -> torch.Tensor:
    """The definition ``paper``: image-to-track distances aggregated over each query's images.

    Args:
        distances: (R, G) from each query image, in slot-major rows, to each gallery item.
        layout: Layout of the rows.
        aggregation: How to aggregate.

    Returns:
        (queries, G) distances.
    """
    aggregated = distances.new_empty(layout.count, distances.shape[1])
    for group in layout.groups:
        aggregated[group.items] = aggregate(group.view(distances, dim=0), aggregation)
    return aggregated


def aggregate_released(
    distances: torch.Tensor, queries: SlotLayout, items: SlotLayout, *, aggregation: Aggregation
) -> torch.Tensor:
    """The definition ``released``: what the authors' released code computes, which is not the formula.

    For each gallery image in order, the query's images are walked in order and the running minimum is noted
    at every step; the N_r * N_q values are aggregated.

    Args:
        distances: (Q, R) between images, slot-major on both sides.
        queries: Layout of the rows.
        items: Layout of the columns.
        aggregation: How to aggregate.

    Returns:
        (queries, items) distances.
    """
    aggregated = distances.new_empty(queries.count, items.count)
    for query_group in queries.groups:
        running = query_group.view(distances, dim=0).clone()
        for slot in range(1, query_group.length):
            torch.minimum(running[slot], running[slot - 1], out=running[slot])
        for group in items.groups:
            values = group.view(running, dim=2).movedim(2, 1).flatten(0, 1)
            block = aggregate(values, aggregation)
            aggregated[query_group.items[:, None], group.items[None, :]] = block
    return aggregated


def aggregate(values: torch.Tensor, aggregation: Aggregation) -> torch.Tensor:
    """Aggregate over the first dimension: (n, …) to (…).

    The ``50`` forms first keep the ``floor(n / 2) + 1`` smallest, as the authors' code does; ``med`` is the
    mean of the two middle values when n is even. Source: DESIGN section 6.
    """
    if aggregation == "min" or len(values) == 1:
        return values.amin(dim=0)
    if aggregation == "mean":
        return values.mean(dim=0)
    ordered = values.sort(dim=0).values
    if aggregation.endswith("50"):
        ordered = ordered[: len(values) // 2 + 1]
    if aggregation.startswith("mean"):
        return ordered.mean(dim=0)
    count = len(ordered)
    return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
