"""JPEG files decoded and cropped by the device that computes, and how far that is from what PIL makes of them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torchvision
from PIL import Image

from vreid_cli.data.decoding import BadImageError, Jpeg, decode_rgb, read_jpeg
from vreid_cli.errors import DeviceError, UsageError, first_line
from vreid_cli.extraction.loading import Batch, stack_pixels
from vreid_cli.models.transforms import Transform
from vreid_cli.runtime.progress import log
from vreid_cli.types.images import ImageRecord

#: Pixels that are decoded at a time, before they are cropped: 192 MiB of RGB, and four times that for the largest.
_AT_ONCE = 2**26
#: JPEG files that are compared with PIL.
SAMPLE = 16


@dataclass(frozen=True)
class Difference:
    """How far images decoded on the device are from those that PIL decodes.

    Attributes:
        images: How many were compared.
        pixel_mean: Mean absolute difference of the cropped pixels, of 255.
        pixel_max: The greatest.
        latent_median: Median length of the difference of an image's two LRs, in parts of the length of PIL's.
        latent_max: The greatest.
    """

    images: int
    pixel_mean: float
    pixel_max: int
    latent_median: float
    latent_max: float

    def describe(self) -> str:
        """Part of a line for people."""
        median, most = 100 * self.latent_median, 100 * self.latent_max
        return (
            f"pixels differ by {self.pixel_mean:.2g} of 255 on average (at most {self.pixel_max}), "
            f"latent representations by {median:.2g} % of their length (at most {most:.2g} %)"
        )

    def recorded(self) -> dict[str, str]:
        """The numbers as circumstances of a part."""
        return {
            "decode_compared": str(self.images),
            "decode_pixel_mean": f"{self.pixel_mean:.3g}",
            "decode_pixel_max": str(self.pixel_max),
            "decode_latent_median": f"{self.latent_median:.3g}",
            "decode_latent_max": f"{self.latent_max:.3g}",
        }


@dataclass
class Routes:
    """Which way the images went.

    Attributes:
        on_device: Decoded on the device.
        by_pil: Decoded by PIL: other formats and kinds of JPEG, boxes, and what the device refused.
        refused: Files that the device refused, whether or not PIL could decode them.
    """

    on_device: int = 0
    by_pil: int = 0
    refused: int = 0


@dataclass(frozen=True)
class DecodingSummary:
    """What the device decoded.

    Attributes:
        device: Its name.
        routes: Which way the images went.
        difference: From what PIL decodes; None where there was nothing to compare.
    """

    device: str
    routes: Routes
    difference: Difference | None


class DeviceDecoder:
    """Decodes on the device what the loader's workers left to it.

    On CUDA torchvision's nvJPEG decodes, on a CPU its libjpeg; resizing and cropping are the same there.

    Args:
        device: Where to decode.
        transform: What is cropped.
        max_pixels: Larger images are refused.

    Attributes:
        device: Where it decodes.
    """

    def __init__(self, device: torch.device, transform: Transform, *, max_pixels: int) -> None:
        self.device = device
        self._routes = Routes()
        self._difference: Difference | None = None
        self._transform = transform
        self._max_pixels = max_pixels
        # Beside the stream of the forward pass, so that decoding a batch need not wait for the batch before.
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def complete(self, batch: Batch) -> Batch:
        """The batch with the pixels of all its images, on the device, in their order.

        What the device refuses is decoded by PIL; what that refuses too joins the batch's bad images.
        """
        waiting = dict(batch.waiting)
        self._routes.by_pil += len(batch.indices) - len(waiting)
        if not waiting:
            return batch
        with self._aside():
            decoded = dict(zip(waiting, self._decode(list(waiting.values())), strict=True))
            ready = iter(batch.pixels.to(self.device, non_blocking=True))
            contents = [decoded[row] if row in decoded else next(ready) for row in range(len(batch.indices))]
            pixels = stack_pixels([content for content in contents if isinstance(content, torch.Tensor)])
        both = list(zip(batch.indices, contents, strict=True))
        bad = [(index, content) for index, content in both if isinstance(content, str)]
        indices = [index for index, content in both if not isinstance(content, str)]
        return replace(batch, indices=indices, pixels=self._hand_over(pixels), bad=[*batch.bad, *bad], waiting=[])

    def compare(
        self,
        records: Sequence[ImageRecord],
        compute: Callable[[torch.Tensor], torch.Tensor],
        *,
        most: int = SAMPLE,
    ) -> None:
        """Measure the difference on some of the JPEG files among the records, and tell it.

        They are taken evenly from all records: interrupted and taken up again, an extraction finds the same numbers.

        Args:
            records: Images.
            compute: LRs (B, D) on the CPU of pixels (B, 3, crop, crop).
            most: Files that are compared, if there are so many among four times as many images.
        """
        sample = list(self._sample(records, most))
        with self._aside():
            found = self._decode_all([jpeg for jpeg, _ in sample])
            decoded = stack_pixels([image for image in found if image is not None])
        if not len(decoded):
            log.info("decoding on %s: there was no JPEG file to compare with what PIL decodes", self.device)
            return
        decoded = self._hand_over(decoded)
        exact = stack_pixels([own for image, (_, own) in zip(found, sample, strict=True) if image is not None])
        self._difference = difference_of((decoded.cpu(), exact), (compute(decoded), compute(exact)))
        log.info("decoding on %s: %s", self.device, self._difference.describe())

    def recorded(self) -> dict[str, str]:
        """Circumstances for the parts."""
        measured = {} if self._difference is None else self._difference.recorded()
        return {"torchvision": str(torchvision.__version__), **measured}

    def summary(self) -> DecodingSummary:
        """What was decoded and measured since it was made."""
        return DecodingSummary(str(self.device), replace(self._routes), self._difference)

    def describe_routes(self) -> str:
        """How many images went which way, for people."""
        routes = self._routes
        text = f"{routes.on_device:,} images decoded on {self.device}, {routes.by_pil:,} by PIL"
        return f"{text}; {self.device} refused {routes.refused:,}" if routes.refused else text

    def _sample(self, records: Sequence[ImageRecord], most: int) -> Iterator[tuple[Jpeg, torch.Tensor]]:
        """JPEG files with the exact pixels of each."""
        count = min(len(records), 4 * most)
        places = [place * len(records) // count for place in range(count)]
        found = 0
        # Every fourth place first: where all are JPEG, these are spread over all records.
        for place in (place for start in range(4) for place in places[start::4]):
            record = records[place]
            try:
                jpeg = None if record.box else read_jpeg(record.path, max_pixels=self._max_pixels)
                if jpeg is None:
                    continue
                yield jpeg, self._crop_exactly(jpeg)
            except BadImageError:
                continue  # told when its turn comes
            found += 1
            if found == most:
                return

    def _crop_exactly(self, jpeg: Jpeg) -> torch.Tensor:
        return self._transform.crop_uint8(decode_rgb(jpeg.path, max_pixels=self._max_pixels))

    def _decode(self, jpegs: Sequence[Jpeg]) -> list[torch.Tensor | str]:
        """Cropped pixels on the device, or why there are none."""
        return [
            self._try_pil(jpeg) if image is None else self._count(image)
            for jpeg, image in zip(jpegs, self._decode_all(jpegs), strict=True)
        ]

    def _count(self, image: torch.Tensor) -> torch.Tensor:
        self._routes.on_device += 1
        return image

    def _try_pil(self, jpeg: Jpeg) -> torch.Tensor | str:
        self._routes.refused += 1
        try:
            image = self._crop_exactly(jpeg)
        except BadImageError as error:
            return str(error)
        self._routes.by_pil += 1
        return image.to(self.device)

    def _decode_all(self, jpegs: Sequence[Jpeg]) -> list[torch.Tensor | None]:
        """Cropped pixels on the device; None for each file that it refuses."""
        return [image for group in _groups(jpegs) for image in self._decode_group(group)]

    def _decode_group(self, group: Sequence[Jpeg]) -> list[torch.Tensor | None]:
        if self._stream is not None:
            # torchvision decodes on a stream of its own into memory of this one, in which it may still be cropping.
            self._stream.synchronize()
        try:
            images = decode_files([jpeg.content for jpeg in group], self.device)
            return [self._crop(image, jpeg) for image, jpeg in zip(images, group, strict=True)]
        except RuntimeError as error:
            reason = first_line(error)
        if len(group) > 1:
            # It does not say which file it refuses.
            return [self._decode_group([jpeg])[0] for jpeg in group]
        log.debug("%s: refused by %s, PIL is asked: %s", group[0].path, self.device, reason)
        return [None]

    def _crop(self, image: torch.Tensor, jpeg: Jpeg) -> torch.Tensor:
        if tuple(image.shape) != (3, jpeg.height, jpeg.width):
            raise RuntimeError(f"decoded to {tuple(image.shape)}, {jpeg.width} x {jpeg.height} were expected")
        return self._transform.crop_decoded(image)

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """On the decoder's own stream; what comes out of it goes through :meth:`_hand_over`."""
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            yield

    def _hand_over(self, pixels: torch.Tensor) -> torch.Tensor:
        """Let the current stream wait until these pixels are there; their memory is kept until it is done with them."""
        if self._stream is not None and pixels.is_cuda:
            current = torch.cuda.current_stream(self.device)
            current.wait_stream(self._stream)
            pixels.record_stream(current)
        return pixels


