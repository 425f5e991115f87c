"""Errors that the user can fix: a message, a hint, a file and an exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class VreidError(Exception):
    """An error that the user can fix; the command line shows it without a traceback.

    Args:
        message: What is wrong, in one sentence.
        hint: How to fix it.
        file: The file, folder or option concerned.

    Examples:
        >>> error = DataError("cars.csv has no column 'path'", hint="add it to the first line", file="cars.csv")
        >>> error.exit_code, error.hint
        (1, 'add it to the first line')
    """

    exit_code = 1
    #: What to do where the message says all that is known.
    usual_hint: str | None = None

    def __init__(self, message: str, *, hint: str | None = None, file: str | Path | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.file = None if file is None else str(file)


class UsageError(VreidError):
    """Wrong usage: an unknown name, a value out of range, options that exclude each other."""

    exit_code = 2


class ConfigError(VreidError):
    """A configuration file holds an unknown key, a wrong type or a value that is not allowed."""

    usual_hint = "check that this is the file that is meant; --show-config prints one that can be used"


class DataError(VreidError):
    """A data set, folder, image or feature file is missing or is not what it should be."""

    usual_hint = "check that this is the file that is meant, and that it is whole"


class StoreError(VreidError):
    """A run directory, feature store or ranking is missing, incomplete, in use or made otherwise."""

    usual_hint = "check the path; what is damaged can be made again by the command that wrote it"


class WeightsError(VreidError):
    """Weights are not available, or do not fit the architecture."""

    usual_hint = "check the path, and copy or download the file again"


class ExportError(VreidError):
    """A network cannot be exported, or computes something else after export."""


class MissingExtraError(VreidError):
    """A package that only some commands need is not installed."""


class DeviceError(VreidError):
    """The requested device does not exist."""


class ClusterError(VreidError):
    """A cluster cannot be reached, or does not fit this installation."""


class PartsLostError(VreidError):
    """Some parts of a work could not be done; all others are."""


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to a mistyped one, ignoring case; None if none is close.

    Examples:
        >>> nearest_name("MEANMCD5", ["minMED", "meanMCD50"])
        'meanMCD50'
    """
    by_lower = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[matches[0]] if matches else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint that offers the nearest name and lists all of them.

    Examples:
        >>> did_you_mean("resnet8", ["resnet18", "vgg16"])
        "did you mean 'resnet18'? Known: resnet18, vgg16."
    """
    names = list(known)
    nearest = nearest_name(name, names)
    offer = f"did you mean '{nearest}'? " if nearest else ""
    return f"{offer}Known: {', '.join(names)}."


def require_type(value: object, kind: type, *, name: str, hint: str) -> None:
    """Refuse an argument of a wrong type in words, before it fails somewhere inside.

    Raises:
        UsageError: It is no ``kind``.

    Examples:
        >>> require_type("runs/demo", dict, name="options", hint="as in {}")
        Traceback (most recent call last):
            ...
        vreid_cli.errors.UsageError: options: needs a dict, not a str
    """
    if not isinstance(value, kind):
        names = (kind.__name__, type(value).__name__)
        needed, given = (f"an {one}" if one[0] in "AEIOUaeiou" else f"a {one}" for one in names)
        raise UsageError(f"{name}: needs {needed}, not {given}", hint=hint)


def first_line(error: BaseException) -> str:
    r"""First line of another library's error; the name of its class if it has no text.

    Examples:
        >>> first_line(ValueError("bad header\nin line 3")), first_line(KeyError())
        ('bad header', 'KeyError')
        >>> first_line(OSError(28, "No space left on device"))
        'No space left on device'
    """
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return next(iter(text.splitlines()), type(error).__name__)
