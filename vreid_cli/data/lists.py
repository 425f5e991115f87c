"""Text lists that data sets come with: names, labels, tracks, and test lists of several sizes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from vreid_cli.data.decoding import is_image
from vreid_cli.data.listing import ListingBuilder, list_images
from vreid_cli.errors import DataError, UsageError, first_line
from vreid_cli.runtime.files import read_text
from vreid_cli.types.amounts import amount

#: How much of a line that is not understood is shown.
SHOWN = 80

#: What :func:`camera_track` means for the results.
NO_PASSAGES = "this layout has no list of tracks: all images of a vehicle by one camera count as one track"


def camera_track(vehicle: str, camera: str) -> str:
    """The track of an image whose passage nobody noted: all that one camera saw of its vehicle.

    Examples:
        >>> camera_track("0002", "c003")
        '0002_c003'
    """
    return f"{vehicle}_{camera}"


def read_words(path: Path) -> list[list[str]]:
    """The words of each line, none where it is blank; CRLF and trailing spaces do not matter.

    Raises:
        DataError: The file is missing or is not text.

    Examples:
        >>> path = Path("test_track.txt")
        >>> _ = path.write_text("t1 a.jpg b.jpg ")
        >>> read_words(path)
        [['t1', 'a.jpg', 'b.jpg']]
    """
    if not path.is_file():
        raise DataError(f"there is no list {path}", file=path)
    try:
        text = read_text(path, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {first_line(error)}", file=path) from None
    return [line.split() for line in text.splitlines()]


def read_table(path: Path, images: Path, *, columns: str, listing: ListingBuilder) -> dict[str, list[str]]:
    """A list of as many words a line as there are columns, by the file name of the image, each once.

    Args:
        path: The list; its first words name the images, with or without their ending.
        images: The folder that the names are relative to.
        columns: What the words mean, as ``image vehicle``.
        listing: Takes the warnings.

    Raises:
        DataError: The file is missing, is not text, is empty, or has a line with another number of words.

    Examples:
        >>> path, listing = Path("list.txt"), ListingBuilder()
        >>> _ = path.write_text("0000001 12")
        >>> Path("image").mkdir()
        >>> read_table(path, Path("image"), columns="image vehicle", listing=listing)
        {'0000001.jpg': ['12']}
        >>> listing.warnings
        ['1 name in list.txt without an image in image: 0000001.jpg']
    """
    rows: dict[str, list[str]] = {}
    repeated: list[str] = []
    contradictory: list[str] = []
    for number, words in enumerate(read_words(path), start=1):
        if not words:
            continue
        if len(words) != len(columns.split()):
            found = " ".join(words)[:SHOWN]
            raise DataError(f"{path}, line {number}: expected '{columns}', found '{found}'", file=path)
        name, labels = with_ending(words[0]), words[1:]
        if name in rows:
            (repeated if rows[name] == labels else contradictory).append(f"{name} (line {number})")
        rows.setdefault(name, labels)
    if not rows:
        raise DataError(f"{path} names no images", hint=f"expected lines '{columns}'", file=path)
    listing.warn_of(repeated, "image", f"named twice in {path.name}, each counts once")
    listing.warn_of(contradictory, "image", f"labelled in two ways in {path.name}, the first counts")
    warn_of_missing(rows, images, listed_in=path.name, listing=listing)
    return rows


def read_names(path: Path, images: Path, *, listing: ListingBuilder) -> list[str]:
    """Names of a split's images: those of its list where there is one, else those of its folder.

    Args:
        path: The list, which decides; its first words are the names.
        images: The folder.
        listing: Takes the warnings of how the two differ.

    Raises:
        DataError: The folder or the list cannot be read.
    """
    present = list_images(images)
    if not path.is_file():
        return present
    listed = [words[0] for words in read_words(path) if words]
    names = dict.fromkeys(listed)
    unlisted = [name for name in present if name not in names]
    listing.warn_of(unlisted, "image", f"of {images.name} not in {path.name}, left out")
    warn_of_missing(names, images, listed_in=path.name, listing=listing)
    if len(names) < len(listed):
        repeated = amount(len(listed) - len(names), "image")
        listing.warnings.append(f"{repeated} named twice in {path.name}, each counts once")
    return list(names)


def read_track_list(path: Path, *, named: bool, listing: ListingBuilder) -> dict[str, str]:
    """Track of each image, by a list with the images of one track a line.

    Args:
        path: The list.
        named: Whether a line begins with the track's name; else the number of the line names the track.
        listing: Takes the warnings.

    Raises:
        DataError: A line is no track, or there is none.
    """
    tracks: dict[str, str] = {}
    repeated: list[str] = []
    for number, words in enumerate(read_words(path), start=1):
        track = f"track{number:05d}"
        if named and words:
            if len(words) < 2 or is_image(words[0]):
                found = " ".join(words)[:SHOWN]
                raise DataError(
                    f"{path}, line {number}: expected a track name and then its images, found '{found}'", file=path
                )
            track, *words = words
        repeated += [name for name in words if tracks.setdefault(name, track) != track]
    listing.warn_of(repeated, "image", f"in two tracks of {path.name}, the first counts")
    if not tracks:
        raise DataError(f"{path} names no track", hint="unpack it again, or take it away", file=path)
    return tracks


def warn_of_missing(names: Iterable[str], images: Path, *, listed_in: str, listing: ListingBuilder) -> None:
    """Warn of listed names that have no file; extraction skips each by name."""
    names = set(names)
    present = {
        f"{below}/{name}" if below else name
        for below in {name.rpartition("/")[0] for name in names}
        if (images / below).is_dir()
        for name in list_images(images / below)
    }
    listing.warn_of(sorted(names - present), "name", f"in {listed_in} without an image in {images.name}")


def with_ending(name: str) -> str:
    """The file name of an image that a list names with or without its ending.

    Examples:
        >>> with_ending("0000001"), with_ending("0000001.png")
        ('0000001.jpg', '0000001.png')
    """
    return name if is_image(name) else f"{name}.jpg"


def choose_list(folder: Path, pattern: str, *, subset: int | None, listing: ListingBuilder) -> Path:
    """The test list of the size that ``--subset`` asks for; the only one where there is but one.

    Args:
        folder: Where the lists lie.
        pattern: Their names, with ``{}`` for the size.
        subset: The size; None where none was asked for.
        listing: Takes the warning which list was taken where none was asked for.

    Raises:
        DataError: There is no list, or none of that size.
        UsageError: There are several and no size was asked for.
    """
    expression = re.compile(re.escape(pattern).replace(r"\{\}", r"(\d+)"))
    sizes = sorted(int(match[1]) for path in folder.iterdir() if (match := expression.fullmatch(path.name)))
    known = ", ".join(map(str, sizes))
    if not sizes:
        raise DataError(f"{folder} holds no {pattern.format('<size>')}", file=folder)
    if subset is None:
        if len(sizes) > 1:
            raise UsageError("--subset: which of the test lists?", hint=f"{folder} holds {known}")
        subset = sizes[0]
        listing.warnings.append(f"{pattern.format(subset)} is the only test list and was taken (--subset {subset})")
    if subset not in sizes:
        raise DataError(f"--subset {subset}: {folder} holds {known}", hint="choose one of these", file=folder)
    return folder / pattern.format(subset)
