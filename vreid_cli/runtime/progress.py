"""Progress bars on stderr, and the log that they share it with."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, NoReturn

from vreid_cli.types.escaping import for_terminal

if TYPE_CHECKING:
    from tqdm import tqdm

log = logging.getLogger("vreid")


class _TqdmHandler(logging.Handler):
    """Writes log lines above a running bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm  # commands that only look need none

        tqdm.write(for_terminal(self.format(record)), file=sys.stderr)


def set_up_logging(*, quiet: bool = False, verbose: bool = False) -> None:
    """Send the log to stderr: warnings only when quiet, details when verbose."""
    log.handlers.clear()
    handler = _TqdmHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
    log.propagate = False


def progress(*, total: int, what: str, unit: str, initial: int = 0) -> tqdm[NoReturn]:
    """A bar with rate and time left; hidden when stderr is no terminal or the log is quiet.

    Args:
        total: Units of the whole work; 0 if unknown.
        what: What the bar shows, as "ranking".
        unit: Unit of the work, as "images".
        initial: Units done before; they do not count for the rate.

    Examples:
        >>> with progress(total=2, what="ranking", unit="queries") as bar:
        ...     for _ in range(2):
        ...         _ = bar.update(1)
    """
    from tqdm import tqdm

    hidden = not sys.stderr.isatty() or not log.isEnabledFor(logging.INFO)
    return tqdm(
        total=total, initial=initial, desc=what, unit=f" {unit}", disable=hidden, file=sys.stderr, smoothing=0.1
    )
