"""Progress bars on stderr, and the log that they share it with."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from tqdm import tqdm

log = logging.getLogger("vreid")


class Bar(Protocol):
    """What a caller may do with a bar."""

    def update(self, n: float | None = 1) -> object:
        """Advance by ``n``."""

    def set_postfix_str(self, s: str = "", refresh: bool = True) -> object:
        """Say something at its end, at once or when it is next drawn."""


class _TqdmHandler(logging.Handler):
    """Writes log lines above a running bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def set_up_logging(*, quiet: bool = False, verbose: bool = False) -> None:
    """Send the log to stderr: warnings only when quiet, details when verbose."""
    log.handlers.clear()
    handler = _TqdmHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
    log.propagate = False


@contextmanager
def progress(*, total: int, what: str, unit: str, initial: int = 0) -> Iterator[Bar]:
    """A bar with rate and time left; none when stderr is no terminal or the log is quiet.

    Args:
        total: Units of the whole work; 0 if unknown.
        what: Is done.
        unit: Of the work.
        initial: Units that were done before; they do not count for the rate.
    """
    hidden = not sys.stderr.isatty() or not log.isEnabledFor(logging.INFO)
    with tqdm(
        total=total,
        initial=initial,
        desc=what,
        unit=f" {unit}",
        disable=hidden,
        file=sys.stderr,
        smoothing=0.1,
    ) as bar:
        yield bar
