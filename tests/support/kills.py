"""A run that ends at a named place, as if its process were killed there."""

from __future__ import annotations

import pytest

from vreid_cli.store.features import FeatureStore


class Killed(BaseException):
    """Stands for the end of the process."""


def die_at(monkeypatch: pytest.MonkeyPatch, seam: str) -> None:
    """Let the next run end at a method of the store: ``write_part 2`` is its second call."""
    name, _, call = seam.partition(" ")
    original = getattr(FeatureStore, name)
    left = int(call or 1)

    def method(self: FeatureStore, *args: object, **options: object) -> object:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed(seam)
        return original(self, *args, **options)

    monkeypatch.setattr(FeatureStore, name, method)
