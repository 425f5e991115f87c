"""``vreid show``: the nearest items of some queries, as a table or a contact sheet; or one match, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from vreid_cli.config import Settings
from vreid_cli.data.boxes import Crop
from vreid_cli.errors import StoreError, UsageError
from vreid_cli.evaluation.evaluate import evaluate
from vreid_cli.evaluation.nearest import nearest
from vreid_cli.reports.identity_sheet import choose_identities, show_identities
from vreid_cli.reports.images import ImageSource, open_side, open_sides
from vreid_cli.reports.pages.report import LARGE, is_page, report
from vreid_cli.reports.pairs import PairView, explain
from vreid_cli.reports.queries import choose_queries, explain_ranks
from vreid_cli.reports.sheets.sheet import check_ending
from vreid_cli.reports.show import show as make_sheet
from vreid_cli.reports.terminal import check_terminal_images, strips_of
from vreid_cli.runtime.progress import log, progress
from vreid_cli.store.formats import read_features, read_ranking
from vreid_cli.store.identities import is_identities, read_identities
from vreid_cli.store.runs import RunDirectory, identities_in, owning_run, rankings_in
from vreid_cli.types.features import MEANINGLESS, FeatureSet
from vreid_cli.types.identities import Identities
from vreid_cli.types.images import Split
from vreid_cli.types.rankings import RankedItem, Ranking, RankingFacts
from vreid_cli.workflows.calibrations import older_than_features, with_probabilities
from vreid_cli.workflows.ground_truth import ground_truth
from vreid_cli.workflows.session import Report, RunChoice, Session

if TYPE_CHECKING:
    from vreid_cli.models.weights import LoadedNetwork

_DEFAULT_RANKING = "t2t-meanMCD50.parquet"


@dataclass(frozen=True, kw_only=True)
class ShowReport(Report):
    """The nearest items that were asked for.

    Attributes:
        ranking: Where they come from.
        metric: By which metric they are the nearest.
        notes: How they were ranked and what the ranks leave out, in words.
        calibration: Where the calibration was read from that gives probabilities; None without.
        nearest: By query id, in rank order, without self and junk.
        hidden: Queries that were not asked for by name and are not shown.
        pair: The match that was asked for.
        identities: The identities that were asked for instead; ``ranking`` is their table.
        shown: Numbers of those that are shown.
        strips: Images for the terminal, by query: its own, then those of its nearest.
    """

    ranking: Path
    metric: str | None
    notes: str
    nearest: Mapping[str, Sequence[RankedItem]]
    calibration: str | None = None
    hidden: int = 0
    pair: PairView | None = None
    identities: Identities | None = None
    shown: tuple[int, ...] = ()
    strips: Mapping[str, Sequence[Image.Image | None]] = field(default_factory=dict)


def choose_run(settings: Settings) -> RunChoice:
    """The run whose ranking is shown; none where a ranking is named that needs no images, or brings its run along."""
    named = settings.show.ranking
    # Parquet holds its labels; only those of the paper's JSON are read from names. Folders may be where images went.
    free = ("data.label_pattern", "data.query_dir", "data.gallery_dir")
    if named is None:
        return RunChoice(free=free[1:])
    needs_images = settings.show.output is not None or settings.show.match is not None or settings.show.images
    brought = settings.rank.gallery_features or settings.data.gallery_dir or owning_run(named)
    return RunChoice(use_latest=needs_images and not brought, free=free)


def show(session: Session) -> ShowReport:
    """Look up the nearest items, or one match; with ``--output`` draw them.

    Raises:
        VreidError: The ranking, a query, a match, features or the images are not there.
    """
    chosen = session.settings.show
    if chosen.attention and chosen.match is None:
        raise UsageError("--attention is about one match", hint="name it: vreid show QUERY --match TRACK --attention")
    if chosen.images:
        if chosen.output is not None or chosen.match is not None:
            hint = "leave it out: a sheet, a page and the view of a match show images anyway"
            raise UsageError("--images is for the table in the terminal", hint=hint)
        check_terminal_images()
    page = chosen.output is not None and chosen.match is None and is_page(chosen.output)
    if chosen.assets and not page:
        raise UsageError("--assets is for a page", hint="add --output report.html")
    if chosen.output is not None and not page:
        check_ending(chosen.output)
    if chosen.identities:
        if chosen.match is not None:
            raise UsageError("--match is about a ranking", hint="leave out --identities")
        return _identities(session)
    path = chosen.ranking or _find_ranking(session)
    if is_identities(path):
        raise UsageError(f"{path} holds identities, no ranking", hint="add --identities")
    ranking = with_probabilities(path, read_ranking(path, label_pattern=session.settings.data.label_pattern))
    make = _match if chosen.match is not None else _table if chosen.output is None else _page if page else _sheet
    report = make(session, path, ranking)
    if older := older_than_features(path, ranking.facts):
        report = replace(report, warnings=(older, *report.warnings))
    for warning in report.warnings:
        log.warning("%s", warning)
    if chosen.ranking is None:
        session.record()
    return report


# -- what is shown -------------------------------------------------------------------------------------------


def _table(session: Session, path: Path, ranking: Ranking) -> ShowReport:
    chosen, same_camera = session.settings.show, session.settings.evaluate.same_camera
    scores = evaluate(ranking, session.settings.evaluate) if chosen.by_score else None
    queries = choose_queries(ranking, chosen.queries, most=chosen.max_queries, options=chosen, scores=scores)
    lists = nearest(ranking, queries, top=chosen.top, same_camera=same_camera)
    warnings = (MEANINGLESS,) if ranking.facts.meaningless else ()
    if not chosen.images:
        return _report(session, path, ranking, lists=lists, warnings=warnings)
    sources = _sources(session, path, ranking.facts)
    sides = open_sides(ranking.facts, query=sources.get("query"), gallery=sources["gallery"])
    strips, missing = strips_of(lists, sides, most=chosen.max_images)
    return replace(_report(session, path, ranking, lists=lists, warnings=(*warnings, *missing)), strips=strips)


def _sheet(session: Session, path: Path, ranking: Ranking) -> ShowReport:
    chosen, same_camera = session.settings.show, session.settings.evaluate.same_camera
    sources = _sources(session, path, ranking.facts)
    sheet = make_sheet(ranking, chosen.queries, **sources, options=chosen, same_camera=same_camera)
    assert chosen.output is not None
    sheet.save(chosen.output)
    return _report(session, path, ranking, lists=sheet.nearest, warnings=sheet.warnings)


def _page(session: Session, path: Path, ranking: Ranking) -> ShowReport:
    chosen, counting = session.settings.show, session.settings.evaluate
    assert chosen.output is not None
    sources = _sources(session, path, ranking.facts)
    truth = ground_truth(path, ranking.facts)
    with progress(total=0, what="explaining", unit="queries") as bar:
        page = report(
            ranking,
            chosen.queries,
            gallery=sources["gallery"],
            query=sources.get("query"),
            options=chosen,
            evaluation=counting,
            truth=truth,
            advance=bar.update,
        )
    page.save(chosen.output, assets=chosen.assets)
    size, warnings = chosen.output.stat().st_size, page.warnings
    if size > LARGE:
        large = f"{chosen.output} has {size / 1e6:.0f} MB and opens slowly: use --assets, --worst or --top"
        warnings = (*warnings, large)
    counted = {query: [one.item for one in items if not one.left_out] for query, items in page.nearest.items()}
    return _report(session, path, ranking, lists=counted, warnings=warnings)


def _match(session: Session, path: Path, ranking: Ranking) -> ShowReport:
    chosen, same_camera = session.settings.show, session.settings.evaluate.same_camera
    assert chosen.match is not None
    queries = choose_queries(ranking, chosen.queries, most=2)
    if len(queries) != 1:
        message = f"--match {chosen.match} is about one query, not about {len(queries)} or more"
        raise UsageError(message, hint="name it: vreid show QUERY --match TRACK")
    sources = _sources(session, path, ranking.facts)
    features: dict[str, FeatureSet] = {}
    for side, source in sources.items():
        if not isinstance(source, FeatureSet):
            hint = "name the features with --gallery-features and --query-features, or the run with --run-dir"
            raise UsageError(f"--match needs the features that {path} was made from", hint=hint, file=path)
        features[side] = source
    network = _network(session, path) if chosen.attention else None
    view = explain(
        ranking, queries[0], chosen.match, **features, options=chosen, same_camera=same_camera, network=network
    )
    if chosen.output is not None:
        view.save(chosen.output)
    lists = {queries[0]: [view.match.item] if view.match is not None else []}
    report = _report(session, path, ranking, lists=lists, warnings=view.warnings)
    return replace(report, pair=view, hidden=0)


def _identities(session: Session) -> ShowReport:
    chosen = session.settings.show
    path = chosen.ranking or _find_identities(session)
    found = read_identities(path)
    some = choose_identities(found, chosen.queries, most=chosen.max_queries)
    warnings: tuple[str, ...] = ()
    if chosen.output is not None:
        check_ending(chosen.output)
        wanted = {str(found.tracks.ids[k]) for _, tracks in some for k in tracks}
        images = _images_of_tracks(owning_run(path) or session.need_run(), found, wanted)
        sheet = show_identities(found, some, images=images, options=chosen)
        sheet.save(chosen.output)
        warnings = sheet.warnings
    for warning in warnings:
        log.warning("%s", warning)
    if chosen.ranking is None:
        session.record()
    return ShowReport(
        outputs=() if chosen.output is None else (str(chosen.output),),
        warnings=warnings,
        ranking=path,
        metric=None,
        notes="",
        nearest={},
        hidden=0 if chosen.queries else found.count - len(some),
        identities=found,
        shown=tuple(number for number, _ in some),
    )


def _images_of_tracks(run: RunDirectory, found: Identities, wanted: AbstractSet[str]) -> dict[str, list[Path | Crop]]:
    """The images of tracks by the names that they have among the identities."""
    images: dict[str, list[Path | Crop]] = {}
    for split in dict.fromkeys(name for name in found.split if name is not None):
        features = run.features(split).read()
        side = open_side(features, RankingFacts(), single=False)
        side.check_root()
        for name in features.track_id:
            # Where two splits have a track of one name, all names begin with that of their split.
            for known in {name, f"{split}/{name}"} & wanted:
                if known not in images:
                    images[known] = side.images(name)
    return images


def _find_identities(session: Session) -> Path:
    """The run's only table of identities."""
    run = session.need_run()
    tables = identities_in(run.identities)
    if len(tables) == 1:
        return tables[0]
    if not tables:
        hint = "make them with vreid associate"
        raise StoreError(f"{run.path} has no identities yet", hint=hint, file=run.identities)
    names = ", ".join(str(path) for path in tables)
    hint = f"choose one with --ranking: {names}"
    raise StoreError(f"{run.path} has several tables of identities", hint=hint, file=run.identities)


