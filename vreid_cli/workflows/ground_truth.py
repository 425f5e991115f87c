"""Ground truth that lies beside the images of a ranking's run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.ranking.tracks import group_tracks
from vreid_cli.runtime.objects import as_path
from vreid_cli.store.runs import owning_run
from vreid_cli.types.rankings import RankingFacts
from vreid_cli.types.truth import GroundTruth


def ground_truth(path: Path, facts: RankingFacts) -> GroundTruth | None:
    """What the data set's own files say, where the run's data folder has them."""
    run, layout = owning_run(path), LAYOUTS.get(facts.dataset or "")
    if run is None or layout is None or facts.task is None:
        return None
    data_dir = run.read_info().get("data_dir")
    truth = layout.read_truth(as_path(data_dir)) if data_dir and as_path(data_dir).is_dir() else None
    if truth is None or facts.task == "i2i":
        return truth
    if not run.features("gallery").is_complete():
        return None  # which images a track holds is not known any more: labels decide
    gallery = run.features("gallery").read()
    tracks = group_tracks(gallery, facts.track_unit or "passage")
    names = np.repeat(tracks.items.ids, tracks.lengths)
    track_of = dict(zip(gallery.image_id[tracks.rows], names, strict=True))
    return truth.of_tracks(track_of, query_tracks=facts.task == "t2t")
