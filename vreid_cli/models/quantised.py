"""The LR network in int8, for ONNX Runtime on a CPU: quantised by what its layers give for real images.

Weights are signed and have a scale for each channel, activations are unsigned and have one for each tensor: x86 has
instructions for that pair only. A layer that stays in fp32 between others costs more than it takes, so all are
quantised but

- the first convolutions, as all others multiply their rounding;
- the last convolutions, where that leaves clearly less error: they compute few places, over which little averages out;
- a last product, if it gives the LR.

What rounding does to the mean of a channel is known beforehand, and goes into the biases (Nagel et al. 2019, Data-free
quantization through weight equalization and bias correction).
"""

from __future__ import annotations

import copy
import logging
import math
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vreid_cli.errors import ExportError, first_line
from vreid_cli.models.onnx_session import OnnxNetwork
from vreid_cli.runtime.files import atomic_path

#: What may stay in fp32: so many convolutions at the front, and at the end those of this share of all multiplications.
#: Of these choices the first one is taken whose error is nearly the least.
_CHOICES = ((1, 0.0), (3, 0.0), (1, 0.2), (3, 0.2))
_NEARLY = 1.25
#: Of the LR's length: an error that nobody needs smaller.
_GOOD = 0.03
_OPERATIONS = ["Conv", "Relu", "Clip", "Add", "Concat", "MaxPool", "AveragePool", "Gemm", "MatMul", "Mul", "Sigmoid"]
_BATCH = 8
#: The mean of the images' extremes and a little more: those of all together leave the values between them too few
#: steps, and without more than the mean the LRs of some images move far.
_TYPICAL, _MORE = {"moving_average": True}, np.float32(1.1)


