"""What was noticed while distances were computed, and the warnings that follow from it."""

from __future__ import annotations

import operator
from dataclasses import astuple, dataclass

from vreid_cli.ranking.metrics import Metric
from vreid_cli.ranking.options import RankingOptions
from vreid_cli.types.amounts import amount


@dataclass(frozen=True)
class Diagnostics:
    """Counts of what deserves a warning; those of two pieces of work add up.

    Attributes:
        zero_vectors: Images whose LR is zero.
        nonzero_codes: Images with a use in some sparse code of RSCR.
        unsolved_codes: Sparse codes of RSCR that did not reach the wanted accuracy.

    Example:
        >>> Diagnostics(zero_vectors=1) + Diagnostics(zero_vectors=2, unsolved_codes=3)
        Diagnostics(zero_vectors=3, nonzero_codes=0, unsolved_codes=3)
    """

    zero_vectors: int = 0
    nonzero_codes: int = 0
    unsolved_codes: int = 0

    def __add__(self, other: Diagnostics) -> Diagnostics:
        return Diagnostics(*map(operator.add, astuple(self), astuple(other)))


def warnings_of(found: Diagnostics, metric: Metric, options: RankingOptions) -> tuple[str, ...]:
    """What a whole ranking by this metric, with these diagnostics, should warn of."""
    warnings = []
    if metric.distance == "MCD" and found.zero_vectors:
        images = amount(found.zero_vectors, "image has", "images have")
        warnings.append(f"{images} a zero LR: the cosine distance to every image is 1")
    if metric.distance == "RSCR" and not found.nonzero_codes:
        warnings.append(
            f"RSCR with α = {options.alpha:g}: every code is zero, so the ranking says nothing; "
            "for LRs of small norm choose a smaller α (rank.alpha)"
        )
    if metric.distance == "RSCR" and found.unsolved_codes:
        warnings.append(f"RSCR: {amount(found.unsolved_codes, 'sparse code')} did not reach the wanted accuracy")
    return tuple(warnings)
