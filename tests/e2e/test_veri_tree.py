"""A tiny VeRi tree, and folders of tracks, through every command; what is counted equals a count by hand."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tiny import Vreid, draw, draw_tracks, read_grid, save_weights

from vreid_cli.models.backbones import BACKBONES
from vreid_cli.ranking.metrics import known_metrics

#: Passages of a vehicle before a camera, and how many images each has. 0003 is seen by one camera only, twice;
#: 0004 is seen once; the others are seen by several cameras, 0001 by one of them twice.
PASSAGES = {
    "0001_c001_t0011": 3,
    "0001_c001_t0012": 2,
    "0001_c002_t0013": 2,
    "0002_c002_t0021": 1,
    "0002_c003_t0022": 4,
    "0003_c001_t0031": 2,
    "0003_c001_t0032": 1,
    "0004_c003_t0041": 1,
    "0005_c001_t0011": 2,  # the number alone names no track: 0001 has a t0011 too
    "0005_c002_t0052": 2,
    "0005_c003_t0053": 1,
}
#: Which images are looked for: passage, and place in it. Two of them lie in one passage.
QUERIES = (
    *(("0001_c001_t0011", 0), ("0001_c001_t0011", 2), ("0001_c001_t0012", 1), ("0001_c002_t0013", 0)),
    *(("0002_c002_t0021", 0), ("0003_c001_t0032", 0), ("0004_c003_t0041", 0), ("0005_c003_t0053", 0)),
)
TASKS = [("i2i", "passage"), ("i2t", "passage"), ("t2t", "passage"), ("i2t", "camera"), ("t2t", "camera")]


@dataclass(frozen=True)
class Image:
    """One image of the tree, as the lists say."""

    name: str
    vehicle: str
    camera: str
    passage: str

    def item(self, task: str, unit: str) -> str:
        """The gallery item that holds it."""
        if task == "i2i":
            return self.name
        return self.passage if unit == "passage" else f"{self.vehicle}_{self.camera}"


@dataclass(frozen=True)
class Counts:
    """What is to be counted."""

    total_queries: int
    valid_queries: int
    positives: int
    junk: int
    gallery_size: int


def all_images() -> list[Image]:
    images = []
    for start, (passage, count) in enumerate(PASSAGES.items(), start=1):
        vehicle, camera, _ = passage.split("_")
        for index in range(count):
            name = f"{vehicle}_{camera}_{1000 * start + 5 * index:08d}_{index % 2}.jpg"
            images.append(Image(name, vehicle, camera, passage))
    return images


def query_images() -> list[Image]:
    by_passage: dict[str, list[Image]] = {}
    for image in all_images():
        by_passage.setdefault(image.passage, []).append(image)
    return [by_passage[passage][place] for passage, place in QUERIES]


def count(
    queries: Sequence[tuple[Image, str | None]], gallery: Sequence[Image], *, task: str, unit: str, rule: str
) -> Counts:
    """Count pair by pair. A query is an image that stands for it, and the gallery item that is the query itself."""
    items = {image.item(task, unit): image for image in gallery}
    positives = [0] * len(queries)
    junk = 0
    for number, (query, own) in enumerate(queries):
        for name, item in items.items():
            is_self = name == own
            is_junk = rule == "drop" and (item.vehicle, item.camera) == (query.vehicle, query.camera)
            junk += is_self or is_junk
            positives[number] += item.vehicle == query.vehicle and not is_self and not is_junk
    return Counts(len(queries), sum(n > 0 for n in positives), sum(positives), junk, len(items))


def veri_queries(task: str, unit: str) -> list[tuple[Image, str | None]]:
    """The query images; in t2t the gallery tracks that hold one, each once."""
    pairs = [(image, image.item(task, unit)) for image in query_images()]
    return list({own: (image, own) for image, own in pairs}.values()) if task == "t2t" else list(pairs)


def counted(vreid: Vreid, run: str, rule: str) -> dict[tuple[str, str], Counts]:
    """What ``evaluate`` counts for each ranking of a run."""
    results = vreid.json("evaluate", "--run-dir", run, "--same-camera", rule)["results"]
    found = {}
    for result in results:
        numbers = {name: result[name] for name in Counts.__dataclass_fields__}
        assert result["same_camera"] == rule
        assert (result["mAP"] is None) == (result["valid_queries"] == 0)
        found[result["task"], result["track_unit"] or "passage"] = Counts(**numbers)
    return found


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture
def vreid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Vreid:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VREID_DATA_DIR", raising=False)
    return Vreid(capsys)


@pytest.fixture
def veri() -> Path:
    """The tree with its lists, with the release's line ends and trailing spaces."""
    root = Path("VeRi")
    images, queries = all_images(), query_images()
    for number, image in enumerate(images):
        drawn = draw(root / "image_test" / image.name, hue=int(image.vehicle), seed=number)
        if image in queries:
            (root / "image_query").mkdir(exist_ok=True)
            (root / "image_query" / image.name).write_bytes(drawn.read_bytes())
    lines = {
        "name_query.txt": [image.name for image in queries],
        "name_test.txt": [image.name for image in images],
        "test_track.txt": [
            " ".join([passage, *(p.name for p in images if p.passage == passage)]) for passage in PASSAGES
        ],
    }
    for name, content in lines.items():
        (root / name).write_bytes("".join(f"{line} \r\n" for line in content).encode())
    return root


