"""``vreid info``: what is in a run, how it was made, and whether it is complete. Changes nothing."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from vreid_cli.config import Settings
from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.data.options import DataOptions
from vreid_cli.errors import StoreError, VreidError
from vreid_cli.reports.overview import CheckpointOverview, MadeBy, RankingOverview, RunOverview, TrainingOverview
from vreid_cli.runtime.files import read_json_object
from vreid_cli.store.formats import read_ranking_facts
from vreid_cli.store.metadata import read_metadata
from vreid_cli.store.runs import HistoryEntry, RunDirectory, rankings_in
from vreid_cli.store.state import StoreState, read_state
from vreid_cli.types.rankings import RankingFacts
from vreid_cli.workflows.session import Report, RunChoice, Session

T = TypeVar("T")
A = TypeVar("A")

_FOLDERS = ("data_dir", "query_dir", "gallery_dir")
#: What ``run.json`` says in text.
_TEXTS = (
    *("dataset", "subset", "label_pattern", *_FOLDERS, "architecture", "weights", "weights_digest"),
    *("transform", "precision", "backend", "note"),
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
    run = session.run if session.run is not None else session.need_run()
    if not run.exists():
        there = "holds nothing that a run is made of" if run.path.is_dir() else "is not there"
        raise StoreError(
            f"{run.path} is no run directory: it {there}",
            hint="name one as in vreid info runs/veri-densenet201-veri, or make one with vreid extract",
            file=run.path,
        )
    made, problem = _try(read_json_object, run.info_path) if run.info_path.is_file() else ({}, None)
    splits = {split: read_state(run.features(split)) for split in run.extracted_splits()}
    history, history_error = _history(run)
    overview = RunOverview(
        run_dir=run.path,
        made_by=_made_by(made or {}),
        splits=splits,
        rankings=tuple(_rankings(run, splits.get("gallery"))),
        training=_training(run),
        reports=tuple(sorted(path.name for path in run.reports.glob("*") if path.is_file())),
        history=tuple(history),
        history_error=history_error,
        problems=() if problem is None else (problem,),
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


# Files may say anything: what is not of the type that belongs there counts as unknown.


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) else None


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _made_by(made: Mapping[str, Any]) -> MadeBy:
    texts = {key: _text(made.get(key)) for key in _TEXTS}
    exists = {key: _exists(texts[key]) for key in (*_FOLDERS, "weights")}
    return MadeBy(texts, exists, _whole(made.get("seed")), _table(made.get("versions")) or None)


def _exists(path: str | None) -> bool | None:
    """Whether a path that a run names is there; None for a name such as ``imagenet``."""
    return Path(path).exists() if path is not None and Path(path).is_absolute() else None


def _size_and_time(path: Path | None) -> tuple[int | None, str | None]:
    stat = None if path is None else _try(Path.stat, path)[0]
    if stat is None:
        return None, None
    return stat.st_size, time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(stat.st_mtime))


# -- rankings and their scores ------------------------------------------------------------------------------


def _rankings(run: RunDirectory, gallery: StoreState | None) -> Iterator[RankingOverview]:
    """Every ranking with its scores, then every evaluation whose ranking is gone."""
    rankings = {path.stem: path for path in rankings_in(run.rankings)}
    evaluations = {path.stem: path for path in sorted(run.evaluations.glob("*.json"))}
    for name in dict.fromkeys([*rankings, *evaluations]):
        path = rankings.get(name)
        facts, error = (None, None) if path is None else _try(read_ranking_facts, path)
        size, written = _size_and_time(path)
        file = None if path is None else f"rankings/{path.name}"
        row = RankingOverview(name, file, size, written, facts, error, _same_features(facts, gallery))
        yield _with_scores(row, evaluations[name]) if name in evaluations else row


def _same_features(facts: RankingFacts | None, gallery: StoreState | None) -> bool | None:
    """Whether a ranking was made from features of the kind that the run holds now."""
    if facts is None or facts.gallery_identity is None or gallery is None or gallery.identity is None:
        return None
    return dict(facts.gallery_identity) == dict(gallery.identity)


def _with_scores(row: RankingOverview, path: Path) -> RankingOverview:
    content, error = _try(read_json_object, path)
    results = (content or {}).get("results")
    result = _table(results[0]) if isinstance(results, list) and results else {}
    if not result:
        return replace(row, evaluation_error=error or f"{path} holds no evaluation")
    facts = row.facts.to_dict().items() if row.facts else ()
    return replace(
        row,
        evaluated=True,
        outdated=None if row.facts is None else any(result.get(key, own) != own for key, own in facts),
        mean_ap=_number(result.get("mAP")),
        ap_rule=_text(result.get("ap_rule")),
        same_camera=_text(result.get("same_camera")),
        valid_queries=_whole(result.get("valid_queries")),
    )


# -- training and history -----------------------------------------------------------------------------------


def _training(run: RunDirectory) -> TrainingOverview | None:
    paths = (run.last_checkpoint, run.best_checkpoint, run.training_state)
    read = {path: _try(read_metadata, path) for path in paths if path.is_file()}
    if not read:
        return None
    state = _table(_table(read.get(run.training_state, ({}, None))[0]).get("vreid_training"))
    settings = _table(_table(state.get("facts")).get("settings"))
    last = _table(read.get(run.last_checkpoint, ({}, None))[0])
    recipe = _table(settings.get("train")) or _table(last.get("recipe"))
    epoch = _whole(state.get("epoch", _table(last.get("metrics")).get("epoch")))
    epochs = _whole(recipe.get("epochs"))
    complete = None if epoch is None or epochs is None else epoch >= epochs
    can_resume = complete is False and run.training_state.is_file()
    folders, data, seed = _table(settings.get("data")), _table(last.get("data")), str(last.get("seed"))
    return TrainingOverview(
        recipe=_text(recipe.get("recipe")),
        epoch=epoch,
        epochs=epochs,
        complete=complete,
        architecture=_text(last.get("architecture") or _table(settings.get("model")).get("arch")),
        data=data,
        dataset=_text(folders.get("dataset") or data.get("dataset")),
        data_dir=_text(folders.get("data_dir")),
        begun_from=_table(last.get("begun_from")),
        seed=int(seed) if seed.isdecimal() else None,
        versions=_table(last.get("versions")),
        vehicles=len(last["classes"]) if isinstance(last.get("classes"), list) else None,
        checkpoints=tuple(_checkpoint(path, *found) for path, found in read.items()),
        next=f"vreid train --resume {shlex.quote(str(run.path))}" if can_resume else None,
    )


def _checkpoint(path: Path, metadata: Mapping[str, Any] | None, error: str | None) -> CheckpointOverview:
    metadata = metadata or {}
    metrics = _table(metadata.get("metrics"))
    epoch = _whole(metrics.get("epoch", _table(metadata.get("vreid_training")).get("epoch")))
    return CheckpointOverview(path.name, epoch, _number(metrics.get("mAP")), error, *_size_and_time(path))


def _history(run: RunDirectory) -> tuple[list[HistoryEntry], str | None]:
    read, error = _try(RunDirectory.read_history, run)
    entries, damaged = read or ([], 0)
    if damaged:
        error = f"{damaged} {'line' if damaged == 1 else 'lines'} of {run.history_path} cannot be read"
    return entries, error


# -- what to do next ----------------------------------------------------------------------------------------


def _next(run: RunDirectory, found: RunOverview) -> str | None:
    """The command that brings the run further; None where nothing is left to do."""
    folder = shlex.quote(str(run.path))
    layout = LAYOUTS.get(str(found.made_by["dataset"]), LAYOUTS[DataOptions().dataset])
    unfinished = [split for split, one in found.splits.items() if one.state != "complete"]
    if unfinished or not (found.splits or found.training):
        gone = "".join(f" --{key.replace('_', '-')} …" for key, there in found.made_by.exists.items() if there is False)
        split = "" if set(unfinished) <= set(layout.splits) else f" --split {','.join(unfinished)}"
        return f"vreid extract --run-dir {folder}{gone}{split}"
    if found.training is not None and found.training.next is not None:
        return found.training.next
    if not found.splits and found.training is not None:
        return shlex.join(_extract_with_trained(run, found.training))
    rankings = [row for row in found.rankings if row.file]
    if not rankings:
        return f"{layout.rank_command} --run-dir {folder}"
    if any(not row.evaluated or row.outdated for row in rankings):
        return f"vreid evaluate --run-dir {folder}"
    return None


def _extract_with_trained(run: RunDirectory, training: TrainingOverview) -> Iterator[str]:
    """As ``vreid train`` itself offers it at its end."""
    yield from ("vreid", "extract", "--run-dir", str(run.path), "--weights", str(run.last_checkpoint))
    if training.dataset not in (None, DataOptions().dataset):
        yield from ("--dataset", str(training.dataset))
    if training.data_dir is not None:
        yield from ("--data-dir", training.data_dir)
