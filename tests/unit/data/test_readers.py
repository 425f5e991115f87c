"""What each layout's reader lists: own folders of tracks, and VeRi-776 with and without its list files."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from vreid_cli.data.layouts import READERS
from vreid_cli.data.listing import DataFolders, Listing
from vreid_cli.data.tracks import read_tracks
from vreid_cli.data.veri import read_veri
from vreid_cli.errors import DataError, UsageError, VreidError
from vreid_cli.types.labels import LabelPattern, NameLabels


def touch(root: Path, *names: str) -> None:
    """Make empty files; readers look at names, not into images."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def ids(listing: Listing) -> list[str]:
    return [record.image_id for record in listing.records]


def test_the_table_of_readers():
    assert READERS["veri"] is read_veri
    assert READERS["tracks"] is read_tracks


# -- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "vehicle", "camera", "frame"),
    [
        ("0002_c002_00030600_0.jpg", "0002", "c002", 30600),
        ("0002_c002", "0002", "c002", None),
        ("0002_c002_t0175", "0002", "c002", None),
        ("0776_c020_", "0776", "c020", None),
        ("0002_c0021", None, None, None),
        ("0002_c002.jpg", None, None, None),
        ("002_c002_0", None, None, None),
        ("x0002_c002_0", None, None, None),
        ("0002_C002_0", None, None, None),
        ("0002-c002", None, None, None),
        ("", None, None, None),
        ("0002_c002_99999999999999999999_0.jpg", "0002", "c002", None),  # no 64-bit integer
    ],
)
def test_labels_in_names(name: str, vehicle: str | None, camera: str | None, frame: int | None):
    assert LabelPattern.compile(None).read(name) == NameLabels(vehicle, camera, frame)


@pytest.mark.parametrize("vehicle", ["0002", "2", "", "12345"])
@pytest.mark.parametrize("camera", ["c002", "c2", "c0020"])
@pytest.mark.parametrize("rest", ["", "_", "_t1", "_00000001_0.jpg", ".jpg", "x"])
def test_default_pattern_is_that_of_the_contract(vehicle: str, camera: str, rest: str):
    name = f"{vehicle}_{camera}{rest}"
    expected = re.search(r"^\d{4}_c\d{3}(_|$)", name) is not None
    assert (LabelPattern.compile(None).read(name).vehicle_id is not None) == expected


def test_own_pattern_is_searched_anywhere():
    pattern = LabelPattern.compile(r"(?P<vehicle>[a-z]+_\d+)_cam(?P<camera>\d)")
    assert pattern.read("xx/car_12_cam2.jpg") == NameLabels("car_12", "2", None)


def test_empty_groups_are_no_labels():
    pattern = LabelPattern.compile(r"^(?P<vehicle>\d*)-(?P<camera>c\d)?")
    assert pattern.read("-") == NameLabels(None, None, None)
    assert pattern.read("7-") == NameLabels("7", None, None)


@pytest.mark.parametrize("pattern", ["(", r"(?P<camera>\d)", "no groups"])
def test_pattern_that_cannot_be_used(pattern: str):
    with pytest.raises(UsageError, match="--label-pattern"):
        LabelPattern.compile(pattern)


# -- tracks -------------------------------------------------------------------------------------------------


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
    assert "1 images" in loose
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


def tracks_refusal(folders: DataFolders, split="query") -> VreidError:
    with pytest.raises(VreidError) as caught:
        read_tracks(folders, split)
    return caught.value


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
    error = tracks_refusal(DataFolders(tmp_path))
    assert "query, query_old" in error.message
    assert "--query-dir" in (error.hint or "")
    error = tracks_refusal(DataFolders(tmp_path), "gallery")
    assert "gallery, test" in error.message
    assert "--gallery-dir" in (error.hint or "")
    assert "--train-dir" not in (tracks_refusal(DataFolders(tmp_path), "train").hint or "")  # there is no such option


def test_missing_folders(tmp_path: Path):
    touch(tmp_path, "a.txt", "data/notes.txt")
    assert "there is no folder" in tracks_refusal(DataFolders(tmp_path / "nowhere")).message
    assert "is not a folder" in tracks_refusal(DataFolders(tmp_path / "a.txt")).message
    assert "there is no folder" in tracks_refusal(DataFolders(query_dir=tmp_path / "nowhere")).message
    error = tracks_refusal(DataFolders(tmp_path / "data"), "gallery")
    assert "gallery*/ or test*/" in error.message
    assert "--gallery-dir" in (error.hint or "")
    assert "--train-dir" not in (tracks_refusal(DataFolders(tmp_path / "data"), "train").hint or "")


