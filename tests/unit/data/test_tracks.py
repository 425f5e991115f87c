"""One's own images, a folder a track."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from trees import ids, refusal, touch

from vreid_cli.data.listing import DataFolders
from vreid_cli.data.tracks import read_tracks
from vreid_cli.errors import UsageError

FOLDER_NAMES = {
    "query": ["query", "query_tracks", "Query"],
    "gallery": ["gallery", "test", "test_tracks", "Gallery-2"],
    "train": ["train"],
}


@pytest.mark.parametrize(
    ("split", "folder"), [(split, name) for split, names in FOLDER_NAMES.items() for name in names]
)
def test_folders_are_found_by_their_beginning(tmp_path: Path, split, folder: str):
    touch(tmp_path, f"{folder}/0002_c002/a.jpg", "else/0003_c001/b.jpg", "query.txt", "gallery.txt")
    listing = read_tracks(DataFolders(tmp_path), split)
    assert ids(listing) == ["0002_c002/a.jpg"]
    assert listing.records[0].path == tmp_path / folder / "0002_c002" / "a.jpg"
    assert listing.image_root == (tmp_path / folder).resolve()
    assert listing.warnings == ()


def test_folders_that_are_named(tmp_path: Path):
    touch(tmp_path, "here/t1/a.jpg", "there/t2/b.jpg", "data/query/t3/c.jpg")
    named = DataFolders(tmp_path / "data", query_dir=tmp_path / "here", gallery_dir=tmp_path / "there")
    assert ids(read_tracks(named, "query")) == ["t1/a.jpg"]
    assert ids(read_tracks(named, "gallery")) == ["t2/b.jpg"]
    assert ids(read_tracks(DataFolders(tmp_path / "data", gallery_dir=tmp_path / "there"), "query")) == ["t3/c.jpg"]
    alone = DataFolders(query_dir=tmp_path / "here", gallery_dir=tmp_path / "here")
    assert read_tracks(alone, "gallery") == read_tracks(alone, "query")


def test_what_a_track_folder_may_hold(tmp_path: Path):
    root = tmp_path / "query"
    touch(root, "t1/a.jpg", "t1/b.PNG", "t1/.hidden.jpg", "t1/._a.jpg", "t1/notes.txt", "t1/Thumbs.db")
    touch(root, ".hidden/a.jpg", ".DS_Store", "t1/.thumbs/c.jpg")
    listing = read_tracks(DataFolders(tmp_path), "query")
    assert ids(listing) == ["t1/a.jpg", "t1/b.PNG"]
    assert {record.track_id for record in listing.records} == {"t1"}
    assert listing.warnings == ()


def test_nested_folders_are_tracks_of_their_own(tmp_path: Path):
    touch(tmp_path / "query", "cam1/t1/a.jpg", "cam1/t2/a.jpg", "cam2/t1/a.jpg", "t0/a.jpg", "t0/more/b.jpg")
    listing = read_tracks(DataFolders(tmp_path), "query")
    assert [record.track_id for record in listing.records] == ["cam1/t1", "cam1/t2", "cam2/t1", "t0", "t0/more"]
    assert ids(listing)[0] == "cam1/t1/a.jpg"
    assert len(set(ids(listing))) == 5


def test_loose_images_and_empty_folders_are_reported(tmp_path: Path):
    touch(tmp_path / "query", "loose.jpg", "t1/a.jpg", "t3/notes.txt")
    (tmp_path / "query" / "t2").mkdir()
    listing = read_tracks(DataFolders(tmp_path), "query")
    assert ids(listing) == ["t1/a.jpg"]
    loose, empty = listing.warnings
    assert "1 image in" in loose
    assert "loose.jpg" in loose
    assert "2 track folders" in empty
    assert "t2, t3" in empty


def test_links_are_followed_once(tmp_path: Path):
    touch(tmp_path / "query", "t1/a.jpg")
    touch(tmp_path, "elsewhere/b.jpg")
    (tmp_path / "query" / "t2").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "query" / "t1" / "loop").symlink_to(tmp_path / "query")
    assert ids(read_tracks(DataFolders(tmp_path), "query")) == ["t1/a.jpg", "t2/b.jpg"]


def test_labels_from_the_folder(tmp_path: Path):
    touch(tmp_path / "query", "0002_c011/x.jpg", "0007_c001_t3/0009_c009_00000012_0.jpg")
    first, second = read_tracks(DataFolders(tmp_path), "query").records
    assert (first.vehicle_id, first.camera_id, first.frame) == ("0002", "c011", None)
    # The folder decides; the frame only the image can say.
    assert (second.vehicle_id, second.camera_id, second.frame) == ("0007", "c001", 12)


def test_labels_from_the_images(tmp_path: Path):
    touch(tmp_path / "query", "track_7/0003_c004_00000005_0.jpg")
    (record,) = read_tracks(DataFolders(tmp_path), "query").records
    assert (record.track_id, record.vehicle_id, record.camera_id, record.frame) == ("track_7", "0003", "c004", 5)


def test_labels_by_a_pattern(tmp_path: Path):
    touch(tmp_path / "query", "car_12-cam3/1.jpg", "0002_c002/2.jpg")
    folders = DataFolders(tmp_path, label_pattern=r"^(?P<vehicle>[a-z]+_\d+)-cam(?P<camera>\d)")
    other, mine = read_tracks(folders, "query").records
    assert (mine.vehicle_id, mine.camera_id) == ("car_12", "3")
    assert (other.vehicle_id, other.camera_id) == (None, None)


def test_unlabelled_tracks(tmp_path: Path):
    touch(tmp_path / "query", "b/2.jpg", "a/1.jpg")
    records = read_tracks(DataFolders(tmp_path), "query").records
    assert [(record.track_id, record.vehicle_id, record.camera_id) for record in records] == [
        ("a", None, None),
        ("b", None, None),
    ]


def test_gallery_order_of_tracks(tmp_path: Path):
    touch(tmp_path / "query", "0002_c002_t2/0002_c002_00000001_0.jpg", "0002_c002_t1/0002_c002_00000100_0.jpg")
    touch(
        tmp_path / "query", "0002_c002_t1/0002_c002_00000020_0.jpg", "0002_c001_t9/a.jpg", "0001_c009/b.jpg", "zz/c.jpg"
    )
    assert ids(read_tracks(DataFolders(tmp_path), "query")) == [
        "zz/c.jpg",  # absent labels come first
        "0001_c009/b.jpg",
        "0002_c001_t9/a.jpg",
        "0002_c002_t1/0002_c002_00000020_0.jpg",
        "0002_c002_t1/0002_c002_00000100_0.jpg",
        "0002_c002_t2/0002_c002_00000001_0.jpg",
    ]


def test_ambiguous_folders(tmp_path: Path):
    touch(
        tmp_path,
        "query/t/a.jpg",
        "query_old/t/a.jpg",
        "gallery/t/a.jpg",
        "test/t/a.jpg",
        "train/t/a.jpg",
        "train2/t/a.jpg",
    )
    error = refusal("tracks", DataFolders(tmp_path), "query")
    assert "query, query_old" in error.message
    assert "--query-dir" in (error.hint or "")
    error = refusal("tracks", DataFolders(tmp_path), "gallery")
    assert "gallery, test" in error.message
    assert "--gallery-dir" in (error.hint or "")
    assert "--train-dir" not in (
        refusal("tracks", DataFolders(tmp_path), "train").hint or ""
    )  # there is no such option


def test_missing_folders(tmp_path: Path):
    touch(tmp_path, "a.txt", "data/notes.txt")
    assert "there is no folder" in refusal("tracks", DataFolders(tmp_path / "nowhere"), "query").message
    assert "is not a folder" in refusal("tracks", DataFolders(tmp_path / "a.txt"), "query").message
    assert "there is no folder" in refusal("tracks", DataFolders(query_dir=tmp_path / "nowhere"), "query").message
    error = refusal("tracks", DataFolders(tmp_path / "data"), "gallery")
    assert "gallery*/ or test*/" in error.message
    assert "--gallery-dir" in (error.hint or "")
    assert "--train-dir" not in (refusal("tracks", DataFolders(tmp_path / "data"), "train").hint or "")


def test_no_folder_at_all():
    error = refusal("tracks", DataFolders(), "query")
    assert isinstance(error, UsageError)
    assert "--query-dir" in (error.hint or "")
    assert "--train-dir" not in (refusal("tracks", DataFolders(), "train").hint or "")


def test_empty_folder(tmp_path: Path):
    (tmp_path / "query").mkdir()
    assert "holds no images" in refusal("tracks", DataFolders(tmp_path), "query").message


def test_only_loose_images(tmp_path: Path):
    touch(tmp_path / "query", "a.jpg")
    error = refusal("tracks", DataFolders(tmp_path), "query")
    assert "outside any track folder" in error.message
    assert "a folder per track" in (error.hint or "")


def test_folder_without_permission_is_not_taken_for_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    touch(tmp_path / "query", "t1/a.jpg", "t2/b.jpg")
    scandir = os.scandir

    def refuse(path):  # a test that runs as root cannot take the permission away
        if str(path).endswith("t2"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    error = refusal("tracks", DataFolders(tmp_path), "query")
    assert "t2" in error.message
    assert "Permission denied" in error.message


def test_names_that_are_no_text(tmp_path: Path):
    touch(tmp_path / "query", "t1/a.jpg")
    try:
        (tmp_path / "query" / "t1" / b"caf\xe9.jpg".decode("utf-8", "surrogateescape")).touch()
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such names")
    listing = read_tracks(DataFolders(tmp_path), "query")
    assert ids(listing) == ["t1/a.jpg"]
    (warning,) = listing.warnings
    assert "UTF-8" in warning
    warning.encode()  # it can be printed
    (tmp_path / "query" / "t1" / "a.jpg").unlink()
    assert "UTF-8" in refusal("tracks", DataFolders(tmp_path), "query").message
