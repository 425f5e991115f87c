"""The table of commands: what each names is there."""

from __future__ import annotations

import inspect

import pytest

from vreid_cli.cli.app import COMMANDS, EXPORTS
from vreid_cli.cli.command import Command
from vreid_cli.config import Settings
from vreid_cli.types.lazy import load
from vreid_cli.workflows.session import RunChoice

ALL = {**COMMANDS, **EXPORTS}


@pytest.mark.parametrize("command", ALL.values(), ids=ALL)
def test_a_command_names_a_workflow_and_settings_that_there_are(command: Command) -> None:
    assert list(inspect.signature(load(command.workflow)).parameters) == ["session"]
    if command.choose_run is not None:
        assert isinstance(load(command.choose_run)(Settings()), RunChoice)
    if command.resolve is not None:
        assert list(inspect.signature(load(command.resolve)).parameters) == ["layers", "command"]
    for section, keys in command.settings.items():
        assert set(keys) <= set(type(getattr(Settings(), section)).model_fields)
    own = {f"{section}.{key}" for section, keys in command.settings.items() for key in keys}
    assert set(command.wording) <= own


@pytest.mark.parametrize("command", ALL.values(), ids=ALL)
def test_no_two_options_of_a_command_have_one_name(command: Command) -> None:
    parameters = inspect.signature(command.function()).parameters
    assert all(parameter.default in (None, False) for parameter in parameters.values())
    assert len(parameters) == sum(map(len, command.settings.values())) + 8
