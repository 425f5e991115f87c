"""``vreid associate``: which tracks of a run, or of feature files, are one vehicle, and the files that say so."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vreid_cli.association.associate import associate as associate_tracks
from vreid_cli.association.associate import ranking_facts, track_times
from vreid_cli.association.constraints import make_constraints
from vreid_cli.association.distances import TrackDistances
from vreid_cli.association.links import DEFAULT_PROBABILITY
from vreid_cli.association.options import AssociationOptions
from vreid_cli.association.travel import Traffic, count_traffic
from vreid_cli.config import Settings
from vreid_cli.data.clocks import CLOCKS, read_clocks, read_travel_times
from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.data.mot import track_name
from vreid_cli.data.scene import Recording
from vreid_cli.errors import DataError, StoreError, UsageError
from vreid_cli.evaluation.thresholds import OperatingPoint
from vreid_cli.evaluation.track_pairs import track_pair_errors
from vreid_cli.ranking.candidates import group_by_space
from vreid_cli.ranking.metrics import parse_metrics
from vreid_cli.ranking.tracks import group_tracks
from vreid_cli.reports.plots import check_plot_path
from vreid_cli.reports.traffic import plot_traffic, write_traffic
from vreid_cli.runtime.files import alone
from vreid_cli.runtime.progress import log, progress
from vreid_cli.store.formats import read_features
from vreid_cli.store.identities import read_identity_facts, write_identities
from vreid_cli.store.image_index import ImageIndex, build_index
from vreid_cli.types.amounts import amount
from vreid_cli.types.arrays import text_array
from vreid_cli.types.features import FeatureSet, join_features
from vreid_cli.types.identities import Clock, Identities
from vreid_cli.types.tracker import TrackerBoxes
from vreid_cli.workflows.calibrations import CalibrationFinder
from vreid_cli.workflows.inputs import data_folders
from vreid_cli.workflows.session import Report, RunChoice, Session

#: Facts of identities that change them.
_RECIPE = (
    *("dataset", "metric", "threshold", "min_probability", "calibration", "reach", "cameras", "travel_times"),
    *("candidates", "identity_of_features"),
)


@dataclass(frozen=True, kw_only=True)
class AssociateReport(Report):
    """What was found.

    Attributes:
        identities: The identities.
        traffic: Where the vehicles go.
        path: The table of identities.
        chosen: The threshold and its miss rate, where it was chosen by labels.
        in_run: Whether the table lies in the run, so that later commands find it.
        run_option: What commands to come must say to find the run.
    """

    identities: Identities
    traffic: Traffic
    path: Path
    chosen: OperatingPoint | None
    in_run: bool
    run_option: str


@dataclass(frozen=True, eq=False)
class _Tracks:
    """The tracks of a command: their features, the split of each by name, and the trackers' files where there are."""

    features: FeatureSet
    split: Mapping[str, str]
    recordings: Sequence[Recording] = ()

    @cached_property
    def boxes(self) -> dict[str, TrackerBoxes]:
        """What each camera's tracker saw."""
        return {one.camera: one.boxes() for one in self.recordings}

    @property
    def spans(self) -> dict[str, tuple[int, int]]:
        """First and last frame of each track, by its name."""
        spans = {camera: boxes.spans() for camera, boxes in self.boxes.items()}
        return {track_name(camera, track): span for camera, own in spans.items() for track, span in own.items()}


def choose_run(settings: Settings) -> RunChoice:
    """The run whose tracks are associated; none where feature files are named."""
    named = bool(settings.associate.features)
    # Labels of a run's features were read by extract; only those of features from elsewhere are read here.
    elsewhere = named or settings.associate.labelled is not None
    return RunChoice(use_latest=not named, free=("data.label_pattern",) if elsewhere else ())


def associate(session: Session) -> AssociateReport:
    """Find the identities and write them, with traffic between the cameras.

    Raises:
        VreidError: Features, times or travel times do not fit, no threshold is given and none can be chosen, or a
            file would be overwritten.
    """
    chosen = session.settings.associate
    if chosen.plot is not None:
        check_plot_path(chosen.plot)
    path = _output(session)
    tracks = _read_tracks(session)
    found, point, doubts = _find_identities(session, tracks)
    traffic = count_traffic(found)
    with alone(path):  # these files belong together
        if not chosen.force and path.exists():
            _refuse_another(path, found)
        outputs = [*write_identities(path, found), *write_traffic(path.with_suffix(""), traffic)]
        if tracks.recordings:
            outputs.append(_rewrite(path.with_suffix(""), tracks, found))
        if chosen.plot is not None:
            plot_traffic(chosen.plot, traffic)
            outputs.append(chosen.plot)
    warnings = tuple(dict.fromkeys([*doubts, *found.warnings]))
    for warning in warnings:
        log.warning("%s", warning)
    if not chosen.features:
        session.record()
    return AssociateReport(
        outputs=tuple(map(str, outputs)),
        warnings=warnings,
        identities=found,
        traffic=traffic,
        path=path,
        chosen=point,
        in_run=chosen.output is None,
        run_option=session.run_option,
    )


