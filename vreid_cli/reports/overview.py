"""A run at a glance: what ``vreid info`` finds in a run, and how it is printed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from vreid_cli.reports.names import enumerate_some
from vreid_cli.reports.tables import percent
from vreid_cli.store.runs import HistoryEntry
from vreid_cli.store.state import StoreState
from vreid_cli.types.amounts import amount
from vreid_cli.types.images import Split
from vreid_cli.types.rankings import RankingFacts

_DIGITS = 12
_COMMANDS = 5
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class RankingOverview:
    """A ranking with its scores, or an evaluation whose ranking is gone; None where something is unknown.

    Attributes:
        name: Its name without the ending.
        file: The file in the run; None where it is gone.
        size: Its bytes.
        written: When it was written.
        facts: How the ranking was made.
        error: Why that cannot be read.
        same_features: Whether the run still holds the features that it was made from.
        evaluated: Whether there are scores.
        outdated: Whether they are those of another ranking that had its name.
        mean_ap: Mean average precision.
        ap_rule: How it was integrated.
        same_camera: What was left out.
        valid_queries: Queries with a positive.
        evaluation_error: Why the scores cannot be read.
    """

    name: str
    file: str | None
    size: int | None
    written: str | None
    facts: RankingFacts | None
    error: str | None
    same_features: bool | None
    evaluated: bool = False
    outdated: bool | None = None
    mean_ap: float | None = None
    ap_rule: str | None = None
    same_camera: str | None = None
    valid_queries: int | None = None
    evaluation_error: str | None = None


@dataclass(frozen=True)
class FileOverview:
    """An index, a calibration or a table of identities.

    Attributes:
        file: The file in the run.
        what: What it is, by what it says; None where that cannot be read.
        error: Why that cannot be read.
        misfit: Why it does not fit the features of the run; None where it does, or nobody can tell.
        size: Its bytes.
        written: When it was written.
    """

    file: str
    what: str | None
    error: str | None
    misfit: str | None
    size: int | None
    written: str | None


@dataclass(frozen=True)
class CheckpointOverview:
    """A checkpoint: of which epoch, with which mAP on held-out vehicles, or why it cannot be read."""

    name: str
    epoch: int | None
    mean_ap: float | None
    error: str | None
    size: int | None
    written: str | None


@dataclass(frozen=True)
class TrainingOverview:
    """What ``vreid train`` did in the run; None where something cannot be read.

    Attributes:
        recipe: Name of the recipe.
        epoch: Epochs done.
        epochs: Epochs asked for.
        complete: Whether all are done.
        architecture: The network.
        data: What it learned from: images, vehicles that were held out.
        dataset: Name of the data set's layout.
        data_dir: Folder of the data.
        begun_from: The weights that it began from.
        seed: The seed.
        versions: Versions of the libraries.
        vehicles: Number of vehicles learned.
        checkpoints: The checkpoints that are there.
        next: The command that goes on with it.
    """

    recipe: str | None
    epoch: int | None
    epochs: int | None
    complete: bool | None
    architecture: str | None
    data: Mapping[str, Any]
    dataset: str | None
    data_dir: str | None
    begun_from: Mapping[str, Any]
    seed: int | None
    versions: Mapping[str, Any]
    vehicles: int | None
    checkpoints: tuple[CheckpointOverview, ...]
    next: str | None


@dataclass(frozen=True)
class RunOverview:
    """All that ``vreid info`` finds in a run.

    Attributes:
        run_dir: The run.
        made_by: What ``run.json`` says of data set, folders, weights and so on, None where it does not say it; and
            whether folders and weights, where they are paths, are still there (``data_dir_exists``).
        made_by_error: Why it cannot be read.
        splits: The state of the features of each split.
        rankings: Its rankings, then evaluations whose ranking is gone.
        files: Its indexes, calibrations and identities.
        training: What was trained; None where nothing was.
        reports: Names of the sheets and pages.
        history: The commands as they were run, oldest first.
        history_error: What of the history cannot be read.
        next: The command that brings the run further; None where nothing is left to do.
    """

    run_dir: Path
    made_by: Mapping[str, Any]
    made_by_error: str | None
    splits: Mapping[Split, StoreState]
    rankings: tuple[RankingOverview, ...]
    files: tuple[FileOverview, ...]
    training: TrainingOverview | None
    reports: tuple[str, ...]
    history: tuple[HistoryEntry, ...]
    history_error: str | None
    next: str | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is damaged, each with its place."""
        splits = [f"{split}: {problem}" for split, one in self.splits.items() for problem in one.problems]
        rankings = [error for row in self.rankings for error in (row.error, row.evaluation_error)]
        files = [one.error for one in self.files]
        checkpoints = [one.error for one in self.training.checkpoints] if self.training else []
        found = [self.made_by_error, *splits, *rankings, *files, *checkpoints, self.history_error]
        return tuple(warning for warning in found if warning)


