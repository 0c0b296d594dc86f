import copy
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import nll_loss, one_hot

from digitsum import mnist
from digitsum.data.digits import Digits
from digitsum.data.pairs import DigitSumDataset, loader
from digitsum.errors import InputError
from digitsum.evaluation import evaluate
from digitsum.files import WEIGHTS
from digitsum.networks import (
    ConcatNet,
    DigitSumNet,
    ExactNet,
    FastNet,
    FlattenChannelsLast,
    Normalise,
    load,
)

IMAGE = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (7, 1, 28, 28), dtype=np.uint8))
ADDEND = one_hot(torch.tensor([0, 9, 5, 3, 1, 9, 7]), 10).float()
SUM = torch.tensor([3, 12, 9, 3, 4, 17, 15])


@pytest.fixture
def network() -> ConcatNet:
    torch.manual_seed(0)
    return ConcatNet()


@pytest.fixture
def exact() -> ExactNet:
    torch.manual_seed(0)
    return ExactNet().eval()


@pytest.fixture(params=[ConcatNet, ExactNet, FastNet])
def either(request: pytest.FixtureRequest) -> DigitSumNet:
    torch.manual_seed(0)
    network: DigitSumNet = request.param()
    return network.eval()


def test_concat_net_has_two_convolutions_and_four_linear_layers(network: ConcatNet) -> None:
    layers = [type(module).__name__ for module in network.modules() if list(module.parameters(recurse=False))]
    assert sorted(layers) == ["Conv2d"] * 2 + ["Linear"] * 4
    by_hand = (25 + 1) * 32 + (25 * 32 + 1) * 64 + (64 * 16 + 1) * 10 + 11 * 10 + 31 * 10 + 31 * 19
    assert sum(parameter.numel() for parameter in network.parameters()) == by_hand == 63_355


def test_outputs_are_log_distributions_of_each_item_whatever_its_batch(
    either: DigitSumNet,
) -> None:
    outputs = either(IMAGE, ADDEND)
    for output, classes in zip(outputs, (10, 19), strict=True):
        assert (output.shape, output.dtype) == ((7, classes), torch.float32)
        np.testing.assert_allclose(output.exp().sum(1).detach(), 1, rtol=1e-5)
    for i in (0, 6):
        alone = either(IMAGE[i : i + 1], ADDEND[i : i + 1])
        for one, output in zip(alone, outputs, strict=True):
            torch.testing.assert_close(one[0], output[i], rtol=1e-4, atol=1e-3)


def test_untrained_sum_layer_adds_every_clear_digit_and_addend(network: ConcatNet) -> None:
    digit, addend = torch.arange(100) // 10, torch.arange(100) % 10
    log_digit, log_sum = network.answer(5.0 * one_hot(digit, 10), one_hot(addend, 10).float())
    assert torch.equal(log_digit.argmax(1), digit)
    assert torch.equal(log_sum.argmax(1), digit + addend)


def test_pixels_are_scaled_once(network: ConcatNet) -> None:
    seen = []
    network.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network.encode(torch.tensor([0, 255], dtype=torch.uint8).repeat(392).view(1, 1, 28, 28))
    background, ink = (0 - 0.1307) / 0.3081, (1 - 0.1307) / 0.3081
    np.testing.assert_allclose(seen[0].unique(), [background, ink], rtol=1e-5)


def test_brightness_and_contrast_of_an_image_change_nothing() -> None:
    image = torch.randint(0, 101, (3, 1, 28, 28))
    for changed in (image + 100, 2 * image, 2 * image + 50):
        torch.testing.assert_close(Normalise()(changed.byte()), Normalise()(image.byte()))


def test_an_image_of_one_colour_is_background(either: DigitSumNet) -> None:
    black, grey = (torch.full((1, 1, 28, 28), ink, dtype=torch.uint8) for ink in (0, 128))
    assert torch.equal(either.encode(grey), either.encode(black))
    assert either.encode(grey).isfinite().all()


def test_both_outputs_of_the_trained_concat_net_agree_where_the_digit_is_in_doubt(network: ConcatNet) -> None:
    scores = torch.zeros(1, 10)
    scores[0, 3], scores[0, 8] = 5.0, 4.8  # a blunt softmax would measure 3.9
    for training, total in ((True, 3.84 + 6), (False, 3 + 6)):
        _, log_sum = network.train(training).answer(scores, torch.eye(10)[[6]])
        assert log_sum.argmax() == round(total)


def test_gradient_of_the_sum_alone_reaches_the_convolutions(network: ConcatNet) -> None:
    _, log_sum = network(IMAGE, ADDEND)
    nll_loss(log_sum, SUM).backward()
    for convolution in (network.conv1, network.conv2):
        assert convolution.weight.grad is not None
        assert convolution.weight.grad.abs().max() > 0


