"""Clusterings by brute force: constrained average linkage, and what scores of identities are measured against."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np


def link_by_brute_force(
    distance: np.ndarray, *, threshold: float, reach: float, possible: Callable[[int, int], bool]
) -> list[int]:
    """Constrained average linkage that looks at every pair of clusters in every step."""
    clusters = {k: [k] for k in range(len(distance))}
    for created in itertools.count(len(distance)):
        best = None
        for one, other in itertools.combinations(sorted(clusters), 2):
            pairs = list(itertools.product(clusters[one], clusters[other]))
            if not all(possible(a, b) for a, b in pairs):
                continue
            mean = sum(min(float(distance[a, b]), reach) for a, b in pairs) / len(pairs)
            if mean <= threshold and (best is None or (mean, one, other) < best):
                best = (mean, one, other)
        if best is None:
            break
        clusters[created] = clusters.pop(best[1]) + clusters.pop(best[2])
    labels = [0] * len(distance)
    for number, members in enumerate(sorted(clusters.values(), key=min)):
        for member in members:
            labels[member] = number
    return labels


def silhouette_by_brute_force(distance: np.ndarray, labels: Sequence[int], item: int) -> float:
    """(b - a) / max(a, b) from a full matrix."""
    own = [k for k in range(len(labels)) if labels[k] == labels[item] and k != item]
    if not own:
        return float("nan")
    inside = np.mean([distance[item, k] for k in own])
    others = [
        np.mean([distance[item, k] for k in range(len(labels)) if labels[k] == label])
        for label in set(labels) - {labels[item]}
    ]
    outside = min(others, default=distance.max())
    return float((outside - inside) / max(inside, outside)) if max(inside, outside) else 0.0


def score_by_brute_force(
    identity: Sequence[int], vehicle: Sequence[str | None], images: Sequence[int]
) -> dict[str, float]:
    """Scores of identities, by walking over pairs, tracks and every one-to-one matching."""
    known = [k for k in range(len(vehicle)) if vehicle[k] is not None]
    together = {k: {j for j in known if identity[j] == identity[k]} for k in known}
    same = {k: {j for j in known if vehicle[j] == vehicle[k]} for k in known}
    pairs = list(itertools.combinations(known, 2))
    joined = [pair for pair in pairs if pair[1] in together[pair[0]]]
    true = [pair for pair in pairs if pair[1] in same[pair[0]]]
    hit = len(set(joined) & set(true))
    precision = sum(len(together[k] & same[k]) / len(together[k]) for k in known) / len(known)
    recall = sum(len(together[k] & same[k]) / len(same[k]) for k in known) / len(known)
    found, wanted = sorted({identity[k] for k in known}), sorted({str(vehicle[k]) for k in known})
    best = 0
    size = max(len(found), len(wanted))
    for order in itertools.permutations(range(size), len(found)):
        names = [wanted[k] if k < len(wanted) else None for k in order]
        matching = dict(zip(found, names, strict=True))
        best = max(best, sum(images[k] for k in known if matching[identity[k]] == vehicle[k]))
    total = sum(images[k] for k in known)

    def ratio(top: float, bottom: float) -> float:
        return top / bottom if bottom else float("nan")

    return {
        **dict.fromkeys(("IDF1", "IDP", "IDR"), best / total),
        "pair_precision": ratio(hit, len(joined)),
        "pair_recall": ratio(hit, len(true)),
        "pair_F1": ratio(2 * hit, len(joined) + len(true)),
        "bcubed_precision": precision,
        "bcubed_recall": recall,
        "bcubed_F1": 2 * precision * recall / (precision + recall),
    }
