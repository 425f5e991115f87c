"""Settings: which layer wins, where a value came from, and how a wrong value is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vreid_cli import config
from vreid_cli.config import (
    ASSIGNMENT,
    COMMAND_LINE,
    DEFAULT,
    SECTIONS,
    Layer,
    Settings,
    collect_layers,
    find_config,
    list_presets,
    parse_assignment,
    read_layer,
    resolve,
    to_toml,
)
from vreid_cli.errors import ConfigError, UsageError, VreidError
from vreid_cli.models.backbones import BACKBONES
from vreid_cli.ranking.metrics import known_metrics, parse_metrics

ROOT = Path(__file__).resolve().parents[2]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def refused(values: dict[str, Any], source: str = "some.toml") -> VreidError:
    with pytest.raises(VreidError) as caught:
        resolve([Layer(source, values)])
    return caught.value


# -- merging ---------------------------------------------------------------------------------------------------


def test_without_layers_everything_is_the_default() -> None:
    resolved = resolve([])
    assert resolved.settings == Settings()
    assert resolved.source("rank.task") == DEFAULT
    assert not resolved.given("rank.task")


def test_defaults_are_those_of_the_contract() -> None:
    settings = Settings()
    assert (settings.data.dataset, settings.data.splits) == ("veri", ("query", "gallery"))
    assert (settings.model.arch, settings.model.weights) == ("densenet201", None)
    assert (settings.rank.task, settings.rank.metric, settings.rank.definition) == ("t2t", (), "paper")
    assert (settings.rank.track_unit, settings.rank.cameras, settings.rank.top_k) == ("passage", "all", None)
    assert (settings.evaluate.same_camera, settings.evaluate.ap) == ("drop", "rectangle")
    assert settings.evaluate.ranks == (1, 5, 10, 20)


def test_the_last_layer_that_names_a_key_wins_and_is_its_source() -> None:
    resolved = resolve(
        [
            Layer("runs/a/run.json", {"data": {"dataset": "tracks"}, "run": {"seed": 3}}),
            Layer("vreid.toml", {"rank": {"task": "i2t", "top_k": 4}, "run": {"seed": 4}}),
            Layer(ASSIGNMENT, {"rank": {"top_k": 5, "cameras": "other"}}),
            Layer(COMMAND_LINE, {"rank": {"cameras": "all"}}),
        ]
    )
    rank = resolved.settings.rank
    assert (rank.task, rank.top_k, rank.cameras, rank.definition) == ("i2t", 5, "all", "paper")
    assert resolved.settings.run.seed == 4
    sources = {key: resolved.source(key) for key in ("rank.task", "rank.top_k", "rank.cameras", "rank.definition")}
    assert sources == {
        "rank.task": "vreid.toml",
        "rank.top_k": ASSIGNMENT,
        "rank.cameras": COMMAND_LINE,
        "rank.definition": DEFAULT,
    }
    assert resolved.source("data.dataset") == "runs/a/run.json"


def test_what_a_run_says_was_not_given_by_a_person() -> None:
    resolved = resolve(
        [Layer("runs/a/run.json", {"data": {"dataset": "tracks"}}), Layer("a.toml", {"run": {"seed": 1}})]
    )
    assert not resolved.given("data.dataset")
    assert resolved.given("run.seed")
    assert not resolved.typed("run.seed")
    assert resolve([Layer(COMMAND_LINE, {"run": {"seed": 1}})]).typed("run.seed")
    assert resolve([Layer(ASSIGNMENT, {"run": {"seed": 1}})]).typed("run.seed")


def test_a_list_replaces_a_list() -> None:
    layers = [Layer("a", {"evaluate": {"ranks": [1, 2, 3]}}), Layer("b", {"evaluate": {"ranks": [7]}})]
    assert resolve(layers).settings.evaluate.ranks == (7,)


def test_merging_does_not_change_the_layers() -> None:
    values = {"rank": {"metric": ["minMED"]}}
    resolve([Layer("a", values), Layer("b", {"rank": {"metric": ["RSCR"], "task": "i2t"}})])
    assert values == {"rank": {"metric": ["minMED"]}}


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().rank.task = "i2i"  # type: ignore[misc]


def test_layers_of_a_command_come_in_the_order_of_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "vreid.toml", "[run]\nseed = 1\n[rank]\ntop_k = 1\n")
    other = write(tmp_path / "other.toml", "[run]\nseed = 2\n")
    plain = collect_layers({"run": {"seed": 4}}, assignments=["run.seed=3", "rank.top_k=3"])
    assert [layer.source for layer in plain] == ["vreid.toml", ASSIGNMENT, COMMAND_LINE]
    assert resolve(plain).settings.run.seed == 4
    assert resolve(plain).settings.rank.top_k == 3
    # --config takes the place of ./vreid.toml, it is not read on top of it.
    named = collect_layers({}, config=str(other))
    assert [layer.source for layer in named] == [str(other), ASSIGNMENT, COMMAND_LINE]
    assert resolve(named).settings.rank.top_k is None


# -- strictness ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "key", "value", "needed"),
    [
        ("rank", "top_k", True, "a whole number"),
        ("rank", "top_k", "8", "a whole number"),
        ("rank", "top_k", 2.5, "a whole number"),
        ("rank", "top_k", 0, "at least 1"),
        ("rank", "force", 1, "true or false"),
        ("rank", "force", "yes", "true or false"),
        ("rank", "metric", "MED", 'a list, as in ["MED"]'),
        ("rank", "output", 3, "text in quotes"),
        ("rank", "task", "t2", "'t2t', 'i2t' or 'i2i'"),
        ("run", "seed", -1, "at least 0"),
        ("run", "seed", 2**63, f"less than {2**63}"),
        ("data", "splits", ["gallry"], "'query', 'gallery' or 'train'"),
        ("data", "label_pattern", 7, "text in quotes"),
        ("model", "download_timeout", "30", "a number"),
        ("model", "download_timeout", 0, "more than 0.0"),
        ("model", "download_timeout", float("inf"), "a finite number"),
        ("model", "download_timeout", float("nan"), "a finite number"),
        ("rank", "alpha", 0, "more than 0.0"),
        ("rank", "alpha", float("inf"), "a finite number"),
        ("extract", "batch_size", "atuo", "'auto' or a whole number"),
        ("extract", "batch_size", 0, "'auto' or at least 1"),
        ("extract", "workers", False, "'auto' or a whole number"),
        ("evaluate", "ranks", [1, "5"], "a whole number"),
        ("evaluate", "ranks", [0], "at least 1"),
    ],
)
def test_a_wrong_value_names_file_key_value_and_what_is_allowed(
    section: str, key: str, value: object, needed: str
) -> None:
    error = refused({section: {key: value}})
    assert isinstance(error, ConfigError)
    assert error.exit_code == 1
    assert error.file == "some.toml"
    assert error.message.startswith(f"some.toml: {section}.{key} = ")
    assert error.message.endswith(f": needs {needed}")
    assert error.hint


def test_a_mistyped_choice_is_offered_the_nearest() -> None:
    assert refused({"rank": {"task": "t2"}}).hint == "did you mean 't2t'?"
    assert refused({"extract": {"batch_size": "atuo"}}).hint == "did you mean 'auto'?"


def test_on_the_command_line_the_same_is_wrong_usage_and_names_the_option() -> None:
    error = refused({"rank": {"track_unit": "cam"}}, COMMAND_LINE)
    assert isinstance(error, UsageError)
    assert error.exit_code == 2
    assert error.message == "--track-unit cam: needs 'passage' or 'camera'"
    assert refused({"data": {"splits": ["x"]}}, COMMAND_LINE).message.startswith("--split x: ")
    assert refused({"rank": {"top_k": True}}, ASSIGNMENT).message == "--set rank.top_k = true: needs a whole number"


@pytest.mark.parametrize(
    ("values", "message", "offer"),
    [
        ({"rnk": {"task": "t2t"}}, "unknown table or key 'rnk'", "rank"),
        ({"seed": 1}, "unknown table or key 'seed'", None),
        ({"rank": {"metrc": ["MED"]}}, "unknown key 'rank.metrc'", "metric"),
        ({"rank": 3}, "'rank' is a table, not a value", None),
        ({"rank": {"task": {"name": "t2t"}}}, "rank.task = ", None),
    ],
)
def test_an_unknown_key_is_refused_and_the_nearest_offered(
    values: dict[str, Any], message: str, offer: str | None
) -> None:
    error = refused(values)
    assert isinstance(error, ConfigError)
    assert error.message.startswith(f"some.toml: {message}")
    assert error.hint is not None
    if offer is not None:
        assert f"did you mean '{offer}'" in error.hint


def test_an_unknown_key_of_a_lower_layer_is_refused_although_a_higher_one_is_right() -> None:
    with pytest.raises(ConfigError, match=r"a\.toml: unknown key"):
        resolve([Layer("a.toml", {"rank": {"tsk": "t2t"}}), Layer(COMMAND_LINE, {"rank": {"task": "t2t"}})])


def test_a_wrong_value_that_a_higher_layer_replaces_does_no_harm() -> None:
    layers = [Layer("a.toml", {"rank": {"task": "nonsense"}}), Layer(COMMAND_LINE, {"rank": {"task": "i2i"}})]
    assert resolve(layers).settings.rank.task == "i2i"


# -- files -----------------------------------------------------------------------------------------------------


def test_a_file_is_read_as_a_layer_named_by_its_path(tmp_path: Path) -> None:
    path = write(tmp_path / "größe.toml", '[rank]\nmetric = ["minMED"]\noutput = "aus gabe"\n')
    layer = read_layer(path)
    assert layer == Layer(str(path), {"rank": {"metric": ["minMED"], "output": "aus gabe"}})
    assert resolve([layer]).settings.rank.output == Path("aus gabe")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"[run\nseed = 1\n", "is not valid TOML"), (b"\xff\xfe", "is not valid TOML"), (None, "there is no")],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "bad.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_layer(path)
    assert caught.value.file == str(path)
    assert caught.value.hint


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_layer(tmp_path)


# -- presets ---------------------------------------------------------------------------------------------------


def pretend_package(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Let the config module believe that it lies in ``folder/vreid_cli``."""
    package = folder / "vreid_cli"
    package.mkdir()
    monkeypatch.setattr(config, "__file__", str(package / "config.py"))
    return package