def difference_of(pixels: tuple[torch.Tensor, torch.Tensor], latent: tuple[torch.Tensor, torch.Tensor]) -> Difference:
    """Compare what the device decoded with what is exact.

    Args:
        pixels: Both (B, 3, crop, crop) uint8.
        latent: Both (B, D) float32.
    """
    steps = (pixels[0].int() - pixels[1].int()).abs()
    lengths = latent[1].norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
    relative = (latent[0] - latent[1]).norm(dim=1) / lengths
    return Difference(
        images=len(steps),
        pixel_mean=float(steps.double().mean()),
        pixel_max=int(steps.max()),
        # The mean of the two middle ones, as everywhere here; torch.median takes the lower.
        latent_median=float(relative.quantile(0.5)),
        latent_max=float(relative.max()),
    )


def require_device_decoding(device: torch.device, *, name: str) -> None:
    """Make sure, by an image of its own, that JPEG files can be decoded on a device.

    Args:
        device: Where to decode.
        name: What messages call the setting.

    Raises:
        UsageError: It is no CUDA device.
        DeviceError: This build of torchvision cannot.
    """
    if device.type != "cuda":
        raise UsageError(
            f"{name}: only CUDA devices decode JPEG, {device} does not",
            hint="use --device cuda, or leave the setting out: then PIL decodes",
        )
    drawn = io.BytesIO()
    Image.new("RGB", (16, 16)).save(drawn, "JPEG")
    try:
        decode_files([drawn.getvalue()], device)
    except (RuntimeError, TypeError, AttributeError) as error:  # the last two: older ones take no list of files
        raise DeviceError(
            f"{name}: torchvision {torchvision.__version__} cannot decode JPEG on {device}: {first_line(error)}",
            hint="install torchvision 0.20 or newer with nvJPEG, as pytorch.org has it for CUDA; or leave the setting "
            "out: then PIL decodes",
        ) from None


