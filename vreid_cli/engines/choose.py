"""From the settings to an engine."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from vreid_cli.engines.engine import Engine
from vreid_cli.engines.local import LocalEngine
from vreid_cli.engines.ray import RayEngine
from vreid_cli.runtime.options import RuntimeOptions


def open_engine(options: RuntimeOptions) -> AbstractContextManager[Engine]:
    """The engine that was asked for; its workers stop at the end of the ``with`` block.

    Raises:
        MissingExtraError: Ray is not installed.
        ClusterError: The Ray cluster cannot be reached, or does not fit.

    Examples:
        >>> with open_engine(RuntimeOptions()) as engine:
        ...     engine.here
        True
    """
    if options.engine == "ray":
        return RayEngine(options.ray_address, cores=options.ray_cores)
    return nullcontext(LocalEngine())
