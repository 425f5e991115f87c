"""A network as a folder of the Hugging Face hub: weights, configuration, model card."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vreid_cli.models.checkpoint import network_state, weights_digest, write_tensors
from vreid_cli.models.sources import HUB_CONFIG, HUB_WEIGHTS
from vreid_cli.models.weights import LoadedNetwork
from vreid_cli.runtime.files import atomic_path

HUB_CARD = "README.md"
_CARD = """---
library_name: vreid
pipeline_tag: image-feature-extraction
tags: [vehicle-re-identification]
---

# {title}

A network for vehicle re-identification: {architecture}, which turns an image of a vehicle into {dimension} numbers.
Images of the same vehicle lie near each other by the cosine.

```console
vreid extract --dataset tracks --data-dir my_tracks --weights FOLDER
```

`FOLDER` is this folder, or `hf-hub:owner/name` once it is on the hub.

| | |
|---|---|
| input | {size}, {transform} |
| weights digest | `{digest}` |
{training}
"""
_TRAINING = {
    "recipe": "recipe",
    "data": "data",
    "begun_from": "trained from",
    "seed": "seed",
    "metrics": "scores of the last epoch",
    "versions": "versions",
}


def write_hub_folder(folder: Path, loaded: LoadedNetwork, *, title: str, half: bool = False) -> tuple[Path, ...]:
    """Write what ``--weights FOLDER`` and ``--weights hf-hub:owner/name`` read; a classifier is left out.

    Args:
        folder: Where to write; its files of these names are replaced.
        loaded: The network.
        title: Heading of the model card.
        half: Whether kernels and matrices become float16. Vectors stay float32: the range of a normalisation's
            variances is wider.

    Returns:
        The files.

    Raises:
        StoreError: The folder cannot be written to.

    Examples:
        >>> from vreid_cli.models.weights import load_network
        >>> network = load_network("random", arch="resnet18")
        >>> [path.name for path in write_hub_folder(Path("mine"), network, title="Mine")]
        ['model.safetensors', 'config.json', 'README.md']
        >>> load_network("mine").digest == network.digest
        True
    """
    network = copy.deepcopy(loaded.network)
    network.head = None
    if half:
        for tensor in network.parameters():
            tensor.data = tensor.data.half().float() if tensor.ndim > 1 else tensor.data
    digest = weights_digest(network)
    facts = {"architecture": loaded.architecture, "dimension": loaded.dimension, "weights_digest": digest}
    paths = tuple(folder / name for name in (HUB_WEIGHTS, HUB_CONFIG, HUB_CARD))
    state = {
        name: tensor.half() if half and tensor.ndim > 1 else tensor for name, tensor in network_state(network).items()
    }
    told = {key: loaded.facts[key] for key in _TRAINING if key in loaded.facts}
    told = {key: fact if isinstance(fact, str) else json.dumps(fact) for key, fact in told.items()}
    known = {"vreid": "1", "architecture": loaded.architecture, "transform": loaded.transform.to_json()}
    write_tensors(paths[0], state, facts={**told, **known})
    config = {"library_name": "vreid", **facts, "transform": asdict(loaded.transform)}
    for path, text in (
        (paths[1], json.dumps(config, indent=2) + "\n"),
        (paths[2], _write_card(loaded, digest, title=title)),
    ):
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return paths


def _write_card(loaded: LoadedNetwork, digest: str, *, title: str) -> str:
    height, width = loaded.transform.size
    rows = [f"| {name} | {_say(loaded.facts[key])} |" for key, name in _TRAINING.items() if key in loaded.facts]
    return _CARD.format(
        title=title,
        architecture=loaded.architecture,
        dimension=f"{loaded.dimension:,}",
        size=f"{height} x {width} pixels",
        transform=f"`{loaded.transform.identity}`",
        digest=digest,
        training="\n".join(rows),
    )


def _say(fact: Any) -> str:
    """A fact of a checkpoint in one line of a table."""
    if isinstance(fact, Mapping):
        return ", ".join(f"{key} {_say(value)}" for key, value in fact.items() if not isinstance(value, list | Mapping))
    return str(fact).replace("|", "/")