@dataclass(frozen=True)
class QuantisationError:
    """What int8 changes for images that it was not quantised by.

    Attributes:
        images: How many.
        moved: Distance of an LR from that of fp32, in parts of its length: the median.
        most: The same: the largest.
        same_nearest: Share of the images whose nearest other one, by the cosine, is the same.
        order: Rank correlation (Spearman's) of the lists of the others: the mean.
        in_fp32: Share of the convolutions' multiplications that stay in fp32.
    """

    images: int
    moved: float
    most: float
    same_nearest: float
    order: float
    in_fp32: float

    def describe(self) -> str:
        """A line for people."""
        return (
            f"int8 against fp32 on {self.images} other images: LRs moved by {self.moved:.1%} of their length (at most "
            f"{self.most:.1%}); among them the nearest image is the same for {self.same_nearest:.0%}, and the order of "
            f"all correlates by {self.order:.4f}; {self.in_fp32:.0%} of the multiplications stay in fp32"
        )

    def facts(self) -> dict[str, str]:
        """For the metadata of a file."""
        return {name: str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_facts(cls, facts: Mapping[str, str]) -> QuantisationError:
        """Of the metadata of a file.

        Raises:
            KeyError, ValueError: They do not say it.
        """
        numbers = {name: float(facts[name]) for name in ("moved", "most", "same_nearest", "order", "in_fp32")}
        return cls(images=int(facts["images"]), **numbers)


def compare_lrs(exact: np.ndarray, found: np.ndarray, *, in_fp32: float = 0) -> QuantisationError:
    """Compare LRs (N, D) of the same N >= 3 images, in fp32 and in int8.

    Examples:
        >>> exact = np.array([[1.0, 0], [0.9, 0.1], [0, 1]])
        >>> compare_lrs(exact, exact * 1.5).describe()[:78]
        'int8 against fp32 on 3 other images: LRs moved by 50.0% of their length (at mo'
    """
    moved = np.linalg.norm(found - exact, axis=1) / np.linalg.norm(exact, axis=1)
    nearest, places = zip(*map(_order_of_others, (exact, found)), strict=True)
    # The places are permutations of one another, so Spearman's correlation is Pearson's of the places.
    order = np.mean([np.corrcoef(one, other)[0, 1] for one, other in zip(*places, strict=True)])
    return QuantisationError(
        images=len(exact),
        moved=float(np.median(moved)),
        most=float(moved.max()),
        same_nearest=float(np.mean(nearest[0] == nearest[1])),
        order=float(order),
        in_fp32=in_fp32,
    )


def _order_of_others(lrs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each image the nearest other one (N,), and the places (N, N - 1) of all others in its list."""
    unit = lrs / np.linalg.norm(lrs, axis=1, keepdims=True)
    others = ~np.eye(len(unit), dtype=np.bool_)
    distances = (1 - unit @ unit.T)[others].reshape(len(unit), -1)
    order = np.argsort(distances, axis=1, kind="stable")
    return order[:, 0], np.argsort(order, axis=1, kind="stable")


def quantise(
    exact: Path, target: Path, images: torch.Tensor, *, compared: torch.Tensor, narrow: bool, facts: Mapping[str, str]
) -> QuantisationError:
    """Write the int8 form of an exported network, with its error in its metadata; needs the extra ``onnx``.

    Args:
        exact: The network in fp32.
        target: Where to write; it appears only when it is whole.
        images: What its layers are looked at with: normalised float32 (N, 3, H, W).
        compared: Others, which its error is measured with.
        narrow: Weights of 7 bits, for chips whose int8 products overflow 16 bits (x86 without VNNI).
        facts: For the file's metadata.

    Returns:
        What int8 changes.

    Raises:
        ExportError: ONNX Runtime cannot quantise the network.
        StoreError: The file cannot be written.
    """
    import onnx

    with tempfile.TemporaryDirectory() as name, _without_chatter():
        trial = Path(name) / "trial.onnx"
        try:
            model = _prepare(exact, Path(name))
            means = _means(model, images)
            _centre(model, means)
            ranges = _ranges(model, images, Path(name))
            tried = images[: len(compared)]
            chosen, share = _choose(model, means, ranges, OnnxNetwork(exact), tried, trial, narrow)
            onnx.save(chosen, trial)
            found = compare_lrs(_lrs(OnnxNetwork(exact), compared), _lrs(OnnxNetwork(trial), compared), in_fp32=share)
        except ExportError:
            raise
        except Exception as error:  # the tools of ONNX Runtime raise what they please
            raise ExportError(f"ONNX Runtime cannot quantise {exact.name}: {first_line(error)}", file=exact) from error
        onnx.helper.set_model_props(chosen, {**facts, **found.facts()})
        with atomic_path(target) as temporary:
            onnx.save(chosen, temporary)
    return found


def _prepare(exact: Path, folder: Path) -> Any:
    """The graph with normalisations folded into the convolutions before them, and those before a ReLU as convolutions.

    DenseNet normalises before it convolves. ONNX Runtime has no normalisation in int8; as a convolution of each
    channel by itself it stays within the int8 flow, where fp32 steps took half of the time. Every convolution has a
    bias of its own, which no other one shares.
    """
    import onnx
    from onnxruntime.quantization import quant_pre_process

    quant_pre_process(str(exact), str(folder / "prepared.onnx"), skip_symbolic_shape=True)
    model = onnx.load(folder / "prepared.onnx")
    graph = model.graph
    constants = {name: onnx.numpy_helper.to_array(tensor) for name, tensor in _tensors(graph).items()}
    before_relu = {node.input[0] for node in graph.node if node.op_type == "Relu"}
    for node in graph.node:
        if node.op_type != "BatchNormalization" or node.output[0] not in before_relu:
            continue
        scale, shift, mean, variance = (constants[key].astype(np.float64) for key in node.input[1:])
        epsilon = next((part.f for part in node.attribute if part.name == "epsilon"), 1e-5)
        scale = scale / np.sqrt(variance + epsilon)
        values = {"scale": scale.reshape(-1, 1, 1, 1), "shift": shift - mean * scale}
        names = [f"{node.output[0]}_{key}" for key in values]
        for key, value in zip(names, values.values(), strict=True):
            graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), key))
        inputs = [node.input[0], *names]
        node.CopyFrom(onnx.helper.make_node("Conv", inputs, [node.output[0]], node.name, group=len(scale)))
    tensors = _tensors(graph)
    for node in _convolutions(graph):
        weights, *biases = (onnx.numpy_helper.to_array(tensors[key]) for key in node.input[1:])
        bias = biases[0] if biases else np.zeros(len(weights), np.float32)
        graph.initializer.append(onnx.numpy_helper.from_array(bias, f"{node.output[0]}_bias"))
        node.input[:] = [*node.input[:2], f"{node.output[0]}_bias"]
    used = {key for node in graph.node for key in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
    return model


def _tensors(graph: Any) -> dict[str, Any]:
    """The constants of a graph by name."""
    return {tensor.name: tensor for tensor in graph.initializer}


def _convolutions(graph: Any) -> list[Any]:
    return [node for node in graph.node if node.op_type == "Conv"]


def _means(model: Any, images: torch.Tensor) -> dict[str, np.ndarray]:
    """The mean of each channel (C,) of what convolutions take, by the tensor's name."""
    import onnx
    import onnxruntime

    model = copy.deepcopy(model)
    names = list(dict.fromkeys(node.input[0] for node in _convolutions(model.graph)))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, 2, 3]), "mean_axes"))
    for name in names:
        node = onnx.helper.make_node("ReduceMean", [name, "mean_axes"], [f"{name}_mean"], keepdims=0)
        model.graph.node.append(node)
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(f"{name}_mean"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted, feed = [f"{name}_mean" for name in names], model.graph.input[0].name
    found = [session.run(wanted, {feed: image.numpy()}) for image in images.split(1)]
    columns = zip(names, zip(*found, strict=True), strict=True)
    return {name: np.stack(column).mean(axis=0, dtype=np.float64) for name, column in columns}


def _centre(model: Any, means: dict[str, np.ndarray]) -> None:
    """Move what goes from one convolution into one of 1 x 1 alone to lie around 0, which needs half the range.

    Whatever moves is given back by the second one's bias: the network computes what it did.
    """
    import onnx

    graph, tensors = model.graph, _tensors(model.graph)
    takers = Counter(key for node in graph.node for key in node.input)
    takers.update(output.name for output in graph.output)
    made = {node.output[0]: node for node in _convolutions(graph)}
    for node in _convolutions(graph):
        name = node.input[0]
        weights = onnx.numpy_helper.to_array(tensors[node.input[1]]).astype(np.float64)
        if name not in made or takers[name] > 1 or weights.shape[1:] != (len(means[name]), 1, 1) or _padded(node):
            continue
        _add(tensors[made[name].input[2]], -means[name])
        _add(tensors[node.input[2]], weights[:, :, 0, 0] @ means[name])
        means[name] = np.zeros_like(means[name])


def _padded(node: Any) -> bool:
    """Whether there are zeros around what a convolution takes."""
    return any(any(part.ints) or part.s not in (b"", b"NOTSET") for part in node.attribute if "pad" in part.name)


def _correct(model: Any, means: dict[str, np.ndarray], quantised: Collection[str], steps: int) -> None:
    """Put what rounding the weights will take from the mean of a channel into its bias.

    Args:
        model: The graph; it is changed.
        means: Of what its convolutions take.
        quantised: Names of the convolutions whose weights will be rounded.
        steps: Of the weights, between 0 and the channel's largest.
    """
    import onnx

    tensors = _tensors(model.graph)
    for node in _convolutions(model.graph):
        if node.name not in quantised:
            continue
        weights = onnx.numpy_helper.to_array(tensors[node.input[1]]).astype(np.float64)
        scale = np.abs(weights).max(axis=(1, 2, 3), keepdims=True) / steps
        scale[scale == 0] = 1
        lost = (weights - np.round(weights / scale) * scale).sum(axis=(2, 3))
        inputs = means[node.input[0]].reshape(-1, 1, lost.shape[1])  # by group
        _add(tensors[node.input[2]], (lost.reshape(len(inputs), -1, lost.shape[1]) * inputs).sum(axis=2).ravel())


def _add(tensor: Any, values: np.ndarray) -> None:
    """To a constant of a graph, in place."""
    import onnx

    total = onnx.numpy_helper.to_array(tensor) + values
    tensor.CopyFrom(onnx.numpy_helper.from_array(total.astype(np.float32), tensor.name))


def _ranges(model: Any, images: torch.Tensor, folder: Path) -> Any:
    """Between what values each tensor lies in an image."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod, create_calibrator
    from onnxruntime.quantization.calibrate import TensorsData

    path = folder / "looked_at.onnx"
    onnx.save(model, path)
    augmented = str(folder / "augmented.onnx")
    calibrator = create_calibrator(path, _OPERATIONS, augmented_model_path=augmented, extra_options=_TYPICAL)
    feed = model.graph.input[0].name
    batches = iter([{feed: batch.numpy()} for batch in images.split(1)])

    class Reader:
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(batches, None)

    calibrator.collect_data(Reader())
    found = calibrator.compute_data().items()
    wider = {name: tuple(np.asarray(_MORE * end) for end in ends.range_value) for name, ends in found}
    return TensorsData(CalibrationMethod.MinMax, wider)


def _choose(
    model: Any,
    means: dict[str, np.ndarray],
    ranges: Any,
    exact: OnnxNetwork,
    images: torch.Tensor,
    trial: Path,
    narrow: bool,
) -> tuple[Any, float]:
    """The quantised graph, and what share of the multiplications stays in fp32."""
    import onnx
    from onnxruntime.quantization import QDQQuantizer, QuantType

    expected = _lrs(exact, images)
    shares = _multiplications(model)
    tried = []
    for front, end in _CHOICES:
        in_fp32 = _in_fp32(model.graph.node, shares, front, end)
        corrected = copy.deepcopy(model)
        _correct(corrected, means, shares.keys() - in_fp32, steps=64 if narrow else 127)
        quantizer = QDQQuantizer(
            corrected,
            True,  # a scale for each channel of the weights
            narrow,
            QuantType.QInt8,
            QuantType.QUInt8,
            ranges,
            [],
            in_fp32,
            _OPERATIONS,
            {},
        )
        quantizer.quantize_model()
        onnx.save(quantizer.model.model, trial)
        moved = np.linalg.norm(_lrs(OnnxNetwork(trial), images) - expected, axis=1) / np.linalg.norm(expected, axis=1)
        tried.append((float(np.median(moved)), sum(shares.get(name, 0) for name in in_fp32), quantizer.model.model))
        if tried[-1][0] <= _GOOD:
            break
    least = min(error for error, *_ in tried)
    return next((graph, share) for error, share, graph in tried if error <= _NEARLY * least)


def _multiplications(model: Any) -> dict[str, float]:
    """Of the multiplications of all convolutions, the share of each, by its name."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {value.name: value.type.tensor_type.shape.dim for value in (*graph.value_info, *graph.output)}
    tensors = _tensors(graph)
    counts = {}
    for node in _convolutions(graph):
        places = math.prod(size.dim_value for size in shapes[node.output[0]][2:])
        counts[node.name] = places * math.prod(tensors[node.input[1]].dims)
    return {name: count / sum(counts.values()) for name, count in counts.items()}


def _in_fp32(nodes: Sequence[Any], shares: Mapping[str, float], front: int, end: float) -> list[str]:
    """Names of the nodes that are not quantised.

    They are those up to the activation behind the first convolutions, those from the first of the last convolutions
    on, which together take a share of the multiplications of at most ``end``, and a last product.
    """
    convolutions = [at for at, node in enumerate(nodes) if node.op_type == "Conv"]
    first = convolutions[min(front, len(convolutions)) - 1] + 1 if convolutions else 0
    if first < len(nodes) and nodes[first].op_type in ("Relu", "Clip"):
        first += 1
    last, share = len(nodes), 0.0
    for at in reversed(convolutions):
        share += shares[nodes[at].name]
        if share > end:
            break
        last = at
    products = [node.name for node in nodes if node.op_type in ("Gemm", "MatMul")]
    return list(dict.fromkeys([node.name for node in (*nodes[:first], *nodes[last:])] + products[-1:]))


def _lrs(network: OnnxNetwork, images: torch.Tensor) -> np.ndarray:
    return torch.cat([network.latent(batch) for batch in images.split(_BATCH)]).numpy()


@contextmanager
def _without_chatter() -> Iterator[None]:
    """The tools log through the root logger what no user can act on."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