def extract_and_rank(vreid: Vreid, *data: str | Path, weights: Path, run: str) -> None:
    report = vreid.json("extract", *data, "--arch", "resnet18", "--weights", weights, "--run-dir", run)
    assert (report["skipped"], report["warnings"]) == ([], [])
    for task, unit in TASKS:
        vreid("rank", "--run-dir", run, "--task", task, *(["--track-unit", unit] if task != "i2i" else []))


@pytest.mark.slow
def test_a_veri_tree_is_counted_as_by_hand(vreid: Vreid, veri: Path, weights: Path) -> None:
    extract_and_rank(vreid, weights=weights, run="run")  # ./VeRi is the default
    for rule in ("drop", "keep"):
        expected = {
            (task, unit): count(veri_queries(task, unit), all_images(), task=task, unit=unit, rule=rule)
            for task, unit in TASKS
        }
        assert counted(vreid, "run", rule) == expected
    # A few of these by eye, so that the count by hand is one.
    drop = counted(vreid, "run", "drop")
    assert drop["i2i", "passage"] == Counts(8, 6, 2 + 2 + 2 + 5 + 4 + 0 + 0 + 4, 5 + 5 + 5 + 2 + 1 + 3 + 1 + 1, 21)
    assert drop["t2t", "passage"] == Counts(7, 5, 1 + 1 + 2 + 1 + 0 + 0 + 2, 2 + 2 + 1 + 1 + 2 + 1 + 1, 11)
    assert drop["t2t", "camera"] == Counts(6, 4, 1 + 1 + 1 + 0 + 0 + 2, 6, 9)


@pytest.mark.slow
def test_query_tracks_of_veri_are_taken_whole_from_the_gallery(vreid: Vreid, veri: Path, weights: Path) -> None:
    extract_and_rank(vreid, weights=weights, run="run")
    rows = pq.read_table("run/rankings/t2t-meanMCD50.parquet").to_pylist()
    assert {row["query_id"] for row in rows} == {passage for passage, _ in QUERIES}
    # The track itself is listed (at no distance, since it is whole) and left out only when counting.
    own = {row["query_id"]: row["distance"] for row in rows if row["query_id"] == row["gallery_id"]}
    assert len(own) == 7
    assert max(own.values()) < 1e-5
    (result,) = vreid.json("evaluate", "run/rankings/t2t-meanMCD50.parquet")["results"]
    assert result["query_source"] == "gallery"
    nearest = vreid.json("show", "--run-dir", "run", "--top", "20", "--same-camera", "keep")["queries"]
    assert all(item["gallery_id"] != entry["query_id"] for entry in nearest for item in entry["nearest"])


