"""Features that changed behind a ranking's back, and bytes that changed behind everybody's."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import EXTRACT, TRACKS, Vreid, draw, draw_tracks, save_weights

from vreid_cli.store.parts import AGAIN

COMMON = (*EXTRACT, "--data-dir", "data", "--weights", "tiny.safetensors")
RUN = Path("runs/tracks-resnet18-tiny")
RANKING = RUN / "rankings" / "t2t-meanMCD50.parquet"


@pytest.fixture
def vreid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Vreid:
    draw_tracks(tmp_path / "data", TRACKS)
    monkeypatch.chdir(tmp_path)
    save_weights(Path("tiny.safetensors"))
    vreid = Vreid(capsys)
    vreid(*COMMON)
    vreid("rank")
    return vreid


def replace_an_image() -> None:
    draw(Path("data/gallery/0002_c003/1.png"), hue=77, seed=4)


def remove_an_image() -> None:
    Path("data/gallery/0004_c001/3.png").unlink()


def rename_a_track() -> None:
    Path("data/gallery/0009_c001").rename("data/gallery/0004_c005")


@pytest.mark.parametrize("change", [replace_an_image, remove_an_image, rename_a_track])
def test_a_ranking_that_is_older_than_the_features_says_so(vreid: Vreid, change):
    assert vreid.json("evaluate")["warnings"] == []
    assert vreid.json("info")["next"] is None
    change()
    vreid(*COMMON)
    told = f"{RANKING} is older than the gallery features of its run"
    (warning,) = vreid.json("evaluate")["warnings"]
    assert warning.startswith(told)
    vreid("show")
    assert told in vreid.err
    overview = vreid.json("info")
    assert [row["same_features"] for row in overview["rankings"]] == [False]
    assert "made from other features than the run holds now" in vreid("info")
    again = overview["next"].split()[1:]
    assert again[-1] == "--force"
    vreid(*again)
    assert vreid.json("evaluate")["warnings"] == []
    assert [row["same_features"] for row in vreid.json("info")["rankings"]] == [True]


def test_the_same_features_again_are_no_other_ones(vreid: Vreid):
    vreid(*COMMON, "--restart")
    assert vreid.json("evaluate")["warnings"] == []


def flip(path: Path, where: bytes | None = None) -> None:
    """One bit of the last features, or of the letters that are named."""
    content = bytearray(path.read_bytes())
    start = content.rindex(where) if where is not None else content.rindex(b"ARROW1") - 1500
    content[start] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("where", [None, b"0004_c001/0.png"])
def test_a_flipped_bit_is_found_and_made_again(vreid: Vreid, where: bytes | None):
    part = RUN / "features" / "gallery" / "part-00000.arrow"
    before = part.read_bytes()
    flip(part, where)
    for command in (("rank", "--force"), ("export", "features", "--force")):
        error = vreid.error(*command)
        assert error["message"].startswith(f"{part} is damaged: its rows are not those that were written")
        assert error["hint"] == AGAIN
    overview = vreid.json("info", "--verify")
    assert overview["splits"]["gallery"]["state"] == "damaged"
    vreid(*COMMON)
    assert f"{part} has changed since it was written; it is made again" in vreid.err
    assert part.read_bytes() == before
    vreid("rank", "--force")


@pytest.mark.parametrize("large", [False, True])
def test_labels_that_cannot_be_read_are_made_again_as_the_hint_says(
    vreid: Vreid, large: bool, monkeypatch: pytest.MonkeyPatch
):
    part = RUN / "features" / "gallery" / "part-00000.arrow"
    before = part.read_bytes()
    content = bytearray(before)
    content[content.rindex(b"0004_c001/0.png")] = 0xFF  # no UTF-8; what made the part can still be read
    part.write_bytes(content)
    if large:
        monkeypatch.setattr("vreid_cli.store.features.CHEAP_TO_VERIFY", 0)
    hint = vreid.error("rank", "--force")["hint"]
    assert hint == (f"remove it, then {AGAIN}" if large else AGAIN)
    assert hint in vreid("info")
    if large:
        vreid(*COMMON)
        assert part.read_bytes() != before
        part.unlink()
    vreid(*COMMON)
    assert part.read_bytes() == before


def test_large_stores_are_verified_when_asked(vreid: Vreid, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vreid_cli.store.features.CHEAP_TO_VERIFY", 0)
    part = RUN / "features" / "gallery" / "part-00000.arrow"
    before = part.read_bytes()
    flip(part)
    assert vreid.json("info")["splits"]["gallery"]["state"] == "complete"
    gallery = vreid.json("info", "--verify")["splits"]["gallery"]
    assert gallery["state"] == "damaged"
    assert gallery["problems"][0].endswith(f"; remove it, then {AGAIN}")
    part.unlink()
    vreid(*COMMON)
    assert part.read_bytes() == before
