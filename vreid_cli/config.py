"""Settings: frozen models, one generic merge of layers, and where each value came from.

A value comes from the last layer that names it: defaults < the run's ``run.json`` < ``./vreid.toml`` or
``--config`` < the command line. Layers are plain nested dicts until they are all merged; only then are
they validated, strictly, so that a TOML ``true`` is never taken for a number.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from vreid_cli.association.options import AssociationOptions
from vreid_cli.data.options import DataOptions
from vreid_cli.errors import ConfigError, UsageError, did_you_mean, nearest_name
from vreid_cli.evaluation.options import CalibrationOptions, EvaluationOptions
from vreid_cli.extraction.options import ExtractionOptions
from vreid_cli.models.options import ExportOptions, ModelOptions
from vreid_cli.ranking.options import RankingOptions
from vreid_cli.reports.options import ShowOptions
from vreid_cli.runtime.files import read_text
from vreid_cli.runtime.objects import as_path
from vreid_cli.runtime.options import LocalPath, Location, RuntimeOptions
from vreid_cli.store.formats import FEATURE_FORMATS, RANKING_FORMATS, endings, known_formats
from vreid_cli.store.options import IndexOptions
from vreid_cli.synthetic.options import DemoOptions
from vreid_cli.training.options import RECIPE, TrainingOptions
from vreid_cli.types.options import COMMON, COMPUTING, DATA, FILES, Options, Positive, option

PROJECT_FILE = "vreid.toml"
COMMAND_LINE = "command line"
ASSIGNMENT = "--set"
DEFAULT = "default"

_READ = " or ".join(endings(RANKING_FORMATS, read=True))

#: What pydantic's kinds of errors mean, in the words of someone who writes a TOML file.
_NEEDED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text in quotes",
    "finite_number": "a finite number",
    "literal_error": "{expected}",
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "too_short": "at least one entry",
}


def _calibrations() -> Any:
    return option(
        (),
        "What gives distances probabilities: files of vreid calibrate, or folders of them.",
        metavar="FILE",
        panel=FILES,
        shown="that of the run, or of the network",
    )


class RunOptions(Options):
    """``[run]``: the run directory and the seed."""

    run_dir: Location | None = option(None, "The run directory.", metavar="DIR", panel=COMMON)
    seed: Annotated[int, Field(ge=0, lt=2**63)] = option(0, "Seed of everything random.", panel=COMMON)


class ExtractSettings(ExtractionOptions):
    """``[extract]``: how features are extracted, and whether that starts over."""

    restart: bool = option(False, "Throw away the features that are there and make them again.", panel=COMPUTING)


class RankSettings(RankingOptions):
    """``[rank]``: how rankings are made, of which features, and where they go."""

    trials: Positive = option(10, "How many random galleries are ranked, where the data set's protocol has them.")
    rankings: tuple[str, ...] = option(
        (), "With --fuse: the rankings, as files or as metrics that the run was ranked by.", flag="RANKING"
    )
    fuse: bool = option(
        False, "Make one ranking of several, weighed by labelled vehicles, instead of ranking features.", panel=FILES
    )
    query_features: Location | None = option(
        None,
        f"Features from elsewhere: {known_formats(FEATURE_FORMATS, read=True)}.",
        panel=FILES,
        shown="those of the run",
    )
    gallery_features: Location | None = option(
        None,
        "The same for the gallery.",
        flag="--gallery-features --test-features",
        panel=FILES,
        shown="those of the run",
    )
    output: Location | None = option(
        None,
        f"Where the ranking goes: {known_formats(RANKING_FORMATS, read=False)}; or a folder for several metrics.",
        flag="--output -o",
        panel=FILES,
        shown="rankings/ of the run",
    )
    force: bool = option(False, "Replace a file that is there and was made otherwise.", panel=FILES)
    check_recall: Positive | None = option(
        None, "With --candidates: rank M queries exactly too, and say what the index misses.", metavar="M", shown=""
    )
    calibration: tuple[Location, ...] = _calibrations()


class IndexSettings(IndexOptions):
    """``[index]``: how the gallery is indexed, and whether that starts over."""

    restart: bool = option(False, "Throw away the index that is there and make it again.", panel=COMPUTING)


class CalibrateSettings(CalibrationOptions):
    """``[calibrate]``: which rankings the probability of the same vehicle is fitted to, and where it goes."""

    rankings: tuple[Location, ...] = option(
        (), f"Rankings, {_READ}, whose pairs are pooled.", flag="RANKING", shown="each of the run, by itself"
    )
    network: str | None = option(
        None,
        "Weights, by name or file, that it holds for in the place of those that made the rankings: where networks "
        "that were trained alike ranked the vehicles that each of them has not seen.",
        metavar="NAME|FILE",
        shown="the one that made the rankings",
    )
    output: Location | None = option(
        None,
        "Where the calibration goes.",
        flag="--output -o",
        metavar="FILE.json",
        panel=FILES,
        shown="calibrations/ of the run",
    )


class AssociateSettings(AssociationOptions):
    """``[associate]``: how tracks become identities, of which features, and where the result goes."""

    features: tuple[Location, ...] = option(
        (),
        f"Features from elsewhere: {known_formats(FEATURE_FORMATS, read=True)}.",
        flag="FEATURES",
        shown="those of the run",
    )
    false_match_rate: Annotated[float, Field(gt=0, lt=1)] = option(
        0.01, "Choose the threshold at which so many pairs of different vehicles are near enough.", metavar="RATE"
    )
    labelled: Location | None = option(
        None, "Labelled features to choose the threshold by.", metavar="PATH", shown="the labelled tracks themselves"
    )
    travel_times: Location | None = option(
        None,
        "Shortest and longest time between cameras, a CSV with the columns camera_a, camera_b, min_s, max_s.",
        metavar="FILE.csv",
        panel=DATA,
    )
    clocks: Location | None = option(
        None,
        "Frame rate and start of each camera, in TOML.",
        metavar="FILE.toml",
        panel=DATA,
        shown="cameras.toml of the data folder",
    )
    calibration: tuple[Location, ...] = _calibrations()
    output: Location | None = option(
        None,
        "Where the identities go; all else is written beside them.",
        flag="--output -o",
        metavar="FILE.parquet",
        panel=FILES,
        shown="identities/ of the run",
    )
    plot: Location | None = option(
        None, "Plot where vehicles go and how long they take, .png, .pdf or .svg.", metavar="FILE", panel=FILES
    )
    force: bool = option(False, "Replace identities that are there and were made otherwise.", panel=FILES)


class EvaluateSettings(EvaluationOptions):
    """``[evaluate]``: how rankings are counted, which ones, and what is written besides."""

    rankings: tuple[Location, ...] = option(
        (), f"Rankings, {_READ}, identities, or folders of them.", flag="RANKING", shown="all of the run"
    )
    truth: Location | None = option(
        None, "Score by the marks that a report page exported, .csv, and by nothing else.", metavar="FILE"
    )
    per_query: Location | None = option(None, "Write each query's scores as a table, .csv or .parquet.", metavar="FILE")
    plot: Location | None = option(
        None, "Plot CMC, intervals, distances and errors, .png, .pdf or .svg.", metavar="FILE"
    )


class ShowSettings(ShowOptions):
    """``[show]``: which queries of which ranking are shown, and where."""

    queries: tuple[str, ...] = option(
        (), "Queries by name; * and ? stand for anything.", flag="QUERY", shown="the first eight"
    )
    ranking: Location | None = option(
        None, f"The ranking, {_READ}.", metavar="FILE", shown="t2t meanMCD50 of the run, else its only one"
    )
    identities: bool = option(
        False, "Show identities instead, those of QUERY by their number or by a track; --ranking names their table."
    )
    match: str | None = option(None, "Why this match: one gallery track of one query, image by image.", metavar="TRACK")
    attention: bool = option(False, "With --match: light the places where the deciding images agree.")
    output: Location | None = option(
        None,
        "Write a contact sheet instead, .png or .pdf, or a page with everything in it, .html.",
        flag="--output -o",
        metavar="FILE",
        shown="a table in the terminal",
    )
    images: bool = option(False, "Small images in the terminal, as far as it can show them.")
    assets: bool = option(False, "Put a page's small images into a folder beside it.")


class TrainSettings(TrainingOptions):
    """``[train]``: how a network is trained, by which recipe, and from where it goes on.

    ``--recipe NAME`` reads all numbers of the preset ``recipe-NAME``, which says what each is and where it comes from.
    """

    recipe: Literal["paper", "strong"] = option(
        "paper",
        "How to learn: as the paper, or as today's strong baselines do. Every number of it is in the preset "
        "recipe-paper or recipe-strong, and can be changed by --set train.….",
        panel=RECIPE,
    )
    tensorboard: bool = option(False, "Write TensorBoard's files too.", panel=COMPUTING)
    resume: Location | None = option(
        None,
        "Go on with the training of this run, after its last finished epoch; all settings are its own.",
        metavar="RUN",
        panel=RECIPE,
    )
    restart: bool = option(False, "Throw away an earlier training in the folder.", panel=RECIPE)


class InfoSettings(Options):
    """``[info]``: how closely a run is looked at."""

    verify: bool = option(
        False, "Compare all features with their checksums; without it, where that takes but a moment."
    )


class RerunSettings(Options):
    """``[rerun]``: where a history is run again."""

    output: LocalPath | None = option(
        None, "The folder to run it into.", flag="--output -o", metavar="DIR", panel=FILES, shown="RUN-rerun"
    )


class Settings(BaseModel):
    """Everything that can be set, in one frozen tree."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    run: RunOptions = RunOptions()
    data: DataOptions = DataOptions()
    model: ModelOptions = ModelOptions()
    runtime: RuntimeOptions = RuntimeOptions()
    extract: ExtractSettings = ExtractSettings()
    index: IndexSettings = IndexSettings()
    rank: RankSettings = RankSettings()
    associate: AssociateSettings = AssociateSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    calibrate: CalibrateSettings = CalibrateSettings()
    show: ShowSettings = ShowSettings()
    export: ExportOptions = ExportOptions()
    train: TrainSettings = TrainSettings()
    demo: DemoOptions = DemoOptions()
    info: InfoSettings = InfoSettings()
    rerun: RerunSettings = RerunSettings()