def test_presets_of_a_wheel_lie_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = pretend_package(monkeypatch, tmp_path)
    (package / "configs").mkdir()
    write(package / "configs" / "mine.toml", "[run]\nseed = 1\n")
    # Beside an installed package lies site-packages: a folder configs there is somebody else's.
    (tmp_path / "configs").mkdir()
    write(tmp_path / "configs" / "foreign.toml", "")
    assert list_presets() == {"mine": package / "configs" / "mine.toml"}


def test_presets_of_an_editable_install_lie_beside_pyproject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_package(monkeypatch, tmp_path)
    (tmp_path / "configs").mkdir()
    write(tmp_path / "configs" / "mine.toml", "")
    assert list_presets() == {}
    write(tmp_path / "pyproject.toml", "")
    assert list_presets() == {"mine": tmp_path / "configs" / "mine.toml"}


def test_every_preset_that_is_shipped_is_valid() -> None:
    presets = list_presets()
    assert "veri-t2t" in presets
    for path in presets.values():
        resolve([read_layer(path)])


def test_the_papers_grid_has_a_preset_for_each_network() -> None:
    presets = {name.removeprefix("paper-"): path for name, path in list_presets().items() if name.startswith("paper-")}
    assert set(presets) == set(BACKBONES) - {"mobilenet_v2"}
    runs = set()
    for arch, path in presets.items():
        resolved = resolve([read_layer(path)])
        settings = resolved.settings
        assert (settings.data.dataset, settings.model.arch) == ("veri", arch)
        assert settings.run.run_dir is not None
        runs.add(settings.run.run_dir)
        assert settings.run.run_dir.match("runs/paper-*")  # what the README's last line globs
        for task, metrics in (("t2t", known_metrics("t2t")), ("i2t", known_metrics("i2t"))):
            found = parse_metrics(settings.rank.metric, task, definition=settings.rank.definition)  # type: ignore[arg-type]
            assert [metric.name for metric in found] == list(metrics)
        assert (settings.rank.definition, settings.rank.track_unit) == ("paper", "passage")
        assert (settings.evaluate.same_camera, settings.evaluate.ap) == ("drop", "rectangle")
        assert settings.evaluate.ranks == (1, 5)
        # train starts from other weights than extract takes, and rank refuses what contradicts the run.
        assert not resolved.given("model.weights")
        assert not resolved.given("rank.task")
    assert len(runs) == len(presets)


