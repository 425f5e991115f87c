"""The network in int8: near to fp32, made of the layers that it should be, kept once, and honest about its error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import pytest
import torch
from extraction_bench import TINY, load_tiny
from torch import nn

from vreid_cli.errors import ExportError, UsageError
from vreid_cli.models import onnx_cache, quantised
from vreid_cli.models.checkpoint import weights_digest
from vreid_cli.models.onnx_cache import Quantised, cached_quantised
from vreid_cli.models.onnx_session import OnnxNetwork
from vreid_cli.models.quantised import _centre, _correct, _in_fp32, _means, _multiplications, compare_lrs
from vreid_cli.models.weights import LoadedNetwork


def _build() -> nn.Module:
    """Normalised behind a convolution and, as DenseNet, before one."""
    layers = [nn.Conv2d(3, 16, 5, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 24, 3)]
    layers += [nn.AvgPool2d(2), nn.BatchNorm2d(24), nn.ReLU(), nn.Conv2d(24, 24, 3), nn.ReLU(), nn.Conv2d(24, 10, 3)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 5))


def load(seed: int = 0) -> LoadedNetwork:
    loaded = load_tiny(replace(TINY, name="tiny_dense", build=_build, head="12"))
    generator = torch.Generator().manual_seed(seed)
    for module in loaded.network.modules():
        if isinstance(module, nn.BatchNorm2d):
            # As training leaves them: none of the four is what it begins as.
            for values, low, high in ((module.weight, 0.5, 2), (module.bias, -0.5, 0.5)):
                values.data.uniform_(low, high, generator=generator)
            module.running_mean.uniform_(-0.3, 0.3, generator=generator)
            module.running_var.uniform_(0.1, 0.6, generator=generator)
    return replace(loaded, digest=weights_digest(loaded.network))


def pixels(count: int = 40, seed: int = 0) -> torch.Tensor:
    """Coarse patterns: noise alone would average out."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator) * 255
    return nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear").byte()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedNetwork, Path, Quantised]:
    loaded, folder = load(), tmp_path_factory.mktemp("cache")
    return loaded, folder, cached_quantised(loaded, folder, known=None, sample=pixels)


def test_images_that_it_never_saw_keep_their_lrs(made: tuple[LoadedNetwork, Path, Quantised]):
    loaded, _, found = made
    images = loaded.transform.normalise(pixels(64, seed=1))
    with torch.inference_mode():
        exact = loaded.network.latent(images)
    moved = (OnnxNetwork(found.path).latent(images) - exact).norm(dim=1) / exact.norm(dim=1)
    assert 0 < float(moved.median()) < 0.03
    # What it says of itself holds for others too.
    assert found.error.images == 10
    assert found.error.moved == pytest.approx(float(moved.median()), rel=0.5)


def test_all_but_the_first_convolution_compute_in_int8(made: tuple[LoadedNetwork, Path, Quantised]):
    graph = onnx.load(made[2].path).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    from_int8 = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    first, *others = [node for node in graph.node if node.op_type == "Conv"]
    assert kinds[first.input[1]] == onnx.TensorProto.FLOAT
    # The normalisation before a ReLU has become one of them.
    assert len(others) == 4
    assert all(from_int8.issuperset(node.input[:2]) for node in others)
    assert not [node for node in graph.node if node.op_type == "BatchNormalization"]


def test_it_is_kept_and_found_again(made: tuple[LoadedNetwork, Path, Quantised], monkeypatch: pytest.MonkeyPatch):
    loaded, folder, found = made

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("nothing is to be quantised")

    monkeypatch.setattr(onnx_cache, "quantise", refuse)
    assert cached_quantised(loaded, folder, known=None, sample=pixels) == found
    # What made the features that are there is taken whatever images there are now.
    assert cached_quantised(loaded, folder, known=found.digest, sample=refuse) == found
    for other, sample in ((loaded, lambda: pixels(seed=2)), (load(seed=1), pixels)):
        with pytest.raises(AssertionError, match="quantised"):
            cached_quantised(other, folder, known=None, sample=sample)


def test_a_damaged_file_is_made_again_with_the_same_bytes(
    made: tuple[LoadedNetwork, Path, Quantised], caplog: pytest.LogCaptureFixture
):
    loaded, folder, found = made
    before = found.path.read_bytes()
    found.path.write_bytes(before[:1000])
    assert cached_quantised(loaded, folder, known=found.digest, sample=pixels) == found
    assert "is damaged; it is made again" in caplog.text
    assert found.path.read_bytes() == before