def scores_by_hand(path: str, *, rule: str, ap: str) -> dict[str, float]:
    """mAP, mINP, CMC@1 and CMC@5 of a ranking, a query and a rank at a time, as the definitions read."""
    lists: dict[str, list[bool]] = {}
    for row in pq.read_table(path).to_pylist():
        hits = lists.setdefault(row["query_id"], [])
        same = row["query_vehicle"] == row["gallery_vehicle"]
        if row["query_id"] == row["gallery_id"] or (
            rule == "drop" and same and row["query_camera"] == row["gallery_camera"]
        ):
            continue
        hits.append(same)
    precisions, penalties, first, five = [], [], [], []
    for hits in (hits for hits in lists.values() if any(hits)):
        seen = [sum(hits[:rank]) / rank if rank else 1.0 for rank in range(len(hits) + 1)]
        at = [rank for rank, hit in enumerate(hits, start=1) if hit]
        gains = [seen[rank] if ap == "rectangle" else (seen[rank - 1] + seen[rank]) / 2 for rank in at]
        precisions.append(sum(gains) / len(at))
        penalties.append(len(at) / at[-1])
        first.append(at[0] == 1)
        five.append(at[0] <= 5)
    scores = {"mAP": precisions, "mINP": penalties, "1": first, "5": five}
    return {name: sum(values) / len(values) for name, values in scores.items()}


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["drop", "keep"])
def test_scores_are_those_of_the_definitions_by_hand(vreid: Vreid, veri: Path, weights: Path, rule: str) -> None:
    for number, image in enumerate(all_images()):
        draw(veri / "image_test" / image.name, hue=number % 3, seed=number)  # hard to tell apart
    vreid("extract", "--arch", "resnet18", "--weights", weights, "--run-dir", "run")
    vreid("rank", "--run-dir", "run", "--metric", "minMED", "-o", "r.parquet")
    found = {}
    for ap in ("rectangle", "trapezoid"):
        (result,) = vreid.json("evaluate", "r.parquet", "--ap", ap, "--same-camera", rule)["results"]
        assert result["ap_rule"] == ap
        found[ap] = {"mAP": result["mAP"], "mINP": result["mINP"], "1": result["cmc"]["1"], "5": result["cmc"]["5"]}
        assert found[ap] == pytest.approx(scores_by_hand("r.parquet", rule=rule, ap=ap))
    assert found["rectangle"] != found["trapezoid"]


@pytest.mark.slow
def test_lists_decide_and_contradictions_are_reported(vreid: Vreid, veri: Path, weights: Path) -> None:
    draw(veri / "image_test/0009_c001_00000005_0.jpg")
    with (veri / "name_test.txt").open("a") as file:
        file.write("0008_c001_00000005_0.jpg\r\n")
    command = ("extract", "--arch", "resnet18", "--weights", weights)
    report = vreid.json(*command)
    told = " ".join(report["warnings"])
    assert "0009_c001_00000005_0.jpg" in told
    assert "0008_c001_00000005_0.jpg" in told
    assert [entry["image_id"] for entry in report["skipped"]] == ["0008_c001_00000005_0.jpg"]


@pytest.mark.slow
def test_without_list_files_the_names_say_it_all(vreid: Vreid, veri: Path, weights: Path) -> None:
    for path in veri.glob("*.txt"):
        path.unlink()
    vreid("extract", "--arch", "resnet18", "--weights", weights, "--run-dir", "run")
    assert "passages are unknown" in vreid.err
    vreid("rank", "--run-dir", "run")
    expected = count(veri_queries("t2t", "camera"), all_images(), task="t2t", unit="camera", rule="drop")
    assert counted(vreid, "run", "drop") == {("t2t", "passage"): expected}


# -- the paper's grid -------------------------------------------------------------------------------------------