@pytest.mark.parametrize("name", ["a/b", "./veri-t2t", "x.toml", "a\\b"])
def test_a_config_with_a_slash_or_the_ending_is_a_path(name: str) -> None:
    assert find_config(name) == Path(name)


def test_a_config_by_name_is_a_preset() -> None:
    assert find_config("veri-t2t").name == "veri-t2t.toml"


def test_an_unknown_preset_is_offered_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no preset 'veri-t2'") as caught:
        find_config("veri-t2")
    assert "did you mean 'veri-t2t'?" in (caught.value.hint or "")
    write(tmp_path / "mine", "")
    with pytest.raises(ConfigError) as caught:
        find_config("mine")
    assert caught.value.hint == "to read a file, give its path: ./mine"


# -- --set -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("run.seed=7", 7),
        ("run.seed = 7", 7),
        ("rank.force=true", True),
        ("model.download_timeout=2.5", 2.5),
        ('rank.metric=["minMED", "meanMCD"]', ["minMED", "meanMCD"]),
        ("evaluate.ranks=[1, 2]", [1, 2]),
        ("model.weights=my file.pth", "my file.pth"),
        ('model.weights="imagenet"', "imagenet"),
        ("data.label_pattern=^(?P<vehicle>\\d+)=(?P<camera>c)", "^(?P<vehicle>\\d+)=(?P<camera>c)"),
        ("model.weights=", ""),
    ],
)
def test_an_assignment_is_read_as_toml_else_as_text(text: str, value: object) -> None:
    section, key = text.partition("=")[0].strip().split(".")
    assert parse_assignment(text) == (section, key, value)


