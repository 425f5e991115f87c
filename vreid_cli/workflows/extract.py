"""``vreid extract``: images to a feature store."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vreid_cli import __version__
from vreid_cli.config import Settings
from vreid_cli.data.layouts import LAYOUTS, Layout
from vreid_cli.data.listing import Listing
from vreid_cli.data.records import Records
from vreid_cli.engines.choose import open_engine
from vreid_cli.engines.engine import Engine
from vreid_cli.engines.local import LocalEngine
from vreid_cli.engines.torchrun import Announcement, Group, LeaderEngine, choose_own_device, find_group
from vreid_cli.errors import PartsLostError, StoreError, UsageError
from vreid_cli.extraction.loading import Preparation, sample_pixels
from vreid_cli.extraction.resolve import check_inference, check_network, resolve_inference
from vreid_cli.extraction.split import SplitSummary, commit_share, extract_split
from vreid_cli.models.onnx_cache import INT8_IMAGES
from vreid_cli.models.weights import AnyNetwork
from vreid_cli.runtime.arrow import release_memory
from vreid_cli.runtime.progress import log
from vreid_cli.store.parts import PartFacts
from vreid_cli.store.runs import INFO_SCHEMA, RUNS_FOLDER, RunDirectory
from vreid_cli.types.amounts import amount
from vreid_cli.types.features import MEANINGLESS, RANDOM_WEIGHTS
from vreid_cli.types.images import Split
from vreid_cli.workflows.inputs import absolute, check_subset, chosen_splits, chosen_subset, data_folders
from vreid_cli.workflows.network import load, network_label, resolve_network, weights_to_find_again
from vreid_cli.workflows.session import Report, Session


@dataclass(frozen=True)
class ExtractReport(Report):
    """What was extracted.

    Attributes:
        run_dir: The run.
        splits: What was done for each split.
        seconds: How long computing took.
        next_command: What to type next.
        one_side: Whether all tracks are of one side, so that identities are what one may look for.
    """

    run_dir: Path
    splits: Mapping[Split, SplitSummary]
    seconds: float
    next_command: str
    one_side: bool


def extract(session: Session) -> ExtractReport | None:
    """Extract the features of each split that is asked for.

    Returns:
        What was done; None in all processes of torchrun but the first.

    Raises:
        VreidError: Data, weights or device are not there or do not fit; what was finished is kept.
    """
    check_subset(session)
    group = find_group()
    if group is not None and group.rank:
        log.setLevel(logging.ERROR)  # the first process speaks
        _follow(resolve_network(session), group)
        return None
    session = resolve_network(session)
    with open_engine(session.settings.runtime, group) as engine:
        return _extract(session, engine)


def _follow(session: Session, group: Group) -> None:
    """Do this process's share of what the first process of torchrun decides."""
    settings = session.settings
    run = session.run or RunDirectory(default_run_dir(settings))
    device = choose_own_device(settings.runtime.device, group.world)
    announcement = Announcement(run.path, group)
    decided = announcement.wait()
    chosen = settings.extract.model_copy(update={name: decided[name] for name in ("backend", "batch_size")})
    inference = resolve_inference(load(settings), chosen, device=device, images=0, cache_dir=settings.model.cache_dir)
    if inference.identity != decided["identity"]:
        raise StoreError("the processes of torchrun loaded different weights", hint="run the same command again")
    layout = LAYOUTS[settings.data.dataset]
    for index, split in enumerate(chosen_splits(session)):
        listing = layout.read(data_folders(settings), split)
        numbers = group.share(announcement.wait_for(index))
        for _ in commit_share(run.features(split), listing, numbers, inference=inference, options=chosen):
            announcement.check()
    announcement.end()


