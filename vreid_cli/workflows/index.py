"""``vreid index``: an index of the run's gallery, made, added to, or made again where the features are others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vreid_cli.errors import StoreError
from vreid_cli.runtime.extras import require_extra
from vreid_cli.runtime.progress import log
from vreid_cli.store.features import FeatureStore
from vreid_cli.store.image_index import ImageIndex, IndexFacts, IndexFolder, choose_kind, new_index
from vreid_cli.store.runs import RunDirectory
from vreid_cli.types.amounts import amount
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.index import Geometry
from vreid_cli.workflows.indexes import misfit, rows_as_stored
from vreid_cli.workflows.session import Report, Session

#: An index is made again where the gallery has grown by more than this since its centres were chosen.
_OUTGROWN = 4


@dataclass(frozen=True)
class IndexedGallery:
    """One index.

    Attributes:
        distance: What is near.
        kind: How it finds neighbours.
        images: Number of images in it.
        added: Number of these that were added now.
        size: Bytes.
        path: Its file.
        rebuilt: Why the one before was thrown away; None where it was not.
    """

    distance: Geometry
    kind: str
    images: int
    added: int
    size: int
    path: Path
    rebuilt: str | None


@dataclass(frozen=True)
class IndexReport(Report):
    """What was indexed.

    Attributes:
        indexes: One for each distance.
        run_option: What commands to come must say to find the run.
    """

    indexes: tuple[IndexedGallery, ...] = ()
    run_option: str = ""


def index(session: Session) -> IndexReport:
    """Bring the index for each distance up to date with the run's gallery.

    Raises:
        MissingExtraError: FAISS is not installed.
        StoreError: There are no complete features, somebody else is writing to the run, or there is no room.
        DataError: A feature is not finite.
    """
    require_extra("faiss", ["faiss"], needed_by="vreid index")
    run, store = session.need_run(), session.need_run().features("gallery")
    with run.locked():
        features = store.read()
        stored = features.select(rows_as_stored(features))
        found = tuple(
            _bring_up_to_date(session, run, store, stored, distance=distance)
            for distance in session.settings.index.distance
        )
    session.record()
    return IndexReport(
        outputs=tuple(str(one.path) for one in found),
        indexes=found,
        run_option=session.run_option,
    )


def _bring_up_to_date(
    session: Session, run: RunDirectory, store: FeatureStore, stored: FeatureSet, *, distance: Geometry
) -> IndexedGallery:
    chosen, folder, parts = session.settings.index, IndexFolder(run.index), store.digests()
    one, reason = _read_old(folder, distance, restart=chosen.restart)
    if one is not None:
        reason = misfit(one.facts, stored.identity, parts, adding=True) or _other_recipe(session, one.facts, stored)
    if reason is not None:
        log.info("the %s index is made again: %s", distance, reason)
        one = None
    before = 0 if one is None else len(one)
    if one is None or before < len(stored):
        one = one or new_index(stored, chosen, distance=distance, seed=session.settings.run.seed)
        one.add(stored.select(np.arange(before, len(stored))))
        path = folder.write(one.with_parts(parts))
    else:
        path = folder.file(distance)
    return IndexedGallery(
        distance, one.facts.kind, len(one), len(one) - before, path.stat().st_size, path, rebuilt=reason
    )


def _read_old(folder: IndexFolder, distance: Geometry, *, restart: bool) -> tuple[ImageIndex | None, str | None]:
    """The index that is there, or why it is not used; both None where there is none."""
    if not folder.facts_path(distance).is_file():
        return None, None
    if restart:
        return None, "--restart"
    try:
        return folder.read(distance, add=True), None
    except StoreError as error:
        return None, error.message


def _other_recipe(session: Session, facts: IndexFacts, features: FeatureSet) -> str | None:
    """Why an index that holds the right images would be made otherwise now; None where it would not."""
    chosen = session.settings.index
    kind = choose_kind(len(features)) if chosen.kind == "auto" else chosen.kind
    if kind != facts.kind:
        return f"it is {facts.kind}, not {kind}"
    if session.settings.run.seed != facts.seed:
        return f"its seed is {facts.seed}, not {session.settings.run.seed}"
    if len(features) > _OUTGROWN * facts.images:
        return f"its lists were chosen for {amount(facts.images, 'image')}, and there are {len(features):,}"
    return None
