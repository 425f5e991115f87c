"""Curves of a page: the places of their points are those of the scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from lists import made_ranking

import vreid_cli as vreid
from vreid_cli.reports.pages.charts import Chart, charts_of


def values_of(chart: Chart, line: int) -> list[float]:
    """Heights of a line's points, read back by the axis' marks."""
    low, high = chart.y_ticks[0], chart.y_ticks[-1]
    ys = [float(point.split(",")[1]) for point in chart.lines[line].points.split()]
    scale = (float(high.text) - float(low.text)) / (high.at - low.at)
    return [float(low.text) + (y - low.at) * scale for y in ys]


def test_cmc_is_the_share_of_queries_with_a_positive() -> None:
    scores = vreid.evaluate(made_ranking(), vreid.EvaluationOptions(ranks=tuple(range(1, 51))))
    cmc = charts_of(scores)[0]
    assert values_of(cmc, 0) == pytest.approx([100 * (share or 0) for share in scores.cmc.values()], abs=0.1)
    assert f"{100 * (scores.cmc[1] or 0):.1f} % at rank 1" in cmc.summary


def test_pairs_are_all_counted() -> None:
    scores = vreid.evaluate(made_ranking())
    pairs = charts_of(scores)[1]
    assert [line.name for line in pairs.lines] == ["same vehicle", "different vehicles"]
    for line in range(2):
        assert sum(values_of(pairs, line)) == pytest.approx(100, abs=8)  # marks have three digits
    assert pairs.marked is not None
    assert pairs.left <= pairs.marked.at <= pairs.right


def test_what_is_unknown_has_no_curve() -> None:
    ranking = made_ranking()
    block = next(iter(ranking.blocks))
    cut = replace(ranking, facts=replace(ranking.facts, coverage="top-k"), blocks=(block.select(block.rank <= 2),))
    assert charts_of(vreid.evaluate(cut)) == []
    assert np.isfinite([tick.at for chart in charts_of(vreid.evaluate(ranking)) for tick in chart.x_ticks]).all()
