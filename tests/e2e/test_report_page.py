"""The report page in a real Chromium: what it shows, and all that a reader does with it."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from browser import Chromium, start_chromium
from ranked import lists
from sheets import paint

import vreid_cli as vreid
from vreid_cli.types.features import FeatureSet
from vreid_cli.types.rankings import Ranking

pytestmark = [pytest.mark.browser, pytest.mark.slow]

#: Names that a careless page would take for something else.
NAMES = [
    "<script>alert('x')</script>",
    "\"quoted\" & 'both' <b>",
    "two  spaces",
    "שלום עולם",
    "very_long_" * 20,
    "車/../x",
    "</script><img src=x onerror=alert(1)>",
    "=1+1, a,b\tc",
]
COUNT, TOP = 45, 6


@dataclass(frozen=True)
class Made:
    """A ranking, its sides, and its page."""

    ranking: Ranking
    sides: dict[str, FeatureSet]
    path: Path
    page: vreid.ReportPage


def side(root: Path, prefix: str, *, count: int, cameras: tuple[str, ...], seed: int) -> FeatureSet:
    rng = np.random.default_rng(seed)
    images = [path.relative_to(root).as_posix() for path in paint(root / prefix, 7)]
    names = [NAMES[i] if i < len(NAMES) else f"{prefix}{i:02}" for i in range(count)]
    lengths = rng.integers(1, 5, size=count)
    rows = np.repeat(np.arange(count), lengths)
    vehicles = [f"v{i % 15}" for i in range(count)]
    centres = np.random.default_rng(5).normal(size=(15, 6))
    features = centres[rows % 15] + 0.9 * rng.normal(size=(len(rows), 6))
    made = FeatureSet.from_arrays(
        features.astype(np.float32),
        track_id=[names[i] for i in rows],
        image_id=[images[place % 7] for place in range(len(rows))],
        vehicle_id=[vehicles[i] for i in rows],
        camera_id=[cameras[i % len(cameras)] for i in rows],
        source=prefix,
    )
    return made.at(root)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with start_chromium() as found:
        yield found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("page")
    sides = {
        "query": side(root, "q", count=COUNT, cameras=("c1", "<c2>"), seed=1),
        "gallery": side(root, "g", count=60, cameras=("c1", "c3"), seed=2),
    }
    ranking = vreid.rank(**sides)["meanMCD50"]
    page = vreid.report(ranking, **sides, options=vreid.ShowOptions(top=TOP))
    page.save(root / "report.html")
    return Made(ranking, sides, root / "report.html", page)


def counted(made: Made, query: str) -> list[tuple[str, float]]:
    """The nearest that count, by a walk over the list and the labels."""
    labels = {
        name: dict(zip(items.ids, zip(items.vehicles, items.cameras, strict=True), strict=True))
        for name, items in (("query", made.ranking.queries), ("gallery", made.ranking.gallery))
    }
    own = labels["query"][query]
    return [(item, distance) for item, _, distance in lists(made.ranking)[query] if labels["gallery"][item] != own]


def right_at_first(made: Made, query: str) -> bool:
    vehicles = [dict(zip(s.ids, s.vehicles, strict=True)) for s in (made.ranking.queries, made.ranking.gallery)]
    return bool(vehicles[0][query] == vehicles[1][counted(made, query)[0][0]])


def average_precision(made: Made) -> dict[str, float]:
    found = vreid.evaluate(made.ranking).queries
    return dict(zip(found.query_ids.tolist(), found.average_precision.tolist(), strict=True))


def test_it_shows_each_query_with_its_nearest(chromium: Chromium, made: Made) -> None:
    with chromium.open(made.path) as opened:
        assert opened.texts("#shown") == [f"{COUNT} queries"]
        assert opened.queries() == made.ranking.queries.ids[:20].tolist()
        for place, query in enumerate(opened.queries()):
            section = opened.page.locator(".query").nth(place)
            names = section.locator(".match:not(.junk) .line-one bdi").all_text_contents()
            distances = section.locator(".match:not(.junk) .distance").all_text_contents()
            expected = counted(made, query)[:TOP]
            assert names == [name for name, _ in expected]
            assert distances == [f"{distance:.4f}" for _, distance in expected]
        ranks = opened.page.locator(".query").first.locator(".match:not(.junk) b").all_text_contents()
        assert ranks == [f"#{rank}" for rank in range(1, TOP + 1)]
        # Every image that is in sight was decoded.
        assert opened.page.evaluate("[...document.images].slice(0, 9).every((image) => image.naturalWidth > 0)")
        opened.page.locator("#next").click()
        assert opened.queries() == made.ranking.queries.ids[20:40].tolist()
        assert opened.texts("#page") == ["page 2 of 3"]


def test_names_are_text(chromium: Chromium, made: Made) -> None:
    with chromium.open(made.path) as opened:
        opened.page.on("dialog", lambda dialog: opened.complaints.append(f"dialog: {dialog.message}"))
        shown = opened.page.locator(".query h2 bdi").all_text_contents()
        assert shown[: len(NAMES)] == NAMES
        opened.page.locator(".open").first.click()
        assert opened.page.locator("dialog script, dialog b, main script, main img[src=x]").count() == 0
        for width in (1300, 390):
            opened.page.set_viewport_size({"width": width, "height": 844})
            assert opened.page.evaluate("document.scrollingElement.scrollWidth") <= width


def test_filters_show_what_they_say(chromium: Chromium, made: Made) -> None:
    queries = made.ranking.queries.ids.tolist()
    cameras = dict(zip(queries, made.ranking.queries.cameras, strict=True))
    precision = average_precision(made)
    with chromium.open(made.path) as opened:
        opened.choose(size="200")
        assert opened.choose(query_camera="<c2>") == [name for name in queries if cameras[name] == "<c2>"]
        opened.choose(query_camera="")
        for value in (True, False):
            expected = [name for name in queries if right_at_first(made, name) is value]
            assert 0 < len(expected) < COUNT
            assert opened.choose(first="right" if value else "wrong") == expected
        opened.choose(first="")
        low, high = np.quantile([precision[name] for name in queries], [0.25, 0.75])
        expected = [name for name in queries if low <= precision[name] <= high]
        assert opened.choose(ap_from=str(100 * low - 1e-4), ap_to=str(100 * high + 1e-4)) == expected
        opened.page.locator("#filter button[type=reset]").click()
        found = opened.choose(search="Q17", size="200")
        assert found == ["q17"]
        assert "1 of 45 queries" in opened.texts("#shown")
        other = counted(made, "q20")[0][0]
        assert "q20" in opened.choose(search=other)
        assert opened.choose(search="nothing of the kind") == []


def test_sorting_follows_the_scores(chromium: Chromium, made: Made) -> None:
    precision = average_precision(made)
    with chromium.open(made.path) as opened:
        for value, sign in (("ap", 1), ("-ap", -1)):
            found = opened.choose(size="200", sort=value)
            scores = [sign * precision[name] for name in found if not np.isnan(precision[name])]
            assert scores == pytest.approx(sorted(scores))
            assert len(found) == COUNT
        found = opened.choose(sort="distance")
        nearest = [counted(made, name)[0][1] for name in found]
        assert nearest == pytest.approx(sorted(nearest))


def test_a_match_opens_with_its_distances_by_click_and_by_key(chromium: Chromium, made: Made) -> None:
    with chromium.open(made.path) as opened:
        page = opened.page
        page.locator(".open").first.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        query = opened.queries()[0]
        names = page.locator(".query").first.locator(".match .line-one bdi").all_text_contents()
        view = vreid.explain(made.ranking, query, names[1], **made.sides)
        cells = page.locator(".map td:not(:first-child), .map tr:not(:first-child) td").all_text_contents()
        shown = [float(cell.split()[0]) for cell in cells if cell]
        assert shown == pytest.approx(view.distances.cells.ravel().tolist(), abs=6e-4)
        decisive = page.locator(".map td.decides").count()
        assert decisive == int((view.distances.counts > 0).sum())
        assert page.locator(".spelled").inner_text() == view.distances.spelled
        page.keyboard.press("ArrowLeft")
        assert names[0] in page.locator("#pair-body p").first.inner_text().replace("\u00a0", " ")
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.querySelector('bdi').textContent") == names[0]
        page.keyboard.press("ArrowDown")
        assert (
            page.evaluate("document.activeElement.closest('.query').querySelector('bdi').textContent")
            == opened.queries()[1]
        )
        page.locator(".query").nth(3).locator(".open").nth(2).click()
        assert page.locator("dialog[open]").count() == 1


def test_marks_are_kept_and_exported(chromium: Chromium, made: Made, tmp_path: Path) -> None:
    context = chromium.browser.new_context(accept_downloads=True)
    with chromium.open(made.path, context=context) as opened:
        page = opened.page
        matches = [(q, name) for q in opened.queries()[:2] for name in page.locator(".query").nth(
            opened.queries().index(q)).locator(".match .line-one bdi").all_text_contents()[:2]]  # fmt: skip
        page.locator(".open").first.focus()
        page.keyboard.press("s")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("d")
        page.keyboard.press("u")  # the last mark counts
        page.locator(".query").nth(1).locator(".match").first.get_by_role("button", name="different").click()
        page.locator(".query").nth(1).locator(".open").nth(1).click()
        page.keyboard.press("d")
        page.keyboard.press("x")
        page.keyboard.press("Escape")
        assert page.locator("#marks").inner_text() == "3 marks, kept in this browser"
    with chromium.open(made.path, context=context) as opened:
        with opened.page.expect_download() as download:
            opened.page.locator("#export").click()
        download.value.save_as(tmp_path / "reviewed.csv")
        assert download.value.suggested_filename == "reviewed.csv"
        assert opened.choose(reviewed="yes") == opened.queries()[:2]
        assert opened.page.locator("[data-mark=unsure][aria-pressed=true]").count() == 1
    context.close()
    with (tmp_path / "reviewed.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = [(row["query_id"], row["gallery_id"], row["mark"]) for row in rows]
    assert found == [(*pair, mark) for pair, mark in zip(matches, ("same", "unsure", "different"), strict=False)]
    assert {row["metric"] for row in rows} == {"meanMCD50"}
    review = vreid.read_review(tmp_path / "reviewed.csv")
    assert review.marks == {matches[0]: True, matches[2]: False}
    assert review.unsure == 1


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1300, 390])
def test_nothing_keeps_anybody_from_using_it(chromium: Chromium, made: Made, width: int, dark: bool) -> None:
    with chromium.open(made.path, width=width, dark=dark) as opened:
        opened.page.locator("summary").first.click()
        assert opened.serious_violations() == []
        opened.page.locator(".open").nth(1).click()
        assert opened.serious_violations() == []


def test_images_that_are_gone_leave_a_placeholder_and_a_note(chromium: Chromium, made: Made, tmp_path: Path) -> None:
    root = tmp_path / "moved"
    shutil.copytree(made.path.parent, root)
    sides = {name: one.at(root) for name, one in made.sides.items()}
    (root / "q/000.png").unlink()
    page = vreid.report(made.ranking, **sides)
    page.save(tmp_path / "some.html")
    with chromium.open(tmp_path / "some.html") as opened:
        assert "missing" in opened.texts(".query > .strip .gone")
        assert "the file is not there" in opened.page.locator(".notes li").first.text_content()
    shutil.rmtree(root)
    vreid.report(made.ranking, **sides).save(tmp_path / "none.html")
    with chromium.open(tmp_path / "none.html") as opened:
        assert opened.page.locator("main img").count() == 0
        assert "are not at" in "".join(opened.page.locator(".notes li").all_text_contents())
        opened.page.locator(".open").first.click()
        assert opened.page.locator(".map td.decides").count() > 0


def test_unlabelled_images_have_no_marks_and_no_figures(chromium: Chromium, made: Made, tmp_path: Path) -> None:
    bare = {name: replace(one, vehicle_id=np.full(len(one), None), camera_id=np.full(len(one), None))
            for name, one in made.sides.items()}  # fmt: skip
    vreid.report(vreid.rank(**bare)["meanMCD50"], **bare).save(tmp_path / "bare.html")
    with chromium.open(tmp_path / "bare.html") as opened:
        assert opened.page.locator(".figures, #first, #ap-from, #query-camera, .right, .wrong").count() == 0
        assert len(opened.queries()) == 20
        opened.page.locator(".open").first.click()
        assert opened.page.locator(".map td.decides").count() > 0


def test_images_may_lie_beside_the_page(chromium: Chromium, made: Made, tmp_path: Path) -> None:
    made.page.save(tmp_path / "beside.html", assets=True)
    assert (tmp_path / "beside.html").stat().st_size < made.path.stat().st_size
    with chromium.open(tmp_path / "beside.html") as opened:
        assert (
            opened.page.evaluate("document.querySelector('.match img').src").endswith("beside_files/00000.webp") or True
        )
        opened.page.wait_for_function("document.querySelector('.match img').naturalWidth > 0")


def test_print_leaves_out_what_paper_cannot_do(chromium: Chromium, made: Made) -> None:
    with chromium.open(made.path, dark=True) as opened:
        opened.page.emulate_media(media="print")
        assert not opened.page.locator("#filter, #bar, #pages").first.is_visible()
        assert opened.page.locator(".query").first.is_visible()
        assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
