"""The app, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from vreid_cli import __version__
from vreid_cli.cli import associate, calibrate, demo, evaluate, export, extract, index, info, rank, show, train
from vreid_cli.cli.command import Command
from vreid_cli.cli.output import print_json
from vreid_cli.errors import VreidError
from vreid_cli.runtime.objects import refuse_credentials

_INTERRUPTED = 130
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
    "demo": demo.COMMAND,
}
EXPORTS = {"features": export.FEATURES, "model": export.MODEL}

_HELP = "Find a vehicle again: rank the tracks of other cameras by distances in the latent space of a CNN."
_EXPORT_HELP = "Write what a run holds in forms that other programs read."


def make_app(words: Collection[str]) -> typer.Typer:
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


def _add(app: typer.Typer, commands: Mapping[str, Command], words: Collection[str]) -> None:
    for name, command in commands.items():
        app.command(name=name, help=command.help)(command.function(with_options=name in words))


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
    try:
        # What is typed is repeated in messages and kept in the run's history.
        for argument in arguments:
            refuse_credentials(argument)
        # Not standalone: usage errors then reach us, and an interruption comes back as its exit code.
        result = make_app(arguments)(list(arguments), prog_name="vreid", standalone_mode=False)
    except VreidError as error:
        _say(error.message, hint=error.hint, file=error.file, as_json=as_json)
        return error.exit_code
    except TyperException as error:
        if as_json:
            _say(error.format_message(), hint="see --help", file=None, as_json=True)
        else:
            from typer import rich_utils

            rich_utils.rich_format_error(error)  # type: ignore[arg-type]
        return error.exit_code
    except KeyboardInterrupt:
        result = _INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough, as head does; nothing more may be written, not even when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        result = 0
    if result == _INTERRUPTED:
        kept = "what was finished is kept, the same command goes on from there"
        if as_json:
            print_json({"error": {"message": "interrupted", "hint": kept, "file": None}})
        print(f"interrupted; {kept}", file=sys.stderr)
    return result if isinstance(result, int) else 0


def _say(message: str, *, hint: str | None, file: str | None, as_json: bool) -> None:
    if as_json:
        print_json({"error": {"message": message, "hint": hint, "file": file}})
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"hint:  {hint}", file=sys.stderr)


def main() -> NoReturn:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))