#: The sections by name; one that lies in another is ``outer.inner``, as TOML writes it.
SECTIONS: dict[str, type[Options]] = {
    name: cast("type[Options]", field.annotation) for name, field in Settings.model_fields.items()
}
SECTIONS |= {
    f"{outer}.{key}": field.annotation
    for outer, options in SECTIONS.items()
    for key, field in options.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Options)
}


def section_class(section: str) -> type[Options]:
    """The class of a section of the settings."""
    return SECTIONS[section]


@dataclass(frozen=True)
class Layer:
    """One source of values: a name for messages, and nested plain values ``{section: {key: value}}``.

    A section that lies in another is named ``outer.inner``, or nested as TOML nests it.
    """

    source: str
    values: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Resolved:
    """Validated settings, and the source of each ``section.key``."""

    settings: Settings
    sources: Mapping[str, str]

    def source(self, key: str) -> str:
        """Where the value of ``section.key`` came from; ``default`` if no layer named it."""
        return self.sources.get(key, DEFAULT)

    def name(self, key: str) -> str:
        """How messages call a setting: the option that was typed, else its key and the file that it stands in."""
        source = self.source(key)
        return key if source == DEFAULT else _name_setting(key, source)

    def typed(self, key: str) -> bool:
        """Whether this value was typed on the command line."""
        return self.source(key) in (COMMAND_LINE, ASSIGNMENT)

    def given(self, key: str) -> bool:
        """Whether a person gave this value, in a file or on the command line."""
        source = self.source(key)
        return source != DEFAULT and not source.endswith("run.json")


