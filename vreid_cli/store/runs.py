"""The run directory: what made it, what is in it, and what was done to it."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vreid_cli.errors import StoreError, first_line
from vreid_cli.runtime.files import read_json_object, read_text, real_path, write_json, write_text
from vreid_cli.runtime.objects import ObjectPath, as_path
from vreid_cli.runtime.progress import log
from vreid_cli.store.features import FeatureStore
from vreid_cli.store.formats import RANKING_FORMATS, endings
from vreid_cli.types.images import SPLITS, Split
from vreid_cli.types.rankings import RankingFacts

#: Of ``run.json``.
INFO_SCHEMA = 1
RUNS_FOLDER = Path("runs")
LATEST = "latest"
#: What a run directory can hold; a folder with none of it is none.
_PARTS = ("run.json", "features", "rankings", "evaluations", "checkpoints")


@dataclass(frozen=True)
class HistoryEntry:
    """A command as it was run; None is what the history does not say.

    Attributes:
        words: The command line, word by word.
        time: When.
        version: Of vreid.
        exit_code: How it ended.
        folder: The current folder then.
        run_dir: Where the run was then.
    """

    words: tuple[str, ...]
    time: str | None = None
    version: str | None = None
    exit_code: int | None = None
    folder: str | None = None
    run_dir: str | None = None

    @property
    def command(self) -> str:
        """The command line as a shell takes it."""
        return shlex.join(self.words)


class RunDirectory:
    """Paths inside one run, and its two small files ``run.json`` and ``history.jsonl``.

    Attributes:
        path: The folder.
        info_path: What made the run.
        history_path: Each command as it was run.
        rankings: Folder of the rankings.
        evaluations: Folder of the evaluations.
        calibrations: Folder of what gives distances probabilities.
        identities: Folder of the identities.
        reports: Folder of the sheets.
        index: Folder of the indexes of the gallery's images.
        exports: Folder of what other programs read.
        checkpoints: Folder of what was trained.
        training_state: All that a training needs to go on.
        last_checkpoint: The network of the last epoch.
        best_checkpoint: The network of the best epoch.
        training_log: One row an epoch.
        training_curves: The rows of the log, as a plot.

    Examples:
        >>> RunDirectory(Path("runs/cars")).last_checkpoint.as_posix()
        'runs/cars/checkpoints/last.safetensors'
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.info_path = path / "run.json"
        self.history_path = path / "history.jsonl"
        self.rankings = path / "rankings"
        self.evaluations = path / "evaluations"
        self.calibrations = path / "calibrations"
        self.identities = path / "identities"
        self.reports = path / "reports"
        self.index = path / "index"
        self.exports = path / "exports"
        self.checkpoints = path / "checkpoints"
        self.training_state = self.checkpoints / "resume.safetensors"
        self.last_checkpoint = self.checkpoints / "last.safetensors"
        self.best_checkpoint = self.checkpoints / "best.safetensors"
        self.training_log = path / "log.csv"
        self.training_curves = path / "curves.png"

    def features(self, split: Split) -> FeatureStore:
        """The feature store of a split."""
        return FeatureStore(self.path / "features" / split)

    def extracted_splits(self) -> list[Split]:
        """Splits that have a folder of features, complete or not."""
        return [split for split in SPLITS if self.features(split).path.is_dir()]

    def exists(self) -> bool:
        """Whether the folder holds anything that a run is made of."""
        return any((self.path / name).exists() for name in _PARTS)

    def read_info(self) -> dict[str, Any]:
        """The content of ``run.json``.

        Raises:
            StoreError: This is no run directory, or the file is damaged.
        """
        if not self.info_path.is_file():
            hint = "make one with vreid extract, or name another with --run-dir"
            raise StoreError(f"{self.path} is no run directory: it has no run.json", hint=hint, file=self.path)
        again = "delete it and run vreid extract again: that writes it, and computes no feature twice"
        try:
            info = read_json_object(self.info_path)
        except StoreError as error:
            error.hint = again
            raise
        if info.get("schema", INFO_SCHEMA) != INFO_SCHEMA:
            other = f"{self.info_path} was written by another version of vreid (schema {info['schema']})"
            raise StoreError(other, hint=f"use that version; or {again}", file=self.info_path)
        return info

    def write_info(self, info: Mapping[str, Any]) -> None:
        """Write ``run.json``; left alone where nothing changed, so that a repeated run changes no file."""
        if not self.info_path.is_file() or read_json_object(self.info_path) != dict(info):
            write_json(self.info_path, dict(info))

    def append_history(self, command: Sequence[str], *, version: str, exit_code: int) -> None:
        """Add one line to ``history.jsonl``: the command as it was run, when, where, and how it ended."""
        when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        where = {"folder": str(Path.cwd()), "run_dir": str(real_path(self.path))}
        entry = {"time": when, "command": command, "version": version, "exit_code": exit_code, **where}
        line = json.dumps(entry, ensure_ascii=False) + "\n"
        if isinstance(self.history_path, ObjectPath):  # to which nothing can be appended
            earlier = self.history_path.read_text() if self.history_path.is_file() else ""
            write_text(self.history_path, earlier + line)
            return
        with self.history_path.open("a", encoding="utf-8") as file:
            file.write(line)

    def read_history(self) -> tuple[list[HistoryEntry], int]:
        """The commands as they were run, oldest first, and the number of lines that cannot be read.

        Raises:
            OSError: The file cannot be read.
        """
        if not self.history_path.is_file():
            return [], 0
        lines = read_text(self.history_path, errors="replace").splitlines()
        entries = [_history_entry(line) for line in lines if line.strip()]
        return [entry for entry in entries if entry is not None], entries.count(None)

    def mark_latest(self, runs_folder: Path = RUNS_FOLDER) -> None:
        """Let ``runs/latest`` name this run, relative to ``runs`` where that is possible."""
        if isinstance(self.path, ObjectPath):
            write_text(runs_folder / LATEST, f"{self.path}\n")
            return
        try:
            name = os.path.relpath(real_path(self.path), real_path(runs_folder))
        except ValueError:  # another drive
            name = str(real_path(self.path))
        write_text(runs_folder / LATEST, Path(name).as_posix() + "\n")

    @contextmanager
    def locked(self, file: str = ".lock") -> Iterator[None]:
        """Keep others from writing to the run meanwhile; in an object store, which has no locks, only warn.

        Args:
            file: The lock: that of what writes into the folder, or that of a command that runs others which do.

        Raises:
            StoreError: Another process is writing to it, or nobody can.
        """
        if isinstance(self.path, ObjectPath):
            self.path.mkdir()
            log.warning("%s: an object store has no locks; let one vreid at a time write to this run", self.path)
            yield
            return
        from filelock import FileLock, Timeout  # not for commands that only look

        lock = FileLock(self.path / file)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            hint = "wait until it has finished, or use another --run-dir"
            raise StoreError(f"another vreid is working on {self.path}", hint=hint, file=self.path) from None
        except OSError as error:
            message = f"{self.path} cannot be written to: {error.strerror or error}"
            raise StoreError(message, hint="choose another folder with --run-dir", file=self.path) from None
        try:
            for folder in (self.path, self.checkpoints):  # of a process that was killed while it wrote
                for path in folder.glob(".*.tmp*"):
                    path.unlink(missing_ok=True)
            yield
        finally:
            lock.release()


