"""``vreid export features``: a run's features in the forms that other programs read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vreid_cli.errors import StoreError
from vreid_cli.ranking.tracks import group_tracks, query_tracks_in
from vreid_cli.runtime.progress import log
from vreid_cli.store.formats import write_features
from vreid_cli.store.runs import RunDirectory
from vreid_cli.types.amounts import amount
from vreid_cli.types.arrays import Labels
from vreid_cli.types.features import MEANINGLESS, FeatureSet
from vreid_cli.types.tracks import Tracks, TrackUnit
from vreid_cli.workflows.session import Report, Session

#: As the authors call their two files.
_NAMES = {"query": "feat_query", "gallery": "feat_test"}


def export_features(session: Session) -> Report:
    """Write the tracks of both sides, each to a file of its own.

    Raises:
        StoreError: The run has no complete features, or a file is there already.
    """
    run, chosen = session.need_run(), session.settings.export
    sides, warnings = _gather_sides(run, session.settings.rank.track_unit)
    folder = chosen.output or run.exports
    outputs = {side: folder / f"{_NAMES[side]}.{chosen.format}" for side in sides}
    hint = "use --force to replace it, or another --output"
    for path in outputs.values():
        if path.exists() and not chosen.force:
            raise StoreError(f"{path} is there already", hint=hint, file=path)
    for side, features in sides.items():
        write_features(outputs[side], features)
    for warning in warnings:
        log.warning("%s", warning)
    session.record()
    return Report(outputs=tuple(map(str, outputs.values())), warnings=warnings)


def _gather_sides(run: RunDirectory, unit: TrackUnit) -> tuple[dict[str, FeatureSet], tuple[str, ...]]:
    """The tracks of each side, as the task t2t takes them, and what is doubtful about them."""
    gallery = run.features("gallery").read()
    tracks = group_tracks(gallery, unit)
    sides, warnings = {}, []
    # Of a random gallery the queries are known only once it is split; elsewhere every track is one.
    if gallery.protocol not in ("random-gallery", "every-track"):
        query = run.features("query").read()
        if gallery.protocol == "gallery-tracks":
            query_tracks, missing = query_tracks_in(gallery, tracks, query)
            sides["query"] = _by_track(gallery, query_tracks)
            if len(missing):
                warnings.append(f"{amount(len(missing), 'query image')} in no gallery track, left out")
        else:
            sides["query"] = _by_track(query, group_tracks(query, unit))
    if gallery.meaningless:
        warnings.append(MEANINGLESS)
    return {**sides, "gallery": _by_track(gallery, tracks)}, tuple(warnings)


def _by_track(features: FeatureSet, tracks: Tracks) -> FeatureSet:
    """The tracks' images in order, each naming its track by the unit that was grouped by."""
    owners = np.repeat(np.arange(len(tracks)), tracks.lengths)
    return replace(features.select(tracks.rows), track_id=Labels(owners, tracks.items.ids))
