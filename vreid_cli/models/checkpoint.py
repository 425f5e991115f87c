"""Reading state dicts of every common kind, and our own checkpoint: safetensors that say what they are."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from vreid_cli.errors import UsageError, WeightsError, first_line, nearest_name
from vreid_cli.models.backbones import TIMM, find_backbone
from vreid_cli.models.network import Network
from vreid_cli.models.sources import HUB_CONFIG, HUB_WEIGHTS, SOURCES
from vreid_cli.models.transforms import Transform
from vreid_cli.runtime.files import atomic_path, read_text
from vreid_cli.store.metadata import open_safetensors, read_metadata
from vreid_cli.types.lazy import load

StateDict = dict[str, torch.Tensor]

#: The ending of files that say what they are.
SAFETENSORS = ".safetensors"

#: Keys under which training scripts wrap the state dict, and prefixes that wrappers such as DataParallel add.
_WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "network")
_PREFIXES = ("module.", "model.", "backbone.", "_orig_mod.")
#: torchvision's DenseNets before 2018 wrote ``norm.1``; today's module is ``norm1``.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
#: MobileNetV2 as it was before torchvision had it: the layers of a block are counted without groups. The first block
#: has no expansion.
_OLD_MOBILENET = re.compile(r"features\.(\d+)\.conv\.(\d+)\.")
_OLD_MOBILENET_MARK = "features.1.conv.4.weight"
_MOBILENET_FIRST = {"0": "0.0", "1": "0.1", "3": "1", "4": "2"}
_MOBILENET_BLOCK = {"0": "0.0", "1": "0.1", "3": "1.0", "4": "1.1", "6": "2", "7": "3"}
#: How torch names, in a long text, what a pickle would have run.
_REFUSED_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_SHOWN_KEYS = 5
#: torchvision has no name for what stands between trunk and head.
_NECK = "neck."


@dataclass(frozen=True)
class Checkpoint:
    """A state dict in torchvision's names, with what the file says about it.

    Attributes:
        state: Tensors by name; those of a neck begin with ``neck.``. Empty where only the facts were read.
        architecture: Where the file says it.
        transform: Where the file says it.
        classes: Names of the vehicles that the classifier tells apart; empty in files of other programs.
        facts: All that the file says about itself.
    """

    state: StateDict
    architecture: str | None = None
    transform: Transform | None = None
    classes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_neck(self) -> bool:
        """Whether the network was trained with a neck."""
        return any(name.startswith(_NECK) for name in self.state)


def save_checkpoint(path: Path, network: Network, *, transform: Transform, facts: Mapping[str, str]) -> None:
    """Write a network, head included, in torchvision's names, with architecture, transform and further facts."""
    metadata = {**facts, "vreid": "1", "architecture": network.backbone.name, "transform": transform.to_json()}
    write_tensors(path, network_state(network), facts=metadata)


def write_tensors(path: Path, tensors: StateDict, *, facts: Mapping[str, str]) -> None:
    """Write tensors as safetensors with metadata, atomically."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(plain, temporary, metadata=dict(facts))
        except SafetensorError as error:  # what it makes of a full disk
            raise OSError(str(error)) from error
        _order_facts(temporary)


def _order_facts(path: Path) -> None:
    """Sort the metadata of a safetensors file, whose writer has them in any order: the same network, the same bytes."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= size:  # as long as before, or somebody writes JSON in another way
            file.seek(8)
            file.write(text.ljust(size))


def network_state(network: Network) -> StateDict:
    """All tensors of a network, head and neck included, in torchvision's names."""
    state: StateDict = dict(network.trunk.state_dict())
    for part, prefix in ((network.neck, _NECK), (network.head, f"{network.backbone.head}.")):
        if part is not None:
            state |= {f"{prefix}{name}": tensor for name, tensor in part.state_dict().items()}
    return state


