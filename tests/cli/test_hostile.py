"""Input that means harm: nothing is written or read where it should not be, computed, run, or unpacked without end."""

from __future__ import annotations

import bz2
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from faults import IMAGE, contents, make_world, renew
from onnx import TensorProto, helper
from tiny import Vreid

from vreid_cli.data.layouts import LAYOUTS
from vreid_cli.data.listing import DataFolders
from vreid_cli.errors import DataError, WeightsError
from vreid_cli.models.inputs import InputOptions
from vreid_cli.models.onnx_file import read_onnx
from vreid_cli.store.formats import read_features
from vreid_cli.store.identities import read_identities

FORMULA = "=HYPERLINK(0)"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_world(folder)
    return folder


@pytest.fixture
def world(made: Path, tmp_path: Path, vreid: Vreid, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "inner" / "world"
    folder.mkdir(parents=True)
    renew(folder, made)
    monkeypatch.chdir(folder)
    return folder


# -- paths ----------------------------------------------------------------------------------------------------

LISTS = {
    "veri": ("veri/name_test.txt", "{} \r\n"),
    "vric": ("vric/vric_gallery.txt", "{} 12 3\n"),
    "vehicleid": ("vehicleid/train_test_split/test_list_800.txt", "{} 7\n"),
}


@pytest.mark.parametrize("dataset", LISTS)
@pytest.mark.parametrize("name", ["../../data/secret.jpg", "/data/secret.jpg", "a/../../../secret.jpg"])
def test_a_list_cannot_name_images_outside_the_data_folder(world: Path, dataset: str, name: str):
    file, line = LISTS[dataset]
    path = Path(file)
    path.write_text(path.read_text() + line.format(name))
    listing = LAYOUTS[dataset].read(DataFolders(Path(file.split("/")[0])), "gallery")
    assert not any("secret" in record.image_id for record in listing.records)
    assert any("secret" in warning for warning in listing.warnings)


def test_crops_and_names_of_tracks_stay_in_the_folder(vreid: Vreid, world: Path):
    Path("cars.csv").write_text(f"path,track\n{IMAGE},../../../escaped\n{IMAGE.replace('20_0', '10_0')},/abs\n")
    vreid(
        "extract", "--dataset", "csv", "--data-dir", "cars.csv", "--split", "gallery", "--run-dir", "runs/new",
        "--save-crops", "crops",
    )  # fmt: skip
    assert sorted(path.parent.name for path in world.parent.parent.rglob("*.png") if "crops" in path.parts) == [
        ".._.._.._escaped",
        "_abs",
    ]
    assert {path.name for path in world.parent.iterdir()} == {"world"}


# -- names ----------------------------------------------------------------------------------------------------


def test_a_spreadsheet_computes_no_name(vreid: Vreid, world: Path):
    for name, content in (("cars.csv", f'path,split,track,vehicle,camera\n{IMAGE},gallery,"{FORMULA}",+1,@c\n'),):
        rows = "".join(f"data/query/{v:04d}_c001/{v:04d}_c001_00000010_0.png,query,q{v},+{v},-c\n" for v in range(1, 9))
        Path(name).write_text(content + rows + "nowhere.png,gallery,=2,,\n")
    run = ("--run-dir", "runs/new")
    vreid("extract", "--dataset", "csv", "--data-dir", "cars.csv", *run)
    vreid("rank", *run)
    vreid("evaluate", *run, "--per-query", "scores.csv")
    vreid("associate", *run, "--threshold", "0.5")
    tables = [*Path("runs/new").rglob("*.csv"), Path("scores.csv")]
    assert len(tables) >= 5
    for path in tables:
        for line in path.read_text().splitlines():
            cells = [cell.strip('"') for cell in line.split(",")]
            assert not any(cell[:1] in tuple("=+@") for cell in cells), (path, line)
            assert not any(cell.startswith("-c") for cell in cells), (path, line)
    found = read_identities(Path("runs/new/identities/meanMCD50.csv"))
    assert {FORMULA, "q1"} <= set(found.tracks.ids)
    assert {"+1", "+8"} <= set(found.tracks.vehicles)


# -- files that unpack or run -----------------------------------------------------------------------------------


def test_archives_that_unpack_without_end_are_refused(world: Path, monkeypatch: pytest.MonkeyPatch):
    with zipfile.ZipFile("bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("features.npy", bytes(1 << 20))
    with pytest.raises(DataError, match="'features' is no array of NumPy"):
        read_features("bomb.npz")
    monkeypatch.setattr("vreid_cli.store.npz._MOST_UNPACKED", 1 << 16)
    with pytest.raises(DataError, match="unpacks to 1,048,576 bytes"):
        read_features("bomb.npz")
    monkeypatch.setattr("vreid_cli.data.trackers._MOST_UNPACKED", 1 << 16)
    Path("scene/c1/mtsc/sort.txt").unlink()
    Path("scene/c1/c1.ottrk").write_bytes(bz2.compress(b'{"data": ' + b" " * (1 << 20)))
    with pytest.raises(DataError, match="unpacks to more than"):
        LAYOUTS["mot"].read(DataFolders(Path("scene")), "gallery")


@pytest.mark.parametrize(
    "declared",
    [
        '<!DOCTYPE x [<!ENTITY a "b"><!ENTITY c "&a;&a;&a;&a;">]>',
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
    ],
)
def test_label_files_with_entities_are_refused(world: Path, declared: str):
    path = Path("aicity/train_label.xml")
    path.write_text(declared + path.read_text())
    with pytest.raises(DataError, match="declares a document type or entities"):
        LAYOUTS["aicity"].read(DataFolders(Path("aicity")), "train")


def outside(name: str) -> TensorProto:
    """A tensor whose numbers are another file's."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret.bin")
    return tensor


def test_an_onnx_file_takes_no_tensor_from_elsewhere(world: Path):
    Path("../secret.bin").write_bytes(bytes(4))
    original = onnx.load("net.onnx")
    for hide in ("initializer", "sparse", "node", "function"):
        model = onnx.ModelProto()
        model.CopyFrom(original)
        if hide == "initializer":
            model.graph.initializer.append(outside("x"))
        elif hide == "sparse":
            model.graph.sparse_initializer.add().values.CopyFrom(outside("x"))
        elif hide == "node":
            model.graph.node.insert(0, helper.make_node("Constant", [], ["x"], value=outside("x")))
        else:
            model.functions.add(name="f", domain="d").node.append(
                helper.make_node("Constant", [], ["x"], value=outside("x"))
            )
        onnx.save(model, "hostile.onnx")
        with pytest.raises(WeightsError, match="takes tensors from outside its folder"):
            read_onnx(Path("hostile.onnx"), weights="theirs", options=InputOptions(preset="openvino"))


def test_settings_nested_without_end_are_refused(vreid: Vreid, world: Path):
    Path("vreid.toml").write_text("[rank]\nmetric = " + "[" * 50_000)
    assert vreid.error("rank")["file"] == "vreid.toml"
    Path("vreid.toml").unlink()
    vreid("rank", "--set", "rank.k1=" + "[" * 50_000, code=2)
    Path("clocks.toml").write_text("a = " + "[" * 50_000)
    assert vreid.error("associate", "--threshold", "1", "--force", "--clocks", "clocks.toml")["file"] == "clocks.toml"


def test_pages_show_names_and_run_none(vreid: Vreid, world: Path):
    hostile = "<img src=x onerror=alert(1)><script>alert(2)<"
    Path("data/gallery/0001_c002").rename(f"data/gallery/{hostile}")
    vreid("extract", "--dataset", "tracks", "--data-dir", "data", "--run-dir", "runs/new")
    vreid("rank")
    vreid("show", "0001_c001", "-o", "page.html")
    page = Path("page.html").read_text()
    assert "onerror=alert(1)" in page
    assert "<img src=x" not in page
    assert "<script>alert(2)" not in page


def test_what_is_refused_leaves_no_trace(vreid: Vreid, world: Path):
    before = contents(world)
    np.savez("objects.npz", features=np.array([[object()]]))
    vreid("rank", "--query-features", "objects.npz", "--gallery-features", "feat_test.npz", "-o", "r.json", code=1)
    Path("objects.npz").unlink()
    assert contents(world) == before
