"""Every parser takes whatever it is given: it reads it, or refuses it in words.

Few examples here; ``make fuzz``, or ``VREID_FUZZ=2000 pytest tests/unit/test_fuzz.py``, tries more.
"""

from __future__ import annotations

import bz2
import csv
import io
import json
import os
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest
from faults import make_world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parsers import PARSERS, Parser, write_more_samples

from vreid_cli.errors import VreidError

EXAMPLES = int(os.environ.get("VREID_FUZZ", "20"))
FUZZ = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=EXAMPLES <= 20
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_world(folder)
    write_more_samples(folder)
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def place_of(parser: Parser, world: Path) -> Path:
    """Where the parser reads from, with all that must lie beside it."""
    sample = world / parser.sample
    if "/" in parser.sample and parser.sample.split("/")[0] in ("veri", "wild", "vehicleid", "aicity"):
        shutil.copytree(world / parser.sample.split("/")[0], "set", dirs_exist_ok=True)
        Path("set/root").touch()
        return Path("set", parser.place)
    shutil.copy(sample, parser.place)
    return Path(parser.place)


def attempt(parser: Parser, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # NumPy's, of numbers that nobody looked at
            parser.read(path)
    except VreidError as error:
        assert error.message  # noqa: PT017 - whatever else is raised fails the test


ODD_BYTES = (b"\xff" * 8, b"\0" * 8, b"-1", b"9" * 30, b'"', b"\n")
#: Cut, repeat, overwrite, remove: where (a share of the file), how much, and by what.
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(("overwrite", "insert", "remove", "repeat", "cut")),
        st.floats(0, 1),
        st.integers(1, 9),
        st.one_of(st.binary(min_size=1, max_size=9), st.sampled_from(ODD_BYTES)),
    ),
    min_size=1,
    max_size=4,
)


def changed(content: bytes, changes: Sequence[tuple[str, float, int, bytes]]) -> bytes:
    for kind, share, length, filling in changes:
        at = int(share * len(content))
        head, piece, tail = content[:at], content[at : at + length], content[at + length :]
        content = {
            "overwrite": head + filling[: len(piece)] + piece[len(filling) :] + tail,
            "insert": head + filling + piece + tail,
            "remove": head + tail,
            "repeat": head + piece * 3 + tail,
            "cut": head,
        }[kind]
    return content


@pytest.mark.parametrize("name", PARSERS)
def test_bytes_that_were_changed_are_read_or_refused_in_words(world: Path, name: str) -> None:
    parser = PARSERS[name]
    path = place_of(parser, world)
    content = path.read_bytes()
    attempt(parser, path, content)

    @FUZZ
    @given(changes=CHANGES)
    def fuzz(changes: list[tuple[str, float, int, bytes]]) -> None:
        attempt(parser, path, changed(content, changes))

    fuzz()


# -- what has the right syntax and says something else ----------------------------------------------------

NAMES = st.sampled_from(
    (
        "tracks",
        "class",
        "ranking",
        "1",
        "id",
        "distance",
        "schema",
        "vreid",
        "dataset",
        "metric",
        "0001_c001",
        "data",
        "frame",
        "x",
    )
)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.just(10**400))
OBJECTS = (
    *("features as JSON", "ranking as JSON", "complete.json", "run.json", "calibration", "tracker's bzip2"),
    "facts of an index",
)
JSON_VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("name", OBJECTS)
def test_any_json_is_read_or_refused_in_words(world: Path, name: str) -> None:
    parser = PARSERS[name]
    path = place_of(parser, world)
    packed = name == "tracker's bzip2"
    usual = json.loads(bz2.decompress(path.read_bytes()) if packed else path.read_bytes())

    @FUZZ
    @given(value=JSON_VALUES, whole=st.booleans(), place=st.integers(0, 1000))
    def fuzz(value: object, whole: bool, place: int) -> None:
        content = value if whole else replaced(usual, value, [place])
        text = json.dumps(content).encode()
        attempt(parser, path, bz2.compress(text) if packed else text)

    fuzz()


def replaced(content: object, value: object, place: list[int]) -> object:
    """A copy with one of its values, whichever ``place`` counts to, replaced."""
    if isinstance(content, dict) and content:
        key = list(content)[place[0] % len(content)]
        return {**content, key: replaced(content[key], value, [place[0] // len(content)])}
    if isinstance(content, list) and content:
        at = place[0] % len(content)
        return [*content[:at], replaced(content[at], value, [place[0] // len(content)]), *content[at + 1 :]]
    return value


CELLS = st.one_of(
    st.text(max_size=5),
    st.sampled_from(
        ("", "1", "-1", "1e999", "nan", "../x.jpg", "/a.png", "=1+1", "same", "query", "c001", "99999999999999999999")
    ),
)
ROWS = st.lists(st.lists(CELLS, max_size=8), max_size=4)
COLUMNS = {
    "manifest": ("path", "split", "track", "vehicle", "camera", "frame", "x", "y", "w", "h"),
    "marks": ("query_id", "gallery_id", "mark"),
    "travel times": ("camera_a", "camera_b", "min_s", "max_s"),
    "identities as CSV": ("identity", "track", "camera", "first_frame", "start_s", "confidence", "vehicle"),
    "tracker's text": (),
    "list of vehicles": (),
    "list of tracks": (),
    "list of cameras": ("id/image;Camera ID;Time",),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_any_table_is_read_or_refused_in_words(world: Path, name: str) -> None:
    parser, columns = PARSERS[name], COLUMNS[name]
    path = place_of(parser, world)
    mark = (
        " " if name.startswith("list of") and name != "list of cameras" else ";" if name == "list of cameras" else ","
    )

    @FUZZ
    @given(rows=ROWS, order=st.permutations(columns))
    def fuzz(rows: list[list[str]], order: list[str]) -> None:
        text = io.StringIO()
        csv.writer(text, delimiter=mark).writerows([order, *rows] if columns else rows)
        attempt(parser, path, text.getvalue().encode(errors="surrogatepass"))

    fuzz()