# -- as JSON ------------------------------------------------------------------------------------------------


def overview_json(run: RunOverview) -> dict[str, Any]:
    """What ``vreid info --json`` prints."""
    return {
        "run_dir": str(run.run_dir),
        **run.made_by,
        "splits": {
            split: {
                **asdict(one),
                "skipped": len(one.skipped),
                "first_skipped": [asdict(entry) for entry in one.skipped[:3]],
            }
            for split, one in run.splits.items()
        },
        "rankings": [_json(row) for row in run.rankings],
        "files": [asdict(one) for one in run.files],
        "training": run.training
        and {**vars(run.training), "checkpoints": [_json(one) for one in run.training.checkpoints]},
        "reports": list(run.reports),
        "history": [asdict(entry) for entry in run.history],
        "history_error": run.history_error,
        "complete": all(one.state == "complete" for one in run.splits.values()) if run.splits else None,
        "next": run.next,
    }


def _json(row: RankingOverview | CheckpointOverview) -> dict[str, Any]:
    values = {"mAP" if key == "mean_ap" else key: value for key, value in vars(row).items()}
    if isinstance(row, CheckpointOverview):
        return values
    facts = values.pop("facts")
    return {**(facts.to_dict() if facts else dict.fromkeys(RankingFacts().to_dict())), **values}


# -- for the terminal ---------------------------------------------------------------------------------------


def print_overview(run: RunOverview) -> Iterator[RenderableType]:
    """What ``vreid info`` prints, piece by piece."""
    yield _facts({"run": str(run.run_dir), **_made_by(run)})
    if run.splits:
        yield from _features(run.splits)
    if run.rankings:
        yield from _rankings(run.rankings)
    if run.files:
        yield from _files(run.files)
    if run.training is not None:
        yield from _training(run.training)
    if run.reports:
        yield _facts({"reports": enumerate_some(run.reports, most=4)})
    if run.history:
        last = run.history[-_COMMANDS:]
        heading = f"command (the last {len(last)} of {len(run.history):,})"
        yield Text()
        yield _table([{"when": _when(entry.time), heading: entry.command} for entry in last])
    if run.history_error:
        yield Text(run.history_error)
    yield Text()
    yield Text(f"next: {run.next}" if run.next else "nothing is left to do")


def _facts(facts: Mapping[str, str | None]) -> Table:
    """A line each; what is unknown is left out."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value is not None:
            table.add_row(name, Text(value))
    return table


def _made_by(run: RunOverview) -> dict[str, str | None]:
    made = run.made_by
    if made["architecture"] is None and made["dataset"] is None:
        return {"made by": "vreid train; nothing was extracted yet" if run.training else _UNKNOWN}

    def where(key: str) -> str | None:
        gone = " (not there any more)" if made[f"{key}_exists"] is False else ""
        return None if made[key] is None else f"{made[key]}{gone}"

    digest = (made["weights_digest"] or _UNKNOWN)[:_DIGITS]
    return {
        "data": f"{made['dataset'] or _UNKNOWN}{' ' + made['subset'] if made['subset'] else ''}",
        "data folder": where("data_dir"),
        "queries": where("query_dir"),
        "gallery": where("gallery_dir"),
        "labels": made["label_pattern"],
        "network": f"{made['architecture'] or _UNKNOWN}, weights {where('weights')}, digest {digest}",
        "input": f"{made['transform']}, {made['precision']} by {made['backend']}, seed {made['seed']}",
        "int8": made["int8_error"],
        "versions": ", ".join(f"{name} {version}" for name, version in (made["versions"] or {}).items()) or None,
        "note": made["note"],
    }


def _table(rows: Sequence[Mapping[str, str]], *, right: Sequence[str] = ()) -> Table:
    """Cells by heading, a row each; without rules, so that all of it fits 80 characters."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in rows[0]:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row.values()))
    return table


def _number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _amount(number: object, noun: str) -> str:
    return amount(number, noun) if isinstance(number, int) else f"– {noun}s"


def _when(written: str | None) -> str:
    """Day and minute, of local time."""
    return "–" if written is None else written[:16].replace("T", " ")


def _features(splits: Mapping[Split, StoreState]) -> Iterator[RenderableType]:
    numbers = ("images", "tracks", "vehicles", "cameras", "parts", "dimension")
    yield Text()
    rows = []
    for split, one in splits.items():
        counts = {name: _number(getattr(one, name)) for name in numbers}
        rows.append({"split": split, **counts, "skipped": _number(len(one.skipped)), "state": one.state})
    yield _table(rows, right=(*numbers, "skipped"))
    for split, one in splits.items():
        if one.state != "complete":
            yield Text(f"{split}: {_progress(one)}")
        if one.skipped:
            more = ": see skipped.csv" if len(one.skipped) > 3 else ""
            named = enumerate_some(f"{entry.image_id} ({entry.reason})" for entry in one.skipped)
            yield Text(f"{split} skipped {named}{more}")
        yield from (Text(f"{split}: {problem}") for problem in one.problems)


