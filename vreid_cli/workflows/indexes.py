"""The indexes of a run's gallery: which features they hold, and whether these are still the run's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vreid_cli.errors import StoreError
from vreid_cli.store.image_index import ImageIndex, IndexFacts, IndexFolder
from vreid_cli.types.amounts import amount
from vreid_cli.types.arrays import Int64Array
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.index import Geometry
from vreid_cli.workflows.session import Session


def rows_as_stored(features: FeatureSet) -> Int64Array:
    """(N,) gallery row of each image of a store, in the order in which the parts hold them: that of its indexes."""
    rows: Int64Array = np.argsort(getattr(features.matrix, "order"))  # noqa: B009
    return rows


def misfit(
    facts: IndexFacts,
    identity: Mapping[str, str] | None,
    parts: tuple[tuple[str, str], ...],
    *,
    adding: bool = False,
) -> str | None:
    """Why an index does not fit the features of a store; None where it does.

    Args:
        facts: What the index holds.
        identity: What made the features of the store.
        parts: The digests of its parts.
        adding: Whether parts may be missing from the index, because they are to be added.
    """
    own, other = facts.identity, identity or {}
    for key in (*own, *other):
        if own.get(key) != other.get(key):
            return f"it holds features of another {key}: '{own.get(key)}', not '{other.get(key)}'"
    if facts.parts != parts[: len(facts.parts)]:
        return "features that it holds were changed or removed since"
    more = len(parts) - len(facts.parts)
    if more and not adding:
        return f"the features have {amount(more, 'more part')} than it"
    return None


def open_indexes(session: Session, features: FeatureSet, distances: Sequence[Geometry]) -> list[ImageIndex]:
    """The indexes of the run's gallery, which must be those of these features.

    Raises:
        MissingExtraError: FAISS is not installed.
        StoreError: One is missing, damaged, or of other features; says what to type.
    """
    run = session.need_run()
    folder, parts = IndexFolder(run.index), run.features("gallery").digests()
    rows, found = rows_as_stored(features), []
    for distance in distances:
        facts = folder.read_facts(distance)
        reason = None if facts is None else misfit(facts, features.identity, parts)
        if reason is not None:
            hint = f"bring it up to date: vreid index --distance {distance}"
            raise StoreError(f"the index does not fit the features: {reason}", hint=hint, file=run.index)
        found.append(folder.read(distance, rows=rows, probes=session.settings.index.probes))
    return found
