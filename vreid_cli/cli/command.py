"""One command: the settings that it takes, its workflow, its report; and the steps that all commands share."""

from __future__ import annotations

import gc
import inspect
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vreid_cli.cli.output import make_console, print_config, print_json
from vreid_cli.errors import UsageError
from vreid_cli.types.lazy import load

if TYPE_CHECKING:
    from rich.console import Console

    from vreid_cli.cli.parameters import SettingParameter

COMMON = "Every command"
#: Which run a command works on where ``--run-dir`` names none.
LATEST_RUN = "the run that extract last worked on"


def _option(name: str, text: str, metavar: str = "") -> Any:
    return typer.Option(name, help=text, metavar=metavar, rich_help_panel=COMMON, show_default=False)


@dataclass(frozen=True, kw_only=True)
class Common:
    """The options of every command that are no settings."""

    config: Annotated[
        str | None, _option("--config", "A preset, or a file instead of ./vreid.toml.", "NAME|FILE.toml")
    ] = None
    assignments: Annotated[
        list[str] | None, _option("--set", "Any setting of --show-config; may be repeated.", "SECTION.KEY=VALUE")
    ] = None
    show_config: Annotated[bool, _option("--show-config", "Print the settings and where each came from, and stop.")] = (
        False
    )
    quiet: Annotated[bool, _option("--quiet", "No progress and no notes: warnings, errors and results only.")] = False
    verbose: Annotated[bool, _option("--verbose", "More about what happens.")] = False
    json: Annotated[bool, _option("--json", "Print the result, or the error, as one JSON object.")] = False


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command of the program.

    Attributes:
        help: Its help; the first line stands in the list of commands.
        settings: The settings that it takes as options, in order: ``{section: keys}``.
        workflow: The function that does the work, ``"module:function"``: it takes a session and returns a report, or
            None where another process of the same job reports.
        render: Prints the report for people.
        to_json: What ``--json`` says besides outputs, skipped and warnings.
        choose_run: Says which run the command works on and which settings may differ from it, ``"module:function"``;
            None for the latest run and its settings.
        resolve: Makes the session of a command that has rules of its own for it, ``"module:function"``.
        default_run: The run without ``--run-dir``, for the help.
        wording: What its help says otherwise than the settings do, ``{"section.key": {"help": …, "shown": …}}``.
        check: Called with the session before the workflow's libraries are imported, which takes seconds,
            ``"module:function"``.
        prepare: Called before the workflow and its libraries are imported, ``"module:function"``.
    """

    help: str
    workflow: str
    render: Callable[[Any, Console], None]
    settings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    to_json: Callable[[Any], Mapping[str, Any]] | None = None
    choose_run: str | None = None
    resolve: str | None = None
    default_run: str = LATEST_RUN
    wording: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    check: str | None = None
    prepare: str | None = None

    def function(self, *, typed: Sequence[str] = (), with_options: bool = True) -> Callable[..., None]:
        """The command as Typer takes it.

        Args:
            typed: The whole command line, for the run's history.
            with_options: Whether its options are declared; the list of commands needs none of them, and is quicker
                without.
        """
        parameters = self._parameters() if with_options else []

        def run(**given: Any) -> None:
            common = Common(**{name: given.pop(name) for name in Common.__dataclass_fields__})
            self._run(common, _by_section(parameters, given), tuple(typed))

        declared = [parameter.declare() for parameter in parameters]
        declared += inspect.signature(Common, eval_str=True).parameters.values()
        run.__signature__ = inspect.Signature(declared)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in declared}
        return run

    def _parameters(self) -> list[SettingParameter]:
        from vreid_cli.cli.parameters import SettingParameter  # settings and pydantic: not for the list of commands

        names = [(section, key) for section, keys in self.settings.items() for key in keys]
        own = [SettingParameter(section, key, self.wording.get(f"{section}.{key}")) for section, key in names]
        run_dir = SettingParameter("run", "run_dir", {"shown": self.default_run})
        return [*own, run_dir, SettingParameter("run", "seed")]

    def _run(self, common: Common, given: Mapping[str, Mapping[str, Any]], typed: tuple[str, ...]) -> None:
        """Resolve the settings, run the workflow, print its report."""
        if self.prepare is not None:
            load(self.prepare)()
        from vreid_cli.config import collect_layers
        from vreid_cli.runtime.progress import set_up_logging
        from vreid_cli.workflows.session import resolve_session

        set_up_logging(quiet=common.quiet, verbose=common.verbose)
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A name that the terminal has no letters for is no reason to lose a result.
            sys.stdout.reconfigure(errors="backslashreplace")
        layers = collect_layers(given, config=common.config, assignments=common.assignments or ())
        if self.resolve is not None:
            session = load(self.resolve)(layers, command=typed)
        else:
            choose = load(self.choose_run) if self.choose_run is not None else None
            session = resolve_session(layers, command=typed, choose_run=choose)
        if common.show_config:
            print_config(session.resolved, as_json=common.json)
            return
        if self.check is not None:
            load(self.check)(session)
        workflow = load(self.workflow)
        _collect_garbage()
        report = workflow(session)
        if report is None:
            return
        if common.json:
            more = self.to_json(report) if self.to_json else {}
            lists = {name: list(getattr(report, name)) for name in ("outputs", "skipped", "warnings")}
            print_json({**lists, **more})
        else:
            self.render(report, make_console())


def _collect_garbage() -> None:
    """Begin to look for garbage where the program put that off, and not among what is there: that is modules."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def _by_section(parameters: Sequence[SettingParameter], typed: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings that were given, by section.

    Raises:
        UsageError: One was given twice, differently.
    """
    given: dict[str, dict[str, Any]] = {}
    for parameter in parameters:
        value = None if typed[parameter.name] is None else parameter.read(typed[parameter.name])
        if value is None:
            continue
        section = given.setdefault(parameter.section, {})
        if parameter.key in section and section[parameter.key] != value:
            message = f"{section[parameter.key]} and {parameter.flag} {value}: which one?"
            raise UsageError(message, hint="name one of them")
        section[parameter.key] = value
    return given