def _network(session: Session, path: Path) -> LoadedNetwork:
    """The network that the run's features were made with.

    Raises:
        UsageError: It is no network of torch.
        WeightsError: It is not there any more.
    """
    info = _run_with_images(session, path).read_info()
    model, settings = session.settings.model, session.settings
    named = {"arch": info.get("architecture", model.arch), "weights": info.get("weights", model.weights)}
    settings = settings.model_copy(update={"model": model.model_copy(update=named)})
    # Nothing else that is shown needs torch.
    from vreid_cli.models.weights import require_torch_network
    from vreid_cli.workflows.network import load

    return require_torch_network(load(settings), needed_by="--attention")


def _report(
    session: Session,
    path: Path,
    ranking: Ranking,
    *,
    lists: Mapping[str, Sequence[RankedItem]],
    warnings: tuple[str, ...],
) -> ShowReport:
    chosen = session.settings.show
    return ShowReport(
        outputs=() if chosen.output is None else (str(chosen.output),),
        warnings=warnings,
        ranking=path,
        metric=ranking.facts.metric_name,
        notes=explain_ranks(ranking.facts, session.settings.evaluate.same_camera),
        nearest=lists,
        calibration=ranking.facts.calibrated_by,
        hidden=0 if chosen.queries else len(ranking.queries) - len(lists),
    )