def resolve(layers: Iterable[Layer]) -> Resolved:
    """Merge the layers, later ones winning key by key, and validate the result.

    Raises:
        ConfigError: A file holds an unknown key, a wrong type or a value that is not allowed.
        UsageError: The same on the command line.
    """
    merged: dict[str, dict[str, Any]] = {}
    sources: dict[str, str] = {}
    for layer in layers:
        for section, table in _tables(layer):
            for key, value in table.items():
                merged.setdefault(section, {})[key] = value
                sources[f"{section}.{key}"] = layer.source
    for section in [name for name in merged if "." in name]:
        outer, _, inner = section.partition(".")
        merged.setdefault(outer, {})[inner] = merged.pop(section)
    try:
        # By way of JSON: strictly read, a TOML list would be no tuple and a TOML text no path.
        settings = Settings.model_validate_json(json.dumps(merged, default=str), strict=True)
    except ValidationError as error:
        raise _explain(error, sources) from None
    return Resolved(settings=settings, sources=sources)


def collect_layers(
    options: Mapping[str, Mapping[str, Any]], *, config: str | None = None, assignments: Iterable[str] = ()
) -> list[Layer]:
    """The layers of files and command line, lowest first.

    Args:
        options: Options given, ``{section: {key: value}}``.
        config: ``--config``; without it ``./vreid.toml`` is read if it is there.
        assignments: ``--set`` arguments.

    Raises:
        ConfigError, UsageError: A file cannot be read, or an assignment is malformed.
    """
    file = Path(PROJECT_FILE) if config is None else find_config(config)
    layers = [read_layer(file)] if config is not None or file.is_file() else []
    assigned: dict[str, dict[str, Any]] = {}
    for text in assignments:
        section, key, value = parse_assignment(text)
        assigned.setdefault(section, {})[key] = value
    return [*layers, Layer(ASSIGNMENT, assigned), Layer(COMMAND_LINE, options)]


