"""Packages that only some commands need, and that come with an extra."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from vreid_cli.errors import MissingExtraError

#: The version of a package that is not installed.
NOT_INSTALLED = "none"


def require_extra(extra: str, packages: Sequence[str], *, needed_by: str) -> None:
    """Refuse work whose packages are not installed, before any of it is done.

    Args:
        extra: Name of the extra that brings the packages.
        packages: What is imported.
        needed_by: The command or option, as messages call it.

    Raises:
        MissingExtraError: A package is missing; says what to install.
    """
    if missing := missing_packages(packages):
        verb = "is" if len(missing) == 1 else "are"
        raise MissingExtraError(
            f"{needed_by} needs {' and '.join(missing)}, which {verb} not installed",
            hint=f'pip install "vreid[{extra}]", or from a checkout: pip install -e ".[{extra}]"',
        )


def missing_packages(packages: Sequence[str]) -> list[str]:
    """Those of the packages that are not installed."""
    return [name for name in packages if find_spec(name) is None]


def installed_version(package: str) -> str:
    """The version of a package; ``none`` where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # the list of commands needs none

    try:
        return version(package)
    except PackageNotFoundError:
        return NOT_INSTALLED
