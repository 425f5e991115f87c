"""What can go wrong in a way that the user can mend: a message, a hint, a file and an exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class VreidError(Exception):
    """An error that the user can mend; the command line shows it without a traceback.

    Args:
        message: What is wrong, in one sentence.
        hint: What to do about it.
        file: The file, folder or option that it is about.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None, file: str | Path | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.file = None if file is None else str(file)


class UsageError(VreidError):
    """The command was put wrongly: an unknown name, a value out of range, options that exclude each other."""

    exit_code = 2


class ConfigError(VreidError):
    """A configuration file holds an unknown key, a wrong type or a value that is not allowed."""


class DataError(VreidError):
    """A data set, folder, image or feature file is missing or is not what it should be."""


class StoreError(VreidError):
    """A run directory, feature store or ranking is missing, incomplete, in use or made otherwise."""


class WeightsError(VreidError):
    """Weights cannot be had, or do not fit the architecture."""


class ExportError(VreidError):
    """A network cannot be written in another form, or computes something else there."""


class DeviceError(VreidError):
    """The device that was asked for is not there."""


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """The known name that a mistyped one most resembles, without regard to case; None if none does."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[matches[0]] if matches else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint that offers the nearest name and lists all of them: ``did you mean 'x'? Known: x, y.`` and so on."""
    names = list(known)
    nearest = nearest_name(name, names)
    offer = f"did you mean '{nearest}'? " if nearest else ""
    return f"{offer}Known: {', '.join(names)}."


def first_line(error: BaseException) -> str:
    """What another library's error says first; the name of its class where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)