def read_layer(path: Path) -> Layer:
    """Read a TOML file as a layer.

    Raises:
        ConfigError: The file is missing or is not valid TOML.
    """
    try:
        values = tomllib.loads(read_text(path))
    except FileNotFoundError:
        hint = "--config takes the path of a .toml file, or the name of a preset"
        raise ConfigError(f"there is no configuration file {path}", hint=hint, file=path) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        hint = 'as in: [rank] on a line of its own, then metric = ["meanMCD50"]'
        raise ConfigError(f"{path} is not valid TOML: {error}", hint=hint, file=path) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", file=path) from None
    return Layer(source=str(path), values=values)


def find_config(name: str) -> Path:
    """The file that ``--config`` means: a path if it has a ``/`` or ends in ``.toml``, else a preset.

    Raises:
        ConfigError: There is no preset of that name.
    """
    if "/" in name or "\\" in name or name.endswith(".toml"):
        return as_path(name)
    presets = list_presets()
    if name not in presets:
        # Somebody who means a file and leaves out its ending finds no preset either.
        hint = f"to read a file, give its path: ./{name}" if Path(name).is_file() else did_you_mean(name, presets)
        raise ConfigError(f"there is no preset '{name}'", hint=hint, file=name)
    return presets[name]


def list_presets() -> dict[str, Path]:
    """Presets by name: those in the wheel, or, in an editable install, those of the source tree."""
    package = Path(__file__).parent
    folder = package / "configs"
    if not folder.is_dir() and (package.parent / "pyproject.toml").is_file():
        folder = package.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def parse_assignment(text: str) -> tuple[str, str, Any]:
    """Split ``section.key=VALUE``; the value is read as TOML, or as text where it is not TOML.

    Raises:
        UsageError: The text is not of that form.
    """
    name, equals, raw = text.partition("=")
    section, dot, key = name.strip().rpartition(".")
    if not (equals and dot and section and key):
        raise UsageError(f"--set {text}: not of the form section.key=VALUE", hint="as in --set run.seed=7")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        value = raw.strip()
    return section, key, value


