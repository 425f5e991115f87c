"""A tiny network and a folder of images, for one extraction after the other into one store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from vreid_cli.data.decoding import decode_rgb
from vreid_cli.data.listing import DataFolders, Listing
from vreid_cli.data.tracks import read_tracks
from vreid_cli.extraction.inference import Inference, InferenceConfig
from vreid_cli.extraction.options import ExtractionOptions
from vreid_cli.extraction.split import SplitSummary, extract_split
from vreid_cli.models.backbones import Backbone
from vreid_cli.models.checkpoint import weights_digest
from vreid_cli.models.network import build_random
from vreid_cli.models.transforms import Transform
from vreid_cli.models.weights import LoadedNetwork
from vreid_cli.store.features import FeatureStore
from vreid_cli.types.features import MEANINGLESS

SMALL = Transform(resize=40, crop=32)
CPU = torch.device("cpu")
#: Batches of another size choose other kernels.
BATCH_TOLERANCE = 1e-6


def _build_tiny() -> nn.Module:
    layers = [nn.Conv2d(3, 12, 5, stride=2), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 10, 3)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 5))


TINY = Backbone(
    name="tiny",
    dimension=10,
    transform=SMALL,
    build=_build_tiny,
    head="6",
    latent=lambda trunk, images: trunk(images),
)


def load_tiny(backbone: Backbone = TINY, transform: Transform = SMALL) -> LoadedNetwork:
    network = build_random(backbone, seed=0).eval()
    return LoadedNetwork(network, transform, "random", weights_digest(network), warnings=(MEANINGLESS,))


def by_torch(batch_size: int = 4) -> InferenceConfig:
    return InferenceConfig(CPU, "torch", "as asked", "fp32", batch_size)


class CountingInference(Inference):
    """Notes how many images each batch holds, and how often it was asked to get ready."""

    def __init__(self, loaded: LoadedNetwork | None = None, config: InferenceConfig | None = None) -> None:
        super().__init__(loaded or load_tiny(), config or by_torch())
        self.batches: list[int] = []
        self.events: list[str] = []

    def prepare(self) -> None:
        self.events.append("prepare")
        super().prepare()

    def compute(self, pixels: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(pixels))
        self.events.append("compute")
        return super().compute(pixels)


@dataclass
class Bench:
    """A folder of images, a store, and one extraction after the other."""

    data: Path
    store: FeatureStore
    part_images: int = 4
    reader: Callable[[DataFolders, str], Listing] = read_tracks
    make: Callable[[], CountingInference] = CountingInference
    inference: CountingInference = field(default_factory=CountingInference)

    def run(self, store: FeatureStore | None = None, **options: object) -> SplitSummary:
        chosen = {"part_images": self.part_images, "workers": 0, "max_pixels": 1_000_000, **options}
        self.inference = self.make()
        return extract_split(
            store or self.store,
            self.listing(),
            inference=self.inference,
            options=ExtractionOptions(**chosen),
            facts={"dataset": "tracks", "weights": "random"},
        )

    def listing(self) -> Listing:
        return self.reader(DataFolders(self.data), "gallery")

    def undisturbed(self, **options: object) -> FeatureStore:
        """A store of its own, from a run that nothing disturbs."""
        store = FeatureStore(self.store.path.with_name("undisturbed"))
        self.run(store, **options)
        return store

    @property
    def computed(self) -> int:
        """Images that went through the network in the last run, however it ended."""
        return sum(self.inference.batches)

    def files(self, store: FeatureStore | None = None) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (store or self.store).path.iterdir()}

    def parts(self, store: FeatureStore | None = None) -> dict[str, bytes]:
        return {name: content for name, content in self.files(store).items() if name.startswith("part-")}

    def changed_parts(self, before: dict[str, bytes]) -> list[str]:
        """Names of the parts that are not as they were."""
        after = self.parts()
        return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))

    def features(self, store: FeatureStore | None = None) -> dict[str, np.ndarray]:
        found = (store or self.store).read()
        return dict(zip(found.image_id, found.matrix.take(np.arange(len(found))), strict=True))

    def image(self, name: str) -> Path:
        return self.data / "gallery" / name


def draw(path: Path, seed: int, size: tuple[int, int] = (48, 44)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    coarse.resize(size, Image.Resampling.BICUBIC).save(path)


#: Six tracks of vehicles of their own: with four images a part they make parts of 5, 5 and 4 images.
TRACKS = {"0001_c001": 2, "0002_c001": 3, "0003_c002": 1, "0004_c001": 4, "0005_c003": 3, "0006_c001": 1}
IMAGES = sum(TRACKS.values())


def make_bench(folder: Path) -> Bench:
    seed = 0
    for track, count in TRACKS.items():
        for number in range(count):
            draw(folder / "data" / "gallery" / track / f"{number}.png", seed)
            seed += 1
    return Bench(folder / "data", FeatureStore(folder / "store"))


def lr_of(path: Path) -> np.ndarray:
    """The LR of one image, alone, by the network as torchvision would call it."""
    pixels = SMALL.crop_uint8(decode_rgb(path, max_pixels=10**6))
    with torch.inference_mode():
        return load_tiny().network.trunk(SMALL.normalise(pixels[None])).numpy()[0]


def holds_only(images: int, error: Exception) -> tuple[LoadedNetwork, list[int]]:
    """A network on a device that holds only so many images, and the batches that were tried."""
    tried: list[int] = []

    def latent(trunk: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        tried.append(len(batch))
        if len(batch) > images:
            raise error
        found: torch.Tensor = trunk(batch)
        return found

    return load_tiny(replace(TINY, latent=latent)), tried


VERI = {
    "0001_c001_t0001": ["0001_c001_00000010_0.jpg", "0001_c001_00000020_0.jpg"],
    "0001_c001_t0002": ["0001_c001_00000500_0.jpg"],
    "0002_c003_t0001": ["0002_c003_00000010_0.jpg", "0002_c003_00000030_0.jpg"],
    "0002_c004_t0001": ["0002_c004_00000010_0.jpg"],
}


def write_tracks(data: Path, tracks: dict[str, list[str]]) -> None:
    (data / "test_track.txt").write_text("".join(f"{track} {' '.join(names)} \r\n" for track, names in tracks.items()))


def tracks_of(store: FeatureStore) -> dict[str, str]:
    found = store.read()
    return dict(zip(found.image_id, found.track_id, strict=True))


def expected_tracks(tracks: dict[str, list[str]]) -> dict[str, str]:
    return {name: track for track, names in tracks.items() for name in names}