def test_chips_without_vnni_get_seven_bits(
    made: tuple[LoadedNetwork, Path, Quantised], monkeypatch: pytest.MonkeyPatch
):
    loaded, folder, _ = made
    largest, files = {}, set()
    for vnni in (False, True):
        monkeypatch.setattr(onnx_cache, "_has_vnni", lambda vnni=vnni: vnni)
        path = cached_quantised(loaded, folder, known=None, sample=pixels).path
        files.add(path)
        graph = onnx.load(path).graph
        weights = [
            onnx.numpy_helper.to_array(one) for one in graph.initializer if one.data_type == onnx.TensorProto.INT8
        ]
        largest[vnni] = max(int(np.abs(one.astype(int)).max()) for one in weights if one.ndim == 4)
    assert largest == {False: 64, True: 127}
    assert len(files) == 2


def test_too_few_images_are_refused_before_anything_is_made(tmp_path: Path):
    with pytest.raises(UsageError, match="needs 12 images or more to quantise by, and there are 11"):
        cached_quantised(load(), tmp_path, known=None, sample=lambda: pixels(11))
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_quantised_says_so(made: tuple[LoadedNetwork, Path, Quantised], monkeypatch: pytest.MonkeyPatch):
    loaded, folder, _ = made
    before = sorted((folder / "onnx").iterdir())
    import onnxruntime.quantization

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such operation\nand more")

    monkeypatch.setattr(onnxruntime.quantization, "quant_pre_process", fail)
    with pytest.raises(ExportError, match=r"ONNX Runtime cannot quantise tiny_dense.*: no such operation$"):
        cached_quantised(loaded, folder, known=None, sample=lambda: pixels(seed=3))
    assert sorted((folder / "onnx").iterdir()) == before


def _graph(*weights: np.ndarray, groups: int, pads: int = 0) -> onnx.ModelProto:
    """Convolutions with biases, one after the other; the last one has groups and zeros around what it takes."""
    names = ["images", *(f"made{k}" for k in range(len(weights)))]
    nodes, constants = [], []
    for k, values in enumerate(weights):
        last = k == len(weights) - 1
        bias = np.arange(len(values), dtype=np.float32)
        constants += [onnx.numpy_helper.from_array(values, f"w{k}"), onnx.numpy_helper.from_array(bias, f"b{k}")]
        more = {"group": groups, "pads": [pads] * 4} if last else {}
        nodes.append(onnx.helper.make_node("Conv", [names[k], f"w{k}", f"b{k}"], [names[k + 1]], **more))
    taken = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["n", weights[0].shape[1], "h", "w"])
    given = onnx.helper.make_empty_tensor_value_info(names[-1])
    graph = onnx.helper.make_graph(nodes, "toy", [taken], [given], constants)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)


def test_multiplications_of_convolutions_as_they_are_counted_by_hand():
    shapes = ((6, 4, 3, 3), (8, 6, 1, 1), (8, 4, 3, 3))
    model = _graph(*(np.zeros(shape, np.float32) for shape in shapes), groups=2)
    for size, value in zip((4, 9, 7), model.graph.input[0].type.tensor_type.shape.dim[1:], strict=True):
        value.dim_value = size
    for k, node in enumerate(model.graph.node):
        node.name = f"conv{k}"
    # 9 x 7 places become 7 x 5, and 5 x 3 behind the last one, which takes 4 of its 8 channels at a time.
    counts = [7 * 5 * 6 * (4 * 9), 7 * 5 * 8 * 6, 5 * 3 * 8 * (4 * 9)]
    shares = _multiplications(model)
    assert shares == pytest.approx({f"conv{k}": count / sum(counts) for k, count in enumerate(counts)})
    last, two = counts[2] / sum(counts), (counts[1] + counts[2]) / sum(counts)
    for end, kept in ((last - 0.01, ["conv0"]), (last + 0.01, ["conv0", "conv2"]), (two + 0.01, list(shares))):
        assert _in_fp32(model.graph.node, shares, 1, end) == kept


