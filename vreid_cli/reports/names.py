"""What to call networks and rankings where several are told of side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

#: What made the features of a ranking, so that two networks are one where all of it is equal; None where unknown.
Network = tuple[tuple[str, str], ...]

#: What tells networks apart beside the architecture, in the order in which it is tried.
_DETAILS = ("weights", "precision", "backend", "weights_digest", "transform")
_DIGITS = 8


def network_of(result: Mapping[str, Any]) -> Network | None:
    """What made the features of one result of ``vreid evaluate``; None where the ranking does not say."""
    identity = result["identity"]
    return tuple(sorted(identity.items())) if identity and result["architecture"] else None


def network_labels(results: Sequence[Mapping[str, Any]]) -> dict[Network, tuple[str, ...]]:
    """Labels of the networks in the order in which they appear, each in as many parts as it takes.

    Args:
        results: Objects as ``vreid evaluate --json`` prints them.

    Returns:
        The architecture; then the weights, where not all networks have weights of one name; then what else tells
        two apart that would be called the same.
    """
    found: dict[Network, dict[str, str]] = {}
    for result in results:
        network = network_of(result)
        if network is not None:
            found.setdefault(network, {**dict(network), "weights": str(result["weights"] or "unknown weights")})
    labels: dict[Network, tuple[str, ...]] = {network: (parts["architecture"],) for network, parts in found.items()}
    for detail in _DETAILS:
        values = {network: parts.get(detail, "unknown") for network, parts in found.items()}
        differs = len(set(values.values())) > 1
        # Weights always say something: those of one network may be trained and those of another not.
        if differs and (detail == "weights" or len(set(labels.values())) < len(labels)):
            short = _DIGITS if detail == "weights_digest" else None
            labels = {network: (*label, values[network][:short]) for network, label in labels.items()}
    return labels


def ranking_names(results: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """A short name for each ranking, by its path.

    The metric, or the file's name where that is not enough, with the network before it where there are several;
    the path where even that would name two.
    """
    labels = network_labels(results)
    heads = [_join(labels.get(network_of(result) or (), ())) if len(labels) > 1 else "" for result in results]
    metrics = [metric_name(result) for result in results]
    stems = [PurePath(result["ranking"]).stem for result in results]
    forms = [
        *([f"{head} {name}".strip() for head, name in zip(heads, own, strict=True)] for own in (metrics, stems)),
        [result["ranking"] for result in results],
    ]
    names = {}
    for place, result in enumerate(results):
        unique = (form[place] for form in forms if form.count(form[place]) == 1)
        names[result["ranking"]] = next(unique, result["ranking"])
    return names


def metric_name(result: Mapping[str, Any]) -> str:
    """The metric, with the number that belongs to it."""
    name = "unknown" if result["metric"] is None else str(result["metric"])
    return name if result["alpha"] is None else f"{name}, α {result['alpha']:g}"


def enumerate_some(names: Iterable[str], *, most: int = 3) -> str:
    """Names in a row; of many the first, and how many more."""
    listed = list(names)
    more = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {more} more" if more > 0 else "")


def _join(parts: Iterable[str]) -> str:
    return " ".join(parts)
