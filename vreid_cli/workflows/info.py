"""``vreid info``: what is in a run, how it was made, and whether it is complete. Changes nothing."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

from vreid_cli.config import Settings
from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.data.options import DataOptions
from vreid_cli.errors import StoreError, VreidError
from vreid_cli.reports.overview import CheckpointOverview, FileOverview, RankingOverview, RunOverview, TrainingOverview
from vreid_cli.runtime.files import read_json_object
from vreid_cli.runtime.objects import as_path
from vreid_cli.store.calibrations import read_calibration
from vreid_cli.store.formats import read_ranking_facts
from vreid_cli.store.identities import read_identity_facts
from vreid_cli.store.image_index import IndexFolder
from vreid_cli.store.metadata import read_metadata
from vreid_cli.store.runs import RunDirectory, identities_in, rankings_in
from vreid_cli.store.state import StoreState, read_state
from vreid_cli.types.amounts import amount
from vreid_cli.types.index import Geometry
from vreid_cli.workflows.calibrations import older_than_features
from vreid_cli.workflows.indexes import misfit
from vreid_cli.workflows.session import Report, RunChoice, Session, extract_with_trained

T = TypeVar("T")
A = TypeVar("A")

#: What of ``run.json`` may be a path, and what it says in text.
_PATHS = ("data_dir", "query_dir", "gallery_dir", "weights")
_TEXTS = (
    *("dataset", "subset", "label_pattern", "data_dir", "query_dir", "gallery_dir", "architecture", "weights"),
    *("weights_digest", "transform", "precision", "backend", "int8_error", "note"),
)


@dataclass(frozen=True, kw_only=True)
class InfoReport(Report):
    """What is in a run."""

    run: RunOverview


def choose_run(_: Settings) -> RunChoice:
    """The run that is meant. Nothing is taken from it: it may be damaged."""
    return RunChoice(take_settings=False)


def info(session: Session) -> InfoReport:
    """Look at everything in a run; what is damaged is reported where it stands.

    Raises:
        StoreError: No run is meant, or the folder is none.
    """
    run = session.run or session.need_run()
    if not run.exists():
        there = "holds nothing that a run is made of" if run.path.is_dir() else "is no folder"
        there = there if run.path.exists() else "is not there"
        hint = "name one as in vreid info runs/veri-densenet201-veri, or make one with vreid extract"
        raise StoreError(f"{run.path} is no run directory: it {there}", hint=hint, file=run.path)
    verify = session.settings.info.verify
    made, made_by_error = _try(read_json_object, run.info_path) if run.info_path.is_file() else (None, None)
    if made is not None and not _get(made, "dataset", str):
        made_by_error = f"{run.info_path} does not say what made the run"
    splits = {split: read_state(run.features(split), verify=verify) for split in run.extracted_splits()}
    history, history_error = _try(RunDirectory.read_history, run)
    entries, damaged = history or ([], 0)
    if damaged:
        history_error = f"{amount(damaged, 'line')} of {run.history_path} cannot be read"
    overview = RunOverview(
        run_dir=run.path,
        made_by=_made_by(made),
        made_by_error=made_by_error,
        splits=splits,
        rankings=tuple(_rankings(run, splits.get("gallery"))),
        files=(*_indexes(run, splits.get("gallery"), verify=verify), *_calibrations(run), *_identities(run)),
        training=_training(run),
        reports=tuple(sorted(path.name for path in run.reports.glob("*") if path.is_file())),
        history=tuple(entries),
        history_error=history_error,
    )
    return InfoReport(
        skipped=tuple({"split": split, **asdict(entry)} for split, one in splits.items() for entry in one.skipped),
        warnings=overview.warnings,
        run=replace(overview, next=_next(run, overview)),
    )


def _try(read: Callable[[A], T], source: A) -> tuple[T | None, str | None]:
    """What was read, and what went wrong."""
    try:
        return read(source), None
    except VreidError as error:
        return None, error.message
    except OSError as error:
        return None, f"{error.filename or source} cannot be read: {error.strerror or error}"


def _get(table: object, key: str, *kinds: type[T]) -> T | None:
    """What a file says, which may be anything: None where it is not of a type that belongs there."""
    value = table.get(key) if isinstance(table, dict) else None
    return value if isinstance(value, kinds) else None


def _made_by(made: object) -> dict[str, Any]:
    texts = {key: _get(made, key, str) for key in _TEXTS}
    # A name such as imagenet is no path that could be gone.
    paths = {key: as_path(texts[key] or "") for key in _PATHS}
    exists = {f"{key}_exists": path.exists() if path.is_absolute() else None for key, path in paths.items()}
    return {**texts, "seed": _get(made, "seed", int), "versions": _get(made, "versions", dict) or None, **exists}


def _size_and_time(path: Path | None) -> tuple[int | None, str | None]:
    stat = None if path is None else _try(lambda one: one.stat(), path)[0]
    if stat is None:
        return None, None
    return stat.st_size, time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(stat.st_mtime))


def _rankings(run: RunDirectory, gallery: StoreState | None) -> Iterator[RankingOverview]:
    """Every ranking with its scores, then every evaluation whose ranking is gone."""
    rankings = {path.stem: path for path in rankings_in(run.rankings)}
    evaluations = {path.stem: path for path in sorted(run.evaluations.glob("*.json"))}
    for name in dict.fromkeys([*rankings, *evaluations]):
        path = rankings.get(name)
        facts, error = (None, None) if path is None else _try(read_ranking_facts, path)
        identities = (facts and facts.gallery_identity, gallery and gallery.identity)
        same_features = None if None in identities else identities[0] == identities[1]
        file = None if path is None else f"rankings/{path.name}"
        if path is not None and facts is not None and older_than_features(path, facts) is not None:
            same_features = False
        row = RankingOverview(name, file, *_size_and_time(path), facts, error, same_features)
        yield _with_scores(row, evaluations[name]) if name in evaluations else row


def _with_scores(row: RankingOverview, path: Path) -> RankingOverview:
    content, error = _try(read_json_object, path)
    result = (_get(content, "results", list) or [None])[0]
    if not result or not isinstance(result, dict):
        return replace(row, evaluation_error=error or f"{path} holds no evaluation")
    # Probabilities may come with the evaluation, and change no score.
    later = row.facts.declared("probability") if row.facts else ()
    facts = [(key, own) for key, own in row.facts.to_dict().items() if key not in later] if row.facts else []
    return replace(
        row,
        evaluated=True,
        outdated=None if row.facts is None else any(result.get(key, own) != own for key, own in facts),
        mean_ap=_get(result, "mAP", float, int),
        ap_rule=_get(result, "ap_rule", str),
        same_camera=_get(result, "same_camera", str),
        valid_queries=_get(result, "valid_queries", int),
    )


def _indexes(run: RunDirectory, gallery: StoreState | None, *, verify: bool) -> Iterator[FileOverview]:
    folder, distances = IndexFolder(run.index), get_args(Geometry)
    for distance in filter(lambda one: folder.facts_path(one).is_file(), distances):
        facts, error = _try(folder.read_facts, distance)
        error = error or _try(partial(folder.verify, only_if_cheap=not verify), distance)[1]
        what = None if facts is None else f"index {facts.kind} for the {distance} distance"
        reason = None
        if facts is not None and gallery is not None:
            reason = misfit(facts, gallery.identity, run.features("gallery").digests())
        path = folder.facts_path(distance)
        yield FileOverview(f"index/{path.name}", what, error, reason, *_size_and_time(path))


def _calibrations(run: RunDirectory) -> Iterator[FileOverview]:
    for path in sorted(run.calibrations.glob("*.json")):
        one, error = _try(read_calibration, path)
        what = None if one is None else f"calibration of {one.metric}, {amount(one.fitted_on.vehicles, 'vehicle')}"
        yield FileOverview(f"calibrations/{path.name}", what, error, None, *_size_and_time(path))


def _identities(run: RunDirectory) -> Iterator[FileOverview]:
    for path in identities_in(run.identities):
        facts, error = _try(read_identity_facts, path)
        limits = {
            "≤": _get(facts, "threshold", float, int),
            "probability ≥": _get(facts, "min_probability", float, int),
        }
        known = [f"{sign} {limit:.4g}" for sign, limit in limits.items() if limit is not None]
        what = None if facts is None else " ".join(["identities by", _get(facts, "metric", str) or "?", *known])
        yield FileOverview(f"identities/{path.name}", what, error, None, *_size_and_time(path))


def _training(run: RunDirectory) -> TrainingOverview | None:
    paths = (run.last_checkpoint, run.best_checkpoint, run.training_state)
    read = {path: _try(read_metadata, path) for path in paths if path.is_file()}
    if not read:
        return None
    last, state = (read.get(path, (None, None))[0] for path in (run.last_checkpoint, run.training_state))
    state = _get(state, "vreid_training", dict)
    settings = _get(_get(state, "facts", dict), "settings", dict)
    recipe = _get(settings, "train", dict) or _get(last, "recipe", dict)
    epoch, epochs = _get(state or _get(last, "metrics", dict), "epoch", int), _get(recipe, "epochs", int)
    complete = None if epoch is None or epochs is None else epoch >= epochs
    can_resume = complete is False and run.training_state.is_file()
    folders, data = _get(settings, "data", dict), _get(last, "data", dict) or {}
    classes, seed = _get(last, "classes", list), _get(last, "seed", str) or ""
    return TrainingOverview(
        recipe=_get(recipe, "recipe", str),
        epoch=epoch,
        epochs=epochs,
        complete=complete,
        architecture=_get(last, "architecture", str) or _get(_get(settings, "model", dict), "arch", str),
        data=data,
        dataset=_get(folders, "dataset", str) or _get(data, "dataset", str),
        data_dir=_get(folders, "data_dir", str),
        begun_from=_get(last, "begun_from", dict) or {},
        seed=int(seed) if seed.isdecimal() else None,
        versions=_get(last, "versions", dict) or {},
        vehicles=None if classes is None else len(classes),
        checkpoints=tuple(_checkpoint(path, *found) for path, found in read.items()),
        next=f"vreid train --resume {shlex.quote(str(run.path))}" if can_resume else None,
    )


def _checkpoint(path: Path, metadata: object, error: str | None) -> CheckpointOverview:
    metrics = _get(metadata, "metrics", dict)
    epoch = _get(metrics or _get(metadata, "vreid_training", dict), "epoch", int)
    return CheckpointOverview(path.name, epoch, _get(metrics, "mAP", float, int), error, *_size_and_time(path))


def _next(run: RunDirectory, found: RunOverview) -> str | None:
    """The command that brings the run further; None where nothing is left to do."""
    folder = shlex.quote(str(run.path))
    made = found.made_by
    layout = LAYOUTS.get(str(made["dataset"]), LAYOUTS[DataOptions().dataset])
    unfinished = [split for split, one in found.splits.items() if one.state != "complete"]
    if unfinished or not (found.splits or found.training):
        gone = "".join(f" --{key.replace('_', '-')} …" for key in _PATHS if made[f"{key}_exists"] is False)
        split = "" if set(unfinished) <= set(layout.splits) else f" --split {','.join(unfinished)}"
        return f"vreid extract --run-dir {folder}{gone}{split}"
    training = found.training
    if training is not None and training.next is not None:
        return training.next
    if training is not None and not found.splits:
        return extract_with_trained(run, dataset=training.dataset, data_dir=training.data_dir)
    rankings = [row for row in found.rankings if row.file]
    if not rankings:
        return f"{layout.rank_command} --run-dir {folder}"
    older = next((row.facts for row in rankings if row.same_features is False and row.facts), None)
    if older is not None:
        return f"vreid rank --run-dir {folder} --task {older.task} --metric {older.metric} --force"
    if any(not row.evaluated or row.outdated for row in rankings):
        return f"vreid evaluate --run-dir {folder}"
    if any(one.misfit for one in found.files):
        return f"vreid index --run-dir {folder}"
    return None