def _find_identities(session: Session, tracks: _Tracks) -> tuple[Identities, OperatingPoint | None, list[str]]:
    """The identities, the threshold that was chosen by labels, if any, and what is doubtful."""
    chosen, features = session.settings.associate, tracks.features
    clocks, warnings = _read_clocks(session, tracks)
    options = AssociationOptions(**{name: getattr(chosen, name) for name in AssociationOptions.model_fields})
    finder = CalibrationFinder(chosen.calibration, None if chosen.features else session.run)
    calibration = finder([ranking_facts(features, options)]).get(options.metric)
    warnings += finder.warnings
    point = None
    if _needs_labels(session, calibrated=calibration is not None):
        point, doubts = _choose_threshold(session, features, options)
        options = options.model_copy(update={"threshold": point.threshold})
        warnings += doubts
    with progress(total=len(set(features.track_id)), what="comparing", unit="tracks") as bar:
        found = associate_tracks(
            features,
            options,
            calibration=calibration,
            travel_times=read_travel_times(chosen.travel_times) if chosen.travel_times is not None else [],
            clocks=clocks,
            spans=tracks.spans,
            index=_propose(session, features, options),
            runtime=session.settings.runtime,
            advance=bar.update,
        )
    split = text_array([tracks.split.get(name) for name in found.tracks.ids])
    return replace(found, split=split), point, warnings


def _propose(session: Session, features: FeatureSet, options: AssociationOptions) -> ImageIndex | None:
    """An index of all the tracks, in memory, where each is compared with its candidates alone."""
    if options.candidates is None:
        return None
    (space,) = group_by_space(parse_metrics([options.metric], "t2t"))
    chosen = session.settings.index.model_copy(update={"distance": (space,)})
    return build_index(features, chosen, seed=session.settings.run.seed)


def _needs_labels(session: Session, *, calibrated: bool) -> bool:
    """Whether the threshold is to be chosen by labels: asked for, or nothing else says how near is near enough."""
    chosen = session.settings.associate
    if chosen.threshold is not None or chosen.min_probability is not None:
        return False
    asked = chosen.labelled is not None or session.resolved.given("associate.false_match_rate")
    if not asked and calibrated:
        log.info(
            "tracks are merged while they are one vehicle with a probability of at least %g (--min-probability)",
            DEFAULT_PROBABILITY,
        )
    return asked or not calibrated


def _output(session: Session) -> Path:
    chosen = session.settings.associate
    if chosen.output is None:
        if chosen.features:
            raise UsageError("where should the identities of these features go?", hint="give --output FILE.parquet")
        return session.need_run().identities / f"{chosen.metric}.parquet"
    if chosen.output.suffix.lower() != ".parquet":
        hint = "as in --output cars.parquet; cars.csv is written beside it"
        raise UsageError(f"--output {chosen.output}: identities are written as .parquet", hint=hint)
    return chosen.output


def _refuse_another(path: Path, found: Identities) -> None:
    """Identities that are there may be replaced by those of the same recipe only."""
    hint = "use --force to replace it, or --output to keep both"
    try:
        there = read_identity_facts(path)
    except DataError:
        there = {}
    for name in _RECIPE:
        if there.get(name) != found.facts.get(name):
            why = f"{name.replace('_', ' ')} {there.get(name)}, now {found.facts.get(name)}" if there else "by others"
            raise StoreError(f"{path} is there already and was made otherwise: {why}", hint=hint, file=path)


# -- tracks and times ----------------------------------------------------------------------------------------


def _read_tracks(session: Session) -> _Tracks:
    """The tracks of the run's splits, or of the files that are named."""
    named = session.settings.associate.features
    if named:
        pattern = session.settings.data.label_pattern
        sides = {str(path): read_features(path, label_pattern=pattern) for path in named}
        return _Tracks(join_features(sides), {})
    run = session.need_run()
    layout = LAYOUTS[session.settings.data.dataset]
    if layout.protocol == "random-gallery":
        raise UsageError(f"{layout.name} has single images and no tracks", hint="use a data set with tracks")
    # The queries of some data sets are images of gallery tracks; others may be extracted on one side alone.
    extracted = tuple(split for split in run.extracted_splits() if split in layout.splits)
    splits = ("gallery",) if layout.protocol == "gallery-tracks" else extracted or layout.splits
    if len(layout.splits) > len(splits) and layout.protocol == "separate":
        log.info("the tracks of %s alone: the run holds no others", " and ".join(splits))
    sides = _each_once({split: run.features(split).read() for split in splits})
    joined = join_features(sides)
    owner: dict[str, str] = {}
    start = 0
    for split, side in sides.items():
        owner |= dict.fromkeys(joined.track_id[start : start + len(side)], split)
        start += len(side)
    return _Tracks(joined, owner, layout.find_recordings(data_folders(session.settings)))