def latest_run(runs_folder: Path = RUNS_FOLDER) -> RunDirectory | None:
    """The run that ``runs/latest`` names; None where there is no such file or no such run.

    Raises:
        StoreError: The file is damaged.
    """
    pointer = runs_folder / LATEST
    if not pointer.is_file():
        return None
    try:
        named = read_text(pointer).strip()
        run = RunDirectory(as_path(named) if "://" in named else Path(os.path.normpath(runs_folder / named)))
        return run if run.info_path.is_file() else None
    except (OSError, ValueError) as error:  # no text, or no path
        hint = "name a run with --run-dir; the next vreid extract writes the file again"
        raise StoreError(f"{pointer} names no run: {first_line(error)[:100]}", hint=hint, file=pointer) from None


def owning_run(path: Path) -> RunDirectory | None:
    """The run in whose folder of rankings or identities a file lies, named as the file was."""
    folder = real_path(path.parent)
    run = RunDirectory(folder.parent)
    if folder not in (run.rankings, run.identities) or not run.info_path.is_file():
        return None
    # The path as it was given reads better in messages; from inside the folder it would be "..".
    return RunDirectory(path.parent.parent) if path.parent.name == folder.name else run


def ranking_name(facts: RankingFacts) -> str:
    """A ranking's file name in a run, without ending.

    Example:
        >>> ranking_name(RankingFacts(task="t2t", metric="meanMCD50", definition="released", track_unit="camera"))
        't2t-meanMCD50-released-camera'
    """
    parts = {"candidates": facts.candidates is not None, f"trial{facts.trial or 0:02d}": facts.trial is not None}
    return "-".join([calibration_name(facts), *(part for part, named in parts.items() if named)])


def calibration_name(facts: RankingFacts) -> str:
    """The file name, without ending, of the calibration that a ranking needs: that of all its trials.

    Example:
        >>> calibration_name(RankingFacts(task="i2i", metric="MCD", trial=3))
        'i2i-MCD'
    """
    parts = {
        "released": facts.definition == "released",
        "camera": facts.track_unit == "camera",
        "rerank": facts.rerank is not None,
    }
    return "-".join([str(facts.task), str(facts.metric), *(part for part, named in parts.items() if named)])


def rankings_in(folder: Path) -> list[Path]:
    """The rankings that lie directly in a folder, by name."""
    known = endings(RANKING_FORMATS, read=True)
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in known)


def named_files(named: Sequence[Path], files_in: Callable[[Path], list[Path]]) -> list[Path]:
    """The files that are named, and those in folders that are; one that is meant twice comes once, as the first."""
    found: dict[Path, Path] = {}
    for path in named:
        for file in files_in(path) if path.is_dir() else [path]:
            found.setdefault(real_path(file), file)
    return list(found.values())


def some_rankings(folder: Path) -> list[Path]:
    """The rankings in a folder, or in that of a run.

    Raises:
        StoreError: There are none.
    """
    run = RunDirectory(folder)
    found = rankings_in(run.rankings if run.info_path.is_file() else folder)
    if not found:
        raise StoreError(f"there are no rankings in {folder}", hint="make one with vreid rank", file=folder)
    return found


def identities_in(folder: Path) -> list[Path]:
    """The identities that lie directly in a folder, by name."""
    return sorted(folder.glob("*.parquet"))


def _history_entry(line: str) -> HistoryEntry | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("command"), list):
        return None
    kinds = {"time": str, "version": str, "exit_code": int, "folder": str, "run_dir": str}
    known = {key: entry[key] if isinstance(entry.get(key), kind) else None for key, kind in kinds.items()}
    return HistoryEntry(tuple(map(str, entry["command"])), **known)
