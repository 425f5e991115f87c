"""VeRi-776 with and without its list files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from trees import ids, refusal, touch

from vreid_cli.data.listing import DataFolders
from vreid_cli.data.veri import read_veri
from vreid_cli.errors import DataError

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
    assert f"1 image of image_test not in name_test.txt, left out: {unlisted}" in text
    assert f"1 name in name_test.txt without an image in image_test: {missing}" in text
    assert "1 image named twice in name_test.txt" in text
    assert f"1 image in no listed track: {missing}" in text


def test_veri_names_that_do_not_fit(veri: Path):
    touch(veri / "image_test", "strange.jpg", "0002_c002_0030600_0.jpg", "0002_c002_00030600_0.png", "0002.txt")
    listing = read_veri(DataFolders(veri), "gallery")
    assert len(listing.records) == len(GALLERY)
    assert any("3 images with a name that VeRi does not use" in warning for warning in listing.warnings)


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
    assert "two tracks of test_track.txt, the first counts" in listing.warnings[0]
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


def test_veri_missing_folders(tmp_path: Path):
    error = refusal("veri", DataFolders(tmp_path))
    assert f"there is no folder {tmp_path / 'image_test'}" in error.message
    (tmp_path / "image_test").mkdir()
    assert "holds no images with VeRi's names" in refusal("veri", DataFolders(tmp_path)).message


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
    told = f"1 image with other labels in test_label.xml than by name, the file counts: {changed} is 0099 by c077"
    assert told in "\n".join(listing.warnings)


def test_veri_label_file_that_is_damaged(veri: Path):
    (veri / "test_label.xml").write_text('<?xml version="1.0" encoding="gb2312" ?><TrainingImages><Items>')
    with pytest.raises(DataError, match=r"test_label\.xml is not valid XML"):
        read_veri(DataFolders(veri), "gallery")