def test_the_last_convolutions_stay_in_fp32_where_that_leaves_less_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(quantised, "_GOOD", 0)
    monkeypatch.setattr(quantised, "_NEARLY", 1)
    found = {}
    for end in (0.0, 0.5):
        monkeypatch.setattr(quantised, "_CHOICES", ((1, 0.0), (1, end)))
        found[end] = cached_quantised(load(), tmp_path / str(end), known=None, sample=pixels)
    assert found[0.5].error.moved < found[0.0].error.moved
    floats = {}
    for end, made in found.items():
        graph = onnx.load(made.path).graph
        kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
        floats[end] = [
            kinds.get(node.input[1]) == onnx.TensorProto.FLOAT for node in graph.node if node.op_type == "Conv"
        ]
    assert floats[0.0] == [True, False, False, False, False]
    assert (floats[0.5][0], floats[0.5][-1]) == (True, True)
    assert 0.1 < found[0.5].error.in_fp32 - found[0.0].error.in_fp32 <= 0.5


def _run(model: onnx.ModelProto, images: torch.Tensor) -> np.ndarray:
    return np.asarray(onnx.reference.ReferenceEvaluator(model).run(None, {"images": images.numpy()})[0])


def test_what_rounded_weights_take_from_the_mean_is_in_the_bias():
    rng = np.random.default_rng(0)
    images = torch.tensor(rng.uniform(1, 3, size=(8, 4, 5, 5)), dtype=torch.float32)
    model = _graph(rng.normal(size=(6, 2, 1, 1)).astype(np.float32), groups=2)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4
    exact = _run(model, images).mean((0, 2, 3))
    _correct(model, _means(model, images), [node.name for node in model.graph.node], steps=7)
    weights, biases = model.graph.initializer
    values = onnx.numpy_helper.to_array(weights)
    scale = np.abs(values).max(axis=1, keepdims=True) / 7
    weights.CopyFrom(onnx.numpy_helper.from_array(np.round(values / scale) * scale, weights.name))
    np.testing.assert_allclose(_run(model, images).mean((0, 2, 3)), exact, rtol=1e-5)
    biases.CopyFrom(onnx.numpy_helper.from_array(np.arange(6, dtype=np.float32), biases.name))
    assert np.abs(_run(model, images).mean((0, 2, 3)) - exact).max() > 0.05


@pytest.mark.parametrize(("side", "pads", "moves"), [(1, 0, True), (1, 1, False), (3, 0, False)])
def test_what_goes_into_a_convolution_of_1_x_1_alone_lies_around_0(side: int, pads: int, moves: bool):
    rng = np.random.default_rng(0)
    images = torch.tensor(rng.uniform(1, 3, size=(4, 3, 7, 7)), dtype=torch.float32)
    weights = [rng.normal(size=shape).astype(np.float32) for shape in ((5, 3, 3, 3), (6, 5, side, side))]
    model = _graph(*weights, groups=1, pads=pads)
    exact, means = _run(model, images), _means(model, images)
    _centre(model, means)
    np.testing.assert_allclose(_run(model, images), exact, rtol=1e-4, atol=1e-4)
    # What it says is what can be measured again.
    found = _means(model, images)["made0"]
    np.testing.assert_allclose(found, means["made0"], atol=1e-4)
    assert (np.abs(found).max() < 1e-4) == moves


def test_errors_as_they_are_defined():
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(9, 5))
    found = exact + rng.normal(size=exact.shape) * 0.4
    error = compare_lrs(exact, found, in_fp32=0.25)
    moved = [np.sqrt(sum((b - a) ** 2)) / np.sqrt(sum(a**2)) for a, b in zip(exact, found, strict=True)]
    assert (error.images, error.in_fp32) == (9, 0.25)
    assert error.moved == pytest.approx(sorted(moved)[4])
    assert error.most == pytest.approx(max(moved))
    same, correlations = 0, []
    for k in range(9):
        lists = []
        for lrs in (exact, found):
            cosines = {j: lrs[k] @ lrs[j] / np.sqrt(lrs[k] @ lrs[k] * (lrs[j] @ lrs[j])) for j in range(9) if j != k}
            lists.append(sorted(cosines, key=lambda j, cosines=cosines: -cosines[j]))
        same += lists[0][0] == lists[1][0]
        squares = sum((lists[0].index(j) - lists[1].index(j)) ** 2 for j in lists[0])
        correlations.append(1 - 6 * squares / (8 * (8**2 - 1)))
    assert error.same_nearest == pytest.approx(same / 9)
    assert error.order == pytest.approx(np.mean(correlations))
