"""What the readers of the other data sets list, each from a tiny tree of the same layout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vreid_cli.data.aicity import read_aicity
from vreid_cli.data.boxes import Crop, locate_image, name_crop, parse_crop, pixels_of
from vreid_cli.data.decoding import BadImageError, decode_rgb
from vreid_cli.data.layouts import READERS, WITH_SUBSETS
from vreid_cli.data.listing import DataFolders, Listing
from vreid_cli.data.manifest import read_manifest
from vreid_cli.data.vehicleid import read_vehicleid
from vreid_cli.data.veri_wild import read_veri_wild
from vreid_cli.data.vric import read_vric
from vreid_cli.errors import DataError, UsageError, VreidError
from vreid_cli.types.images import Box, Split

Row = tuple[str, str | None, str | None, str | None]


def touch(root: Path, *names: str) -> None:
    """Make empty files; readers look at names, not into images."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write(path: Path, *lines: str) -> Path:
    """A list as the releases have them: CRLF, and spaces before it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line} \r\n" for line in lines).encode())
    return path


def rows(listing: Listing) -> list[Row]:
    return [(r.image_id, r.track_id, r.vehicle_id, r.camera_id) for r in listing.records]


def refusal(read: Callable[[DataFolders, Split], Listing], folders: DataFolders, split: Split) -> VreidError:
    with pytest.raises(VreidError) as caught:
        read(folders, split)
    assert caught.value.hint or caught.value.file
    return caught.value


def test_the_table_of_readers() -> None:
    assert READERS["vehicleid"] is read_vehicleid
    assert READERS["veri-wild"] is read_veri_wild
    assert READERS["vric"] is read_vric
    assert READERS["aicity"] is read_aicity
    assert READERS["csv"] is read_manifest
    assert set(READERS) >= WITH_SUBSETS


@pytest.mark.parametrize("dataset", ["vehicleid", "veri-wild", "vric", "aicity", "csv"])
def test_no_folder_or_a_wrong_one(dataset: str, tmp_path: Path) -> None:
    read = READERS[dataset]
    error = refusal(read, DataFolders(), "gallery")
    assert isinstance(error, UsageError)
    assert f"--dataset {dataset}" in error.message
    assert "--data-dir" in (error.hint or "")
    assert isinstance(refusal(read, DataFolders(tmp_path, query_dir=tmp_path), "gallery"), UsageError)
    error = refusal(read, DataFolders(tmp_path / "nowhere"), "gallery")
    assert isinstance(error, DataError)
    assert "nowhere" in error.message
    # An empty folder: the message names what is missing, the hint the whole shape.
    error = refusal(read, DataFolders(tmp_path), "gallery")
    assert error.file is not None
    assert Path(error.file).parent == tmp_path
    assert "expected" in (error.hint or "")


# -- VehicleID ----------------------------------------------------------------------------------------------


@pytest.fixture
def vehicleid(tmp_path: Path) -> Path:
    lists = tmp_path / "train_test_split"
    write(lists / "test_list_800.txt", "0000003 12", "0000001 7", "0000002 7", "")
    write(lists / "train_list.txt", "0000009 1")
    touch(tmp_path / "image", *(f"{number:07d}.jpg" for number in (1, 2, 3, 9)))
    return tmp_path


def test_vehicleid(vehicleid: Path) -> None:
    listing = read_vehicleid(DataFolders(vehicleid, subset=800), "gallery")
    assert listing.warnings == ()
    assert listing.image_root == (vehicleid / "image").resolve()
    # Text order of vehicles, as everywhere; no cameras, and each image a track of its own.
    assert rows(listing) == [
        ("0000003.jpg", "0000003.jpg", "12", None),
        ("0000001.jpg", "0000001.jpg", "7", None),
        ("0000002.jpg", "0000002.jpg", "7", None),
    ]
    assert all(record.path.is_file() for record in listing.records)
    assert rows(read_vehicleid(DataFolders(vehicleid), "train")) == [("0000009.jpg", "0000009.jpg", "1", None)]


def test_vehicleid_draws_its_queries_later(vehicleid: Path) -> None:
    error = refusal(read_vehicleid, DataFolders(vehicleid), "query")
    assert isinstance(error, UsageError)
    assert "drawn from the gallery at rank time" in error.message


def test_which_test_list(vehicleid: Path) -> None:
    (warning,) = read_vehicleid(DataFolders(vehicleid), "gallery").warnings
    assert warning == "test_list_800.txt is the only test list and was taken (--subset 800)"
    error = refusal(read_vehicleid, DataFolders(vehicleid, subset=1600), "gallery")
    assert isinstance(error, DataError)
    assert error.message.startswith("--subset 1600")
    assert error.message.endswith("holds 800")
    write(vehicleid / "train_test_split" / "test_list_13164.txt", "0000001 7")
    write(vehicleid / "train_test_split" / "test_list_2400.txt", "0000001 7")
    error = refusal(read_vehicleid, DataFolders(vehicleid), "gallery")
    assert isinstance(error, UsageError)
    assert "800, 2400, 13164" in (error.hint or "")  # by size, not by text
    assert len(read_vehicleid(DataFolders(vehicleid, subset=2400), "gallery").records) == 1


def test_vehicleid_lists_and_images_that_contradict(vehicleid: Path) -> None:
    path = vehicleid / "train_test_split" / "test_list_800.txt"
    write(path, "0000001 7", "0000001 7", "0000002 7", "0000002 8", "0000003.jpg 9", "0000003 9", "0000004 9")
    listing = read_vehicleid(DataFolders(vehicleid, subset=800), "gallery")
    assert [(row[0], row[2]) for row in rows(listing)] == [
        ("0000001.jpg", "7"),
        ("0000002.jpg", "7"),
        ("0000003.jpg", "9"),
        ("0000004.jpg", "9"),
    ]
    assert listing.warnings == (
        "test_list_800.txt names 1 images twice; each counts once: 0000001 (line 2)",
        "test_list_800.txt labels 1 images in two ways, the first counts: 0000002 (line 4)",
        "test_list_800.txt names 1 images twice, the first counts: 0000003.jpg",
        "1 names in test_list_800.txt have no image in image: 0000004.jpg",
    )


@pytest.mark.parametrize("line", ["0000001", "0000001 7 c001"])
def test_a_line_of_another_shape(vehicleid: Path, line: str) -> None:
    path = write(vehicleid / "train_test_split" / "test_list_800.txt", "0000001 7", line)
    error = refusal(read_vehicleid, DataFolders(vehicleid, subset=800), "gallery")
    assert "line 2: expected 'image vehicle'" in error.message
    assert error.file == str(path)


def test_an_empty_list_and_none(vehicleid: Path) -> None:
    write(vehicleid / "train_test_split" / "test_list_800.txt")
    assert "names no images" in refusal(read_vehicleid, DataFolders(vehicleid), "gallery").message
    (vehicleid / "train_test_split" / "train_list.txt").unlink()
    assert "train_list.txt" in refusal(read_vehicleid, DataFolders(vehicleid), "train").message


# -- VERI-Wild ----------------------------------------------------------------------------------------------

INFO = ("id/image;Camera ID;Time;Model;Type;Color", "00001/000001;2;2018-03-11 14:47:59;Benz;SUV;white")


@pytest.fixture
def wild(tmp_path: Path) -> Path:
    lists = tmp_path / "train_test_split"
    write(lists / "test_3000.txt", "00001/000001", "00001/000002", "00002/000003.jpg", "00002/000004")
    write(lists / "test_3000_query.txt", "00001/000002.jpg")
    write(lists / "train_list.txt", "00009/000009")
    write(
        lists / "vehicle_info.txt",
        *INFO,
        "00001/000002;3;2018;Benz;SUV;white",
        "00002/000003;10;2018;宝马;SUV;黑",
        "00002/000004;10;2018;x;y;z",
        "00009/000009;1;2018;x;y;z",
    )
    touch(tmp_path / "images", "00001/000001.jpg", "00001/000002.jpg", "00002/000003.jpg", "00002/000004.jpg")
    touch(tmp_path / "images", "00009/000009.jpg")
    return tmp_path


def test_veri_wild(wild: Path) -> None:
    folders = DataFolders(wild, subset=3000)
    listing = read_veri_wild(folders, "gallery")
    assert listing.image_root == (wild / "images").resolve()
    assert rows(listing) == [
        ("00001/000001.jpg", "00001_2", "00001", "2"),
        ("00002/000003.jpg", "00002_10", "00002", "10"),
        ("00002/000004.jpg", "00002_10", "00002", "10"),
    ]
    left_out, tracks = listing.warnings
    assert left_out == "1 images of test_3000.txt are queries and not in the gallery"
    assert "all images of a vehicle by one camera count as one track" in tracks
    assert rows(read_veri_wild(folders, "query")) == [("00001/000002.jpg", "00001_3", "00001", "3")]
    assert rows(read_veri_wild(folders, "train")) == [("00009/000009.jpg", "00009_1", "00009", "1")]
    assert all(record.path.is_file() for record in listing.records)


def test_veri_wild_without_cameras(wild: Path) -> None:
    (wild / "train_test_split" / "vehicle_info.txt").unlink()
    listing = read_veri_wild(DataFolders(wild, subset=3000), "gallery")
    assert rows(listing)[1:] == [(name, name, "00002", None) for name in ("00002/000003.jpg", "00002/000004.jpg")]
    assert any("no vehicle_info.txt" in warning and "cameras are unknown" in warning for warning in listing.warnings)


def test_veri_wild_with_some_cameras(wild: Path) -> None:
    path = wild / "train_test_split" / "vehicle_info.txt"
    # Models in another encoding are not read, so they cannot disturb.
    path.write_bytes("\n".join([*INFO, "00002/000003.jpg;10;2018;宝马;SUV;黑"]).encode("gb2312"))
    listing = read_veri_wild(DataFolders(wild, subset=3000), "gallery")
    assert [row[3] for row in rows(listing)] == ["2", None, "10"]
    assert any("tells no camera of 1 images" in warning and "00002/000004" in warning for warning in listing.warnings)
    write(path, *INFO, "00002/000003,10,2018")
    error = refusal(read_veri_wild, DataFolders(wild, subset=3000), "gallery")
    assert "line 3: expected 'id/image;Camera ID;…'" in error.message


def test_veri_wild_that_does_not_fit(wild: Path) -> None:
    lists = wild / "train_test_split"
    write(lists / "test_5000.txt", "00001/000001", "00005/000007")
    error = refusal(read_veri_wild, DataFolders(wild), "gallery")
    assert isinstance(error, UsageError)
    assert "3000, 5000" in (error.hint or "")
    assert "test_5000_query.txt" in refusal(read_veri_wild, DataFolders(wild, subset=5000), "gallery").message
    write(lists / "test_5000_query.txt", "00001/000001")
    listing = read_veri_wild(DataFolders(wild, subset=5000), "gallery")
    assert "1 names in test_5000.txt have no image in images: 00005/000007.jpg" in listing.warnings
    write(lists / "test_5000.txt", "00001/000001")
    assert "nothing but the queries" in refusal(read_veri_wild, DataFolders(wild, subset=5000), "gallery").message
    write(lists / "test_5000.txt", "000001")
    error = refusal(read_veri_wild, DataFolders(wild, subset=5000), "gallery")
    assert "expected lines 'vehicle/image', found '000001.jpg'" in error.message


# -- VRIC ---------------------------------------------------------------------------------------------------


@pytest.fixture
def vric(tmp_path: Path) -> Path:
    for name, images in {"train": ["t.jpg"], "probe": ["p.jpg"], "gallery": ["g1.jpg", "g2.jpg"]}.items():
        write(tmp_path / f"vric_{name}.txt", *(f"{image} {len(images)} {index}" for index, image in enumerate(images)))
        touch(tmp_path / f"{name}_images", *images)
    return tmp_path


def test_vric(vric: Path) -> None:
    listing = read_vric(DataFolders(vric), "gallery")
    assert rows(listing) == [("g1.jpg", "2_0", "2", "0"), ("g2.jpg", "2_1", "2", "1")]
    assert listing.image_root == (vric / "gallery_images").resolve()
    (warning,) = listing.warnings
    assert "no list of tracks" in warning
    assert rows(read_vric(DataFolders(vric), "query")) == [("p.jpg", "1_0", "1", "0")]
    assert rows(read_vric(DataFolders(vric), "train")) == [("t.jpg", "1_0", "1", "0")]


def test_vric_that_does_not_fit(vric: Path) -> None:
    (vric / "gallery_images" / "g2.jpg").unlink()
    assert any("g2.jpg" in warning for warning in read_vric(DataFolders(vric), "gallery").warnings)
    write(vric / "vric_gallery.txt", "g1.jpg 2")
    assert "line 1: expected 'image vehicle camera'" in refusal(read_vric, DataFolders(vric), "gallery").message
    (vric / "vric_probe.txt").unlink()
    assert "there is no list" in refusal(read_vric, DataFolders(vric), "query").message


# -- AI City ------------------------------------------------------------------------------------------------

XML = """<?xml version="1.0" encoding="gb2312"?>
<TrainingImages Version="1.0">
  <Items number="1"><!-- 车 -->
    <Item imageName="000001.jpg" vehicleID="0001" cameraID="c001" />
    <Item imageName="000002.jpg" vehicleID="0001" cameraID="" />
  </Items>