def test_heads_stay_in_float32_under_autocast(either: DigitSumNet) -> None:
    scores = either.encode(IMAGE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = either.answer(scores, ADDEND)
    for output, expected in zip(outputs, either.answer(scores, ADDEND), strict=True):
        assert torch.equal(output, expected)


@pytest.mark.parametrize(
    ("number", "apart"), [(torch.half, 0.01), (torch.bfloat16, 0.1), (torch.double, 1e-4)]
)
def test_a_network_of_other_numbers_answers_in_float32_as_before(
    either: DigitSumNet, number: torch.dtype, apart: float
) -> None:
    image, addend = torch.from_numpy(mnist.load().images[::500].copy()), torch.eye(10)
    converted = copy.deepcopy(either).to(number)
    assert converted.digit.weight.dtype == number
    for output, right in zip(converted(image, addend), either(image, addend), strict=True):
        assert output.dtype == torch.float32
        torch.testing.assert_close(output.exp(), right.exp(), rtol=0, atol=apart)


def test_from_pretrained_gives_back_what_was_saved(either: DigitSumNet, tmp_path: Path) -> None:
    either.to(memory_format=torch.channels_last).save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    again = DigitSumNet.from_pretrained(tmp_path)
    assert not again.training
    assert type(again) is type(either)
    assert again.config == either.config
    assert all(map(torch.equal, again.parameters(), either.parameters()))
    for output, expected in zip(again(IMAGE, ADDEND), either(IMAGE, ADDEND), strict=True):
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-3)


def test_from_pretrained_of_another_network_says_so(exact: ExactNet, tmp_path: Path) -> None:
    exact.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=rf"^{tmp_path} doesn't hold a trained ConcatNet: its network is e"):
        ConcatNet.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", None, " doesn't hold a trained ConcatNet: it has no config.json"),
        ("config.json", b"no json", "/config.json isn't a JSON object: Expecting value: line 1 column 1"),
        ("config.json", b"{}", " doesn't hold a trained ConcatNet: its config.json speaks of a network "),
        ("config.json", b'{"width": 16}', " doesn't hold a trained ConcatNet: its config.json speaks of"),
        ("model.safetensors", None, " doesn't hold a trained ConcatNet: it has no model.safetensors"),
        ("model.safetensors", b"no weights", "/model.safetensors is damaged: "),
    ],
)
def test_from_pretrained_says_what_is_missing_or_damaged(
    network: ConcatNet, tmp_path: Path, file: str, content: bytes | None, message: str
) -> None:
    network.save_pretrained(tmp_path)
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=f"^{tmp_path}{message}"):
        ConcatNet.from_pretrained(tmp_path)


def test_from_pretrained_says_that_a_run_still_trains(network: ConcatNet, tmp_path: Path) -> None:
    network.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "checkpoint.ckpt")
    with pytest.raises(InputError, match=r"it has no model.safetensors, and its training isn't finished$"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("kind", "width", "message"),
    [
        ("concat", 8, "concat of width 8: 5 tensors differ, as conv1.bias, [32] in place of [8]"),
        ("concat", 50_000, "5 tensors differ, as conv1.bias, [32] in place of [50000]"),
        ("exact", 32, "tensors differ, as add"),
        ("concat", 10**30, f"a network 'concat' of width {10**30}"),
        ("concat", -1, "a network 'concat' of width -1"),
        ("concat", True, "a network 'concat' of width True"),
        (["concat"], 32, "a network ['concat'] of width 32"),
    ],
)
def test_weights_of_another_network_are_refused_with_the_reason(
    network: ConcatNet, tmp_path: Path, kind: object, width: int, message: str
) -> None:
    network.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"network": kind, "width": width}))
    with pytest.raises(InputError, match=rf"^{tmp_path} doesn't hold a trained DigitSumNet: ") as refused:
        load(tmp_path)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


# ExactNet


def test_exact_net_has_at_most_300_000_parameters(exact: ExactNet) -> None:
    convolutions = [25 * 1 * 32, 9 * 32 * 64, 9 * 64 * 64, 9 * 64 * 96, 9 * 96 * 96]
    norms = [2 * channels for channels in (32, 64, 64, 96, 96)]
    by_hand = sum(convolutions) + sum(norms) + (96 * 16 + 1) * 10
    assert sum(parameter.numel() for parameter in exact.parameters()) == by_hand == 210_410


def test_exact_net_is_consistent_on_random_weights_by_construction() -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        network = ExactNet(width=2).eval()
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=3)
        image = torch.randint(0, 256, (5, 1, 28, 28), dtype=torch.uint8).repeat_interleave(10, 0)
        addend = torch.arange(10).repeat(5)
        log_digit, log_sum = network(image, one_hot(addend, 10).float())
        assert torch.equal(log_sum.argmax(1), log_digit.argmax(1) + addend)


def test_exact_sum_is_the_convolution_of_both_distributions(exact: ExactNet) -> None:
    random = np.random.default_rng(0)
    digit, addend = random.dirichlet(np.ones(10), 6), random.dirichlet(np.ones(10), 6)
    log_digit, log_sum = exact.answer(torch.tensor(digit).log().float(), torch.tensor(addend).float())
    np.testing.assert_allclose(log_digit.exp(), digit, rtol=1e-5)
    np.testing.assert_allclose(
        log_sum.exp(), [np.convolve(*pair) for pair in zip(digit, addend, strict=True)], rtol=1e-5
    )


