"""``vreid export features``: a feature store in the forms that other programs read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vreid_cli.errors import StoreError
from vreid_cli.ranking.tracks import group_tracks, query_tracks_in
from vreid_cli.runtime.progress import log
from vreid_cli.store.formats import write_features
from vreid_cli.types.features import MEANINGLESS, FeatureSet
from vreid_cli.types.tracks import Tracks
from vreid_cli.workflows.session import Report, Session

#: As the authors call their two files.
_NAMES = {"query": "feat_query", "gallery": "feat_test"}


def export_features(session: Session) -> Report:
    """Write the tracks of both sides, each to a file of its own.

    For VeRi the query tracks are the gallery's tracks that hold a query image, whole, as in the task t2t.

    Raises:
        StoreError: The run has no complete features, or a file is there already.
    """
    run = session.need_run()
    chosen = session.settings.export
    unit = session.settings.rank.track_unit
    gallery = run.features("gallery").read()
    tracks = group_tracks(gallery, unit)
    sides = {"gallery": (gallery, tracks)}
    lost: list[str] = []
    if gallery.protocol == "gallery-tracks":
        query_tracks, lost = query_tracks_in(gallery, tracks, run.features("query").read())
        sides = {"query": (gallery, query_tracks), **sides}
    elif gallery.protocol == "separate":
        query = run.features("query").read()
        sides = {"query": (query, group_tracks(query, unit)), **sides}
    folder = chosen.output or run.path / "exports"
    outputs = {name: folder / f"{_NAMES[name]}.{chosen.format}" for name in sides}
    for path in outputs.values():
        if path.exists() and not chosen.force:
            raise StoreError(
                f"{path} is there already", hint="use --force to replace it, or another --output", file=path
            )
    for name, (features, side) in sides.items():
        write_features(outputs[name], _by_track(features, side))
    warnings = [f"{len(lost)} query images are in no gallery track and were left out"] if lost else []
    warnings += [MEANINGLESS] if gallery.meaningless else []
    for warning in warnings:
        log.warning("%s", warning)
    session.record()
    return Report(outputs=tuple(str(path) for path in outputs.values()), warnings=tuple(warnings))


def _by_track(features: FeatureSet, tracks: Tracks) -> FeatureSet:
    """The tracks' images in order, each naming its track by the unit that was grouped by."""
    owners = np.repeat(np.arange(len(tracks)), tracks.lengths)
    return replace(features.select(tracks.rows), track_id=tracks.items.ids[owners])