def decode_files(contents: Sequence[bytes], device: torch.device) -> list[torch.Tensor]:
    """RGB pixels (3, H, W) uint8 on the device of whole JPEG files.

    Raises:
        RuntimeError: torchvision cannot decode there, or refuses one of them.
    """
    decode = getattr(torchvision.io, "decode_jpeg", None)
    if decode is None:
        raise RuntimeError("it has no decode_jpeg any more")
    files = [torch.frombuffer(bytearray(content), dtype=torch.uint8) for content in contents]
    with warnings.catch_warnings():
        # From 0.29 on torchvision announces with each call that this will go to TorchCodec one day.
        warnings.simplefilter("ignore", DeprecationWarning)
        decoded: list[torch.Tensor] = decode(files, mode=torchvision.io.ImageReadMode.RGB, device=device)
    return decoded


def _groups(jpegs: Sequence[Jpeg]) -> Iterator[list[Jpeg]]:
    """Files in their order, as many at a time as fit into memory decoded; a larger one alone."""
    group: list[Jpeg] = []
    pixels = 0
    for jpeg in jpegs:
        size = jpeg.width * jpeg.height
        if group and pixels + size > _AT_ONCE:
            yield group
            group, pixels = [], 0
        group.append(jpeg)
        pixels += size
    if group:
        yield group
