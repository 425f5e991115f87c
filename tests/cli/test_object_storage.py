"""Data, run folders and outputs in an object store: the same files and results as on this machine."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from stores import contents, put_folder
from tiny import EXTRACT, Vreid, draw

from vreid_cli.config import SECTIONS
from vreid_cli.errors import StoreError
from vreid_cli.runtime.objects import as_path
from vreid_cli.store.features import FeatureStore

RUN = "memory://bucket/runs/cars"
SECRET = "s3://AKIAEXAMPLE:very/secret@bucket/cars"


@pytest.fixture
def bucket() -> Iterator[str]:
    """An empty store."""
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    yield "memory://bucket"
    MemoryFileSystem.store.clear()


@pytest.fixture
def data(bucket: str, made: Path) -> str:
    return put_folder(made / "data", f"{bucket}/data")


@pytest.fixture
def extracted(vreid: Vreid, data: str, weights: Path) -> str:
    vreid(*EXTRACT, "--data-dir", data, "--weights", weights, "--run-dir", RUN, "--set", "extract.part_images=4")
    return RUN


def test_a_run_in_a_store_holds_what_a_run_here_holds(vreid: Vreid, data: str, weights: Path, made: Path) -> None:
    vreid(*EXTRACT, "--data-dir", data, "--weights", weights, "--run-dir", RUN)
    assert "no locks" in vreid.err
    there, here = contents(RUN), made / "runs/tracks-resnet18-tiny"
    names = {file.relative_to(here).as_posix() for file in here.rglob("*") if file.is_file()}
    assert set(there) == names - {".lock"}
    for name in (f"features/{split}/part-00000.arrow" for split in ("query", "gallery")):
        assert there[name] == (here / name).read_bytes()
    assert json.loads(there["run.json"])["data_dir"] == data
    assert Path("runs/latest").read_text() == f"{RUN}\n"


def test_every_command_works_on_it_and_gives_the_same(vreid: Vreid, ready: Path, extracted: str) -> None:
    for run in (RUN, str(ready)):
        vreid("rank", "--run-dir", run, "--metric", "meanMCD50")
    scores = [vreid.json("evaluate", "--run-dir", run)["results"][0] for run in (RUN, str(ready))]
    assert [one.pop("ranking") for one in scores] == [
        f"{RUN}/rankings/t2t-meanMCD50.parquet",
        f"{ready}/rankings/t2t-meanMCD50.parquet",
    ]
    assert scores[0]["mAP"] == scores[1]["mAP"]
    shown = [vreid("show", "--run-dir", run) for run in (RUN, str(ready))]
    assert shown[0] == shown[1]
    vreid("show", "--run-dir", RUN, "--output", "memory://bucket/out/cars.html", "--assets")
    vreid("show", "--run-dir", RUN, "--output", "memory://bucket/out/cars.png")
    vreid("export", "features", "--run-dir", RUN, "--format", "npz")
    vreid(
        "rank",
        "--query-features",
        f"{RUN}/exports/feat_query.npz",
        "--gallery-features",
        f"{RUN}/features/gallery",
        "--output",
        "memory://bucket/out/cars.json",
    )
    vreid("evaluate", "memory://bucket/out/cars.json", "--per-query", "memory://bucket/out/queries.csv")
    told = vreid("info", RUN, "--verify")
    assert "complete" in told
    assert {"cars.html", "cars_files/00000.webp", "cars.png", "cars.json", "queries.csv"} <= set(
        contents("memory://bucket/out")
    )
    history = [json.loads(line) for line in contents(RUN)["history.jsonl"].splitlines()]
    assert len(history) == 7


def test_an_extraction_goes_on_where_it_stopped(vreid: Vreid, extracted: str, data: str, weights: Path) -> None:
    again = (*EXTRACT, "--data-dir", data, "--weights", weights, "--run-dir", RUN, "--set", "extract.part_images=4")
    whole = contents(RUN)
    vreid(*again)
    assert "nothing to compute" in vreid.out
    unchanged = contents(RUN)
    assert {name for name in whole if whole[name] != unchanged[name]} == {"history.jsonl"}
    for name in ("features/gallery/complete.json", "features/gallery/part-00001.arrow"):
        as_path(f"{RUN}/{name}").unlink()
    assert "not complete" in vreid.error("rank", "--run-dir", RUN)["message"]
    vreid(*again)
    assert "query: 10 images in 4 tracks, nothing to compute" in vreid.out
    rows = FeatureStore(as_path(f"{RUN}/features/gallery")).read_part(1)
    assert f"gallery: 15 images in 7 tracks, {len(rows)} computed now" in vreid.out
    assert contents(RUN)["features/gallery/part-00001.arrow"] == whole["features/gallery/part-00001.arrow"]


def test_a_changed_image_is_computed_again_and_no_other(
    vreid: Vreid, extracted: str, data: str, weights: Path, tmp_path: Path
) -> None:
    image = as_path(f"{data}/query/0001_c001/0.png")
    other = draw(tmp_path / "other.png", hue=9, seed=9)
    image.upload(other)  # type: ignore[attr-defined]
    vreid(*EXTRACT, "--data-dir", data, "--weights", weights, "--run-dir", RUN, "--set", "extract.part_images=4")
    parts = FeatureStore(as_path(f"{RUN}/features/query"))
    assert f"query: 10 images in 4 tracks, {len(parts.read_part(0))} computed now" in vreid.out
    assert "gallery: 15 images in 7 tracks, nothing to compute" in vreid.out


def test_a_manifest_may_lie_in_a_store_or_name_images_there(
    vreid: Vreid, bucket: str, data: str, weights: Path
) -> None:
    rows = [("query", "0001_c001", "0001", "c001"), ("gallery", "0001_c002", "0001", "c002")]
    for start, folder in (("data/", as_path(bucket)), (f"{data}/", Path())):
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(["path", "split", "track", "vehicle", "camera"])
        table.writerows([f"{start}{row[0]}/{row[1]}/0.png", *row] for row in rows)
        with as_path("manifest.csv").open("w") as file:
            file.write(text.getvalue())
        if folder != Path():
            (folder / "manifest.csv").upload(Path("manifest.csv"))  # type: ignore[attr-defined]
        manifest, run = folder / "manifest.csv", f"{bucket}/runs/{len(start)}"
        vreid(
            "extract",
            "--dataset",
            "csv",
            "--arch",
            "resnet18",
            "--weights",
            weights,
            "--data-dir",
            str(manifest),
            "--run-dir",
            run,
        )
        assert "query: 1 image in 1 track, 1 computed now" in vreid.out
        vreid("rank", "--run-dir", run)
        vreid("show", "--run-dir", run, "--output", f"{bucket}/{len(start)}.html")
        assert "cannot be read" not in vreid.err


def test_each_image_is_read_twice_in_the_first_run_and_not_in_the_next(
    vreid: Vreid, data: str, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: Counter[str] = Counter()
    for name in ("cat_file", "info"):
        own = getattr(MemoryFileSystem, name)

        def count(store: MemoryFileSystem, path: str, *args: Any, own: Any = own, name: str = name, **more: Any) -> Any:
            asked[name] += path.endswith(".png")
            return own(store, path, *args, **more)

        monkeypatch.setattr(MemoryFileSystem, name, count)
    for reads in (2 * 25, 0):
        vreid(*EXTRACT, "--data-dir", data, "--weights", weights, "--run-dir", RUN)
        assert asked == {"cat_file": reads, "info": 0}
        asked.clear()
        asked.update({"cat_file": 0, "info": 0})


def test_bad_images_are_named_and_skipped(vreid: Vreid, data: str, weights: Path, tmp_path: Path) -> None:
    whole = as_path(f"{data}/query/0001_c001/0.png").read_bytes()
    for name, content in (("0", whole[: len(whole) // 2]), ("1", b""), ("2", b"no image")):
        (tmp_path / "bad").write_bytes(content)
        as_path(f"{data}/query/0001_c001/{name}.png").upload(tmp_path / "bad")  # type: ignore[attr-defined]
    told = vreid.json(*EXTRACT, "--data-dir", data, "--weights", weights, "--run-dir", RUN)
    reasons = {entry["image_id"]: entry["reason"] for entry in told["skipped"]}
    assert set(reasons) == {f"0001_c001/{name}.png" for name in "012"}
    assert reasons["0001_c001/1.png"] == "the file is empty"


def test_features_that_are_written_while_they_are_read_are_refused(
    extracted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_part = FeatureStore.read_part

    def read_and_lose(store: FeatureStore, part: int) -> object:
        found = read_part(store, part)
        store.complete_path.unlink()
        return found

    monkeypatch.setattr(FeatureStore, "read_part", read_and_lose)
    with pytest.raises(StoreError, match="were written to while they were read") as caught:
        FeatureStore(as_path(f"{RUN}/features/gallery")).read()
    assert "finished" in str(caught.value.hint)


def test_a_part_cut_short_is_named(vreid: Vreid, extracted: str, tmp_path: Path) -> None:
    part = as_path(f"{RUN}/features/gallery/part-00000.arrow")
    (tmp_path / "short").write_bytes(part.read_bytes()[:-100])
    part.upload(tmp_path / "short")  # type: ignore[attr-defined]
    error = vreid.error("rank", "--run-dir", RUN)
    assert str(part) in error["message"]
    assert "damaged" in error["message"]
    assert error["file"] == str(part)


@pytest.mark.parametrize(
    "form", ["--data-dir {}", "--data-dir={}", "--set data.data_dir={}", "--run-dir {}", "QUERY{}"]
)
def test_credentials_in_an_address_are_refused_and_never_shown(vreid: Vreid, form: str) -> None:
    for more in ((), ("--show-config",)):
        error = vreid.error("show", *form.format(SECRET).split(), *more, code=2)
        assert "credentials" in error["message"]
        for text in (vreid.out, vreid.err):
            assert "secret" not in text
            assert "AKIA" not in text


def test_credentials_in_a_file_of_settings_are_refused_and_never_shown(vreid: Vreid, tmp_path: Path) -> None:
    (tmp_path / "vreid.toml").write_text(f'[data]\ndata_dir = "{SECRET}"\n')
    assert "credentials" in vreid.error("extract", "--show-config", code=2)["message"]
    assert "secret" not in vreid.out + vreid.err


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://", "names no bucket"),
        ("ftp://host/data", "no access to addresses of ftp://"),
        ("file://host/data", "names another machine"),
    ],
)
def test_an_address_that_means_nothing_is_named(vreid: Vreid, address: str, said: str) -> None:
    assert said in vreid.error("extract", "--data-dir", address, code=2)["message"]


def test_a_file_address_is_a_path(vreid: Vreid, made: Path, weights: Path) -> None:
    vreid(*EXTRACT, "--data-dir", f"file://{made}/data", "--weights", weights, "--run-dir", "run")
    assert json.loads(Path("run/run.json").read_text())["data_dir"] == f"{made}/data"


@pytest.mark.parametrize(("scheme", "package", "extra"), [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs")])
def test_a_missing_package_is_named_with_its_extra(
    vreid: Vreid, monkeypatch: pytest.MonkeyPatch, scheme: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    error = vreid.error(*EXTRACT, "--data-dir", f"{scheme}://bucket/cars", "--weights", "small")
    assert error["message"] == f"{scheme}:// needs {package}, which is not installed"
    assert f'pip install "vreid[{extra}]"' in error["hint"]


@pytest.mark.parametrize(
    "command",
    [
        ["train", "--run-dir", RUN],
        ["train", "--resume", RUN],
        ["demo", "--run-dir", RUN],
        ["extract", "--data-dir", ".", "--weights", f"{RUN}/best.safetensors"],
        ["extract", "--data-dir", ".", "--set", f"model.cache_dir={RUN}"],
    ],
)
def test_what_has_to_lie_here_is_said(vreid: Vreid, command: list[str]) -> None:
    error = vreid.error(*command, code=2)
    assert RUN in error["message"]
    assert "this machine" in error["message"]


def test_every_setting_that_takes_a_path_says_what_it_makes_of_an_address() -> None:
    plain = [
        f"{section}.{key}"
        for section, options in SECTIONS.items()
        for key, field in options.model_fields.items()
        if "Path" in str(field.annotation) and "Validator" not in str(field.annotation) + str(field.metadata)
    ]
    assert plain == []
