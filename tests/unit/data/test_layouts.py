"""The table of layouts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from trees import refusal

from vreid_cli.data.layouts import LAYOUTS, Layout
from vreid_cli.data.listing import DataFolders
from vreid_cli.errors import DataError, UsageError
from vreid_cli.types.lazy import load


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_what_an_entry_names_is_there(layout: Layout) -> None:
    assert LAYOUTS[layout.name] is layout
    assert callable(load(layout.reader))
    assert layout.truth is None or callable(load(layout.truth))


def test_protocols_decide_what_is_extracted_and_ranked() -> None:
    vehicleid, veri, vric = LAYOUTS["vehicleid"], LAYOUTS["veri"], LAYOUTS["vric"]
    assert (vehicleid.splits, vehicleid.rank_command) == (("gallery",), "vreid rank --task i2i")
    assert [(one.splits, one.rank_command) for one in (veri, vric)] == [(("query", "gallery"), "vreid rank")] * 2


def test_the_table_is_light() -> None:
    code = "import sys, vreid_cli.data.layouts; print(sorted({'torch', 'pyarrow', 'PIL', 'numpy'} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


@pytest.mark.parametrize("dataset", LAYOUTS)
def test_no_folder_or_a_wrong_one(dataset: str, tmp_path: Path) -> None:
    error = refusal(dataset, DataFolders())
    assert isinstance(error, UsageError)
    assert "--data-dir" in error.message
    error = refusal(dataset, DataFolders(tmp_path / "nowhere"))
    assert isinstance(error, DataError)
    assert "nowhere" in error.message
    # An empty folder: the message names what is missing, the hint what to do.
    error = refusal(dataset, DataFolders(tmp_path))
    assert isinstance(error, DataError)
    assert str(tmp_path) in str(error.file)


def test_the_hint_says_what_the_folder_should_hold(tmp_path: Path) -> None:
    error = refusal("vric", DataFolders(tmp_path))
    assert LAYOUTS["vric"].shape in str(error.hint)


@pytest.mark.parametrize("dataset", [name for name, layout in LAYOUTS.items() if not layout.own_folders])
def test_folders_of_splits_where_the_layout_has_fixed_ones(dataset: str, tmp_path: Path) -> None:
    for folders in (DataFolders(tmp_path, query_dir=tmp_path), DataFolders(tmp_path, gallery_dir=tmp_path)):
        error = refusal(dataset, folders)
        assert isinstance(error, UsageError)
        assert f"the layout {dataset} has folders of its own" in error.message


def test_a_layout_without_queries(tmp_path: Path) -> None:
    error = refusal("vehicleid", DataFolders(tmp_path), "query")
    assert isinstance(error, UsageError)
    assert "chooses queries from the gallery" in error.message


def test_ground_truth_is_read_where_a_layout_has_it(tmp_path: Path) -> None:
    assert LAYOUTS["vric"].read_truth(tmp_path) is None
    assert LAYOUTS["veri"].read_truth(tmp_path) is None  # its files are not there
    for name, text in {
        "name_query.txt": "a.jpg\n",
        "name_test.txt": "a.jpg\nb.jpg\nc.jpg\n",
        "gt_index.txt": "3 \n",
        "jk_index.txt": "1 2 \n",
    }.items():
        (tmp_path / name).write_text(text)
    truth = LAYOUTS["veri"].read_truth(tmp_path)
    assert truth is not None
    assert (truth.good, truth.junk) == ({"a.jpg": {"c.jpg"}}, {"a.jpg": {"a.jpg", "b.jpg"}})
    (tmp_path / "gt_index.txt").write_text("4\n")
    with pytest.raises(DataError, match="line 1: expected positions from 1 to 3"):
        LAYOUTS["veri"].read_truth(tmp_path)
    (tmp_path / "gt_index.txt").write_text("1\n2\n")
    with pytest.raises(DataError, match="2 rows for 1 name "):
        LAYOUTS["veri"].read_truth(tmp_path)