def test_a_sum_teaches_the_exact_net_what_the_digit_does(exact: ExactNet) -> None:
    gradients = []
    for output, right in ((0, SUM - ADDEND.argmax(1)), (1, SUM)):
        exact.zero_grad()
        nll_loss(exact(IMAGE, ADDEND)[output], right).backward()
        gradients.append([parameter.grad.clone() for parameter in exact.parameters()])
    for from_digit, from_sum in zip(*gradients, strict=True):
        torch.testing.assert_close(from_sum, from_digit)


def test_exact_gradients_are_finite_for_certain_and_soft_addends(exact: ExactNet) -> None:
    certain = torch.full((7, 10), -200.0)
    certain[:, 3] = 0
    for addend in (ADDEND, ADDEND.flip(0) * 0.25 + ADDEND * 0.75, torch.full((7, 10), 0.1)):
        log_digit, addend = certain.clone().requires_grad_(), addend.clone().requires_grad_()
        nll_loss(exact.answer(log_digit, addend)[1], SUM).backward()
        assert log_digit.grad is not None
        assert addend.grad is not None
        assert log_digit.grad.isfinite().all()
        assert addend.grad.isfinite().all()


# FastNet


def test_fast_net_has_105_162_parameters_and_one_convolution() -> None:
    network = FastNet()
    by_hand = 36 * 32 + 2 * 32 + 5 * 5 * 32 * 128 + 2 * 128 + (128 + 1) * 10
    assert sum(parameter.numel() for parameter in network.parameters()) == by_hand == 105_162
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == 1


def test_channels_last_flatten_is_numpys_transpose_and_copies_nothing() -> None:
    x = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    np.testing.assert_array_equal(FlattenChannelsLast()(x), x.numpy().transpose(0, 2, 3, 1).reshape(2, 60))
    x = x.contiguous(memory_format=torch.channels_last)
    assert FlattenChannelsLast()(x).data_ptr() == x.data_ptr()


# The package's own


@pytest.mark.parametrize("name", ["exact", "concat"])
def test_load_gives_a_trained_network_small_with_a_card_and_ready_to_answer(name: str) -> None:
    network, folder = load(name), WEIGHTS / name
    assert (network.config["network"], network.training) == (name, False)
    assert (folder / "model.safetensors").stat().st_size <= 1_500_000
    assert f"# {name}: the trained {name} network" in (folder / "README.md").read_text()
    digits = mnist.load()
    few = Digits(digits.images[::10].copy(), digits.labels[::10])
    result = evaluate(network, loader(DigitSumDataset(few)), "mnist5k", "train")
    assert min(result.digit_accuracy, result.sum_accuracy, result.consistency) > 0.99


@pytest.mark.weights
@pytest.mark.usefixtures("real_mnist")
@pytest.mark.parametrize("name", ["exact", "concat"])
def test_weights_of_the_package_have_the_figures_of_their_card(name: str) -> None:
    card = json.loads((WEIGHTS / name / "evaluation.json").read_text())
    result = evaluate(load(name), loader(DigitSumDataset(mnist.load("mnist", "test"))), "mnist", "test")
    for figure in ("digit_accuracy", "sum_accuracy", "joint_accuracy", "consistency"):
        assert getattr(result, figure) == pytest.approx(card[figure], abs=1e-4)  # a trial on other hardware


def test_load_of_another_name_says_which_there_are() -> None:
    message = "^there is no network 'best': name exact, concat, row, or a folder that holds one$"
    with pytest.raises(InputError, match=message):
        load("best")


# What comes in


@pytest.mark.parametrize(
    ("addend", "came"),
    [
        (torch.tensor([3, 4]), r"int64 \[2\]"),
        (torch.eye(10)[:2, :9], r"float32 \[2, 9\]"),
        (torch.eye(10)[:1], r"float32 \[1, 10\]"),
        (torch.tensor(3), r"int64 \[\]"),
    ],
)
def test_an_addend_of_another_shape_is_refused(either: DigitSumNet, addend: torch.Tensor, came: str) -> None:
    sentence = (
        r"the addends of 2 images should be float32 \[2, 10\], one-hot"
        rf" \(torch\.nn\.functional\.one_hot\(addend, 10\)\.float\(\)\), not {came}"
    )
    with pytest.raises(InputError, match=f"^{sentence}$"):
        either(IMAGE[:2], addend)


@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 28), (2, 3, 28, 28), (2, 1, 32, 32), (2, 784)])
def test_an_image_of_another_shape_is_refused_in_words(shape: tuple[int, ...]) -> None:
    sentence = rf"the images should be uint8 \[N, 1, 28, 28\], not uint8 {re.escape(str(list(shape)))}"
    with pytest.raises(InputError, match=f"^{sentence}$"):
        FastNet(width=1).eval()(torch.zeros(shape, dtype=torch.uint8), torch.eye(10)[:2])