def _extract(session: Session, engine: Engine) -> ExtractReport:
    settings = session.settings
    device = engine.device(settings.runtime.device)
    check_inference(settings.extract, device, name=lambda field: session.resolved.name(f"extract.{field}"))
    if settings.extract.precision == "int8" and not isinstance(engine, LocalEngine):
        hint = "leave out --engine and torchrun, or use another precision"
        raise UsageError("--precision int8: one process quantises the network for itself alone", hint=hint)
    folders = data_folders(settings)
    layout = LAYOUTS[settings.data.dataset]
    # All folders are looked at before the network is loaded: a wrong path should show at once.
    listings = {split: layout.read(folders, split) for split in chosen_splits(session)}
    for warning in dict.fromkeys(warning for listing in listings.values() for warning in listing.warnings):
        log.warning("%s", warning)
    release_memory()  # what the readers took is more than what they keep, and the network needs room
    loaded = load(settings)
    check_network(loaded, settings.extract, device)
    run = session.run or RunDirectory(default_run_dir(settings))
    started = time.monotonic()
    with run.locked():
        summaries = _extract_all(run, listings, settings, loaded=loaded, device=device, engine=engine)
    Session(session.resolved, run, session.command).record()
    return ExtractReport(
        outputs=tuple(str(run.features(split).path) for split in summaries),
        skipped=tuple(_skipped(summaries)),
        warnings=tuple(dict.fromkeys([*(w for one in summaries.values() for w in one.warnings), *loaded.warnings])),
        run_dir=run.path,
        splits=summaries,
        seconds=time.monotonic() - started,
        next_command=_next_command(run, layout),
        one_side=layout.protocol == "every-track" or _missing(run, layout) == ["query"],
    )


def _next_command(run: RunDirectory, layout: Layout) -> str:
    """Ranking, once all that the layout ranks is there."""
    missing = _missing(run, layout)
    if not missing:
        return layout.rank_command
    return f"vreid extract --run-dir {shlex.quote(str(run.path))} --split {','.join(missing)}"


def _missing(run: RunDirectory, layout: Layout) -> list[Split]:
    return [split for split in layout.splits if not run.features(split).is_complete()]


def _skipped(summaries: Mapping[Split, SplitSummary]) -> Iterator[dict[str, str | None]]:
    for split, summary in summaries.items():
        for entry in summary.skipped:
            yield {"split": split, "image_id": entry.image_id, "track_id": entry.track_id, "reason": entry.reason}


def default_run_dir(settings: Settings) -> Path:
    """``runs/<dataset>[-<subset>]-<arch>-<weights>``; of a weights file its name without the ending."""
    subset = chosen_subset(settings)
    dataset = settings.data.dataset if subset is None else f"{settings.data.dataset}-{subset}"
    return RUNS_FOLDER / f"{dataset}-{network_label(settings)}"


def _extract_all(
    run: RunDirectory,
    listings: Mapping[Split, Listing],
    settings: Settings,
    *,
    loaded: AnyNetwork,
    device: torch.device,
    engine: Engine,
) -> dict[Split, SplitSummary]:
    restarted = set(listings) if settings.extract.restart else set()
    earlier = _earlier_part(run, restarted)
    if earlier is not None:  # before a network is exported or quantised in vain
        _check_kept(run, restarted, {**earlier.identity, "precision": settings.extract.precision})
    inference = resolve_inference(
        loaded,
        settings.extract,
        device=device,
        images=sum(len(listing.records) for listing in listings.values()),
        earlier=earlier,
        cache_dir=settings.model.cache_dir,
        sample=partial(_sample, [listing.records for listing in listings.values()], loaded, settings),
    )
    arch, how = settings.model.arch, inference.config.describe()
    log.info("extracting with %s, weights %s, on %s, %s", arch, loaded.weights, device, how)
    # Looked at before anything is cleared: a refusal must not cost features.
    _check_kept(run, restarted, inference.identity)
    for split in restarted:
        run.features(split).clear()
    changed = {"int8_error": inference.quantised.error.describe()} if inference.quantised else {}
    _begin(run, {**_info(settings, loaded), **inference.identity, **changed})
    layout, options = LAYOUTS[settings.data.dataset], settings.extract
    if isinstance(engine, LeaderEngine):
        engine.announcement = Announcement(run.path, engine.group)
        config = {"backend": inference.config.backend, "batch_size": inference.config.batch_size}
        engine.announcement.begin({**config, "identity": inference.identity})
    if options.save_crops is not None and not engine.here:
        options = options.model_copy(update={"save_crops": options.save_crops.absolute()})
    facts = {"dataset": layout.name, "protocol": layout.protocol, "weights": loaded.weights}
    into_store = partial(extract_split, inference=inference, options=options, facts=facts, engine=engine)
    summaries, lost = {}, []
    for split, listing in listings.items():
        try:
            summary = into_store(run.features(split), listing)
        except PartsLostError as error:
            lost.append((split, error))  # the other splits do not wait for it
            continue
        for warning in summary.warnings[len(listing.warnings) :]:  # the listing's are said already
            log.warning("%s", warning)
        log.debug("%s: %s", split, _describe(summary))
        summaries[split] = summary
    if lost:
        message = "; ".join(f"{split}: {error.message}" for split, error in lost)
        raise PartsLostError(message, hint=lost[0][1].hint)
    if isinstance(engine, LeaderEngine) and engine.announcement is not None:
        engine.announcement.end()
    return summaries