def _each_once(sides: Mapping[str, FeatureSet]) -> dict[str, FeatureSet]:
    """The sides without the images that an earlier one holds: one folder may be query and gallery."""
    found: dict[str, FeatureSet] = {}
    seen: set[str] = set()
    for split, side in sides.items():
        files = [f"{side.image_root}/{name}" for name in side.image_id] if side.image_root is not None else []
        rows = np.array([k for k, file in enumerate(files) if file not in seen], dtype=np.int64)
        if len(rows) == len(files):
            found[split] = side
        elif len(rows):
            found[split] = side.select(rows)
        seen.update(files)
    return found


def _read_clocks(session: Session, tracks: _Tracks) -> tuple[dict[str, Clock], list[str]]:
    """The clocks in ``cameras.toml``, else the frame rates that videos and sequences state."""
    chosen, data_dir = session.settings.associate, session.settings.data.data_dir
    path = chosen.clocks
    if path is None and data_dir is not None and not chosen.features and (data_dir / CLOCKS).is_file():
        path = data_dir / CLOCKS
    stated = {one.camera: clock for one in tracks.recordings if (clock := one.clock()) is not None}
    if path is None:
        return stated, []
    cameras = dict.fromkeys(str(camera) for camera in tracks.features.camera_id if camera is not None)
    return read_clocks(path, cameras, stated=stated)


def _rewrite(folder: Path, tracks: _Tracks, found: Identities) -> Path:
    """Write each tracker's file again with the numbers of identities in the place of its own ids.

    Tracks without a usable image get numbers of their own, after all others.
    """
    numbers = dict(zip(found.tracks.ids, found.identity.tolist(), strict=True))
    following = itertools.count(int(found.identity.max(initial=0)) + 1)
    for one in tracks.recordings:
        names = {track: track_name(one.camera, track) for track in dict.fromkeys(tracks.boxes[one.camera].track)}
        ids = {track: numbers[name] if name in numbers else next(following) for track, name in names.items()}
        one.format.rewrite(one.tracks, folder / one.camera / one.tracks.name, ids)
    return folder


# -- the threshold -------------------------------------------------------------------------------------------


def _choose_threshold(
    session: Session, features: FeatureSet, options: AssociationOptions
) -> tuple[OperatingPoint, list[str]]:
    """The largest threshold that keeps the false-match rate among labelled tracks, and what is doubtful about it."""
    chosen = session.settings.associate
    elsewhere = chosen.labelled
    labelled = _read_labelled(session, elsewhere) if elsewhere is not None else features
    distances = TrackDistances(labelled, options, runtime=session.settings.runtime)
    items = distances.tracks.items
    hint = "give --threshold, labelled tracks with --labelled, or a calibration"
    if all(vehicle is None for vehicle in items.vehicles):
        raise UsageError(f"no threshold: the vehicles of {labelled.source} are not known", hint=hint)
    times = track_times(labelled, group_tracks(labelled, "passage"), clocks={}, spans={})
    constraints = make_constraints(items.cameras, times, which=options.cameras)

    def possible_pairs() -> Any:
        with progress(total=len(items), what="choosing the threshold", unit="tracks") as bar:
            for strip in distances.strips(advance=bar.update):
                one, other, distance = strip.later()
                kept = constraints.possible(one, other)
                yield one[kept], other[kept], distance[kept]

    curve = track_pair_errors(possible_pairs(), items.vehicles)
    point = None if curve is None else curve.at_false_match_rate(chosen.false_match_rate)
    if point is None:
        pairs = (
            "no pairs of one vehicle and of two"
            if curve is None
            else f"{amount(curve.negatives, 'pair')} of two vehicles"
        )
        raise UsageError(
            f"--false-match-rate {chosen.false_match_rate:g}: {labelled.source} has {pairs}, too few for it",
            hint="give a larger rate, or --threshold",
        )
    log.info(
        "threshold %.4g: %.3g%% of pairs of two vehicles are nearer, %.1f%% of one vehicle's are farther (%s)",
        *(point.threshold, 100 * chosen.false_match_rate, 100 * point.miss_rate, labelled.source),
    )
    same = f"the threshold was chosen by the labels of the same tracks ({labelled.source}): scores on them flatter"
    return point, [] if elsewhere is not None else [same]


def _read_labelled(session: Session, path: Path) -> FeatureSet:
    return read_features(path, label_pattern=session.settings.data.label_pattern)
