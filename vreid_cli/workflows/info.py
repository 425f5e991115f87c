"""``vreid info``: what is in a run, how it was made, and whether it is complete. Changes nothing."""

from __future__ import annotations

import csv
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from vreid_cli.config import Layer, resolve
from vreid_cli.data.options import DataOptions
from vreid_cli.errors import StoreError, VreidError
from vreid_cli.runtime.files import read_json_object
from vreid_cli.store.feature_files import open_ranking
from vreid_cli.store.metadata import read_metadata
from vreid_cli.store.rankings import facts_to_dict
from vreid_cli.store.runs import BEST, LAST, LOG, STATE, RunDirectory, latest_run, rankings_in
from vreid_cli.store.state import StoreState, read_state
from vreid_cli.types.images import Split
from vreid_cli.types.rankings import RankingFacts
from vreid_cli.workflows.session import DRAWN_DATASET, Report, Session

T = TypeVar("T")
A = TypeVar("A")

#: What ``run.json`` says, as it stands there.
_MADE_BY = (
    *("dataset", "subset", "label_pattern", "data_dir", "query_dir", "gallery_dir"),
    *("architecture", "weights", "weights_digest", "transform", "precision", "backend", "seed", "note", "versions"),
)
_FOLDERS = ("data_dir", "query_dir", "gallery_dir")
#: What of a ranking's facts is told.
_RANKING_FACTS = (
    *("task", "metric", "definition", "track_unit", "query_source", "weights"),
    *("coverage", "cameras", "top_k", "threshold", "alpha", "rerank", "trial", "gallery_size", "query_count"),
)
#: What an evaluation says of the ranking that it scored: where one differs, it was another ranking.
_SCORED = ("task", "metric", "definition", "track_unit", "coverage", "cameras", "gallery_size", "alpha", "threshold")


@dataclass(frozen=True)
class InfoReport(Report):
    """What is in a run.

    Attributes:
        run_dir: The run.
        found: All that is known of it, as ``vreid info --json`` prints it; None where something is not known.
    """

    run_dir: Path = Path()
    found: Mapping[str, Any] = field(default_factory=dict)


def settle_info(layers: Sequence[Layer], *, command: Sequence[str]) -> Session:
    """The run that is meant. Nothing is taken from it: it may be damaged, and is told as it is."""
    resolved = resolve(layers)
    named = resolved.settings.run.run_dir
    return Session(resolved, RunDirectory(named) if named is not None else latest_run(), tuple(command))