def to_toml(resolved: Resolved) -> str:
    """The settings as a TOML file that could be used as ``vreid.toml``, each line saying its source."""
    lines = []
    dumped = resolved.settings.model_dump()
    for section in SECTIONS:
        outer, _, inner = section.partition(".")
        lines.append(f"[{section}]")
        for key, value in (dumped[outer][inner] if inner else dumped[outer]).items():
            if f"{section}.{key}" in SECTIONS:
                continue
            source = resolved.source(f"{section}.{key}")
            setting = f"# {key} is unset" if value is None else f"{key} = {_toml_value(value)}"
            lines.append(f"{setting:<48} # {source}")
        lines.append("")
    return "\n".join(lines)


def _toml_value(value: object) -> str:
    """A setting's value in TOML, whose strings, numbers and lists are JSON's but for a few."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, float):
        return repr(value)  # inf is a number in TOML, as in Python
    text = json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")  # the one control character that JSON leaves as it is


def _tables(layer: Layer) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The layer's tables by section, those that lie in others apart.

    Raises:
        ConfigError, UsageError: One has no such name, or is no table.
    """
    source, pending = layer.source, list(layer.values.items())
    while pending:
        section, table = pending.pop(0)
        if section not in SECTIONS:
            raise _bad_value(
                source, f"{source}: unknown table or key '{section}'", hint=did_you_mean(section, SECTIONS)
            )
        if not isinstance(table, Mapping):
            message = f"{source}: '{section}' is a table, not a value"
            raise _bad_value(source, message, hint=f"write [{section}] above its keys")
        inner = [key for key in table if f"{section}.{key}" in SECTIONS]
        pending += [(f"{section}.{key}", table[key]) for key in inner]
        yield section, {key: value for key, value in table.items() if key not in inner}


def _explain(error: ValidationError, sources: Mapping[str, str]) -> ConfigError | UsageError:
    """The first thing that is wrong, with the key, the value and what is allowed."""
    problems = error.errors(include_url=False)
    section, key, *rest = map(str, problems[0]["loc"])
    if rest and f"{section}.{key}" in SECTIONS:
        section, key = f"{section}.{key}", rest[0]
    name, depth = f"{section}.{key}", section.count(".") + 2
    source = sources.get(name, DEFAULT)
    if problems[0]["type"] == "extra_forbidden":
        hint = did_you_mean(key, section_class(section).model_fields)
        return _bad_value(source, f"{source}: unknown key '{name}'", hint=hint)
    # A union such as "auto" | integer reports each branch that failed; a list that lost its bad entry is "too short".
    own = [problem for problem in problems if problem["loc"][:depth] == problems[0]["loc"][:depth]]
    own = [problem for problem in own if problem["type"] != "too_short" or len(own) == 1]
    needed = " or ".join(dict.fromkeys(map(_needed, own)))
    value = own[0]["input"]
    names = [name for problem in own for name in re.findall(r"'([^']*)'", problem.get("ctx", {}).get("expected", ""))]
    offer = nearest_name(value, names) if isinstance(value, str) else None
    hint = f"did you mean '{offer}'?" if offer else "--help tells what it does"
    typed = f" {value}" if source == COMMAND_LINE else f" = {json.dumps(value, ensure_ascii=False, default=str)}"
    return _bad_value(source, f"{_name_setting(name, source)}{typed}: needs {needed}", hint=hint)


def _needed(problem: ErrorDetails) -> str:
    """What would be right, for one branch that failed."""
    if problem["type"] == "tuple_type":
        return f"a list, as in {json.dumps([problem['input']], ensure_ascii=False, default=str)}"
    words = _NEEDED.get(problem["type"])
    return words.format(**problem.get("ctx", {})) if words else problem["msg"]


def _name_setting(name: str, source: str) -> str:
    """``--task`` for an option, ``--set rank.task``, or ``vreid.toml: rank.task`` for a line of a file."""
    if source == COMMAND_LINE:
        section, _, key = name.rpartition(".")
        return section_class(section).presentation(key).names[0]
    return f"--set {name}" if source == ASSIGNMENT else f"{source}: {name}"


def _bad_value(source: str, message: str, *, hint: str) -> ConfigError | UsageError:
    typed = source in (COMMAND_LINE, ASSIGNMENT)
    return UsageError(message, hint=hint) if typed else ConfigError(message, hint=hint, file=source)