</TrainingImages>
"""


@pytest.fixture
def aicity(tmp_path: Path) -> Path:
    touch(tmp_path, *(f"image_query/{number:06d}.jpg" for number in (1, 2)))
    touch(tmp_path, *(f"image_test/{number:06d}.jpg" for number in (1, 2, 3, 4)))
    touch(tmp_path, *(f"image_train/{number:06d}.jpg" for number in (1, 2, 3)))
    write(tmp_path / "test_track.txt", "000003.jpg 000001.jpg", "000002.jpg")
    write(tmp_path / "train_track.txt", "000001.jpg 000002.jpg", "000003.jpg")
    (tmp_path / "train_label.xml").write_bytes(XML.encode("gb2312"))
    return tmp_path


def test_aicity(aicity: Path) -> None:
    listing = read_aicity(DataFolders(aicity), "gallery")
    assert listing.image_root == (aicity / "image_test").resolve()
    assert rows(listing) == [
        ("000004.jpg", "000004", None, None),
        ("000001.jpg", "track00001", None, None),
        ("000003.jpg", "track00001", None, None),
        ("000002.jpg", "track00002", None, None),
    ]
    assert listing.warnings == ("1 images are in no listed track, each a track of its own: 000004.jpg",)
    query = read_aicity(DataFolders(aicity), "query")
    assert (rows(query), query.warnings) == (
        [("000001.jpg", "000001", None, None), ("000002.jpg", "000002", None, None)],
        (),
    )


def test_aicity_train(aicity: Path) -> None:
    listing = read_aicity(DataFolders(aicity), "train")
    assert rows(listing) == [
        ("000003.jpg", "track00002", None, None),
        ("000002.jpg", "track00001", "0001", None),
        ("000001.jpg", "track00001", "0001", "c001"),
    ]
    assert listing.warnings == ("train_label.xml does not name 1 images, unlabelled: 000003.jpg",)
    (aicity / "train_label.xml").unlink()
    assert "no train_label.xml" in read_aicity(DataFolders(aicity), "train").warnings[0]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (XML.replace("</Items>", "").encode("gb2312"), "is not valid XML"),
        (XML.replace("gb2312", "ascii").encode("gb2312"), "is not valid XML"),
        (XML.replace("gb2312", "klingon").encode("utf-8"), "an encoding that is not known: klingon"),
        (b"", "is not valid XML"),
        (b"<TrainingImages/>", "holds no items"),
        (b'<Items><Item vehicleID="1"/></Items>', "item 1 has no imageName"),
    ],
)
def test_aicity_labels_that_are_none(aicity: Path, content: bytes, told: str) -> None:
    (aicity / "train_label.xml").write_bytes(content)
    error = refusal(read_aicity, DataFolders(aicity), "train")
    assert told in error.message
    assert error.file == str(aicity / "train_label.xml")


def test_aicity_labels_without_a_declaration(aicity: Path) -> None:
    (aicity / "train_label.xml").write_bytes(XML.partition("\n")[2].encode())
    assert [row[2] for row in rows(read_aicity(DataFolders(aicity), "train"))] == [None, "0001", "0001"]


def test_aicity_lists_that_do_not_fit(aicity: Path) -> None:
    write(aicity / "test_track.txt", "000001.jpg 000002.jpg", "", "000002.jpg 000077.jpg", "000003.jpg 000004.jpg")
    write(aicity / "name_test.txt", "000001.jpg", "000002.jpg", "000003.jpg")
    listing = read_aicity(DataFolders(aicity), "gallery")
    # The number is that of the line, blank ones counted, so that it can be found in an editor.
    assert [row[1] for row in rows(listing)] == ["track00001", "track00001", "track00004"]
    assert listing.warnings == (
        "1 images in image_test are not in name_test.txt, left out: 000004.jpg",
        "2 images in test_track.txt are no images of the split: 000004.jpg, 000077.jpg",
        "test_track.txt puts 1 images into two tracks, the first counts: 000002.jpg",
    )
    write(aicity / "test_track.txt", "1 2", "3")
    assert "names no image of the split" in refusal(read_aicity, DataFolders(aicity), "gallery").message
    (aicity / "test_track.txt").unlink()
    listing = read_aicity(DataFolders(aicity), "gallery")
    assert [row[1] for row in rows(listing)] == ["000001", "000002", "000003"]
    assert any("no test_track.txt" in warning for warning in listing.warnings)


# -- boxes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "text"),
    [
        ((1, 2, 30, 40), "1,2,30,40"),
        ((1.0, -2.0, 30.5, 40.25), "1,-2,30.5,40.25"),
        ((0.1 + 0.2, 1e-7, 1e16, 123456.789), "0.30000000000000004,0.0000001,10000000000000000,123456.789"),
    ],
)
def test_a_box_in_an_image_id_reads_back_as_it_was(box: Box, text: str) -> None:
    name = name_crop("frames/1.jpg", box)
    assert name == f"frames/1.jpg#xywh={text}"
    assert parse_crop(name) == ("frames/1.jpg", box)
    assert locate_image(Path("root"), name) == Crop(Path("root/frames/1.jpg"), box)
    assert str(locate_image(Path("root"), name)) == f"{Path('root/frames/1.jpg')}#xywh={text}"


@pytest.mark.parametrize("name", ["a.jpg", "a#1.jpg", "a.jpg#xywh=1,2,3", "#xywh=1,2,3,4", "a#xywh=1,2,3,4.jpg"])
def test_other_image_ids_are_whole_images(name: str) -> None:
    assert parse_crop(name) == (name, None)
    assert locate_image(Path("root"), name) == Path("root") / name


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((2, 3, 4, 5), (2, 3, 6, 8)),
        ((2.9, 3.1, 4.0, 5.0), (2, 3, 7, 9)),  # outward: every pixel that it touches
        ((-5, -5, 8, 8), (0, 0, 3, 3)),
        ((15, 5, 100, 100), (15, 5, 20, 10)),
        ((-9, -9, 99, 99), (0, 0, 20, 10)),
        ((19.5, 0, 0.1, 10), (19, 0, 20, 10)),
        ((20, 0, 5, 5), None),
        ((0, -5, 5, 5), None),
    ],
)
def test_the_pixels_of_a_box(box: Box, pixels: tuple[int, int, int, int] | None) -> None:
    assert pixels_of(box, (20, 10)) == pixels


def make_frame(path: Path, size: tuple[int, int] = (20, 10)) -> np.ndarray:
    width, height = size
    pixels = np.random.default_rng(5).integers(0, 256, (height, width, 3)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def test_decoding_a_part_of_a_frame(tmp_path: Path) -> None:
    frame = make_frame(tmp_path / "f.png")
    crop = np.asarray(decode_rgb(tmp_path / "f.png", max_pixels=200, box=(2.5, 3, 4, 50)))
    np.testing.assert_array_equal(crop, frame[3:10, 2:7])
    with pytest.raises(BadImageError, match=r"the box #xywh=20,0,5,5 lies outside the frame of 20 x 10"):
        decode_rgb(tmp_path / "f.png", max_pixels=200, box=(20, 0, 5, 5))
    with pytest.raises(BadImageError, match="more than the limit of 199"):  # the frame is what fills the memory
        decode_rgb(tmp_path / "f.png", max_pixels=199, box=(0, 0, 1, 1))


def test_the_shape_that_counts_is_that_of_the_crop(tmp_path: Path) -> None:
    frame = make_frame(tmp_path / "f.png", (102, 2))
    with pytest.raises(BadImageError, match="over 50 times"):
        decode_rgb(tmp_path / "f.png", max_pixels=10**6)
    crop = decode_rgb(tmp_path / "f.png", max_pixels=10**6, box=(10, 0, 4, 2))
    np.testing.assert_array_equal(np.asarray(crop), frame[:, 10:14])
    with pytest.raises(BadImageError, match="over 50 times"):
        decode_rgb(tmp_path / "f.png", max_pixels=10**6, box=(0, 0, 102, 2))


# -- csv ----------------------------------------------------------------------------------------------------


def manifest(folder: Path, *lines: str) -> DataFolders:
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return DataFolders(folder)


def test_a_manifest(tmp_path: Path) -> None:
    folders = manifest(
        tmp_path,
        "path,split,track,vehicle,camera,frame,x,y,w,h",
        "./frames/1.jpg,gallery,t7,v1,c1,12,10,20,30.0,40.5",
        "frames//1.jpg,Test,t8,,,,0,0,5,5",
        "crops/a.jpg,query",
        ",,,,,,,,,",
        "b.jpg,train,,,c9,3,,,,",
        "c.jpg,,,,,,,,,",
    )
    listing = read_manifest(folders, "gallery")
    assert (listing.warnings, listing.image_root) == ((), tmp_path.resolve())
    lone, other, boxed = listing.records
    assert (boxed.image_id, boxed.box, boxed.frame) == ("frames/1.jpg#xywh=10,20,30,40.5", (10, 20, 30, 40.5), 12)
    assert boxed.path == tmp_path / "frames/1.jpg"
    # An empty cell is absent; a row without a track is one of its own.
    assert rows(listing) == [
        ("c.jpg", "c.jpg", None, None),
        ("frames/1.jpg#xywh=0,0,5,5", "t8", None, None),
        ("frames/1.jpg#xywh=10,20,30,40.5", "t7", "v1", "c1"),
    ]
    assert (lone.box, lone.frame, other.frame) == (None, None, None)
    assert rows(read_manifest(folders, "query")) == [("crops/a.jpg", "crops/a.jpg", None, None)]
    assert rows(read_manifest(folders, "train")) == [("b.jpg", "b.jpg", None, "c9")]


def test_the_manifest_may_be_named_and_have_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes('\ufeffpath, vehicle\r\n"a,b.jpg",0001\r\n'.encode())
    assert rows(read_manifest(DataFolders(path), "gallery")) == [("a,b.jpg", "a,b.jpg", "0001", None)]
    assert "manifest.csv" in refusal(read_manifest, DataFolders(tmp_path), "gallery").message


def test_paths_outside_the_folder_of_the_manifest(tmp_path: Path) -> None:
    inside, outside = tmp_path / "data" / "b.jpg", tmp_path / "c.jpg"
    inside.parent.mkdir()
    folders = manifest(inside.parent, "path", "x/../../a.jpg", str(inside), str(outside))
    listing = read_manifest(folders, "gallery")
    # The same file has one name, however it was given.
    assert {row[0] for row in rows(listing)} == {"../a.jpg", "b.jpg", outside.as_posix()}
    places = {locate_image(listing.image_root, row[0]) for row in rows(listing)}
    assert {Path(place).resolve() for place in places if isinstance(place, Path)} == {
        (tmp_path / "a.jpg").resolve(),
        inside.resolve(),
        outside.resolve(),
    }


def test_without_a_column_split_all_is_gallery(tmp_path: Path) -> None:
    folders = manifest(tmp_path, "path,track", "a.jpg,1", "b.jpg,1")
    assert [row[:2] for row in rows(read_manifest(folders, "gallery"))] == [("a.jpg", "1"), ("b.jpg", "1")]
    error = refusal(read_manifest, folders, "query")
    assert "has no column 'split'" in error.message
    assert "add the column" in (error.hint or "")


def test_unknown_columns_and_repeated_rows_are_one_warning_each(tmp_path: Path) -> None:
    folders = manifest(tmp_path, "path,score,colour,track", "a.jpg,1,red,t", "a.jpg,2,red,t", "./a.jpg,3,,t")
    listing = read_manifest(folders, "gallery")
    assert len(listing.records) == 1
    unknown, repeated = listing.warnings
    assert "unknown columns, ignored: score, colour" in unknown
    assert repeated == "manifest.csv: 2 rows repeat an earlier one and count once: line 3, line 4"


BOXED = "path,split,frame,x,y,w,h"
BAD_LINES: Mapping[str, tuple[str, str]] = {
    "no path": (",gallery,,,,,", "has no path"),
    "split": ("a.jpg,validation,,,,,", "split 'validation' is none of query, gallery, test, train"),
    "number": ("a.jpg,,,1,2,three,4", "w 'three' is no number"),
    "infinite": ("a.jpg,,,1,inf,3,4", "y 'inf' is no number"),
    "frame": ("a.jpg,,1.5,,,,", "frame '1.5' is no whole number"),
    "long frame": ("a.jpg,,9999999999999999999,,,,", "is no whole number"),
    "half a box": ("a.jpg,,,1,2,,", "half a box: x, y without w, h"),
    "no width": ("a.jpg,,,1,2,0,4", "an empty box: w 0, h 4"),
    "negative": ("a.jpg,,,1,2,3,-4", "an empty box: w 3, h -4"),
    "cells": ("a.jpg,,,1,2,3,4,5", "8 cells, but 7 columns"),
    "box in the path": ('"a.jpg#xywh=1,2,3,4",,,,,,', "ends in a box"),
}


@pytest.mark.parametrize(("line", "told"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_row_that_cannot_be_used(tmp_path: Path, line: str, told: str) -> None:
    error = refusal(read_manifest, manifest(tmp_path, BOXED, "ok.jpg,,,,,,", "", line), "gallery")
    assert isinstance(error, DataError)
    assert f"{tmp_path / 'manifest.csv'}, line 4: " in error.message
    assert told in error.message
    assert error.file == str(tmp_path / "manifest.csv")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["image,track", "a.jpg,1"], "has no column 'path': its first line is 'image, track'"),
        (["path;track", "a.jpg;1"], "its first line is 'path;track'"),
        ([], "has no column 'path'"),
        (["path,track,track", "a.jpg,1,2"], "has two columns 'track'"),
        (["path,track", "a.jpg,1", "a.jpg,2"], "line 3: a.jpg is in line 2 already, with other labels"),
        (["path,split", "a.jpg,query"], "has no rows of the split gallery"),
    ],
)
def test_a_manifest_that_cannot_be_used(tmp_path: Path, lines: Iterable[str], told: str) -> None:
    assert told in refusal(read_manifest, manifest(tmp_path, *lines), "gallery").message


def test_a_manifest_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_bytes(b"path\n\xff\xfe.jpg\n")
    assert "is not UTF-8" in refusal(read_manifest, DataFolders(tmp_path), "gallery").message
    (tmp_path / "manifest.csv").write_bytes(b"path\n" + b"a" * 200_000 + b"\n")
    assert "line 2: no valid CSV" in refusal(read_manifest, DataFolders(tmp_path), "gallery").message
