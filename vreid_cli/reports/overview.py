"""A run at a glance, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from vreid_cli.reports.names import enumerate_some
from vreid_cli.reports.tables import percent

_DIGITS = 12
_COMMANDS = 5
_UNKNOWN = "unknown"


def overview(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What ``vreid info`` prints.

    Args:
        found: What ``vreid info --json`` prints.
    """
    yield _facts({"run": found["run_dir"], **_made_by(found)})
    yield from _features(found["splits"])
    yield from _rankings(found["rankings"])
    if found["training"] is not None:
        yield from _training(found["training"])
    if found["reports"]:
        yield _facts({"reports": enumerate_some(found["reports"], most=4)})
    yield from _history(found)
    yield Text()
    yield Text(f"next: {found['next']}" if found["next"] else "nothing is left to do")


def _facts(facts: Mapping[str, str | None]) -> Table:
    """A line each, those that are not known left out."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value is not None:
            table.add_row(name, Text(str(value)))
    return table


def _made_by(found: Mapping[str, Any]) -> dict[str, str | None]:
    if found["architecture"] is None and found["dataset"] is None:
        return {"made by": "vreid train; nothing was extracted yet" if found["training"] else _UNKNOWN}
    subset = f" {found['subset']}" if found["subset"] else ""
    folders = {
        name: str(found[key]) + _if_gone(found[f"{key}_exists"])
        for key, name in {"data_dir": "data folder", "query_dir": "queries", "gallery_dir": "gallery"}.items()
        if found[key] is not None
    }
    digest = str(found["weights_digest"] or _UNKNOWN)[:_DIGITS]
    weights = f"weights {found['weights']}{_if_gone(found['weights_exists'])}, digest {digest}"
    return {
        "data": f"{found['dataset'] or _UNKNOWN}{subset}",
        **folders,
        "labels": found["label_pattern"],
        "network": f"{found['architecture'] or _UNKNOWN}, {weights}",
        "input": f"{found['transform']}, {found['precision']} by {found['backend']}, seed {found['seed']}",
        "versions": _versions(found["versions"]),
        "note": found["note"],
    }


def _if_gone(exists: bool | None) -> str:
    return " (not there any more)" if exists is False else ""


def _versions(versions: object) -> str | None:
    if not isinstance(versions, Mapping):
        return None
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _table(columns: Mapping[str, Sequence[object]], *, right: Sequence[str] = (), caption: str | None = None) -> Table:
    """Columns by heading; without rules, so that all of it fits 80 characters."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, caption=caption, caption_justify="left")
    for heading in columns:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*(Text(str(cell)) for cell in row))
    return table


# -- features -----------------------------------------------------------------------------------------------


def _features(splits: Mapping[str, Mapping[str, Any]]) -> Iterator[RenderableType]:
    if not splits:
        return
    numbers = ("images", "tracks", "vehicles", "cameras", "parts", "dimension", "skipped")
    columns = {name: [_number(one[name]) for one in splits.values()] for name in numbers}
    states = [one["state"] for one in splits.values()]
    yield Text()
    yield _table({"split": [*splits], **columns, "state": states}, right=numbers)
    for split, one in splits.items():
        if one["state"] != "complete":
            yield Text(f"{split}: {_progress(one)}")
        if one["skipped"]:
            named = enumerate_some(
                [f"{entry['image_id']} ({entry['reason']})" for entry in one["first_skipped"]], most=3
            )
            more = one["skipped"] - len(one["first_skipped"])
            yield Text(f"{split} skipped {named}" + (f" and {more:,} more: see skipped.csv" if more else ""))
        for problem in one["problems"]:
            yield Text(f"{split}: {problem}")


def _number(value: object) -> str:
    """A number as people read it; whatever else a damaged file says, as it is."""
    if isinstance(value, int):
        return f"{value:,}"
    return "–" if value is None else str(value)


def _progress(one: Mapping[str, Any]) -> str:
    if one["planned_images"] is None:
        return "how much is done is not known" if one["parts"] else "nothing is done yet"
    done, planned = one["done_images"], one["planned_images"]
    share = 100 * done // max(1, planned)
    return f"{done:,} of {planned:,} images done ({share}%), {one['done_parts']:,} of {one['planned_parts']:,} parts"


# -- rankings -----------------------------------------------------------------------------------------------


