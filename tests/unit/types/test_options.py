"""Option classes: what Python may say, what JSON may say, and names that stand in a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import ValidationError

from vreid_cli.runtime.options import Location
from vreid_cli.types.options import Choice, Options, Positive, option

TABLE = {"one": 1, "two": 2}


class Toy(Options):
    """A class of every kind of field."""

    names: tuple[Literal["a", "b"], ...] = option(("a",), "Names.")
    paths: tuple[Location, ...] = option((), "Paths.", flag="PATH")
    path: Location | None = option(None, "A path.", metavar="DIR", shown="here")
    count: Positive | None = option(None, "A number.")
    share: float = option(0.5, "A share.")
    switch: bool = option(False, "A switch.")
    chosen: Annotated[str, Choice(TABLE)] = option("one", "A name in a table.")
    perhaps: Annotated[str, Choice(TABLE)] | None = option(None, "The same, or none.")


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"names": "b"}, ("b",)),
        ({"names": ["b", "a"]}, ("b", "a")),
        ({"names": ("b",)}, ("b",)),
        ({"paths": "x"}, (Path("x"),)),
        ({"paths": ["x", Path("y")]}, (Path("x"), Path("y"))),
        ({"path": "x"}, Path("x")),
        ({"path": None}, None),
        ({"share": 1}, 1.0),
        ({"chosen": "two"}, "two"),
    ],
)
def test_python_may_say_it_as_it_likes(given: dict[str, Any], value: object) -> None:
    assert getattr(Toy(**given), next(iter(given))) == value


@pytest.mark.parametrize(
    "given",
    [
        {"names": "c"},
        {"names": 3},
        {"count": True},
        {"count": "3"},
        {"count": 0},
        {"switch": 1},
        {"path": 3},
        {"chosen": "three"},
        {"perhaps": "three"},
        {"colour": "red"},
    ],
)
def test_what_is_not_allowed_is_a_value_error_that_names_the_field(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(given))):
        Toy(**given)


def test_options_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Toy().switch = True  # type: ignore[misc]


def test_json_needs_its_lists() -> None:
    assert Toy.model_validate_json('{"names": ["b"], "paths": ["x"], "path": "y"}').path == Path("y")
    with pytest.raises(ValidationError, match="tuple"):
        Toy.model_validate_json('{"names": "b"}')


def test_a_name_is_looked_up_when_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError) as caught:
        Toy(chosen="three")
    (problem,) = caught.value.errors()
    assert (problem["type"], problem["ctx"]) == ("literal_error", {"expected": "'one' or 'two'"})
    monkeypatch.setitem(TABLE, "three", 3)
    assert Toy(chosen="three").chosen == "three"


def test_a_field_says_how_it_is_shown() -> None:
    shown = Toy.presentation("path")
    assert (shown.names, shown.metavar, shown.panel, shown.shown) == (["--path"], "DIR", None, "here")
    assert shown.help == "A path."
    assert Toy.presentation("paths").names == ["PATH"]
