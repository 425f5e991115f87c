"""Help: quick, complete, and with an example that works."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tiny import Vreid

from vreid_cli.cli import app

COMMANDS = [*([name] for name in [*app.COMMANDS, "export"]), *(["export", name] for name in app.EXPORTS)]
COMMON = {"--config", "--run-dir", "--set", "--seed", "--show-config", "--quiet", "--verbose", "--json"}
#: What takes long to import, or is needed only once something is done.
HEAVY = ("torch", "torchvision", "pyarrow", "PIL", "safetensors", "tqdm", "vreid_cli.workflows")
#: What only the help of a single command needs, whose options derive from the settings.
SETTINGS = ("numpy", "pydantic", "vreid_cli.config")

PROBE = """
import contextlib, io, json, sys
from vreid_cli.cli.app import run
found = {}
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as told:
        code = run([*arguments, "--help"])
    loaded = sorted(set(json.loads(sys.argv[2])) & set(sys.modules))
    found[" ".join(arguments)] = [code, len(told.getvalue()), loaded]
print(json.dumps(found))
"""


@pytest.fixture
def wide(vreid: Vreid, monkeypatch: pytest.MonkeyPatch) -> Vreid:
    """Help in a terminal so wide that nothing is broken into lines."""
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("TERMINAL_WIDTH", "250")
    return vreid


def options_of(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if match := re.match(r"│ +(--[\w-]+)", line):
            yield match[1]


def test_no_help_imports_what_only_work_needs() -> None:
    command = [sys.executable, "-c", PROBE, json.dumps([[], *COMMANDS]), json.dumps([*HEAVY, *SETTINGS])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for arguments, (code, letters, loaded) in json.loads(done.stdout).items():
        assert set(loaded) <= set(SETTINGS if arguments else ()), arguments
        assert code == 0, arguments
        assert letters > 200, arguments


def test_the_program_alone_names_every_command_and_where_to_start(wide: Vreid) -> None:
    for told in (wide("--help"), wide("-h")):
        for name in [*app.COMMANDS, "export"]:
            assert re.search(rf"│ {name} ", told)
        assert "vreid demo" in told
    wide(code=2)
    assert "Usage: vreid" in wide.out + wide.err
    assert re.fullmatch(r"vreid \d+\.\d+\.\d+\n", wide("--version"))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_help_shows_an_example_whose_options_there_are(wide: Vreid, command: list[str]) -> None:
    told = wide(*command, "--help")
    examples = re.findall(r"^ *(?:Example: )?(vreid [a-z].*?) *$", told, flags=re.MULTILINE)
    assert examples
    of_its_own = ["export", "features"] if command == ["export"] else command
    known = {"-o", *options_of(wide(*of_its_own, "--help"))}
    for example in examples:
        words = shlex.split(example, comments=True)
        assert words[1 : 1 + len(command)] == command
        assert {word for word in words if word.startswith("-")} <= known, example


@pytest.mark.parametrize("command", [c for c in COMMANDS if c != ["export"]], ids=" ".join)
def test_each_command_has_the_eight_common_options_and_few_others(wide: Vreid, command: list[str]) -> None:
    options = list(options_of(wide(*command, "--help")))
    assert set(options) >= COMMON
    assert len(options) == len(set(options))
    assert len(set(options) - COMMON - {"--help"}) <= 22  # about sixteen, but for extract


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_markup_is_left_over_or_swallowed(wide: Vreid, command: list[str]) -> None:
    told = wide(*command, "--help")
    assert "\\[" not in told
    assert not re.search(r"\[/?(?:bold|red|green|dim)\]", told)
    # A default in brackets is what rich would swallow as a style: none of them is empty or lost.
    for option, default in {"--device": "[auto]", "--top": "[5]", "--ranks": "[1,5,10,20]", "--task": "[t2t]"}.items():
        for line in told.splitlines():
            if re.match(rf"│ +{option} ", line):
                assert default in line


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("vreid ra", "rank"),
        ("vreid rank --top", "--top-k"),
        ("vreid rank --task t", "t2t"),
        ("vreid rank --metric meanMED5", "meanMED50"),
    ],
)
def test_a_shell_completes_commands_options_and_values(words: str, offered: str) -> None:
    asking = {"_VREID_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    command = [sys.executable, "-c", "from vreid_cli.__main__ import main; main()"]
    done = subprocess.run(command, env={**os.environ, **asking}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [offered]
