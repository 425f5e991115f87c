"""Networks of other programs as ONNX files, against plain ONNX Runtime, and files that are no such networks."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from graphs import WIDTH, run_plainly, write_graph
from onnx import TensorProto, helper
from PIL import Image

from vreid_cli.errors import UsageError, VreidError, WeightsError
from vreid_cli.extraction.options import ExtractionOptions
from vreid_cli.extraction.resolve import resolve_inference
from vreid_cli.models.inputs import InputOptions
from vreid_cli.models.onnx_file import OnnxFile
from vreid_cli.models.transforms import Transform
from vreid_cli.models.weights import load_network

CPU = torch.device("cpu")
RAW = InputOptions(preset="openvino", size=(16, 20))


def photographs(count: int = 5) -> list[Image.Image]:
    random = np.random.default_rng(3)
    return [Image.fromarray(random.integers(0, 256, (24, 30, 3), dtype=np.uint8)) for _ in range(count)]


def load(path: Path, options: InputOptions = RAW, **more: str) -> OnnxFile:
    loaded = load_network(path, input=options, **more)
    assert isinstance(loaded, OnnxFile)
    return loaded


def compute(loaded: OnnxFile, images: list[Image.Image], *, batch: int = 2) -> np.ndarray:
    options = ExtractionOptions(batch_size=batch)
    inference = resolve_inference(loaded, options, device=CPU, images=len(images))
    return inference.compute(torch.stack([loaded.transform.crop_uint8(image) for image in images])).numpy()


def by_hand(image: Image.Image, *, size: tuple[int, int] = (16, 20)) -> np.ndarray:
    """RGB from 0 to 255, squashed: (3, H, W)."""
    small = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(small, dtype=np.float32).transpose(2, 0, 1)


@pytest.mark.parametrize("batch", ["N", 1, 2, 3])
@pytest.mark.parametrize("flat", [True, False])
def test_any_batch_and_both_forms_of_output(tmp_path: Path, batch: int | str, flat: bool):
    path = write_graph(tmp_path / "a.onnx", images=(batch, 3, 16, 20), flat=flat)
    loaded = load(path, InputOptions(preset="openvino"))
    assert (loaded.dimension, loaded.transform.size, loaded.architecture) == (WIDTH, (16, 20), "onnx")
    images = photographs()
    free = write_graph(tmp_path / "free.onnx", images=("N", 3, 16, 20))
    expected = run_plainly(free, np.stack([by_hand(image) for image in images]))
    np.testing.assert_allclose(compute(loaded, images), expected, rtol=1e-5)


def test_bgr_from_0_to_255(tmp_path: Path):
    path = write_graph(tmp_path / "a.onnx")
    means = (104.0, 117.0, 123.0)
    options = InputOptions(size=(16, 20), channels="bgr", scale=255, mean=means, std=(1.0, 1.0, 1.0))
    images = photographs()
    prepared = np.stack([by_hand(image)[::-1] - np.float32(means)[:, None, None] for image in images])
    np.testing.assert_allclose(compute(load(path, options), images), run_plainly(path, prepared), rtol=1e-5, atol=1e-4)


def test_of_two_outputs_one_is_chosen_by_name(tmp_path: Path):
    path = write_graph(tmp_path / "a.onnx", second=True)
    with pytest.raises(UsageError, match=r"several outputs: 'logits' float32 \(N, 2\), 'embedding'") as caught:
        load(path)
    assert "model.output=logits" in str(caught.value.hint)
    with pytest.raises(UsageError, match="no output 'embeding'") as caught:
        load(path, output="embeding")
    assert "did you mean 'embedding'" in str(caught.value.hint)
    images = photographs(2)
    prepared = np.stack([by_hand(image) for image in images])
    identities = []
    for name, width in (("logits", 2), ("embedding", WIDTH)):
        loaded = load(path, output=name)
        assert loaded.dimension == width
        np.testing.assert_allclose(compute(loaded, images), run_plainly(path, prepared, name), rtol=1e-5, atol=1e-4)
        identities.append(resolve_inference(loaded, ExtractionOptions(), device=CPU, images=2).identity)
    assert identities[0] != identities[1]


def test_identity_is_the_files_digest(tmp_path: Path):
    first, second = (write_graph(tmp_path / f"{seed}.onnx", seed=seed) for seed in (0, 1))
    assert load(first).digest == hashlib.sha256(first.read_bytes()).hexdigest() != load(second).digest


def test_a_file_of_vreids_own_says_what_it_expects(tmp_path: Path):
    own = Transform(20, 16, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    path = write_graph(tmp_path / "a.onnx", facts={"transform": own.to_json()})
    assert load(path, InputOptions()).transform == own
    assert load(path, InputOptions(channels="bgr")).transform.channels == "bgr"


def test_what_is_not_known_is_asked_for(tmp_path: Path):
    path = write_graph(tmp_path / "a.onnx")
    with pytest.raises(UsageError, match="does not say what input it expects") as caught:
        load(path, InputOptions())
    assert "model.input.preset=fast-reid|torchreid|openvino|tao" in str(caught.value.hint)
    with pytest.raises(UsageError, match="any size") as caught:
        load(path, InputOptions(preset="tao"))
    assert "model.input.size=[256,128]" in str(caught.value.hint)
    fixed = write_graph(tmp_path / "fixed.onnx", images=("N", 3, 16, 20))
    with pytest.raises(UsageError, match="16 x 20 only, not 20 x 16"):
        load(fixed, InputOptions(preset="tao", size=(20, 16)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": ("N", 1, 16, 20)}, r"no network for images: it takes 'images' float32 \(N, 1, 16, 20\)"),
        ({"images": ("N", 3)}, "no network for images"),
        ({"images": ("N", 3, 16, 20), "kind": TensorProto.FLOAT16}, r"'images' float16 \(N, 3, 16, 20\)"),
        ({"images": ("N", 3, 16, "W")}, "only one side"),
    ],
)
def test_a_graph_that_takes_no_images(tmp_path: Path, change: dict[str, object], message: str):
    with pytest.raises(WeightsError, match=message):
        load(write_graph(tmp_path / "a.onnx", **change))


def test_a_graph_of_words_and_one_that_gives_maps(tmp_path: Path):
    words = helper.make_tensor_value_info("tokens", TensorProto.INT64, ["N", 128])
    mask = helper.make_tensor_value_info("mask", TensorProto.INT64, ["N", 128])
    out = helper.make_tensor_value_info("out", TensorProto.INT64, None)
    graph = helper.make_graph([helper.make_node("Add", ["tokens", "mask"], ["out"])], "words", [words, mask], [out])
    onnx.save(helper.make_model(graph, ir_version=9), str(tmp_path / "words.onnx"))
    with pytest.raises(WeightsError, match=r"it takes 'tokens' int64 \(N, 128\), 'mask' int64"):
        load(tmp_path / "words.onnx")
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 16, 20])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Relu", ["images"], ["out"])], "maps", [images], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(tmp_path / "maps.onnx"))
    with pytest.raises(WeightsError, match=r"no vector for an image: its output 'out' is \('N', 3, 16, 20\)"):
        load(tmp_path / "maps.onnx")


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_a_file_that_is_cut_short(tmp_path: Path, kept: float):
    path = write_graph(tmp_path / "a.onnx")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(WeightsError, match=r"a\.onnx") as caught:
        load(path)
    assert caught.value.hint


def test_other_things_with_the_ending(tmp_path: Path):
    (tmp_path / "a.onnx").write_text("<html>404</html>")
    with pytest.raises(WeightsError, match=r"damaged or no ONNX file|holds no network"):
        load(tmp_path / "a.onnx")
    with pytest.raises(WeightsError, match="there is no weights file"):
        load(tmp_path / "missing.onnx")


def with_external_data(tmp_path: Path) -> Path:
    path = write_graph(tmp_path / "inner" / "a.onnx")
    model = onnx.load(str(path))
    onnx.save(model, str(path), save_as_external_data=True, location="a.data", size_threshold=0)
    return path


def test_tensors_beside_the_file_belong_to_its_identity(tmp_path: Path):
    path = with_external_data(tmp_path)
    before = load(path).digest
    data = bytearray((tmp_path / "inner" / "a.data").read_bytes())
    data[3] ^= 1
    (tmp_path / "inner" / "a.data").write_bytes(data)
    assert load(path).digest != before


def test_tensors_that_are_missing_or_lie_elsewhere(tmp_path: Path):
    path = with_external_data(tmp_path)
    data = tmp_path / "inner" / "a.data"
    data.rename(tmp_path / "a.data")
    with pytest.raises(WeightsError, match=r"lacks the file that holds its tensors, a\.data"):
        load(path)
    model = onnx.load(str(path), load_external_data=False)
    for place in ("../a.data", str(tmp_path / "a.data")):
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = place
        path.write_bytes(model.SerializeToString())
        with pytest.raises(WeightsError, match=r"outside its folder: .*a\.data"):
            load(path)
    data.symlink_to(tmp_path / "a.data")
    path.write_bytes(path.read_bytes().replace(str(tmp_path / "a.data").encode(), b"a.data"))
    with pytest.raises(VreidError):
        load(path)


def test_what_an_onnx_file_cannot_do(tmp_path: Path):
    loaded = load(write_graph(tmp_path / "a.onnx"))
    for options in (ExtractionOptions(backend="torch"), ExtractionOptions(precision="bf16")):
        with pytest.raises(UsageError, match="is an ONNX file, which ONNX Runtime computes as it is"):
            resolve_inference(loaded, options, device=CPU, images=1)
    with pytest.raises(UsageError, match="holds its own architecture"):
        load_network(tmp_path / "a.onnx", arch="resnet18", input=RAW)
    with pytest.raises(UsageError, match="for ONNX files"):
        load_network("random", arch="onnx")


def test_a_fact_of_another_program_is_no_transform(tmp_path: Path):
    path = write_graph(tmp_path / "a.onnx", facts={"transform": "resize"})
    with pytest.raises(UsageError, match="does not say what input"):
        load(path, InputOptions())
    damaged = write_graph(tmp_path / "b.onnx", facts={"transform": json.dumps({"resize": 3})})
    with pytest.raises(WeightsError, match="transform"):
        load(damaged, InputOptions())
