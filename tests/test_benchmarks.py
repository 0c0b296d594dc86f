import io
import platform
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import nll_loss, one_hot

from digitsum import mnist
from digitsum.addition import AdditionDataset
from digitsum.config import Config
from digitsum.data.non_digits import ALPHABETS
from digitsum.data.pairs import DigitSumDataset
from digitsum.networks import FastNet
from digitsum.prediction import Predictor
from digitsum.reading.imaging import read_picture

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))
addition, doubt, fusion, hand, hands, real, robustness, script, throughput, timing = map(
    import_module,
    ("addition", "doubt", "fusion", "hand", "hands", "real", "robustness", "script", "throughput", "timing"),
)

HEADLINE = re.compile(r"^\| .+ \| (.+) \| \[.+\]\((results/\w+\.txt)\) \| `(.+)` \|$", re.MULTILINE)
FIGURE = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
IMAGE = torch.randint(256, (4, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
ADDEND = one_hot(torch.tensor([0, 3, 7, 9]), 10).float()


def test_each_headline_stands_in_what_its_command_printed() -> None:
    text = (BENCHMARKS / "RESULTS.md").read_text(encoding="utf-8")
    headlines = HEADLINE.findall(text)
    assert len(headlines) == text.count("](results/") > 30
    for figures, file, command in headlines:
        printed = script.sections(BENCHMARKS / file)[command]
        assert set(FIGURE.findall(figures)) <= set(FIGURE.findall(printed)), (command, figures)


def test_each_result_can_be_printed_again() -> None:
    for file in (BENCHMARKS / "results").iterdir():
        for command, printed in script.sections(file).items():
            assert re.match(rf"python benchmarks/{file.stem}\.py\b|digitsum {file.stem} ", command)
            assert printed.startswith("# ")


@pytest.fixture
def record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Record a script that prints something, and return what was seen."""
    monkeypatch.setattr(script, "RESULTS", tmp_path)
    monkeypatch.setattr(script, "machine", lambda: "a machine")

    def record(*options: str, printed: str, end: Exception | None = None) -> str:
        def main() -> None:
            print(printed)
            if end:
                raise end

        monkeypatch.setattr(sys, "argv", ["/somewhere/benchmarks/question.py", *options])
        script.record(main)
        return capsys.readouterr().out

    return record


def test_what_a_script_prints_is_seen_and_kept_under_its_command(
    record: Callable[..., str], tmp_path: Path
) -> None:
    assert record(printed="\n   ±1\n\n") == "\n   ±1\n\n\n"
    record("--of", "two words", printed="2\n\n$3")
    record(printed="  4")
    assert (tmp_path / "question.txt").read_text(encoding="utf-8") == (
        "$ python benchmarks/question.py\n# a machine\n\n  4\n\n"
        "$ python benchmarks/question.py --of 'two words'\n# a machine\n\n2\n\n$3\n"
    )


def test_a_script_that_fails_leaves_what_was_kept(record: Callable[..., str], tmp_path: Path) -> None:
    record(printed="1")
    before = (tmp_path / "question.txt").read_bytes()
    with pytest.raises(OSError, match=r"^no more$"):
        record(printed="2", end=OSError("no more"))
    assert (tmp_path / "question.txt").read_bytes() == before


def test_a_machine_is_described_with_its_threads_and_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    *_, threads, python, engine, runtime = script.machine().split(", ")
    assert threads.endswith(" (OMP_NUM_THREADS=3)")
    assert python == f"Python {platform.python_version()}"
    assert engine.partition("+")[0] == "torch " + torch.__version__.partition("+")[0]
    assert runtime.startswith("ONNX Runtime ")


@pytest.fixture
def images() -> torch.Tensor:
    return torch.from_numpy(mnist.load().images[:100])


@pytest.mark.parametrize("name", robustness.CORRUPTIONS)
def test_a_stronger_corruption_is_farther_from_the_image(images: torch.Tensor, name: str) -> None:
    _, strengths = robustness.CORRUPTIONS[name]
    corrupted = [robustness.corrupt(images, name, strength) for strength in strengths]
    assert all(result.shape == images.shape and result.dtype == torch.uint8 for result in corrupted)
    distances = [(result.float() - images.float()).square().mean().item() for result in corrupted]
    assert 0 < distances[0] < distances[1] < distances[2]


@pytest.mark.parametrize("name", robustness.CORRUPTIONS)
def test_a_corruption_repeats_itself(images: torch.Tensor, name: str) -> None:
    strength = robustness.CORRUPTIONS[name][1][0]
    first, again = (robustness.corrupt(images[:10], name, strength) for _ in range(2))
    assert torch.equal(first, again)


def test_rotation_by_90_degrees_is_numpys_to_either_side() -> None:
    rotated = robustness.corrupt(IMAGE, "rotation, degrees", 90).numpy().astype(int)
    left, right = (np.rot90(IMAGE.numpy(), times, axes=(2, 3)) for times in (1, -1))
    is_left, is_right = (abs(rotated - side).max(axis=(1, 2, 3)) <= 1 for side in (left, right))
    assert (is_left ^ is_right).all()


def test_strokes_grow_and_shrink_by_the_pixels_named() -> None:
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    image[..., 10:16] = 255
    ink = image.float().sum(dim=3).mean() / 255
    thicker = robustness.corrupt(image, "thicker, pixels a side", 0.6).float().sum(dim=3).mean() / 255
    thinner = robustness.corrupt(image, "thinner, pixels a side", 0.6).float().sum(dim=3).mean() / 255
    assert thicker - ink == pytest.approx(1.2, abs=0.1)
    assert ink - thinner == pytest.approx(1.2, abs=0.1)


def test_what_doubt_is_reported_for_was_neither_trained_on_nor_chosen_with() -> None:
    assert not set(doubt.REPORTED) & set(doubt.CHOSEN_WITH)
    assert not set(doubt.SYLLABICS) & set("".join(letters for letters, _ in ALPHABETS))


def test_doubt_counts_what_is_certain_and_what_is_refused() -> None:
    digit, nothing = np.zeros((28, 28), np.uint8), np.zeros((28, 28), np.uint8)
    digit[4:24, 13:15] = 255  # a one
    shown = doubt.photos(np.stack([digit, digit, nothing]))
    assert doubt.measure(Predictor("exact", threads=1), shown) == (2, 1)


@pytest.mark.parametrize("make", [doubt.blot, doubt.texture, doubt.syllabic])
def test_non_digits_repeat_themselves(make: Any) -> None:
    first, again = (make(np.random.default_rng(0)) for _ in range(2))
    assert first == again
    assert np.asarray(Image.open(io.BytesIO(first))).shape == (doubt.PAGE, doubt.PAGE)


def test_real_pictures_are_right_refused_uncertain_or_certain_and_wrong(tmp_path: Path) -> None:
    page = np.full((60, 60), 255, np.uint8)
    page[10:50, 28:33] = 0  # a one
    for name, pixels in (("one.png", page), ("empty.png", np.full((60, 60), 255, np.uint8))):
        Image.fromarray(pixels).save(tmp_path / name)
    one, empty = tmp_path / "one.png", tmp_path / "empty.png"
    predictor = Predictor("exact", threads=1)
    assert [*real.measure(predictor, {one: "1", empty: ""}).values()] == [1, 1, 0, 0]
    assert [*real.measure(predictor, {one: "01"}).values()] == [0, 0, 0, 1]


def test_digits_by_other_hands_are_dark_on_a_light_page() -> None:
    image = np.zeros((8, 8))
    image[2:6, 3:5] = 16  # a short one
    page = np.asarray(hands.picture(image))
    assert page.shape == (400, 400)
    assert (page[200, 200], page[200, 100], page[0, 0]) == (0, 255, 255)


@pytest.mark.parametrize("variant", fusion.VARIANTS.values())
def test_a_variant_gives_probabilities(variant: type) -> None:
    for log_probabilities, classes in zip(variant()(IMAGE, ADDEND), (10, 19), strict=True):
        assert log_probabilities.shape == (4, classes)
        torch.testing.assert_close(log_probabilities.exp().sum(dim=1), torch.ones(4))


def test_regression_answers_with_the_rounded_numbers() -> None:
    network = fusion.Regression()
    encoded = network.encode(IMAGE)
    with torch.no_grad():
        network.digit.bias.copy_(torch.tensor([3.3]))
        network.sum.bias.copy_(torch.tensor([11.6]))
        network.digit.weight.zero_()
        network.sum.weight.zero_()
    log_digit, log_sum = network.answer(encoded, ADDEND)
    assert log_digit.argmax(dim=1).tolist() == [3] * 4
    assert log_sum.argmax(dim=1).tolist() == [12] * 4
    loss = network.loss(encoded, ADDEND, torch.full((4,), 3), torch.full((4,), 11))
    assert loss.item() == pytest.approx((0.3**2 + 0.6**2) / 2, rel=1e-5)


@pytest.mark.parametrize(("variant", "passes"), [(fusion.Plain, True), (fusion.Argmax, False)])
def test_the_argmax_keeps_the_gradient_of_the_sum_from_the_image(variant: type, passes: bool) -> None:
    network = variant()
    _, log_sum = network(IMAGE, ADDEND)
    nll_loss(log_sum, torch.arange(4)).backward()
    gradient = network.image[0].weight.grad
    assert (gradient is not None and gradient.any().item()) == passes


def test_train_measures_each_epoch(pictures: Path) -> None:
    figures = fusion.train(
        fusion.Exact, Config(data=str(pictures), epochs=2, batch_size=8, precision="32-true")
    )
    digit, sum_, joint, consistency = figures.T
    assert digit.shape == (2,)
    assert (digit == sum_).all()
    assert (digit == joint).all()
    assert (consistency == 100).all()


def test_flops_are_those_counted_by_hand() -> None:
    convolution, linears = 10 * 10 * 36 * 32, 800 * 128 + 128 * 10  # products of the forward pass
    by_hand = 2 * (2 * convolution + 3 * linears)  # the image itself needs no gradient
    assert throughput.flops(FastNet(), DigitSumDataset(mnist.load())) == by_hand


@pytest.mark.parametrize("way", [throughput.bare, throughput.per_sample])
def test_every_way_to_load_gives_the_same_items(way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def items(batches: Any) -> list[list[float]]:
        rows = [
            torch.cat([image.flatten(1), addend, digit[:, None], sum_[:, None]], dim=1)
            for (image, addend), (digit, sum_) in batches
        ]
        return sorted(torch.cat(rows).tolist())

    monkeypatch.setattr(throughput, "IMAGES", 256)
    dataset = DigitSumDataset(mnist.load())
    assert items(way(dataset)) == items([dataset[:256]])


def test_quickest_is_the_least_of_the_rounds_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, waits = [0.0], iter([0, 3, 1, 2])
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    def wait() -> None:
        clock[0] += next(waits)

    assert timing.quickest([wait, lambda: None], rounds=3) == [1, 0]


@pytest.mark.parametrize("digit", hand.STROKES)
def test_each_digit_of_a_hand_is_one_digit_on_a_light_page(digit: int) -> None:
    picture = hand.draw(hand.STROKES[digit], np.random.default_rng(0))
    assert picture.size == (hand.PAGE, hand.PAGE)
    assert np.median(picture) >= 225
    assert (read_picture(picture) > 127).sum() > 30  # which refuses several digits
    again, other = (hand.draw(hand.STROKES[digit], np.random.default_rng(seed)) for seed in (0, 1))
    assert picture.tobytes() == again.tobytes() != other.tobytes()


def test_a_hand_is_written_as_training_takes_it(tmp_path: Path) -> None:
    hand.write(tmp_path, 2, np.random.default_rng(0))
    digits = mnist.load(tmp_path)
    assert np.bincount(digits.labels).tolist() == [2] * 10


def test_the_field_s_network_has_its_number_of_parameters() -> None:
    layers = 6 * 26 + 16 * 151 + 120 * 257 + 84 * 121 + 10 * 85
    assert sum(weight.numel() for weight in addition.LeNet(1).parameters()) == layers


def test_a_sum_is_right_where_errors_cancel_and_wrong_elsewhere() -> None:
    digits, swapped, wrong = torch.tensor([[1, 2, 3, 4], [1, 2, 4, 3], [1, 2, 3, 5]])
    assert addition.add_shuffled(digits, digits, 2) == 1
    assert addition.add_shuffled(wrong, digits, 1) == 0.5
    assert addition.add_shuffled(swapped[2:], digits[2:], 1) == 1
    assert addition.add_shuffled(swapped, digits, 1) < 1


def test_digits_are_learnt_from_their_sums_alone() -> None:
    sums = AdditionDataset(mnist.load(), 2)
    network, loss = addition.train(addition.RECIPES["lenet"], sums, 8, 0)
    read = addition.read_digits(network, torch.from_numpy(mnist.load().images)).argmax(1)
    assert loss < 0.5
    assert (read.numpy() == mnist.load().labels).mean() > 0.9


def test_a_leader_that_is_caught_in_a_trap_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    sums, made = AdditionDataset(mnist.load(), 2), []

    def train(recipe: object, given: object, epochs: int, seed: int) -> tuple[FastNet, float]:
        assert (recipe, given, epochs) == (addition.LEADER, sums, addition.LEAD)
        made.append(seed)
        return FastNet(), losses[len(made) - 1]

    monkeypatch.setattr(addition, "train", train)
    losses = [1.1, 1.3, 0.1]
    assert isinstance(addition.lead(sums, 7), FastNet)
    assert len(set(made)) == 3
    made, losses = [], [1.1] * addition.LEADERS
    with pytest.raises(RuntimeError, match=r"5 leaders were caught: 1\.10 nats a column"):
        addition.lead(sums, 7)