@pytest.mark.parametrize("text", ["", "run", "run.seed", "seed=1", "=1", ".seed=1", "run.=1"])
def test_a_malformed_assignment_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError, match=r"section\.key=VALUE") as caught:
        parse_assignment(text)
    assert caught.value.hint


# -- printing --------------------------------------------------------------------------------------------------

PLAIN_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(
    text=PLAIN_TEXT,
    names=st.lists(PLAIN_TEXT, min_size=1, max_size=3),
    ranks=st.lists(st.integers(1, 2**62), min_size=1, max_size=3),
    timeout=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    batch=st.just("auto") | st.integers(1, 10**6),
    flag=st.booleans(),
)
def test_printed_settings_read_back_as_the_same_settings(
    text: str, names: list[str], ranks: list[int], timeout: float, batch: str | int, flag: bool
) -> None:
    values = {
        "model": {"weights": text, "download_timeout": timeout},
        "data": {"data_dir": f"a/{text}"},
        "rank": {"metric": names, "force": flag},
        "evaluate": {"ranks": ranks},
        "extract": {"batch_size": batch},
    }
    resolved = resolve([Layer("made.toml", values)])
    again = resolve([Layer("printed", tomllib.loads(to_toml(resolved)))])
    assert again.settings == resolved.settings


def test_a_table_in_a_table_is_a_section_of_its_own(tmp_path: Path) -> None:
    file = write(tmp_path / "a.toml", '[model]\narch = "resnet18"\n[model.input]\npreset = "tao"\nsize = [256, 128]\n')
    assigned = collect_layers({}, config=str(file), assignments=["model.input.channels=bgr"])
    resolved = resolve(assigned)
    given = resolved.settings.model.input
    assert (given.preset, given.size, given.channels) == ("tao", (256, 128), "bgr")
    assert resolved.source("model.input.size") == str(file)
    assert resolved.source("model.input.channels") == ASSIGNMENT
    assert tomllib.loads(to_toml(resolved))["model"]["input"] == {
        "preset": "tao",
        "size": [256, 128],
        "channels": "bgr",
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"preset": "fastreid"}, "model.input.preset = \"fastreid\": needs 'fast-reid'"),
        ({"size": [256]}, "model.input.size"),
        ({"size": [256, 0]}, "model.input.size.*at least 1"),
        ({"std": [0.2, 0.2, 0]}, "model.input.std.*more than 0"),
        ({"scale": 100}, "model.input.scale = 100: needs 1 or 255"),
        ({"colour": "bgr"}, "unknown key 'model.input.colour'"),
    ],
)
def test_a_wrong_value_in_an_inner_table_names_its_key(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve([Layer("some.toml", {"model": {"input": values}})])


def test_each_printed_line_says_its_source() -> None:
    resolved = resolve([Layer("vreid.toml", {"rank": {"task": "i2t"}}), Layer(COMMAND_LINE, {"run": {"seed": 3}})])
    lines = to_toml(resolved).splitlines()
    source = {line.split(" = ")[0]: line.rpartition(" # ")[2] for line in lines if " = " in line}
    assert source["task"] == "vreid.toml"
    assert source["seed"] == COMMAND_LINE
    assert source["definition"] == DEFAULT
    assert any(line.startswith("# top_k is unset") and line.endswith(f"# {DEFAULT}") for line in lines)
    keys = sum(f"{name}.{key}" not in SECTIONS for name, options in SECTIONS.items() for key in options.model_fields)
    assert sum(" = " in line or " is unset" in line for line in lines) == keys
