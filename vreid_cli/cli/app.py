"""The app, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

from vreid_cli import __version__
from vreid_cli.cli import associate, calibrate, demo, evaluate, export, extract, index, info, rank, rerun, show, train
from vreid_cli.cli.command import Command
from vreid_cli.cli.output import print_json, say_interrupted
from vreid_cli.errors import VreidError, first_line
from vreid_cli.runtime.objects import refuse_credentials
from vreid_cli.types.escaping import for_terminal

#: Set by a shell that asks how a line can be completed.
_COMPLETION = "_VREID_COMPLETE"

COMMANDS = {
    "extract": extract.COMMAND,
    "index": index.COMMAND,
    "rank": rank.COMMAND,
    "associate": associate.COMMAND,
    "evaluate": evaluate.COMMAND,
    "show": show.COMMAND,
    "calibrate": calibrate.COMMAND,
    "train": train.COMMAND,
    "info": info.COMMAND,
    "rerun": rerun.COMMAND,
    "demo": demo.COMMAND,
}
EXPORTS = {"features": export.FEATURES, "model": export.MODEL}

_HELP = "Find a vehicle again: rank the tracks of other cameras by distances in the latent space of a CNN."
_EXPORT_HELP = "Write what a run holds in forms that other programs read."


def make_app(words: Sequence[str]) -> typer.Typer:
    """The program, with the options of those commands that are named among the words of the command line.

    Only they can be run. The list of all commands needs no options, and is quicker without. A shell that completes a
    line passes no words: then every command has its options.
    """
    app = typer.Typer(
        name="vreid",
        epilog="First time? Try `vreid demo`, or: vreid extract, then vreid rank, vreid evaluate, vreid show.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(help=_HELP)(_root)
    wanted = [*COMMANDS, *EXPORTS] if _COMPLETION in os.environ else words
    _add(app, COMMANDS, wanted)
    exports = typer.Typer(epilog="Example: vreid export features --format npz", no_args_is_help=True)
    exports.callback(help=_EXPORT_HELP)(lambda: None)
    _add(exports, EXPORTS, wanted)
    app.add_typer(exports, name="export")
    return app


def _add(app: typer.Typer, commands: Mapping[str, Command], words: Sequence[str]) -> None:
    for name, command in commands.items():
        function = command.function(typed=("vreid", *words), with_options=name in words)
        app.command(name=name, help=command.help)(function)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"vreid {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Returns:
        The exit code: 0 done, 1 an error that the user can fix, 2 wrong usage, 130 interrupted.
    """
    as_json = "--json" in arguments
    show_help = f"{shlex.join(['vreid', *_command_words(arguments)])} --help"
    try:
        # What is typed is repeated in messages and kept in the run's history.
        for argument in arguments:
            refuse_credentials(argument)
        # Not standalone: usage errors then reach us, and an interruption comes back as its exit code.
        result = make_app(arguments)(list(arguments), prog_name="vreid", standalone_mode=False)
    except VreidError as error:
        hint = re.sub("^--help", show_help, error.hint or error.usual_hint or "") or None
        _say(error.message, hint=hint, file=error.file, as_json=as_json)
        return error.exit_code
    except TyperException as error:
        hint = _setting_of(error.format_message(), arguments)
        if as_json:
            _say(error.format_message(), hint=hint or f"see {show_help}", file=None, as_json=True)
        else:
            from typer import rich_utils

            rich_utils.rich_format_error(error)  # type: ignore[arg-type]
            if hint:
                print(f"hint:  {hint}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return say_interrupted(as_json=as_json)
    except BrokenPipeError:
        # The reader has seen enough, as head does; nothing more may be written, not even when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        result = 0
    except OSError as error:  # what no reader or writer explained, such as a name that is too long
        where = f"{error.filename}: " if error.filename is not None else ""
        hint = "check the path, and that the disk has room"
        file = None if error.filename is None else str(error.filename)
        _say(f"{where}{error.strerror or error}", hint=hint, file=file, as_json=as_json)
        return VreidError.exit_code
    except MemoryError as error:
        hint = "take fewer images or metrics at a time, or a machine with more memory"
        _say(f"the memory is not enough: {first_line(error)}", hint=hint, file=None, as_json=as_json)
        return VreidError.exit_code
    if result == 130:  # Typer turns an interruption into this
        return say_interrupted(as_json=as_json)
    return result if isinstance(result, int) else 0


def _command_words(arguments: Sequence[str]) -> list[str]:
    """The words that name the command: ``rank``, ``export features``; none where there is no such command."""
    first, second = [*arguments[:2], "", ""][:2]
    if first == "export":
        return [first, second] if second in EXPORTS else [first]
    return [first] if first in COMMANDS else []


def _setting_of(message: str, arguments: Sequence[str]) -> str | None:
    """How a setting is given that was typed as if it were an option of its own; None where it is none."""
    unknown = re.match(r"No such option: --([a-z0-9-]+)", message)
    command = {**COMMANDS, **EXPORTS}.get("".join(_command_words(arguments)[-1:]))
    if unknown is None or command is None:
        return None
    from vreid_cli.config import section_class

    key = unknown[1].replace("-", "_")
    sections = [section for section in command.settings if key in section_class(section).model_fields]
    return f"it is a setting: --set {sections[0]}.{key}=…" if sections else None


def _say(message: str, *, hint: str | None, file: str | None, as_json: bool) -> None:
    if as_json:
        print_json({"error": {"message": message, "hint": hint, "file": file}})
    print(for_terminal(f"error: {message}"), file=sys.stderr)
    if hint:
        print(for_terminal(f"hint:  {hint}"), file=sys.stderr)