def documented_grid() -> tuple[list[str], list[list[str]], list[str]]:
    """The loop of the page on VeRi: its networks, the commands for each, and the one after it."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "veri.md").read_text(encoding="utf-8")
    found = re.search(r"^for net in ([\w ]+); do\n(.*?)^done\n(vreid evaluate .*?)$", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    networks, body, last = found.groups()
    commands = [shlex.split(re.sub(r"(&&|\|\| break)\s*$", "", line)) for line in body.splitlines()]
    return networks.split(), [command[1:] for command in commands], shlex.split(last)[1:]


@pytest.mark.slow
def test_the_documented_grid_prints_the_papers_table(vreid: Vreid, veri: Path) -> None:
    for number, image in enumerate(all_images()):
        draw(veri / "image_test" / image.name, hue=number % 3, seed=number)  # hard to tell apart
    networks, commands, last = documented_grid()
    assert set(networks) == set(BACKBONES) - {"mobilenet_v2"}  # which is not in the paper
    assert [command[0] for command in commands] == ["train", "extract", "rank", "rank"]
    # Two networks that are quick on small images, with weights where training leaves them.
    sides = {"resnet18": 32, "alexnet": 64}
    for arch, side in sides.items():
        checkpoint = Path(f"runs/paper-{arch}/checkpoints/last.safetensors")
        checkpoint.parent.mkdir(parents=True)
        save_weights(checkpoint, arch, side=side)
        for command in commands[1:]:
            vreid(*(argument.replace("$net", arch) for argument in command))
    arguments = [path for one in last for path in (sorted(map(str, Path().glob(one))) if "*" in one else [one])]
    report = vreid.json(*arguments)
    assert [result["architecture"] for result in report["results"]] == [
        arch for arch in sorted(sides) for _ in range(14)
    ]
    told = vreid(*arguments)
    assert told.index("architecture") < told.index("Image to track: metrics by networks")
    assert_grids(told, set(sides))
    # Rankings of two tasks have no queries in common, and nothing is compared that has not.
    assert all(one["difference"] is not None for one in report["comparisons"])
    assert len(report["comparisons"]) == 28 - 2


def assert_grids(told: str, networks: set[str]) -> None:
    metrics = {"i2t": ["MED", "MCD", "RSCR"], "t2t": list(known_metrics("t2t"))}
    for task, title in (("i2t", "Image to track"), ("t2t", "Track to track")):
        grid = read_grid(told, title)
        rows = [name.removesuffix(", α 1") for _, name, _ in list(grid)[:: len(networks)]]
        assert rows == metrics[task] * 3  # mAP, rank-1, rank-5
        assert {network for *_, network in grid} == networks
        for (score, metric, network), cell in grid.items():
            path = f"runs/paper-{network}/rankings/{task}-{metric.removesuffix(', α 1')}.parquet"
            expected = scores_by_hand(path, rule="drop", ap="rectangle")[score.removeprefix("rank-")]
            assert cell.removesuffix("*") == f"{100 * expected:.1f}", (task, score, metric, network)
        for place in {(score, network) for score, _, network in grid}:
            column = {metric: cell for (score, metric, network), cell in grid.items() if (score, network) == place}
            best = max(float(cell.removesuffix("*")) for cell in column.values())
            assert all(float(cell[:-1]) == best for cell in column.values() if cell.endswith("*"))
            assert any(cell.endswith("*") for cell in column.values())


# -- folders of tracks -----------------------------------------------------------------------------------------


def track_images() -> list[Image]:
    return [Image(f"{p.passage}/{p.name}", p.vehicle, p.camera, p.passage) for p in all_images()]


def draw_passages(root: Path, *, seed: int) -> Path:
    for number, image in enumerate(track_images()):
        draw(root / image.name, hue=int(image.vehicle), seed=seed + number)
    return root


def folder_queries(task: str, unit: str, *, same_files: bool) -> list[tuple[Image, str | None]]:
    """Every image, or every track, of a folder; itself in the gallery only where the files are the same."""
    pairs = [(image, image.item(task, unit)) for image in track_images()]
    if task == "t2t":
        pairs = list({own: (image, own) for image, own in pairs}.values())
    return [(image, own if same_files else None) for image, own in pairs]


@pytest.mark.slow
@pytest.mark.parametrize("same_files", [True, False], ids=["same-folder", "equal-names"])
def test_the_query_itself_is_the_same_file_and_never_an_equal_name(
    vreid: Vreid, weights: Path, same_files: bool
) -> None:
    query = draw_passages(Path("tracks"), seed=0)
    gallery = query if same_files else draw_passages(Path("others"), seed=5000)
    folders = ("--dataset", "tracks", "--query-dir", query, "--gallery-dir", gallery)
    extract_and_rank(vreid, *folders, weights=weights, run="run")
    for rule in ("drop", "keep"):
        expected = {
            (task, unit): count(
                folder_queries(task, unit, same_files=same_files), track_images(), task=task, unit=unit, rule=rule
            )
            for task, unit in TASKS
        }
        assert counted(vreid, "run", rule) == expected


@pytest.mark.slow
def test_the_same_folder_by_another_path_is_the_same_folder(vreid: Vreid, weights: Path) -> None:
    draw_passages(Path("tracks"), seed=0)
    Path("link").symlink_to("tracks")
    folders = ("--dataset", "tracks", "--query-dir", "link", "--gallery-dir", "../" + Path.cwd().name + "/tracks")
    extract_and_rank(vreid, *folders, weights=weights, run="run")
    queries = folder_queries("i2i", "passage", same_files=True)
    expected = count(queries, track_images(), task="i2i", unit="passage", rule="keep")
    assert counted(vreid, "run", "keep")["i2i", "passage"] == expected


@pytest.mark.slow
def test_without_cameras_nothing_is_junk_but_the_query_itself(vreid: Vreid, weights: Path) -> None:
    draw_passages(Path("tracks"), seed=0)
    folders = ("--dataset", "tracks", "--query-dir", "tracks", "--gallery-dir", "tracks")
    pattern = ("--label-pattern", r"^(?P<vehicle>\d{4})_")
    vreid("extract", *folders, *pattern, "--arch", "resnet18", "--weights", weights, "--run-dir", "run")
    for task in ("t2t", "i2t", "i2i"):
        vreid("rank", "--run-dir", "run", "--task", task)
    drop, keep = (counted(vreid, "run", rule) for rule in ("drop", "keep"))
    assert drop == keep
    queries = folder_queries("t2t", "passage", same_files=True)
    assert drop["t2t", "passage"] == count(queries, track_images(), task="t2t", unit="passage", rule="keep")
    assert drop["t2t", "passage"].junk == len(PASSAGES)


@pytest.mark.slow
def test_features_from_a_file_have_no_self(vreid: Vreid, weights: Path) -> None:
    draw_passages(Path("tracks"), seed=0)
    folders = ("--dataset", "tracks", "--query-dir", "tracks", "--gallery-dir", "tracks")
    vreid("extract", *folders, "--arch", "resnet18", "--weights", weights, "--run-dir", "run")
    for form in ("json", "npz"):
        vreid("export", "features", "--run-dir", "run", "-o", "out", "--format", form)
        vreid("rank", "--query-features", f"out/feat_query.{form}", "--gallery-features", f"out/feat_test.{form}",
              "-o", f"{form}.parquet")  # fmt: skip
        (result,) = vreid.json("evaluate", f"{form}.parquet", "--same-camera", "keep")["results"]
        queries = folder_queries("t2t", "passage", same_files=False)
        expected = count(queries, track_images(), task="t2t", unit="passage", rule="keep")
        assert {name: result[name] for name in Counts.__dataclass_fields__} == vars(expected)


@pytest.mark.slow
def test_tracks_of_other_vehicles_alone_leave_no_valid_query(vreid: Vreid, weights: Path) -> None:
    draw_tracks(Path("data"), {"query/0001_c001": 2, "gallery/0002_c002": 2})
    vreid("extract", "--dataset", "tracks", "--data-dir", "data", "--arch", "resnet18", "--weights", weights)
    vreid("rank")
    (result,) = vreid.json("evaluate")["results"]
    assert (result["valid_queries"], result["total_queries"], result["mAP"], result["cmc"]["1"]) == (0, 1, None, None)
    assert "check that both sides are labelled alike" in vreid.err


# -- the data set's own ground truth ---------------------------------------------------------------------------


def write_index_files(root: Path, *, names: tuple[str, str] = ("gt_index.txt", "jk_index.txt")) -> None:
    """1-based positions in name_test.txt, row by row of name_query.txt, with the release's line ends."""
    gallery = [line.split()[0] for line in (root / "name_test.txt").read_text().splitlines()]
    images = {image.name: image for image in all_images()}
    for path, junk in zip(names, (False, True), strict=True):
        rows = []
        for query in query_images():
            same = [images[name] for name in gallery if images[name].vehicle == query.vehicle]
            chosen = [p.name for p in same if (p.camera == query.camera) == junk]
            rows.append("".join(f"{gallery.index(name) + 1} " for name in chosen) + "\r\n")
        (root / path).write_text("".join(rows), newline="")