def read_tensors(path: Path) -> StateDict:
    """Tensors of a safetensors file, by name.

    Raises:
        WeightsError: The file is damaged or no safetensors file.
    """
    with open_safetensors(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary


def below(state: StateDict, prefix: str) -> StateDict:
    """The tensors whose names begin with a prefix, named without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def read_checkpoint(path: Path) -> Checkpoint:
    """Read ``.safetensors``, ``.pth`` and ``.pt`` without running code that they hold, or a folder of the hub's form.

    Raises:
        WeightsError: The file is missing, cut short, hostile, or holds no state dict.
    """
    if path.is_dir():
        return replace(read_facts(path), state=_normalise_names(read_tensors(path / HUB_WEIGHTS)))
    check_weights_file(path)
    if path.suffix.lower() != SAFETENSORS:
        return Checkpoint(_normalise_names(_unwrap(_load_pickle(path), path)))
    return replace(read_facts(path), state=_normalise_names(read_tensors(path)))


def read_facts(path: Path) -> Checkpoint:
    """What a safetensors file, or a folder as the Hugging Face hub has it, says about itself; without tensors.

    In such a folder the weights' own metadata count; where they say nothing, ``config.json`` does, in vreid's form or
    in timm's.

    Raises:
        WeightsError: It is missing or damaged, or names an unknown architecture.
    """
    file = path / HUB_WEIGHTS if path.is_dir() else path
    check_weights_file(file)
    facts = read_metadata(file)
    if path.is_dir() and "architecture" not in facts:
        facts = _read_config(path / HUB_CONFIG)
    classes = facts.get("classes")
    return Checkpoint(
        {},
        architecture=_named_architecture(facts, file),
        transform=Transform.from_values(facts["transform"]) if "transform" in facts else None,
        classes=tuple(map(str, classes)) if isinstance(classes, list) else (),
        facts=facts,
    )


def _read_config(path: Path) -> dict[str, Any]:
    """Facts of a ``config.json``; timm's names its architecture, whose input is timm's for it."""
    try:
        config = json.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{path} cannot be read: {first_line(error)}", hint="it names the network", file=path
        ) from None
    if not isinstance(config, dict) or "architecture" not in config:
        raise WeightsError(f"{path} names no architecture", hint="give the weights file, and --arch", file=path)
    if config.get("library_name") == "vreid":
        return config
    facts = {"architecture": f"{TIMM}{config['architecture']}"}
    try:
        transform = load("vreid_cli.models.timm_backbones:timm_transform")(config["pretrained_cfg"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return facts  # the architecture's own input
    return {**facts, "transform": asdict(transform)}


def check_weights_file(path: Path) -> None:
    """Refuse a weights file that is not there.

    Raises:
        WeightsError: It is not.
    """
    if not path.is_file():
        nearest = nearest_name(str(path), SOURCES)
        offer = f"did you mean '{nearest}'? " if nearest else ""
        hint = f"{offer}--weights takes {', '.join(SOURCES)}, or the path of a .safetensors, .pth, .pt or .onnx file"
        raise WeightsError(f"there is no weights file {path}", hint=hint, file=path)


def _named_architecture(facts: Mapping[str, Any], path: Path) -> str | None:
    """The architecture that a safetensors file names in its metadata; None where none is named.

    Raises:
        WeightsError: It is none of ours.
    """
    if "architecture" not in facts:
        return None
    architecture = str(facts["architecture"])
    try:
        find_backbone(architecture)
    except UsageError as error:
        known = f"{path} is for the architecture '{architecture}': {error.message}"
        raise WeightsError(known, hint=error.hint, file=path) from None
    return architecture


def _load_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own text advises to load the file without protection; that advice is not ours to pass on.
        refused = _REFUSED_GLOBAL.search(str(error))
        reason = f"it would run {refused[1]}" if refused else "it holds more than tensors, or is no file of torch.save"
        raise WeightsError(
            f"{path} is no plain state dict: {reason}",
            hint="files that would run code are refused; save `model.state_dict()` instead of the model",
            file=path,
        ) from None
    except Exception as error:  # noqa: BLE001 - a damaged pickle makes torch raise almost anything
        reason = (str(error).splitlines() or [type(error).__name__])[0].partition(". ")[0]
        raise WeightsError(
            f"{path} is damaged, cut short or no state dict: {reason}", hint="copy or download it again", file=path
        ) from None


def _unwrap(loaded: Any, path: Path) -> StateDict:
    """The state dict inside what a training script saved."""
    while isinstance(loaded, Mapping):
        if state := {str(name): value for name, value in loaded.items() if isinstance(value, torch.Tensor)}:
            return state
        loaded = next((loaded[key] for key in _WRAPPERS if isinstance(loaded.get(key), Mapping)), None)
    raise WeightsError(
        f"{path} holds no state dict",
        hint=f"expected tensors by name, at the top or under one of {', '.join(_WRAPPERS)}",
        file=path,
    )


def _normalise_names(state: StateDict) -> StateDict:
    """Strip the prefixes that every key carries, and rename the keys of old DenseNets and MobileNets."""
    while state and (prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in state)), None)):
        state = below(state, prefix)
    if _OLD_MOBILENET_MARK in state:
        state = {_OLD_MOBILENET.sub(_mobilenet_today, name): tensor for name, tensor in state.items()}
    return {_OLD_DENSENET.sub(r"\1\2", name): tensor for name, tensor in state.items()}


def _mobilenet_today(old: re.Match[str]) -> str:
    block, layer = old.groups()
    names = _MOBILENET_FIRST if block == "1" else _MOBILENET_BLOCK
    return f"features.{block}.conv.{names.get(layer, layer)}."


def load_weights(network: Network, state: StateDict, *, source: str, head: bool = False) -> int | None:
    """Copy a state dict into the network's trunk and neck, and into its head or not.

    Args:
        network: Filled in place; its neck stays as it is where the state has none.
        state: Tensors in torchvision's names.
        source: What to call the weights in messages.
        head: Whether to fill the head; else the state's is dropped, whatever its number of classes.

    Returns:
        The number of classes of the head that was dropped; None if there was none.

    Raises:
        WeightsError: Keys are missing or unexpected (the first are listed), or a shape or value is wrong.
    """
    ignored = (f"{network.backbone.head}.", _NECK, *network.backbone.ignored)
    trunk = {name: tensor for name, tensor in state.items() if not name.startswith(ignored)}
    _fill(network.trunk, trunk, network=network, source=source)
    neck = below(state, _NECK)
    if neck and network.neck is not None:
        _fill(network.neck, neck, network=network, source=source)
    classifier = below(state, f"{network.backbone.head}.")
    if head and network.head is not None:
        _fill(network.head, classifier, network=network, source=source)
        return None
    return len(classifier["weight"]) if "weight" in classifier else None


def _fill(part: nn.Module, given: StateDict, *, network: Network, source: str) -> None:
    own = part.state_dict()
    # Counters that older torch did not save; they have no part in an LR.
    missing = [name for name in own if name not in given and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in given if name not in own]
    if missing or unexpected:
        raise WeightsError(
            f"{source} does not fit {network.backbone.name}: "
            f"missing {_first(missing)}; unexpected {_first(unexpected)}",
            hint="choose the architecture that the weights were made for with --arch",
            file=source,
        )
    for name, tensor in given.items():
        if tensor.shape != own[name].shape:
            shapes = f"{tuple(tensor.shape)} where {tuple(own[name].shape)} is needed"
            raise WeightsError(f"{source} does not fit {network.backbone.name}: {name} is {shapes}", file=source)
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{source}: {name} holds values that are not finite", file=source)
    part.load_state_dict(given, strict=False)


def weights_digest(network: Network) -> str:
    """SHA-256 over names, shapes and values of what makes the LR, so the same weights agree in any file format."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network_state(network).items()):
        if name.endswith("num_batches_tracked") or name.startswith(f"{network.backbone.head}."):
            continue
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().to(torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def _first(names: list[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - _SHOWN_KEYS} more" if len(names) > _SHOWN_KEYS else ""
    return ", ".join(names[:_SHOWN_KEYS]) + more
