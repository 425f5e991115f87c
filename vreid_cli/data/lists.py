"""Text lists that data sets come with: lines of words, names of images, and test lists of several sizes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from vreid_cli.data.decoding import is_image
from vreid_cli.data.listing import DataFolders, examples, list_images, require_folder
from vreid_cli.errors import DataError, UsageError

_SHOWN = 80


def main_folder(folders: DataFolders, *, dataset: str, shape: str) -> Path:
    """The folder of a data set whose layout has fixed names below it.

    Args:
        folders: What was named.
        dataset: Name of the layout.
        shape: What the folder must hold, for the hint.

    Raises:
        UsageError: No folder is named, or folders are named one by one.
        DataError: It is not there.
    """
    if folders.query_dir is not None or folders.gallery_dir is not None:
        raise UsageError(
            f"--query-dir and --gallery-dir: the folders of --dataset {dataset} have fixed names below --data-dir",
            hint="give --data-dir; for folders of your own add --dataset tracks",
        )
    if folders.data_dir is None:
        raise UsageError(f"--dataset {dataset}: where is it?", hint=f"name it with --data-dir. {shape}")
    return require_folder(folders.data_dir, hint=f"check --data-dir. {shape}")


def require_list(path: Path, *, hint: str) -> Path:
    """The list file itself, if it is there.

    Raises:
        DataError: It is not.
    """
    if not path.is_file():
        raise DataError(f"there is no list {path}", hint=hint, file=path)
    return path


def read_lines(path: Path) -> list[list[str]]:
    """The words of each line, none where it is blank; CRLF and trailing spaces do not matter.

    Raises:
        DataError: The file is not text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}", file=path) from None
    return [line.split() for line in text.splitlines()]


def read_table(path: Path, *, columns: str, warnings: list[str]) -> dict[str, list[str]]:
    """A list of as many words a line as there are columns, by the first word, each once.

    Args:
        path: The list.
        columns: What the words mean, as ``image vehicle``.
        warnings: Receives what is doubtful.

    Raises:
        DataError: The file is no text, empty, or has a line with another number of words.
    """
    rows: dict[str, list[str]] = {}
    repeated: list[str] = []
    contradictory: list[str] = []
    for number, words in enumerate(read_lines(path), start=1):
        if not words:
            continue
        if len(words) != len(columns.split()):
            raise DataError(
                f"{path}, line {number}: expected '{columns}', found '{' '.join(words)[:_SHOWN]}'", file=path
            )
        name, *labels = words
        if name in rows:
            (repeated if rows[name] == labels else contradictory).append(f"{name} (line {number})")
        rows.setdefault(name, labels)
    if not rows:
        raise DataError(f"{path} names no images", hint=f"expected lines '{columns}'", file=path)
    if repeated:
        warnings.append(f"{path.name} names {len(repeated)} images twice; each counts once: {examples(repeated)}")
    if contradictory:
        warnings.append(
            f"{path.name} labels {len(contradictory)} images in two ways, the first counts: {examples(contradictory)}"
        )
    return rows


def names_of_split(folder: Path, path: Path, warnings: list[str]) -> list[str]:
    """Names of a split's images: those of its list file where there is one, else those of its folder.

    Args:
        folder: The folder.
        path: The list file, which decides; its first words are the names.
        warnings: Receives how the two differ.

    Raises:
        DataError: The folder or the list cannot be read.
    """
    present = list_images(folder)
    if not path.is_file():
        return present
    listed = [word for line in read_lines(path) for word in line[:1]]
    unlisted = sorted(set(present) - set(listed))
    if unlisted:
        warnings.append(
            f"{len(unlisted)} images in {folder.name} are not in {path.name}, left out: {examples(unlisted)}"
        )
    report_missing(listed, present, listed_in=path.name, folder=folder.name, warnings=warnings)
    repeated = len(listed) - len(set(listed))
    if repeated:
        warnings.append(f"{path.name} names {repeated} images twice; each counts once")
    return list(dict.fromkeys(listed))


def report_missing(
    listed: Sequence[str], present: Sequence[str], *, listed_in: str, folder: str, warnings: list[str]
) -> None:
    """Warn of names that no image bears; extraction will skip each by name."""
    missing = sorted(set(listed) - set(present))
    if missing:
        warnings.append(f"{len(missing)} names in {listed_in} have no image in {folder}: {examples(missing)}")


def with_ending(name: str) -> str:
    """The file name of an image that a list names with or without its ending."""
    return name if is_image(name) else f"{name}.jpg"


def with_endings(rows: Mapping[str, list[str]], path: Path, warnings: list[str]) -> dict[str, list[str]]:
    """The same table by file name; what is named both with and without its ending counts once, the first time."""
    named: dict[str, list[str]] = {}
    for name, labels in rows.items():
        named.setdefault(with_ending(name), labels)
    if len(named) < len(rows):
        counts = Counter(map(with_ending, rows))
        twice = [name for name, count in counts.items() if count > 1]
        warnings.append(f"{path.name} names {len(twice)} images twice, the first counts: {examples(twice)}")
    return named


def choose_list(folder: Path, pattern: str, *, subset: int | None, dataset: str, warnings: list[str]) -> Path:
    """The test list of the size that ``--subset`` asks for; the only one where there is but one.

    Args:
        folder: Where the lists lie.
        pattern: Their names, with ``{}`` for the size.
        subset: The size; None where none was asked for.
        dataset: Name of the layout.
        warnings: Receives which list was taken where none was asked for.

    Raises:
        DataError: There is no list, or none of that size.
        UsageError: There are several and no size was asked for.
    """
    expression = re.compile(re.escape(pattern).replace(r"\{\}", r"(\d+)"))
    sizes = sorted(int(match[1]) for path in folder.iterdir() if (match := expression.fullmatch(path.name)))
    known = ", ".join(map(str, sizes))
    if not sizes:
        raise DataError(f"{folder} holds no {pattern.format('<size>')}", hint="check --data-dir", file=folder)
    if subset is None:
        if len(sizes) > 1:
            raise UsageError(
                f"--dataset {dataset}: which of its test lists?", hint=f"give --subset; {folder} holds {known}"
            )
        warnings.append(f"{pattern.format(sizes[0])} is the only test list and was taken (--subset {sizes[0]})")
        return folder / pattern.format(sizes[0])
    if subset not in sizes:
        raise DataError(f"--subset {subset}: {folder} holds {known}", hint="choose one of these", file=folder)
    return folder / pattern.format(subset)


def camera_track(vehicle: str, camera: str) -> str:
    """The track of an image whose passage nobody noted: all that one camera saw of its vehicle."""
    return f"{vehicle}_{camera}"


#: What :func:`camera_track` means for the results.
NO_PASSAGES = "this layout has no list of tracks: all images of a vehicle by one camera count as one track"