def _sample(splits: Sequence[Records], loaded: AnyNetwork, settings: Settings) -> torch.Tensor:
    """Pixels of images of all splits, as many of each as its share, in random order: what int8 is quantised by."""
    total, seed = sum(map(len, splits)), settings.run.seed
    found = []
    for records in splits:
        preparation = Preparation(records, loaded.transform, settings.extract.max_pixels)
        found.append(sample_pixels(preparation, count=round(INT8_IMAGES * len(records) / total), seed=seed))
    pixels = torch.cat([one for one in found if len(one)] or found[:1])
    return pixels[torch.randperm(len(pixels), generator=torch.Generator().manual_seed(seed))]


def _check_kept(run: RunDirectory, restarted: AbstractSet[Split], identity: Mapping[str, str]) -> None:
    """Refuse to add features of another identity to those that are kept."""
    for split in run.extracted_splits():
        if split not in restarted:
            run.features(split).check_identity(identity)


def _begin(run: RunDirectory, info: dict[str, Any]) -> None:
    """Write what makes the run, and say so where its images were elsewhere before."""
    before = run.read_info() if run.info_path.is_file() else {}
    for key in ("data_dir", "query_dir", "gallery_dir"):
        if before.get(key) not in (None, info[key]):
            log.info("%s: its %s was %s; what is not found any more is dropped", run.path, key, before[key])
    run.write_info(info)
    # Before the work, so that after an interruption the next command speaks of this run and not of an older one.
    run.mark_latest()


def _describe(summary: SplitSummary) -> str:
    text = f"{amount(summary.images, 'image')} in {amount(summary.tracks, 'track')}, {summary.computed:,} computed now"
    return f"{text}, {len(summary.skipped):,} skipped" if summary.skipped else text


def _earlier_part(run: RunDirectory, restarted: AbstractSet[Split]) -> PartFacts | None:
    """What a part of the run that is kept says about itself; None where there is none."""
    stores = [run.features(split) for split in run.extracted_splits() if split not in restarted]
    facts = (store.read_facts(part) for store in stores for part in store.part_numbers())
    return next((found for found in facts if found is not None), None)


def _info(settings: Settings, loaded: AnyNetwork) -> dict[str, Any]:
    folders = data_folders(settings)
    return {
        "schema": INFO_SCHEMA,
        "dataset": settings.data.dataset,
        "data_dir": absolute(folders.data_dir),
        "query_dir": absolute(folders.query_dir),
        "gallery_dir": absolute(folders.gallery_dir),
        "subset": chosen_subset(settings),
        "label_pattern": settings.data.label_pattern,
        **_thinning(settings),
        "weights": weights_to_find_again(str(settings.model.weights)),
        "input": settings.model.input.model_dump(mode="json", exclude_none=True),
        "output": settings.model.output,
        "seed": settings.run.seed,
        "note": MEANINGLESS if loaded.weights == RANDOM_WEIGHTS else None,
        "versions": {"vreid": __version__, "torch": str(torch.__version__)},
    }


def _thinning(settings: Settings) -> dict[str, Any]:
    """Which of a tracker's boxes are used, of a layout that has them."""
    if LAYOUTS[settings.data.dataset].protocol != "every-track":
        return {}
    names = ("track_file", "per_track", "choose", "min_size", "min_confidence")
    return {name: getattr(settings.data, name) for name in names}
