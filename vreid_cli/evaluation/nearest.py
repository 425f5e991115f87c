"""The nearest items of some queries, for showing them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vreid_cli.evaluation.judging import Judge, left_out
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
    own, gallery, judge = ranking.queries, ranking.gallery, Judge(ranking)
    found: dict[str, list[RankedItem]] = {query: [] for query in queries}
    wanted = np.flatnonzero(np.isin(own.ids.astype(str), list(queries)))
    for block in ranking.blocks:
        if not len(wanted) or block.query_index[0] > wanted[-1]:
            break
        out = left_out(judge(block.query_index, block.gallery_index), same_camera)
        for query in np.intersect1d(wanted, block.query_index).tolist():
            rows = np.flatnonzero(block.query_index == query)
            gone = np.cumsum(out[rows])
            for place in np.flatnonzero(~out[rows])[:top].tolist():
                row = rows[place]
                sure = ranking.facts.probability(block.distance[row : row + 1])
                item = block.gallery_index[row]
                found[own.ids[query]].append(
                    RankedItem(
                        query_id=own.ids[query],
                        query_vehicle=own.vehicles[query],
                        query_camera=own.cameras[query],
                        rank=int(block.rank[row]) - int(gone[place]),
                        gallery_id=gallery.ids[item],
                        gallery_vehicle=gallery.vehicles[item],
                        gallery_camera=gallery.cameras[item],
                        distance=float(block.distance[row]),
                        probability=None if sure is None or np.isnan(sure[0]) else float(sure[0]),
                    )
                )
    return found