def image_scores(vreid: Vreid) -> dict[str, Any]:
    (result,) = vreid.json("evaluate", "run/rankings/i2i-MED.parquet")["results"]
    return result


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        ("gt_index.txt", "jk_index.txt"),
        ("gt_image.txt", "jk_image.txt"),
        ("gt_index_776.txt", "jk_index_776.txt"),
    ],
)
def test_index_files_decide_where_they_are_there(
    vreid: Vreid, veri: Path, weights: Path, names: tuple[str, str]
) -> None:
    vreid("extract", "--arch", "resnet18", "--weights", weights, "--run-dir", "run")
    vreid("rank", "--run-dir", "run", "--task", "i2i", "--metric", "MED")
    by_names = image_scores(vreid)
    assert by_names["ground_truth"] == "labels"
    write_index_files(veri, names=names)
    by_index = image_scores(vreid)
    assert by_index["ground_truth"] == " and ".join(names)
    assert {k: v for k, v in by_index.items() if k != "ground_truth"} == {
        k: v for k, v in by_names.items() if k != "ground_truth"
    }
    assert f"ground truth from {names[0]} and {names[1]}" in " ".join(
        vreid("evaluate", "run/rankings/i2i-MED.parquet").split()
    )
    # One positive of the first query is now junk: the files decide, and the contradiction is reported.
    good, junk = ((veri / name).read_text().splitlines() for name in names)
    moved = good[0].split()[0]
    (veri / names[0]).write_text("\r\n".join([" ".join(good[0].split()[1:]), *good[1:]]) + "\r\n")
    (veri / names[1]).write_text("\r\n".join([f"{junk[0]} {moved}", *junk[1:]]) + "\r\n")
    changed = image_scores(vreid)
    assert changed["positives"] == by_names["positives"] - 1
    assert changed["junk"] == by_names["junk"] + 1
    assert "contradict the labels about 1 pair, and were followed" in vreid.err