def _rankings(rows: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    if not rows:
        return
    columns: dict[str, list[str]] = {"ranking": [row["name"] for row in rows]}
    # The names that rank chooses say task and metric themselves.
    readable = [row for row in rows if row["file"] and not row["error"]]
    if not all(row["name"].startswith(f"{row['task']}-{row['metric']}") for row in readable):
        columns |= {key: [_fact(row, key) for row in rows] for key in ("task", "metric")}
    definitions = sorted({_fact(row, "definition") for row in readable})
    if len(definitions) > 1:
        columns["definition"] = [_fact(row, "definition") for row in rows]
    columns |= {
        "lists": [_lists(row) for row in rows],
        "query × gallery": [f"{_number(row['query_count'])} × {_number(row['gallery_size'])}" for row in rows],
        "written": [_when(row["written"]) for row in rows],
        "mAP": [_score(row) for row in rows],
    }
    yield Text()
    yield _table(columns, right=("query × gallery", "mAP"))
    counted = sorted({f"{row['ap_rule']}, same camera {row['same_camera']}" for row in rows if row["evaluated"]})
    told = [f"definition {definitions[0]}"] if len(definitions) == 1 else []
    told += [f"mAP in % ({'; '.join(counted)})"] if counted else []
    yield Text("; ".join(told))
    for row in rows:
        for note in _notes(row):
            yield Text(note)


def _fact(row: Mapping[str, Any], key: str) -> str:
    return str(row[key] or ("–" if row["file"] is None else _UNKNOWN))


def _lists(row: Mapping[str, Any]) -> str:
    if row["coverage"] is None:
        return "damaged" if row["error"] else "–"
    limits = [f"top {_number(row['top_k'])}"] if row["top_k"] else []
    limits += [f"≤ {row['threshold']}"] if row["threshold"] is not None else []
    limits += ["other cameras"] if row["cameras"] == "other" else []
    whole = "all" if row["coverage"] == "full" else "" if limits else str(row["coverage"])
    positives = " and positives" if row["coverage"] == "positives" and limits else ""
    return ", ".join(filter(None, [whole, *limits])) + positives


def _when(written: str | None) -> str:
    """Day and minute, of local time."""
    return "–" if written is None else written[:16].replace("T", " ")


def _score(row: Mapping[str, Any]) -> str:
    if row["evaluation_error"]:
        return "?"
    return "–" if not row["evaluated"] or row["outdated"] else percent(row["mAP"])


def _notes(row: Mapping[str, Any]) -> Iterator[str]:
    yield from filter(None, [row["error"], row["evaluation_error"]])
    name = PurePath(row["file"] or row["name"]).name
    if row["file"] is None and row["evaluated"]:
        yield f"{name}: the ranking that was scored is gone"
    if row["outdated"]:
        yield f"{name}: its evaluation is that of an earlier ranking"
    if row["same_features"] is False:
        yield f"{name}: made from features of another network than the run holds now"
    if row["rerank"]:
        numbers = row["rerank"] if isinstance(row["rerank"], Mapping) else {}
        yield f"{name}: re-ranked ({' '.join(f'{key} {value}' for key, value in numbers.items())})"


# -- training and history -----------------------------------------------------------------------------------


def _training(training: Mapping[str, Any]) -> Iterator[RenderableType]:
    epochs = f"epoch {_number(training['epoch'])} of {_number(training['epochs'])}"
    begun = training["begun_from"] if isinstance(training["begun_from"], Mapping) else {}
    data = training["data"] if isinstance(training["data"], Mapping) else {}
    learned = f"{_number(training['vehicles'])} vehicles in {_number(data.get('images'))} images"
    held_out = data.get("held_out")
    yield Text()
    yield _facts(
        {
            "training": f"{training['architecture'] or _UNKNOWN}, recipe {training['recipe'] or _UNKNOWN}, {epochs}",
            "from": f"weights {begun['weights']}" if begun.get("weights") else None,
            "learned": learned + (f", {len(held_out)} held out" if isinstance(held_out, list) and held_out else ""),
            "images": training["data_dir"],
        }
    )
    checkpoints = training["checkpoints"]
    columns = {
        "checkpoint": [one["name"] for one in checkpoints],
        "epoch": ["?" if one["error"] else _number(one["epoch"]) for one in checkpoints],
        "held-out mAP": ["?" if one["error"] else percent(one["mAP"]) for one in checkpoints],
        "written": [_when(one["written"]) for one in checkpoints],
    }
    yield _table(columns, right=["epoch", "held-out mAP"])
    for one in training["checkpoints"]:
        if one["error"]:
            yield Text(one["error"])


def _history(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    entries = found["history"]
    if entries:
        last = entries[-_COMMANDS:]
        when, commands = [_when(str(entry["time"] or "")) for entry in last], [entry["command"] for entry in last]
        yield Text()
        yield _table({"when": when, f"command (the last {len(last)} of {len(entries):,})": commands})
    if found["history_error"]:
        yield Text(found["history_error"])