def info(session: Session) -> InfoReport:
    """Look at everything in a run; what is damaged is told where it stands.

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
    problems: list[str] = []
    made, problem = _try(_read_run, run)
    problems += [problem] if problem else []
    states = {split: read_state(run.features(split)) for split in run.extracted_splits()}
    found: dict[str, Any] = {
        "run_dir": str(run.path),
        **_made_by(made or {}),
        "splits": {split: _split(one) for split, one in states.items()},
        "rankings": _rankings(run, states),
        "training": _training(run),
        "reports": sorted(path.name for path in run.reports.glob("*") if path.is_file()),
        **_history(run),
    }
    problems += list(_problems(found))
    found["complete"] = all(one.state == "complete" for one in states.values()) if states else None
    found["next"] = _next(run, found)
    return InfoReport(
        skipped=tuple({"split": split, **asdict(entry)} for split, one in states.items() for entry in one.skipped),
        warnings=tuple(problems),
        run_dir=run.path,
        found=found,
    )


def _try(read: Callable[[A], T], source: A) -> tuple[T | None, str | None]:
    """What was read, and what went wrong."""
    try:
        return read(source), None
    except VreidError as error:
        return None, error.message
    except OSError as error:
        return None, f"{error.filename or source} cannot be read: {error.strerror or error}"


def _read_run(run: RunDirectory) -> dict[str, Any]:
    return read_json_object(run.info_path) if run.info_path.is_file() else {}


def _ranking_file_facts(path: Path) -> RankingFacts:
    return open_ranking(path, lambda _: (None, None)).facts


def _problems(found: Mapping[str, Any]) -> Iterator[str]:
    for split, one in found["splits"].items():
        yield from (f"{split}: {problem}" for problem in one["problems"])
    for ranking in found["rankings"]:
        yield from (ranking[key] for key in ("error", "evaluation_error") if ranking[key])
    for checkpoint in (found["training"] or {}).get("checkpoints", []):
        yield from filter(None, [checkpoint["error"]])
    yield from filter(None, [found["history_error"]])


def _made_by(made: Mapping[str, Any]) -> dict[str, Any]:
    facts = {key: made.get(key) for key in _MADE_BY}
    there = {f"{key}_exists": _exists(facts[key]) for key in (*_FOLDERS, "weights")}
    return {**facts, **there}


def _exists(path: object) -> bool | None:
    """Whether a path that a run holds is there; None for a name such as ``imagenet``."""
    if not isinstance(path, str) or not Path(path).is_absolute():
        return None
    return Path(path).exists()


def _split(one: StoreState) -> dict[str, Any]:
    values = asdict(one)
    values["skipped"] = len(one.skipped)
    values["first_skipped"] = [asdict(entry) for entry in one.skipped[:3]]
    return values


# -- rankings and their scores ------------------------------------------------------------------------------


def _rankings(run: RunDirectory, states: Mapping[Split, StoreState]) -> list[dict[str, Any]]:
    """Every ranking with its scores, then every evaluation whose ranking is gone."""
    rankings = {path.stem: path for path in rankings_in(run.rankings)}
    evaluations = {path.stem: path for path in sorted(run.evaluations.glob("*.json"))}
    gallery = states.get("gallery")
    rows = []
    for name in [*rankings, *(name for name in evaluations if name not in rankings)]:
        path = rankings.get(name)
        facts, error = (None, None) if path is None else _try(_ranking_file_facts, path)
        row = {"name": name, "file": None if path is None else f"rankings/{path.name}", **_ranking_facts(facts)}
        row |= {"same_features": _same_features(facts, gallery), "error": error}
        row |= _written(path)
        rows.append({**row, **_evaluation(evaluations.get(name), facts)})
    return rows


def _ranking_facts(facts: RankingFacts | None) -> dict[str, Any]:
    values = {} if facts is None else facts_to_dict(facts)
    return {key: values.get(key) for key in _RANKING_FACTS}


def _same_features(facts: RankingFacts | None, gallery: StoreState | None) -> bool | None:
    """Whether a ranking was made from features of the kind that the run holds now."""
    if facts is None or facts.gallery_identity is None or gallery is None or gallery.identity is None:
        return None
    return dict(facts.gallery_identity) == dict(gallery.identity)


def _written(path: Path | None) -> dict[str, Any]:
    stat = None if path is None else _try(Path.stat, path)[0]
    if stat is None:
        return {"size": None, "written": None}
    return {"size": stat.st_size, "written": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(stat.st_mtime))}


def _evaluation(path: Path | None, facts: RankingFacts | None) -> dict[str, Any]:
    """Scores of a ranking; ``outdated`` where they are those of another one that had its name."""
    keys = ("mAP", "ap_rule", "same_camera", "valid_queries")
    if path is None:
        return {"evaluated": False, "outdated": None, **dict.fromkeys(keys), "evaluation_error": None}
    content, error = _try(read_json_object, path)
    results = (content or {}).get("results")
    result = results[0] if isinstance(results, list) and results and isinstance(results[0], dict) else None
    if result is None:
        error = error or f"{path} holds no evaluation"
        return {"evaluated": False, "outdated": None, **dict.fromkeys(keys), "evaluation_error": error}
    own = _ranking_facts(facts)
    outdated = None if facts is None else any(result.get(key) != own.get(key) for key in _SCORED)
    mean = result.get("mAP")
    scores = {**{key: result.get(key) for key in keys}, "mAP": mean if isinstance(mean, int | float) else None}
    return {"evaluated": True, "outdated": outdated, **scores, "evaluation_error": None}


# -- training and history -----------------------------------------------------------------------------------


def _training(run: RunDirectory) -> dict[str, Any] | None:
    paths = [run.checkpoints / name for name in (LAST, BEST)]
    state_path = run.checkpoints / STATE
    if not any(path.is_file() for path in (*paths, state_path)):
        return None
    read = {path: _try(read_metadata, path) for path in (*paths, state_path) if path.is_file()}
    state = _table(_table(read.get(state_path, ({}, None))[0]).get("vreid_training"))
    settings = _table(_table(state.get("facts")).get("settings"))
    last = _table(read.get(paths[0], ({}, None))[0])
    recipe = _table(settings.get("train")) or _table(last.get("recipe"))
    epoch = _whole(state.get("epoch", _table(last.get("metrics")).get("epoch")))
    epoch = _epochs_in_log(run) if epoch is None else epoch
    epochs = _whole(recipe.get("epochs"))
    complete = None if epoch is None or epochs is None else epoch >= epochs
    going_on = complete is False and state_path.is_file()
    folders, seed = _table(settings.get("data")), str(last.get("seed"))
    return {
        "recipe": recipe.get("recipe"),
        "epoch": epoch,
        "epochs": epochs,
        "complete": complete,
        "architecture": last.get("architecture") or _table(settings.get("model")).get("arch"),
        "data": last.get("data"),
        "dataset": folders.get("dataset") or _table(last.get("data")).get("dataset"),
        "data_dir": folders.get("data_dir"),
        "begun_from": last.get("begun_from"),
        "seed": int(seed) if seed.isdecimal() else None,
        "versions": last.get("versions"),
        "vehicles": len(last["classes"]) if isinstance(last.get("classes"), list) else None,
        "checkpoints": [_checkpoint(path, *found) for path, found in read.items()],
        "next": f"vreid train --resume {_quoted(run.path)}" if going_on else None,
    }


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _checkpoint(path: Path, metadata: Mapping[str, Any] | None, error: str | None) -> dict[str, Any]:
    metrics = _table((metadata or {}).get("metrics"))
    epoch = metrics.get("epoch", _table((metadata or {}).get("vreid_training")).get("epoch"))
    return {"name": path.name, "epoch": epoch, "mAP": metrics.get("mAP"), "error": error, **_written(path)}


def _epochs_in_log(run: RunDirectory) -> int | None:
    """The last epoch of ``log.csv``, for where the checkpoints do not tell."""
    try:
        rows = list(csv.DictReader((run.path / LOG).read_text(encoding="utf-8").splitlines()))
        return int(rows[-1]["epoch"])
    except (OSError, ValueError, KeyError, IndexError, TypeError, csv.Error):
        return None


def _history(run: RunDirectory) -> dict[str, Any]:
    read, error = _try(RunDirectory.read_history, run)
    entries, damaged = read or ([], 0)
    if damaged:
        error = f"{damaged} {'line' if damaged == 1 else 'lines'} of {run.path / 'history.jsonl'} cannot be read"
    return {
        "history": [
            {
                "time": entry.get("time"),
                "command": shlex.join(map(str, entry["command"])),
                "version": entry.get("version"),
                "exit_code": entry.get("exit_code"),
            }
            for entry in entries
        ],
        "history_error": error,
    }


# -- what to do next ----------------------------------------------------------------------------------------


def _next(run: RunDirectory, found: Mapping[str, Any]) -> str | None:
    """The command that brings the run further; None where nothing is left to do."""
    folder = _quoted(run.path)
    splits, training = found["splits"], found["training"]
    wanting = [split for split, one in splits.items() if one["state"] != "complete"]
    if wanting or not (splits or training):
        return f"vreid extract --run-dir {folder}{_where(found)}{_which(wanting, found['dataset'])}"
    if training is not None and training["next"] is not None:
        return str(training["next"])
    if not splits:
        return shlex.join(_extract_with_trained(run, training))
    if not any(row["file"] for row in found["rankings"]):
        return f"vreid rank --run-dir {folder}" + (" --task i2i" if found["dataset"] == DRAWN_DATASET else "")
    if any(row["file"] and (not row["evaluated"] or row["outdated"]) for row in found["rankings"]):
        return f"vreid evaluate --run-dir {folder}"
    return None


def _extract_with_trained(run: RunDirectory, training: Mapping[str, Any]) -> Iterator[str]:
    """As ``vreid train`` itself offers it at its end."""
    yield from ("vreid", "extract", "--run-dir", str(run.path), "--weights", str(run.checkpoints / LAST))
    if training["dataset"] not in (None, DataOptions().dataset):
        yield from ("--dataset", str(training["dataset"]))
    if training["data_dir"] is not None:
        yield from ("--data-dir", str(training["data_dir"]))


def _which(wanting: Sequence[str], dataset: object) -> str:
    usual = ("gallery",) if dataset == DRAWN_DATASET else ("query", "gallery")
    return "" if set(wanting) <= set(usual) else f" --split {','.join(wanting)}"


def _where(found: Mapping[str, Any]) -> str:
    """Options for what does not lie any more where it did."""
    gone = [key for key in (*_FOLDERS, "weights") if found[f"{key}_exists"] is False]
    return "".join(f" --{key.replace('_', '-')} …" for key in gone)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
