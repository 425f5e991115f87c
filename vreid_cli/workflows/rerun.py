"""``vreid rerun``: a run's history once more, in another folder, and whether the files come out the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vreid_cli.config import Settings
from vreid_cli.errors import StoreError
from vreid_cli.runtime.files import real_path, write_text
from vreid_cli.runtime.objects import join, require_local
from vreid_cli.runtime.progress import log
from vreid_cli.store.differences import difference
from vreid_cli.store.runs import LATEST, RUNS_FOLDER, HistoryEntry, RunDirectory
from vreid_cli.types.amounts import amount
from vreid_cli.workflows.session import Report, RunChoice, Session

#: Options that say where something is written.
_WRITES = ("-o", "--output", "--plot", "--per-query", "--save-crops", "--to-hub-folder")
#: Options that name the run.
_RUN = ("--run-dir", "--resume")
#: Options that name images, which a run may hold too (as that of the demo does) and no command of its history makes.
_DATA = ("--data-dir", "--query-dir", "--gallery-dir")
#: Files that tell what was done and when, and hold no result.
_NO_RESULT = ("history.jsonl", "run.json", "latest")
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class RerunReport(Report):
    """What came out of it.

    Attributes:
        run_dir: The run whose history was run again.
        again: The folder that it was run into.
        commands: How many commands were run.
        same: Files that are the same byte for byte.
        close: Files that are the same but for what does not count, and what that is.
    """

    run_dir: Path
    again: Path
    commands: int
    same: tuple[str, ...]
    close: Mapping[str, tuple[str, ...]]


def choose_run(_: Settings) -> RunChoice:
    """The run that is meant. Nothing is taken from it: its commands say what they need."""
    return RunChoice(take_settings=False)


def rerun(session: Session) -> RerunReport:
    """Run a history again and compare every file.

    Raises:
        StoreError: There is no history, the folder is taken, a command fails, or a file is not as it was.
    """
    run = session.need_run()
    require_local(run.path, "vreid rerun compares files")
    entries, damaged = run.read_history()
    if not entries:
        raise StoreError(f"{run.path} has no history that can be run again", file=run.history_path)
    if damaged:
        log.warning("%s of %s cannot be read, left out", amount(damaged, "line"), run.history_path)
    again = session.settings.rerun.output or run.path.with_name(f"{run.path.name}-rerun")
    if again.exists():
        raise StoreError(f"{again} is there already", hint="remove it, or name another --output", file=again)
    # A command that was given twice in a row made nothing new the second time.
    todo = [entry for entry, before in zip(entries, [None, *entries], strict=False) if not _same(entry, before)]
    for number, entry in enumerate(todo, start=1):
        log.info("%d/%d: %s", number, len(todo), entry.command)
        _run_again(entry, run=run, again=again)
    same, close, other = _compare(run.path, again)
    if other:
        first = "; ".join(f"{name}: {why}" for name, why in list(other.items())[:_SHOWN])
        more = f" and {len(other) - _SHOWN} more" if len(other) > _SHOWN else ""
        count = len(other) + len(same) + len(close)
        since = "data, weights, versions, vreid.toml, back-end or kind of processor"
        hint = f"compare {again} with it: {since} may have changed since"
        raise StoreError(
            f"{len(other)} of {amount(count, 'file')} not as before: {first}{more}",
            hint=hint,
            file=run.path,
        )
    return RerunReport(outputs=(str(again),), run_dir=run.path, again=again, commands=len(todo), same=same, close=close)


def _same(entry: HistoryEntry, before: HistoryEntry | None) -> bool:
    return before is not None and (entry.words, entry.folder) == (before.words, before.folder)


def _run_again(entry: HistoryEntry, *, run: RunDirectory, again: Path) -> None:
    folder = Path(entry.folder or ".")
    if not folder.is_dir():
        message = f"{entry.command} was run in {folder}, which is gone"
        raise StoreError(message, hint="bring the folder back, with the data that it names", file=folder)
    places = [real_path(run.path), *([Path(entry.run_dir)] if entry.run_dir else [])]
    words = redirect(entry.words[1:], folder=folder, places=places, to=real_path(again))
    with _latest_kept(folder / RUNS_FOLDER / LATEST):
        code, told = run_program(words, folder)
    if code:
        hint = f"what it said: {told.strip().splitlines()[-1] if told.strip() else 'nothing'}"
        raise StoreError(f"{entry.command} failed with exit code {code}", hint=hint, file=run.history_path)


def run_program(words: Sequence[str], folder: Path) -> tuple[int, str]:
    """Run ``vreid`` with these words in a folder, in a process of its own; exit code and what it told."""
    command = [sys.executable, "-m", "vreid_cli", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)
    return done.returncode, done.stderr


def redirect(words: Sequence[str], *, folder: Path, places: Sequence[Path], to: Path) -> list[str]:
    """A command that does the same into another folder.

    Paths in the run become paths in the other folder, and what was written elsewhere goes into ``elsewhere/`` there.

    Args:
        words: The command without ``vreid``.
        folder: Where it was run.
        places: Where the run lies, and where it lay then.
        to: The other folder.

    Examples:
        >>> run, to = real_path("runs/a"), real_path("b")
        >>> words = redirect(["show", "-o", "x.png", "--run-dir=runs/a"], folder=Path(), places=[run], to=to)
        >>> [word.replace(str(to), "B") for word in words]
        ['show', '-o', 'B/elsewhere/x.png', '--run-dir=B']
    """
    found: list[str] = []
    option = ""
    for word in words:
        if word.startswith("-") and "=" not in word:
            found.append(word)
            option = word
            continue
        head, equals, text = word.partition("=") if word.startswith("-") else (option, "", word)
        path = real_path(join(folder, text))
        inside = [path.relative_to(place) for place in places if path.is_relative_to(place)]
        if head in _RUN:
            text = str(to)
        elif inside and head not in _DATA:
            text = str(to / inside[0])
        elif head in _WRITES:
            text = str(to / "elsewhere" / path.name)
        found.append(f"{head}{equals}{text}" if equals else text)
        option = ""
    return found if any(word.partition("=")[0] in _RUN for word in words) else [*found, "--run-dir", str(to)]


@contextmanager
def _latest_kept(pointer: Path) -> Iterator[None]:
    """Let ``runs/latest`` name the run that it named before."""
    before = pointer.read_text(encoding="utf-8") if pointer.is_file() else None
    try:
        yield
    finally:
        if before is not None:
            write_text(pointer, before)
        else:
            pointer.unlink(missing_ok=True)


def _compare(run: Path, again: Path) -> tuple[tuple[str, ...], Mapping[str, tuple[str, ...]], Mapping[str, str]]:
    """The files that are the same, those that are so but for what does not count, and how the others differ."""
    same: list[str] = []
    close: dict[str, tuple[str, ...]] = {}
    other: dict[str, str] = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if not path.is_file() or path.name in _NO_RESULT or path.name.startswith("."):
            continue
        twin = again / name
        if not twin.is_file():
            other[name] = "it was not made again"
        elif (found := difference(path, twin)) is None:
            same.append(name)
        elif found.harmful is None:
            close[name] = found.harmless
        else:
            other[name] = found.harmful
    return tuple(same), close, other
