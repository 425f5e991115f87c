"""From the settings to an engine."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from vreid_cli.engines.engine import Engine
from vreid_cli.engines.local import LocalEngine
from vreid_cli.engines.ray import RayEngine
from vreid_cli.engines.torchrun import Group, LeaderEngine
from vreid_cli.errors import UsageError
from vreid_cli.runtime.options import RuntimeOptions


def open_engine(options: RuntimeOptions, group: Group | None = None) -> AbstractContextManager[Engine]:
    """The engine that was asked for; its workers stop at the end of the ``with`` block.

    Args:
        options: What was asked for.
        group: The processes that torchrun started, of which this one is the first.

    Raises:
        UsageError: Both torchrun and Ray are to share the work.
        MissingExtraError: Ray is not installed.
        ClusterError: The Ray cluster cannot be reached, or does not fit.

    Examples:
        >>> with open_engine(RuntimeOptions()) as engine:
        ...     engine.here
        True
    """
    if group is not None:
        if options.engine == "ray":
            raise UsageError("--engine ray under torchrun: both share the work", hint="start vreid without torchrun")
        return nullcontext(LeaderEngine(group))
    if options.engine == "ray":
        return RayEngine(options.ray_address, cores=options.ray_cores)
    return nullcontext(LocalEngine())
