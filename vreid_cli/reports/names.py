"""What to call networks and rankings where several stand side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePath

from vreid_cli.evaluation.evaluate import Evaluation
from vreid_cli.types.rankings import RankingFacts

#: Evaluations by the path of their ranking, in the order in which they are shown; all counted by the same options.
Evaluations = Mapping[str, Evaluation]
#: What made the features of a ranking, so that two networks are one where all of it is equal; None where unknown.
Network = tuple[tuple[str, str], ...]

#: What tells networks apart beside the architecture, in the order in which it is tried.
_DETAILS = ("weights", "precision", "backend", "weights_digest", "transform", "quantised_by")
_DIGITS = 8


def network_of(facts: RankingFacts) -> Network | None:
    """What made the features of a ranking; None where it does not say."""
    return tuple(sorted(facts.identity.items())) if facts.identity and facts.architecture else None


def network_labels(rankings: Iterable[RankingFacts]) -> dict[Network, tuple[str, ...]]:
    """Labels of the networks in the order in which they appear, each in as many parts as it takes.

    Args:
        rankings: How the rankings were made.

    Returns:
        The architecture; then the weights, where not all networks have weights of one name; then what else tells
        two apart that would be called the same.

    Examples:
        >>> one, other = ({"architecture": "vgg16", "weights_digest": digest} for digest in ("a1", "b2"))
        >>> list(network_labels([RankingFacts(gallery_identity=one), RankingFacts(gallery_identity=other)]).values())
        [('vgg16', 'a1'), ('vgg16', 'b2')]
    """
    found: dict[Network, dict[str, str]] = {}
    for facts in rankings:
        network = network_of(facts)
        if network is not None:
            found.setdefault(network, {**dict(network), "weights": str(facts.weights or "unknown weights")})
    labels: dict[Network, tuple[str, ...]] = {network: (parts["architecture"],) for network, parts in found.items()}
    for detail in _DETAILS:
        values = {network: parts.get(detail, "unknown") for network, parts in found.items()}
        differs = len(set(values.values())) > 1
        # Weights always say something: those of one network may be trained and those of another not.
        if differs and (detail == "weights" or len(set(labels.values())) < len(labels)):
            short = _DIGITS if detail == "weights_digest" else None
            labels = {network: (*label, values[network][:short]) for network, label in labels.items()}
    return labels


def names_of(results: Evaluations) -> dict[str, str]:
    """A short name for each evaluated ranking, by its path.

    The metric, or the file's name where that is not enough, with the network before it where there are several;
    the path where even that would name two.
    """
    rankings = {path: one.facts for path, one in results.items()}
    labels = network_labels(rankings.values())
    forms: list[list[str]] = [[], [], list(rankings)]
    for path, facts in rankings.items():
        head = " ".join(labels.get(network_of(facts) or (), ())) if len(labels) > 1 else ""
        for form, name in zip(forms, (facts.text("metric"), PurePath(path).stem), strict=False):
            form.append(f"{head} {name}".strip())
    return {
        path: next((form[place] for form in forms if form.count(form[place]) == 1), path)
        for place, path in enumerate(rankings)
    }


def enumerate_some(names: Iterable[str], *, most: int = 3) -> str:
    """Names in a row; of many the first, and how many more.

    Examples:
        >>> enumerate_some(["a", "b", "c", "d"])
        'a, b, c and 1 more'
    """
    listed = list(names)
    more = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {more:,} more" if more > 0 else "")