def _progress(one: StoreState) -> str:
    if one.planned_images is None:
        return "how much is done is unknown" if one.parts else "nothing is done yet"
    share = 100 * one.done_images // max(1, one.planned_images)
    images = f"{one.done_images:,} of {amount(one.planned_images, 'image')} done ({share}%)"
    return f"{images}, {one.done_parts:,} of {amount(one.planned_parts or 0, 'part')}"


def _rankings(rows: Sequence[RankingOverview]) -> Iterator[RenderableType]:
    definitions = sorted({row.facts.definition or _UNKNOWN for row in rows if row.facts})
    # The names that rank chooses say task and metric themselves.
    named = all(row.name.startswith(f"{row.facts.task}-{row.facts.metric}") for row in rows if row.facts)
    keys = [*(() if named else ("task", "metric")), *(["definition"] if len(definitions) > 1 else [])]
    yield Text()
    yield _table([_ranking(row, keys) for row in rows], right=("query × gallery", "mAP"))
    rules = sorted({f"{row.ap_rule}, same camera {row.same_camera}" for row in rows if row.evaluated})
    said = [f"definition {definitions[0]}"] if len(definitions) == 1 else []
    yield Text("; ".join(said + ([f"mAP in % ({'; '.join(rules)})"] if rules else [])))
    for row in rows:
        yield from map(Text, _notes(row))


def _ranking(row: RankingOverview, keys: Sequence[str]) -> dict[str, str]:
    def fact(key: str) -> Any:
        return getattr(row.facts, key, None)

    unknown = "–" if row.file is None else _UNKNOWN
    score = "–" if not row.evaluated or row.outdated else percent(row.mean_ap)
    return {
        "ranking": row.name,
        **{key: str(fact(key) or unknown) for key in keys},
        "lists": _lists(row),
        "query × gallery": f"{_number(fact('query_count'))} × {_number(fact('gallery_size'))}",
        "written": _when(row.written),
        "mAP": "?" if row.evaluation_error else score,
    }


def _lists(row: RankingOverview) -> str:
    facts = row.facts
    if facts is None:
        return "damaged" if row.error else "–"
    limits = [f"top {facts.top_k:,}"] if facts.top_k else []
    limits += [f"≤ {facts.threshold}"] if facts.threshold is not None else []
    limits += ["other cameras"] if facts.cameras == "other" else []
    whole = "all" if facts.coverage == "full" else "" if limits else facts.coverage
    positives = " and positives" if facts.coverage == "positives" and limits else ""
    return ", ".join(filter(None, [whole, *limits])) + positives


def _notes(row: RankingOverview) -> Iterator[str]:
    yield from filter(None, [row.error, row.evaluation_error])
    name = row.name if row.file is None else Path(row.file).name
    if row.file is None and row.evaluated:
        yield f"{name}: the ranking that was scored is gone"
    if row.outdated:
        yield f"{name}: its evaluation is that of an earlier ranking"
    if row.same_features is False:
        yield f"{name}: made from other features than the run holds now"
    if row.facts and row.facts.rerank:
        numbers = " ".join(f"{key} {value}" for key, value in row.facts.rerank.items())
        yield f"{name}: re-ranked ({numbers})"


def _files(files: Sequence[FileOverview]) -> Iterator[RenderableType]:
    yield Text()
    yield _table([{"file": one.file, "what": one.what or _UNKNOWN, "written": _when(one.written)} for one in files])
    for one in files:
        if one.error:
            yield Text(one.error)
        if one.misfit:
            yield Text(f"{one.file}: {one.misfit}")


def _training(training: TrainingOverview) -> Iterator[RenderableType]:
    held_out, images = training.data.get("held_out"), training.data.get("images")
    learned = f"{_amount(training.vehicles, 'vehicle')} in {_amount(images, 'image')}"
    yield Text()
    yield _facts(
        {
            "training": f"{training.architecture or _UNKNOWN}, recipe {training.recipe or _UNKNOWN}, "
            f"epoch {_number(training.epoch)} of {_number(training.epochs)}",
            "from": f"weights {training.begun_from['weights']}" if training.begun_from.get("weights") else None,
            "learned": learned + (f", {len(held_out)} held out" if isinstance(held_out, list) and held_out else ""),
            "images": training.data_dir,
        }
    )
    rows = []
    for one in training.checkpoints:
        epoch, mean_ap = ("?", "?") if one.error else (_number(one.epoch), percent(one.mean_ap))
        rows.append({"checkpoint": one.name, "epoch": epoch, "held-out mAP": mean_ap, "written": _when(one.written)})
    yield _table(rows, right=["epoch", "held-out mAP"])
    yield from (Text(one.error) for one in training.checkpoints if one.error)
