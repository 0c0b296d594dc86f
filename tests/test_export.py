from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch.nn.functional import one_hot

from digitsum import export, mnist
from digitsum.data.digits import Digits
from digitsum.data.pairs import DigitSumDataset, loader
from digitsum.errors import InputError
from digitsum.evaluation import evaluate
from digitsum.networks import NETWORKS, RowNet


@pytest.fixture(scope="module", params=NETWORKS)
def written(request: pytest.FixtureRequest, once: Callable[..., Path]) -> tuple[export.DigitSumNet, Path]:
    """A network, and the file of it that all tests read."""
    torch.manual_seed(0)
    network = NETWORKS[request.param](width=4).eval()

    def write(folder: Path) -> None:
        folder.mkdir(parents=True)
        digits = mnist.load()
        few = Digits(digits.images[:40], digits.labels[:40])
        evaluation = evaluate(network, loader(DigitSumDataset(few)), "few", "train")
        export.to_onnx(network, str(folder / "model.onnx"), replace(evaluation, digit_accuracy=0.125))

    return network, once(f"written-{request.param}", write) / "model.onnx"


def test_model_keeps_the_contract_says_what_it_is_and_not_where_it_was_made(
    written: tuple[export.DigitSumNet, Path],
) -> None:
    network, path = written
    session = ort.InferenceSession(path)
    ends = {end.name: (end.type, end.shape[1:]) for end in [*session.get_inputs(), *session.get_outputs()]}
    inside = {"joined": ("tensor(float)", [30]), "terms": ("tensor(float)", [19, 31])}
    assert ends == {
        "image": ("tensor(uint8)", [1, 28, 28]),
        "addend": ("tensor(int64)", []),
        "digit": ("tensor(float)", [10]),
        "sum": ("tensor(float)", [19]),
    } | (inside if network.name == "concat" else {})
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["network"] == network.config["network"]
    assert int(metadata["parameters"]) == sum(parameter.numel() for parameter in network.parameters())
    assert '"data": "few", "split": "train", "images": 40, "digit_accuracy": 0.125,' in metadata["figures"]
    assert str(Path(export.__file__).parent).encode() not in path.read_bytes()
    assert b"forward" not in path.read_bytes()


@pytest.mark.parametrize("count", [1, 2, 50])
def test_model_answers_as_torch_does(written: tuple[export.DigitSumNet, Path], count: int) -> None:
    network, path = written
    image, addend = mnist.load().images[:: 5000 // count], np.arange(count) % 10
    digit, sum_ = ort.InferenceSession(path).run(["digit", "sum"], {"image": image, "addend": addend})
    with torch.no_grad():
        log_digit, log_sum = network(
            torch.from_numpy(image.copy()), one_hot(torch.from_numpy(addend), 10).float()
        )
    np.testing.assert_allclose(digit, log_digit.exp(), atol=1e-4)
    np.testing.assert_allclose(sum_, log_sum.exp(), atol=1e-4)
    np.testing.assert_allclose(sum_.sum(axis=1), 1, rtol=1e-5)


def test_terms_of_concat_add_up_to_the_scores_of_its_sums(
    written: tuple[export.DigitSumNet, Path],
) -> None:
    network, path = written
    if network.name != "concat":
        return
    asked = {"image": mnist.load().images[::1000], "addend": np.arange(5)}
    sum_, joined, terms = ort.InferenceSession(path).run(["sum", "joined", "terms"], asked)
    np.testing.assert_allclose(joined[:, 10:20].sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(joined[:, 20:].argmax(axis=1), np.arange(5))
    weight, bias = (each.detach().numpy() for each in (network.sum.weight, network.sum.bias))
    np.testing.assert_allclose(terms[:, :, :30], weight * joined[:, np.newaxis], rtol=1e-5)
    scores = joined @ weight.T + bias
    np.testing.assert_allclose(terms.sum(axis=2), scores, atol=1e-3)
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    np.testing.assert_allclose(sum_, shares / shares.sum(axis=1, keepdims=True), atol=1e-4)


def test_a_model_that_answers_otherwise_or_no_numbers_is_not_written(tmp_path: Path) -> None:
    network = NETWORKS["fast"](width=1)
    with torch.no_grad():
        network.digit.bias.fill_(torch.nan)
    message = r"its probabilities differ from torch's by nan, and at most 0.0001 is allowed$"
    with pytest.raises(FloatingPointError, match=message):
        export.to_onnx(network, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [torch.half, torch.bfloat16, torch.double])
def test_a_network_of_other_numbers_is_exported_in_float32_alone(tmp_path: Path, number: torch.dtype) -> None:
    network = NETWORKS["fast"](width=1).to(number)
    with pytest.raises(
        InputError, match=rf"^a network is exported in float32, not in {number}: export network"
    ):
        export.to_onnx(network, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def written_row(once: Callable[..., Path]) -> tuple[RowNet, Path]:
    """A network of rows as wide as the package's, and its file."""
    torch.manual_seed(0)
    network = RowNet().eval()

    def write(folder: Path) -> None:
        folder.mkdir(parents=True)
        export.to_onnx(network, folder / "model.onnx")

    return network, once("written-row", write) / "model.onnx"


def test_model_of_rows_keeps_the_contract_and_is_small(written_row: tuple[RowNet, Path]) -> None:
    _, path = written_row
    session = ort.InferenceSession(path)
    (strip,), (symbols,) = session.get_inputs(), session.get_outputs()
    assert (strip.name, strip.type, strip.shape[1:3]) == ("strip", "tensor(uint8)", [1, 32])
    assert (symbols.name, symbols.type, symbols.shape[2]) == ("symbols", "tensor(float)", 12)
    assert session.get_modelmeta().custom_metadata_map["network"] == "row"
    assert path.stat().st_size <= 3_000_000


@pytest.mark.parametrize(("count", "width"), [(1, 4), (1, 32), (2, 100), (3, 1280), (33, 12)])
def test_model_of_rows_answers_as_torch_does(
    written_row: tuple[RowNet, Path], count: int, width: int
) -> None:
    network, path = written_row
    strip = np.random.default_rng(0).integers(0, 256, (count, 1, 32, width), dtype=np.uint8)
    (symbols,) = ort.InferenceSession(path).run(["symbols"], {"strip": strip})
    with torch.no_grad():
        np.testing.assert_allclose(symbols, network(torch.from_numpy(strip)).exp(), atol=1e-4)
    assert symbols.shape == (count, width // 4, 12)
    np.testing.assert_allclose(symbols.sum(axis=2), 1, rtol=1e-5)
