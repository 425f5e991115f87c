"""Things named by module and name."""

from __future__ import annotations

import fractions
import sys

import pytest

from vreid_cli.types.lazy import load


def test_load_gives_the_thing_that_is_named() -> None:
    assert load("fractions:Fraction") is fractions.Fraction


def test_load_imports_on_first_use_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    target = "wave:open"
    assert "wave" not in sys.modules
    load(target)
    assert "wave" in sys.modules


@pytest.mark.parametrize("target", ["", ":Fraction", "fractions:Fraction:limit"])
def test_load_refuses_what_names_no_thing(target: str) -> None:
    with pytest.raises(ValueError, match="invalid format"):
        load(target)


def test_load_passes_on_what_is_missing() -> None:
    with pytest.raises(ModuleNotFoundError):
        load("no_such_module:thing")
    with pytest.raises(AttributeError):
        load("fractions:no_such_thing")