def test_no_folder_at_all():
    error = tracks_refusal(DataFolders())
    assert isinstance(error, UsageError)
    assert "--query-dir" in (error.hint or "")
    assert "--train-dir" not in (tracks_refusal(DataFolders(), "train").hint or "")


def test_empty_folder(tmp_path: Path):
    (tmp_path / "query").mkdir()
    assert "holds no images" in tracks_refusal(DataFolders(tmp_path)).message


def test_only_loose_images(tmp_path: Path):
    touch(tmp_path / "query", "a.jpg")
    error = tracks_refusal(DataFolders(tmp_path))
    assert "outside any track folder" in error.message
    assert "FOLDER/<track>/" in (error.hint or "")


def test_folder_without_permission_is_not_taken_for_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    touch(tmp_path / "query", "t1/a.jpg", "t2/b.jpg")
    scandir = os.scandir

    def refuse(path):  # a test that runs as root cannot take the permission away
        if str(path).endswith("t2"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    error = tracks_refusal(DataFolders(tmp_path))
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
    assert "UTF-8" in tracks_refusal(DataFolders(tmp_path)).message


# -- VeRi ---------------------------------------------------------------------------------------------------

VERI_FOLDERS = [("image_query", "name_query.txt"), ("image_test", "name_test.txt")]
QUERY = ["0002_c002_00030600_0.jpg", "0005_c003_00084280_0.jpg"]
GALLERY = [
    "0002_c002_00030605_1.jpg",
    "0002_c002_00030600_0.jpg",
    "0002_c002_00099000_0.jpg",
    "0002_c001_00000100_2.jpg",
    "0005_c003_00084280_0.jpg",
    "0005_c003_00084290_0.jpg",
]
PASSAGES = {
    "0002_c002_t0175": ["0002_c002_00030600_0.jpg", "0002_c002_00030605_1.jpg"],
    "0002_c002_t0090": ["0002_c002_00099000_0.jpg"],
    "0002_c001_t0001": ["0002_c001_00000100_2.jpg"],
    "0005_c003_t0001": ["0005_c003_00084280_0.jpg", "0005_c003_00084290_0.jpg"],
}


def write_tracks(root: Path, passages: dict[str, list[str]]) -> None:
    """As in the release: CRLF, and a space before it."""
    text = "".join(f"{track} {' '.join(names)} \r\n" for track, names in passages.items())
    (root / "test_track.txt").write_bytes(text.encode())


def write_names(root: Path, split: str, names: Iterable[str]) -> None:
    (root / f"name_{split}.txt").write_bytes("".join(f"{name} \r\n" for name in names).encode())


@pytest.fixture
def veri(tmp_path: Path) -> Path:
    touch(tmp_path / "image_query", *QUERY)
    touch(tmp_path / "image_test", *GALLERY)
    return tmp_path


@pytest.fixture
def veri_with_lists(veri: Path) -> Path:
    write_tracks(veri, PASSAGES)
    write_names(veri, "query", QUERY)
    write_names(veri, "test", GALLERY)
    return veri


def test_veri_with_lists(veri_with_lists: Path):
    listing = read_veri(DataFolders(veri_with_lists), "gallery")
    assert listing.warnings == ()
    assert listing.image_root == (veri_with_lists / "image_test").resolve()
    rows = [(r.vehicle_id, r.camera_id, r.track_id, r.frame, r.image_id) for r in listing.records]
    # Vehicle, camera, passage (as text), frame.
    assert rows == [
        ("0002", "c001", "0002_c001_t0001", 100, "0002_c001_00000100_2.jpg"),
        ("0002", "c002", "0002_c002_t0090", 99000, "0002_c002_00099000_0.jpg"),
        ("0002", "c002", "0002_c002_t0175", 30600, "0002_c002_00030600_0.jpg"),
        ("0002", "c002", "0002_c002_t0175", 30605, "0002_c002_00030605_1.jpg"),
        ("0005", "c003", "0005_c003_t0001", 84280, "0005_c003_00084280_0.jpg"),
        ("0005", "c003", "0005_c003_t0001", 84290, "0005_c003_00084290_0.jpg"),
    ]
    assert all(record.path == veri_with_lists / "image_test" / record.image_id for record in listing.records)


def test_veri_query_images_get_the_track_that_holds_them(veri_with_lists: Path):
    listing = read_veri(DataFolders(veri_with_lists), "query")
    assert listing.warnings == ()
    assert [(r.image_id, r.track_id) for r in listing.records] == [
        (QUERY[0], "0002_c002_t0175"),
        (QUERY[1], "0005_c003_t0001"),
    ]
    assert all(record.path == veri_with_lists / "image_query" / record.image_id for record in listing.records)
    # They are the gallery's images of the same name: that is how a query finds itself.
    assert listing.image_root == read_veri(DataFolders(veri_with_lists), "gallery").image_root


def test_veri_without_lists(veri: Path):
    listing = read_veri(DataFolders(veri), "gallery")
    assert {record.track_id for record in listing.records} == {"0002_c001", "0002_c002", "0005_c003"}
    assert len(listing.records) == len(GALLERY)
    (warning,) = listing.warnings
    assert "no test_track.txt" in warning
    assert [r.track_id for r in read_veri(DataFolders(veri), "query").records] == ["0002_c002", "0005_c003"]


def test_veri_train(tmp_path: Path):
    touch(tmp_path / "image_train", "0001_c001_00000001_0.jpg", "0003_c001_00000001_0.jpg")
    listing = read_veri(DataFolders(tmp_path), "train")
    assert [(r.vehicle_id, r.track_id) for r in listing.records] == [("0001", "0001_c001"), ("0003", "0003_c001")]
    assert listing.image_root == (tmp_path / "image_train").resolve()


def test_veri_list_and_folder_contradict(veri_with_lists: Path):
    missing, unlisted = "0005_c003_00084300_0.jpg", "0002_c009_00000007_0.jpg"
    touch(veri_with_lists / "image_test", unlisted)
    write_names(veri_with_lists, "test", [*GALLERY, missing, GALLERY[0]])
    listing = read_veri(DataFolders(veri_with_lists), "gallery")
    # The list decides: what it does not name is left out, what it names is kept and will be skipped by name.
    assert set(ids(listing)) == {*GALLERY, missing}
    assert len(ids(listing)) == len(set(ids(listing)))
    text = "\n".join(listing.warnings)
    assert f"1 images in image_test are not in name_test.txt, left out: {unlisted}" in text
    assert f"1 names in name_test.txt have no image in image_test: {missing}" in text
    assert "names 1 images twice" in text
    assert f"1 images are in no listed track: {missing}" in text


def test_veri_names_that_do_not_fit(veri: Path):
    touch(veri / "image_test", "strange.jpg", "0002_c002_0030600_0.jpg", "0002_c002_00030600_0.png", "0002.txt")
    listing = read_veri(DataFolders(veri), "gallery")
    assert len(listing.records) == len(GALLERY)
    assert any("3 images have names that VeRi does not use" in warning for warning in listing.warnings)


def test_veri_track_of_another_vehicle_is_one_warning(veri_with_lists: Path):
    passages = {f"{number:04d}": names for number, names in enumerate(PASSAGES.values())}
    write_tracks(veri_with_lists, passages)
    listing = read_veri(DataFolders(veri_with_lists), "gallery")
    (warning,) = listing.warnings  # one for all of them, not one each
    assert f"{len(GALLERY)} images" in warning
    assert {record.track_id for record in listing.records} == set(passages)
    assert listing.records[0].vehicle_id == "0002"


def test_veri_image_in_two_tracks(veri_with_lists: Path):
    write_tracks(veri_with_lists, {**PASSAGES, "0002_c002_t0999": [GALLERY[0]]})
    listing = read_veri(DataFolders(veri_with_lists), "gallery")
    assert "two tracks, the first counts" in listing.warnings[0]
    assert {r.track_id for r in listing.records if r.image_id == GALLERY[0]} == {"0002_c002_t0175"}


def test_veri_tracks_that_name_images_which_are_not_there(veri_with_lists: Path):
    stranger = "0002_c002_00030700_0.jpg"
    write_tracks(veri_with_lists, {**PASSAGES, "0002_c002_t0999": [stranger]})
    (warning,) = read_veri(DataFolders(veri_with_lists), "gallery").warnings
    assert stranger in warning
    assert read_veri(DataFolders(veri_with_lists), "query").warnings == ()


@pytest.mark.parametrize("line", ["0002_c002_t0175", "0002_c002_00030600_0.jpg 0002_c002_00030605_1.jpg"])
def test_veri_track_list_that_is_none(veri: Path, line: str):
    (veri / "test_track.txt").write_text(f"\n{line}\n")
    with pytest.raises(DataError, match="line 2") as caught:
        read_veri(DataFolders(veri), "gallery")
    assert caught.value.file == str(veri / "test_track.txt")


def test_veri_list_that_is_no_text(veri: Path):
    (veri / "name_test.txt").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match="cannot be read as text"):
        read_veri(DataFolders(veri), "gallery")


