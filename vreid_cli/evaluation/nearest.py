"""The nearest items of some queries, for showing them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vreid_cli.evaluation.judging import Judge, self_positions
from vreid_cli.types.rankings import RankedItem, Ranking
from vreid_cli.types.truth import SameCamera


def nearest(
    ranking: Ranking, queries: Sequence[str], *, top: int, same_camera: SameCamera = "drop"
) -> dict[str, list[RankedItem]]:
    """The nearest items of some queries, without the query itself and (under ``drop``) junk.

    Args:
        ranking: In memory or from a file.
        queries: Their names, in the order that is wanted.
        top: How many of the nearest.
        same_camera: ``drop`` or ``keep``, as for scores.

    Returns:
        By query, in rank order; ranks are counted without what was left out. Nothing for an unknown query.

    Examples:
        >>> import numpy as np
        >>> import vreid_cli as vreid
        >>> tracks = vreid.FeatureSet.from_arrays(np.array([[0.0, 1], [1, 1], [1, 0]]), track_id=["a", "b", "c"])
        >>> ranking = vreid.rank(tracks, tracks)["meanMCD50"]
        >>> [(item.rank, item.gallery_id) for item in nearest(ranking, ["a"], top=2)["a"]]
        [(1, 'a'), (2, 'b')]
    """
    own, gallery = ranking.queries, ranking.gallery
    position = {name: index for index, name in enumerate(own.ids)}
    judge = Judge(own, gallery, selves=self_positions(ranking.facts.selves, own, gallery), same_camera=same_camera)
    found: dict[str, list[RankedItem]] = {query: [] for query in queries}
    wanted = np.array(sorted({position[query] for query in queries if query in position}), dtype=np.int64)
    for block in ranking.lists_of(wanted):
        left_out = judge(block.query_index, block.gallery_index).left_out
        for query in np.unique(block.query_index).tolist():
            rows = np.flatnonzero(block.query_index == query)
            removed = np.cumsum(left_out[rows])
            kept = ~left_out[rows]
            for row, gone in zip(rows[kept][:top].tolist(), removed[kept][:top].tolist(), strict=True):
                item = block.gallery_index[row]
                found[own.ids[query]].append(
                    RankedItem(
                        query_id=own.ids[query],
                        query_vehicle=own.vehicles[query],
                        query_camera=own.cameras[query],
                        rank=int(block.rank[row]) - gone,
                        gallery_id=gallery.ids[item],
                        gallery_vehicle=gallery.vehicles[item],
                        gallery_camera=gallery.cameras[item],
                        distance=float(block.distance[row]),
                    )
                )
    return found
