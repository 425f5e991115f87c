"""From layers of settings to a session: which run a command works on, and what that run already says."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from vreid_cli import __version__
from vreid_cli.config import Layer, Resolved, Settings, resolve
from vreid_cli.data.options import DataOptions
from vreid_cli.errors import StoreError
from vreid_cli.runtime.files import real_path
from vreid_cli.runtime.progress import log
from vreid_cli.store.runs import LATEST, RUNS_FOLDER, RunDirectory, latest_run
from vreid_cli.types.features import RANDOM_WEIGHTS

_DATA_FROM_RUN = (
    *("dataset", "data_dir", "query_dir", "gallery_dir", "subset", "label_pattern"),
    *("track_file", "per_track", "choose", "min_size", "min_confidence"),
)
#: What later commands take from run.json: the setting, and the key there.
_FROM_RUN = {
    **{f"data.{key}": key for key in _DATA_FROM_RUN},
    "model.arch": "architecture",
    "model.weights": "weights",
    "model.output": "output",
    "model.input": "input",
}
#: Compared as paths; the names that weights can have besides are equal only to themselves all the same.
_PATHS = ("data.data_dir", "data.query_dir", "data.gallery_dir", "model.weights")


@dataclass(frozen=True, kw_only=True)
class Report:
    """What every workflow tells at its end.

    Attributes:
        outputs: Files and folders that were written.
        skipped: What was left out, and why.
        warnings: What may be wrong with the results.
    """

    outputs: tuple[str, ...] = ()
    skipped: tuple[dict[str, str | None], ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Session:
    """Settings of one command, and the run that it works on.

    Attributes:
        resolved: Settings with the source of each.
        run: The run directory; None where none is meant or found.
        command: The command as it was typed.
    """

    resolved: Resolved
    run: RunDirectory | None = None
    command: tuple[str, ...] = ()

    @property
    def settings(self) -> Settings:
        """The settings."""
        return self.resolved.settings

    @property
    def run_option(self) -> str:
        """What commands to come must say to find the run: `` --run-dir DIR`` where a person named it, else nothing."""
        if self.run is None or not self.resolved.typed("run.run_dir"):
            return ""
        return f" --run-dir {shlex.quote(str(self.run.path))}"

    def need_run(self) -> RunDirectory:
        """The run directory.

        Raises:
            StoreError: There is none.
        """
        if self.run is None:
            gone = (RUNS_FOLDER / LATEST).is_file()
            raise StoreError(
                "there is no run to work on: "
                + (
                    "the run that runs/latest names is gone, or its run.json"
                    if gone
                    else "neither --run-dir nor runs/latest names one"
                ),
                hint="make one with vreid extract, or name one with --run-dir",
                file=RUNS_FOLDER / LATEST if gone else None,
            )
        self.run.read_info()
        return self.run

    def record(self) -> None:
        """Add the command to the run's history."""
        if self.run is None or not self.run.info_path.is_file():
            return
        try:
            self.run.append_history(self.command, version=__version__, exit_code=0)
        except (OSError, StoreError) as error:
            # Somebody else's run may be read without being written to.
            log.debug("%s: the history cannot be written: %s", self.run.path, error)


@dataclass(frozen=True)
class RunChoice:
    """Which run a command works on, and what it takes from it.

    Attributes:
        use_latest: Without ``--run-dir``, take the run that ``runs/latest`` names.
        take_settings: Take what ``run.json`` says as settings.
        free: Settings that may differ from those of the run.
    """

    use_latest: bool = True
    take_settings: bool = True
    free: tuple[str, ...] = ()


def resolve_session(
    layers: Sequence[Layer], *, command: Sequence[str] = (), choose_run: Callable[[Settings], RunChoice] | None = None
) -> Session:
    """Resolve the settings of a command that works on a run.

    Args:
        layers: As :func:`vreid_cli.config.collect_layers` gives them.
        command: The command as it was typed.
        choose_run: From the settings to the run that is meant; None for the defaults of :class:`RunChoice`.

    Raises:
        StoreError: A setting contradicts the run.
    """
    first = resolve(layers)
    choice = choose_run(first.settings) if choose_run is not None else RunChoice()
    named = first.settings.run.run_dir
    run = RunDirectory(named) if named is not None else latest_run() if choice.use_latest else None
    if run is None or not choice.take_settings or not run.info_path.is_file():
        return Session(first, run, tuple(command))
    if named is None:
        log.info("run: %s (named by runs/latest)", run.path)
    from_run = _run_layer(run)
    resolved = resolve([from_run, *layers])
    check_contradictions(resolved, from_run, run=run, free=choice.free)
    return Session(resolved, run, tuple(command))


def _run_layer(run: RunDirectory) -> Layer:
    info = run.read_info()
    values: dict[str, dict[str, Any]] = {}
    for setting, key in _FROM_RUN.items():
        if key in info:
            section, _, name = setting.partition(".")
            values.setdefault(section, {})[name] = info[key]
    values["model.input"] = values.get("model", {}).pop("input", {})
    if info.get("weights") == RANDOM_WEIGHTS and "seed" in info:
        values["run"] = {"seed": info["seed"]}
    return Layer(str(run.info_path), values)


def check_contradictions(resolved: Resolved, from_run: Layer, *, run: RunDirectory, free: Sequence[str]) -> None:
    """Refuse settings that a person gave and that differ from those of a run.

    Args:
        resolved: The settings, with the person's values above the run's.
        from_run: The run's own.
        run: The run.
        free: Settings that may differ.

    Raises:
        StoreError: One differs.
    """
    values = {f"{section}.{key}": value for section, table in from_run.values.items() for key, value in table.items()}
    for name, own in values.items():
        section = name.rpartition(".")[0]
        given = attrgetter(name)(resolved.settings)
        if {name, section} & {"run.seed", *free} or not resolved.given(name) or _same(name, given, own):
            continue
        hint = "leave it out, or name another run with --run-dir"
        if name == "data.label_pattern":
            hint = "give it to vreid extract: that reads the labels again and computes nothing"
        given, own = ("none" if value is None else f"'{value}'" for value in (given, own))
        message = f"{resolved.name(name)} {given}: the run {run.path} was made with {own}"
        raise StoreError(message, hint=hint, file=from_run.source)


def _same(name: str, given: object, own: object) -> bool:
    if name in _PATHS and given is not None and own is not None:
        return real_path(str(given)) == real_path(str(own))
    return (list(given) if isinstance(given, tuple) else given) == own


def extract_with_trained(run: RunDirectory, *, dataset: str | None, data_dir: str | Path | None) -> str:
    """The command that extracts with the network that a run trained, from the same data."""
    words = ["vreid", "extract", "--run-dir", str(run.path), "--weights", str(run.last_checkpoint)]
    if dataset not in (None, DataOptions().dataset):
        words += ["--dataset", str(dataset)]
    if data_dir is not None:
        words += ["--data-dir", str(data_dir)]
    return shlex.join(words)