def test_veri_list_with_a_byte_order_mark(veri_with_lists: Path):
    path = veri_with_lists / "name_test.txt"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_veri(DataFolders(veri_with_lists), "gallery").warnings == ()


def test_veri_missing_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="there is no folder VeRi") as caught:
        read_veri(DataFolders(), "gallery")
    assert "--data-dir" in (caught.value.hint or "")
    with pytest.raises(DataError, match="image_test"):
        read_veri(DataFolders(tmp_path), "gallery")
    (tmp_path / "image_test").mkdir()
    with pytest.raises(DataError, match="holds no images with VeRi's names"):
        read_veri(DataFolders(tmp_path), "gallery")


def test_veri_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "VeRi" / "image_test", *GALLERY)
    assert len(read_veri(DataFolders(), "gallery").records) == len(GALLERY)


def test_veri_has_no_folders_of_its_own_naming(veri: Path):
    with pytest.raises(UsageError, match="--query-dir"):
        read_veri(DataFolders(veri, query_dir=veri / "image_query"), "query")


@pytest.mark.shared
def test_veri_776_complete(tmp_path: Path, shared: Path):
    lists = shared / "veri_lists"
    for name in ("name_query.txt", "name_test.txt", "test_track.txt"):
        (tmp_path / name).write_bytes((lists / name).read_bytes())
    names = {folder: (lists / name).read_text().split() for folder, name in VERI_FOLDERS}
    for folder, files in names.items():
        (tmp_path / folder).mkdir()
        for file in files:
            (tmp_path / folder / file).touch()

    gallery = read_veri(DataFolders(tmp_path), "gallery")
    assert gallery.warnings == ()
    assert len(gallery.records) == 11_579
    sizes = Counter(record.track_id for record in gallery.records)
    assert len(sizes) == 2_021
    assert (min(sizes.values()), max(sizes.values())) == (1, 7)
    assert len({record.vehicle_id for record in gallery.records}) == 200
    assert len({record.camera_id for record in gallery.records}) == 19
    assert len({(record.vehicle_id, record.camera_id) for record in gallery.records}) == 1_677
    keys = [record.sort_key() for record in gallery.records]
    assert keys == sorted(keys)
    positions: dict[str | None, list[int]] = {}
    for position, record in enumerate(gallery.records):
        positions.setdefault(record.track_id, []).append(position)
    assert all(found[-1] - found[0] + 1 == len(found) for found in positions.values())  # contiguous

    query = read_veri(DataFolders(tmp_path), "query")
    assert query.warnings == ()
    assert len(query.records) == 1_678
    assert len({record.track_id for record in query.records}) == 1_677
    by_id = {record.image_id: record for record in gallery.records}
    assert all(by_id[record.image_id].track_id == record.track_id for record in query.records)
    assert sum(sizes[track] for track in {record.track_id for record in query.records}) == 9_613