# -- where it comes from -------------------------------------------------------------------------------------


def _find_ranking(session: Session) -> Path:
    """The run's ranking of the default task and metric, else its only one."""
    run = session.need_run()
    found = rankings_in(run.rankings)
    default = run.rankings / _DEFAULT_RANKING
    chosen = default if default in found else found[0] if len(found) == 1 else None
    if chosen is not None:
        log.info("ranking: %s", chosen)
        return chosen
    if not found:
        raise StoreError(f"{run.path} has no rankings yet", hint="make one with vreid rank", file=run.rankings)
    names = ", ".join(str(path) for path in found)
    raise StoreError(f"{run.path} has several rankings", hint=f"choose one with --ranking: {names}", file=run.rankings)


def _sources(session: Session, path: Path, facts: RankingFacts) -> dict[str, ImageSource]:
    """Features that know their images, as far as there are any, else folders of images; by side."""
    settings = session.settings
    sides: tuple[Split, ...] = ("gallery",) if facts.query_source == "gallery" else ("query", "gallery")
    found: dict[str, ImageSource] = {}
    for side in sides:
        source: Path | None = getattr(settings.rank, f"{side}_features")
        # What a run says of its folders is not where an option says that the images are.
        typed = session.resolved.given(f"data.{side}_dir")
        folder: Path | None = getattr(settings.data, f"{side}_dir") if typed else None
        features: FeatureSet | None = None
        if source is not None:
            features = read_features(source, label_pattern=settings.data.label_pattern)
        elif folder is None or owning_run(path) is not None or session.run is not None:
            features = _run_with_images(session, path).features(side).read()
        if features is None:
            assert folder is not None
            found[side] = folder
        else:
            found[side] = features if folder is None else features.at(folder)
    return found


def _run_with_images(session: Session, path: Path) -> RunDirectory:
    """The run that a ranking lies in, else the one that is named."""
    run = owning_run(path)
    if run is None and session.run is None:
        hint = (
            "name the run that holds them with --run-dir, or features with --query-features and --gallery-features and "
            "folders of images with --query-dir and --gallery-dir; or leave out --output for a table"
        )
        raise StoreError(f"{path} lies in no run, and only a run knows where its images are", hint=hint, file=path)
    return run or session.need_run()
