"""Options that derive from the settings: any field can become one, and what is typed is what a file would say."""

from __future__ import annotations

import typing
from typing import Any

import pytest

from vreid_cli.cli.parameters import SettingParameter
from vreid_cli.config import COMMAND_LINE, SECTIONS, Layer, Settings, resolve, section_class
from vreid_cli.errors import UsageError

FIELDS = [
    (section, key)
    for section in Settings.model_fields
    for key in section_class(section).model_fields
    if f"{section}.{key}" not in SECTIONS
]


def declared(parameter: SettingParameter) -> Any:
    """What Typer is given."""
    return typing.get_args(parameter.declare().annotation)[1]


def shown(section: str, key: str) -> tuple[str, str]:
    """The value and the bracket at the end of the help, as they are shown."""
    option = declared(SettingParameter(section, key))
    _, bracket, words = option.help.rpartition(" \\[")
    return option.metavar, words.removesuffix("]") if bracket else ""


@pytest.mark.parametrize(("section", "key"), FIELDS)
def test_any_setting_can_be_an_option(section: str, key: str) -> None:
    parameter = SettingParameter(section, key)
    option = declared(parameter)
    assert parameter.declare().default is None
    assert option.help
    assert "[" not in option.help.replace("\\[", "")
    flag = section_class(section).model_fields[key].annotation is bool
    assert (option.metavar == "") == flag


@pytest.mark.parametrize(("section", "key"), FIELDS)
def test_a_default_that_is_typed_is_the_default(section: str, key: str) -> None:
    default = getattr(getattr(Settings(), section), key)
    if default is None or isinstance(default, bool):
        return
    parameter = SettingParameter(section, key)
    typed: Any = str(default)
    if isinstance(default, tuple):
        typed = [",".join(map(str, default))] if default else []
    value = parameter.read(typed)
    values = {} if value is None else {section: {key: value}}
    assert getattr(getattr(resolve([Layer(COMMAND_LINE, values)]).settings, section), key) == default


@pytest.mark.parametrize(
    ("section", "key", "metavar", "default"),
    [
        ("rank", "task", "t2t|i2t|i2i", "t2t"),
        ("rank", "top_k", "N", "all"),
        ("rank", "rerank", "", ""),
        ("rank", "alpha", "X", "1.0"),
        ("rank", "output", "PATH", "rankings/ of the run"),
        ("extract", "batch_size", "auto|N", "auto"),
        ("evaluate", "ranks", "N,…", "1,5,10,20"),
        ("evaluate", "by", "camera|length,…", ""),
        ("evaluate", "resamples", "N", "2000; at least 100"),
        ("run", "seed", "N", "0"),
        ("train", "channels_last", "", "True"),
    ],
)
def test_value_and_default_come_from_the_field(section: str, key: str, metavar: str, default: str) -> None:
    assert shown(section, key) == (metavar, default)


def test_a_command_can_say_it_in_other_words() -> None:
    wording = {"help": "File to write.", "metavar": "FILE.onnx", "shown": "here"}
    option = declared(SettingParameter("export", "output", wording))
    assert (option.help, option.metavar) == ("File to write. \\[here]", "FILE.onnx")
    assert (option.default, *option.param_decls) == ("--output", "-o")  # Typer takes the first name for a default
    assert declared(SettingParameter("run", "run_dir", {"flag": "RUN"})).metavar == "RUN"


@pytest.mark.parametrize(
    ("section", "key", "typed", "value"),
    [
        ("rank", "top_k", "12", 12),
        ("rank", "top_k", "1_2", "1_2"),  # of no form that a file has: refused by name later
        ("rank", "threshold", "1e-2", 0.01),
        ("rank", "task", "7", "7"),
        ("extract", "workers", "-1", -1),
        ("extract", "workers", "auto", "auto"),
        ("evaluate", "ranks", ["1, 5", "10"], [1, 5, 10]),
        ("evaluate", "ranks", ["1,x"], [1, "x"]),
        ("evaluate", "rankings", ["a,b.json", "c"], ["a,b.json", "c"]),  # an argument: names can hold commas
        ("evaluate", "rankings", [], None),
        ("rank", "force", True, True),
    ],
)
def test_text_becomes_the_value_that_a_file_would_hold(section: str, key: str, typed: Any, value: Any) -> None:
    assert SettingParameter(section, key).read(typed) == value


@pytest.mark.parametrize("typed", [[""], [","], ["", " , "]])
def test_a_list_that_names_nothing_is_refused(typed: list[str]) -> None:
    with pytest.raises(UsageError, match=r"--by .* names nothing"):
        SettingParameter("evaluate", "by").read(typed)