def write_label_xml(path: Path, labels: dict[str, tuple[str, str]], *, count: int) -> None:
    """As the release has it: gb2312, CRLF, a header that miscounts."""
    items = "".join(
        f'        <Item imageName="{name}" vehicleID="{vehicle}" cameraID="{camera}" colorID="1" typeID="4" />\r\n'
        for name, (vehicle, camera) in labels.items()
    )
    text = f'<TrainingImages Version="1.0">\r\n<!-- 车辆 -->\r\n    <Items number="{count}">\r\n{items}    </Items>\r\n'
    head = '<?xml version="1.0" encoding="gb2312" ?>\r\n'
    path.write_bytes((head + text + "</TrainingImages>\r\n").encode("gb2312"))


def test_veri_label_file_that_agrees_changes_nothing(veri: Path):
    before = read_veri(DataFolders(veri), "gallery")
    labels = {name: (name[:4], name[5:9]) for name in GALLERY}
    write_label_xml(veri / "test_label.xml", labels, count=99999)
    after = read_veri(DataFolders(veri), "gallery")
    assert (after.records, after.warnings) == (before.records, before.warnings)


@pytest.mark.parametrize("split", ["query", "gallery"])
def test_veri_label_file_decides_and_contradictions_are_told(veri: Path, split: str):
    before = read_veri(DataFolders(veri), split)
    changed = before.records[0].image_id
    write_label_xml(veri / "test_label.xml", {changed: ("0099", "c077")}, count=1)
    listing = read_veri(DataFolders(veri), split)
    (record,) = (record for record in listing.records if record.image_id == changed)
    assert (record.vehicle_id, record.camera_id) == ("0099", "c077")
    others = [record for record in listing.records if record.image_id != changed]
    assert sorted(others, key=lambda r: r.image_id) == sorted(before.records[1:], key=lambda r: r.image_id)
    told = f"test_label.xml contradicts the names of 1 images, and was followed: {changed} is 0099 by c077"
    assert told in "\n".join(listing.warnings)


def test_veri_label_file_that_is_damaged(veri: Path):
    (veri / "test_label.xml").write_text('<?xml version="1.0" encoding="gb2312" ?><TrainingImages><Items>')
    with pytest.raises(DataError, match=r"test_label\.xml is not valid XML"):
        read_veri(DataFolders(veri), "gallery")