@pytest.mark.slow
@pytest.mark.parametrize(("task", "unit"), TASKS)
def test_index_files_decide_about_tracks_too(vreid: Vreid, veri: Path, weights: Path, task: str, unit: str) -> None:
    vreid("extract", "--arch", "resnet18", "--weights", weights, "--run-dir", "run")
    unit_option = ["--track-unit", unit] if task != "i2i" else []
    vreid("rank", "--run-dir", "run", "--task", task, *unit_option)
    (by_names,) = vreid.json("evaluate", "--run-dir", "run")["results"]
    write_index_files(veri)
    (by_index,) = vreid.json("evaluate", "--run-dir", "run")["results"]
    assert by_index.pop("ground_truth") == "gt_index.txt and jk_index.txt"
    assert by_names.pop("ground_truth") == "labels"
    assert by_index == by_names
    # All that was right of the first query's vehicle is nothing any more.
    lines = (veri / "gt_index.txt").read_text().splitlines()
    own = [number for number, image in enumerate(query_images()) if image.vehicle == "0001"]
    (veri / "gt_index.txt").write_text("\n".join("" if n in own else line for n, line in enumerate(lines)) + "\n")
    (changed,) = vreid.json("evaluate", "--run-dir", "run")["results"]
    assert changed["positives"] < by_names["positives"]
    assert "contradict the labels" in vreid.err


@pytest.mark.slow
@pytest.mark.parametrize(("row", "message"), [("1 2 x", "line 1"), ("0", "line 1"), ("9999", "line 1"), (None, "rows")])
def test_index_files_that_do_not_fit_are_an_error(
    vreid: Vreid, veri: Path, weights: Path, row: str | None, message: str
) -> None:
    vreid("extract", "--arch", "resnet18", "--weights", weights, "--run-dir", "run")
    vreid("rank", "--run-dir", "run", "--task", "i2i", "--metric", "MED")
    write_index_files(veri)
    lines = (veri / "gt_index.txt").read_text().splitlines()
    (veri / "gt_index.txt").write_text("\n".join(lines[1:] if row is None else [row, *lines[1:]]) + "\n")
    error = vreid.error("evaluate", "--run-dir", "run")
    assert message in error["message"]
    assert "gt_index.txt" in error["message"]
