"""Places lit on the images of a match: they sum up to its cosine, and only the right network is taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import draw_tracks, save_weights

import vreid_cli as vreid
from vreid_cli.errors import DataError
from vreid_cli.models.weights import LoadedNetwork

TRACKS = {"query/0001_c001": 2, "query/0002_c001": 1, "gallery/0001_c002": 3, "gallery/0002_c002": 2}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> LoadedNetwork:
    path = save_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors", side=64)
    loaded = vreid.load_network(str(path), arch="resnet18")
    assert isinstance(loaded, LoadedNetwork)
    return loaded


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory, network: LoadedNetwork) -> dict[str, vreid.FeatureSet]:
    root = draw_tracks(tmp_path_factory.mktemp("data"), TRACKS)
    return {side: vreid.extract(str(root / side), network) for side in ("query", "gallery")}


def test_the_parts_of_each_deciding_pair_sum_up_to_its_cosine(
    sides: dict[str, vreid.FeatureSet], network: LoadedNetwork
) -> None:
    ranking = vreid.rank(**sides)["meanMCD50"]
    plain = vreid.explain(ranking, "0001_c001", "0001_c002", **sides)
    view = vreid.explain(ranking, "0001_c001", "0001_c002", **sides, network=network)
    assert plain.lit == ()
    assert view.image.height > plain.image.height
    assert np.array_equal(np.asarray(view.image)[: plain.image.height, : plain.image.width], np.asarray(plain.image))
    rows, columns = np.nonzero(view.distances.counts)
    cosines = sorted(1 - view.distances.cells[rows, columns], reverse=True)
    assert [float(part.sum()) for one in view.lit for part in one.parts[:1]] == pytest.approx(cosines, abs=1e-4)
    assert [float(part.sum()) for one in view.lit for part in one.parts[1:]] == pytest.approx(cosines, abs=1e-4)
    for one in view.lit:
        query, lit, other_lit, gallery = (np.asarray(image, dtype=int) for image in one.images)
        assert (lit <= query).all()
        assert (other_lit <= gallery).all()
        # Where a place adds most, the image stays as it is.
        height, width = one.parts[0].shape
        best = np.unravel_index(one.parts[0].argmax(), (height, width))
        y, x = (int((place + 0.5) * 64 / count) for place, count in zip(best, (height, width), strict=True))
        assert np.abs(lit[y, x] - query[y, x]).max() <= 0.3 * query[y, x].max() + 2


def test_other_distances_light_lengths_and_none_where_whole_tracks_decide(
    sides: dict[str, vreid.FeatureSet], network: LoadedNetwork
) -> None:
    rankings = vreid.rank(**sides, options=vreid.RankingOptions(metric=("minMED", "RSCR")))
    by_length = vreid.explain(rankings["minMED"], "0001_c001", "0001_c002", **sides, network=network)
    assert "length of the last map" in by_length.lit[0].caption
    whole = vreid.explain(rankings["RSCR"], "0001_c001", "0001_c002", **sides, network=network)
    assert whole.lit == ()
    assert any("no single images decide" in warning for warning in whole.warnings)


def test_what_does_not_fit_is_refused(
    sides: dict[str, vreid.FeatureSet], network: LoadedNetwork, tmp_path: Path
) -> None:
    ranking = vreid.rank(**sides)["meanMCD50"]
    other = vreid.load_network(str(save_weights(tmp_path / "other.safetensors", side=64, seed=8)), arch="resnet18")
    assert isinstance(other, LoadedNetwork)
    with pytest.raises(DataError, match="gives other features"):
        vreid.explain(ranking, "0001_c001", "0001_c002", **sides, network=other)
    gone = {side: replace(one, image_root=str(tmp_path)) for side, one in sides.items()}
    with pytest.raises(DataError, match="the file is not there"):
        vreid.explain(ranking, "0001_c001", "0001_c002", **gone, network=network)
    bare = {side: replace(one, image_root=None) for side, one in sides.items()}
    with pytest.raises(DataError, match="are not known"):
        vreid.explain(ranking, "0001_c001", "0001_c002", **bare, network=network)
