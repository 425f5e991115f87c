"""Things named by ``"module:name"`` and imported on first use, so that tables stay light."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any


def load(target: str) -> Any:
    """Import what ``"module:name"`` names.

    Tables name their heavy functions this way: a table can then be read, for help and validation, without the
    libraries that the functions need.

    Args:
        target: A module and a name in it, as ``"vreid_cli.data.veri:read_veri"``.

    Returns:
        The function, class or value itself.

    Raises:
        ValueError: ``target`` is not of that form.
        ImportError: There is no such module, or a library that it needs is missing.
        AttributeError: The module has no such name.

    Examples:
        >>> load("math:sqrt")(9.0)
        3.0
    """
    return resolve_name(target)
