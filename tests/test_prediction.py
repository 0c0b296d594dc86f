import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.utils
import onnxruntime as ort
import pytest
import torch
from drawing import page_of, png
from PIL import Image
from torch.nn.functional import one_hot

from digitsum import mnist
from digitsum.data.digits import Digits
from digitsum.data.pairs import DigitSumDataset, loader
from digitsum.errors import InputError
from digitsum.evaluation import evaluate
from digitsum.files import WEIGHTS
from digitsum.networks import load
from digitsum.prediction import (
    CERTAIN,
    CHUNK,
    DigitPrediction,
    Prediction,
    Predictor,
    SumPrediction,
    check_addends,
    find_model,
)
from digitsum.reading.strips import SHORT, Row
from digitsum.search import MARK, NOTHING, SYMBOLS, read_steps

PACKAGED = ("exact", "concat")


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor("exact", threads=1)


@pytest.fixture(scope="module")
def rows() -> Predictor:
    """The one that reads numbers of any length."""
    return Predictor(threads=1)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Ten embedded images, the digits 0 to 9, uint8 [10, 28, 28]."""
    digits = mnist.load()
    return np.stack([digits.images[digits.labels == digit][9, 0] for digit in range(10)])


def digit_of(shares: dict[int, float]) -> DigitPrediction:
    """Digits as probable as given."""
    probabilities = np.zeros(10)
    probabilities[list(shares)] = list(shares.values())
    digit = max(shares, key=lambda digit: shares[digit])
    return DigitPrediction(digit, shares[digit], probabilities)


def number_of(shares: dict[int, float], doubt: str | None = None) -> Prediction:
    """A number of one such digit."""
    digit = digit_of(shares)
    return Prediction(digit.digit, 0, digit.digit, digit.probability, digit.probability, None, [digit], doubt)


def cut(file: Path, name: str) -> list[ort.InferenceSession]:
    """Cut a model in two: up to what its exporter named `name`, and from there on."""
    extractor, options = onnx.utils.Extractor(onnx.load(file)), ort.SessionOptions()
    options.intra_op_num_threads = 1
    halves = (["image"], [name]), ([name, "addend"], ["digit", "sum"])
    models = [extractor.extract_model(*ends).SerializeToString() for ends in halves]
    return [ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]) for model in models]


def assert_torchs_equal(name: str, digits: Digits, data: str, split: str) -> None:
    """Cut after the scores of the digits, the model reads an image once for ten addends; uncut, for one."""
    network, count = load(name), len(digits.images)
    read, answer = cut(find_model(name), "linear")
    scores = np.concatenate([read.run(None, {"image": images})[0] for images in np.split(digits.images, 10)])
    every, assigned = np.indices((10, count))[0], np.arange(count) % 10
    found = [answer.run(["digit", "sum"], {"linear": scores, "addend": addend}) for addend in every]
    uncut = Predictor(name, threads=1).probabilities(digits.images, assigned)
    with torch.no_grad():
        encoded = torch.cat([network.encode(images) for images in torch.from_numpy(digits.images).split(200)])
        expected = [network.answer(encoded, one_hot(torch.tensor(addend), 10).float()) for addend in every]
    evaluation = evaluate(network, loader(DigitSumDataset(digits)), data, split)
    accuracies = evaluation.digit_accuracy, evaluation.sum_accuracy
    rights = digits.labels, digits.labels + every
    for i in (0, 1):
        ours, torchs = np.stack([each[i] for each in found]), np.stack([each[i].exp() for each in expected])
        for output, reference in ((ours, torchs), (uncut[i], torchs[assigned, np.arange(count)])):
            np.testing.assert_allclose(output, reference, rtol=0, atol=1e-5)
            np.testing.assert_array_equal(output.argmax(-1), reference.argmax(-1))
        assert (ours.argmax(-1) == rights[i]).mean() == pytest.approx(accuracies[i], rel=1e-12)


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_model_is_torchs_equal_on_every_trial_of_five_hundred_images(name: str) -> None:
    digits = mnist.load()
    assert_torchs_equal(name, Digits(digits.images[::10].copy(), digits.labels[::10]), "mnist5k", "train")


@pytest.mark.weights
@pytest.mark.usefixtures("real_mnist")
@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_model_is_torchs_equal_on_every_trial_of_the_test_split(name: str) -> None:
    assert_torchs_equal(name, mnist.load("mnist", "test"), "mnist", "test")


def test_model_says_what_it_is(predictor: Predictor) -> None:
    assert predictor.about["network"] == "exact"
    assert predictor.about["parameters"] == sum(weight.numel() for weight in load("exact").parameters())
    assert predictor.about["figures"]["digit_accuracy"] > 0.99


@pytest.mark.parametrize(
    ("digit", "sum_", "uncertain"),
    [(CERTAIN, CERTAIN, False), (CERTAIN - 0.01, 1.0, True), (1.0, CERTAIN - 0.01, True)],
)
def test_answer_is_uncertain_if_either_probability_is_low(digit: float, sum_: float, uncertain: bool) -> None:
    assert Prediction.of_digit(digit * np.eye(10)[1], sum_ * np.eye(19)[2], 1).uncertain is uncertain


def test_every_kind_of_picture_gives_the_same_answer(
    predictor: Predictor, images: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "seven.png"
    path.write_bytes(png(images[7]))
    kinds = [images[7] / np.float32(255), Image.fromarray(images[7]), path.read_bytes(), path, str(path)]
    expected = predictor.predict(images[7], 5).digits[0].probabilities
    for answer in predictor.predict_all(kinds, 5):
        assert (answer.number, answer.sum) == (7, 12)
        np.testing.assert_array_equal(answer.digits[0].probabilities, expected)


@pytest.mark.parametrize("addend", [0, 7, 10**30, np.int64(12)])
def test_a_number_is_read_and_added(rows: Predictor, images: np.ndarray, addend: int) -> None:
    answer = rows.predict_number(page_of(*images[[4, 0, 7, 7]]), addend)
    assert (answer.number, answer.sum, answer.uncertain) == (4077, 4077 + int(addend), False)
    assert (type(answer.number), type(answer.sum)) == (int, int)
    assert [digit.digit for digit in answer.digits] == [4, 0, 7, 7]
    assert (answer.sum_probability, answer.consistent) == (answer.probability, True)
    assert answer.sum_probabilities is None


def test_a_network_of_one_digit_adds_a_larger_number_to_it(predictor: Predictor, images: np.ndarray) -> None:
    answer = predictor.predict_number(images[7], 10**30)
    assert (answer.number, answer.sum, answer.sum_probabilities) == (7, 10**30 + 7, None)
    assert answer.sum_probability == answer.probability


def test_a_network_of_one_digit_refuses_a_picture_of_several(
    predictor: Predictor, images: np.ndarray
) -> None:
    page = page_of(*images[[4, 0, 7]])
    for predict in (predictor.predict, predictor.predict_number):
        with pytest.raises(
            InputError, match=r"^the picture can't be read: it shows 3 digits, not one; the n"
        ):
            predict(page, 1)


def test_a_network_of_rows_that_is_asked_for_one_digit_names_what_reads_several(
    rows: Predictor, images: np.ndarray
) -> None:
    sentence = r"^the picture can't be read: it shows 3 digits, not one; predict_number reads all of them$"
    with pytest.raises(InputError, match=sentence):
        rows.predict(page_of(*images[[4, 0, 7]]), 1)


@pytest.mark.parametrize(("count", "addend"), [(1, 7), (1, 2**53), (4, 7)])
def test_what_json_holds_has_one_shape_and_keeps_every_digit(
    rows: Predictor, images: np.ndarray, count: int, addend: int
) -> None:
    answer = rows.predict_number(page_of(*images[[4, 0, 7, 7][:count]]), addend)
    sums = answer.sum_probabilities
    assert json.loads(json.dumps(answer.to_dict())) == {
        "number": "4077"[:count],
        "addend": str(addend),
        "sum": str(int("4077"[:count]) + addend),
        "probability": answer.probability,
        "sum_probability": answer.sum_probability,
        "consistent": True,
        "uncertain": False,
        "doubt": None,
        "sum_probabilities": None if sums is None else sums.tolist(),
        "digits": [
            {
                "digit": digit.digit,
                "probability": digit.probability,
                "probabilities": digit.probabilities.tolist(),
                "place": list(digit.place or ()),
            }
            for digit in answer.digits
        ],
    }
    assert (sums is None) == (count > 1 or addend > 9)


def test_the_sum_of_one_digit_is_the_network_s_second_output(images: np.ndarray) -> None:
    concat = Predictor("concat")
    for digit, addend in ((4, 0), (7, 5), (9, 9)):
        (digits,), (sums,) = concat.probabilities(images[[digit], np.newaxis], np.array([addend]))
        for predict in (concat.predict, concat.predict_number):
            answer = predict(images[digit], addend)
            assert (answer.number, answer.sum) == (digit, digit + addend)
            assert (answer.probability, answer.sum_probability) == (digits[digit], sums[digit + addend])
            np.testing.assert_array_equal(answer.digits[0].probabilities, digits)
            np.testing.assert_array_equal(answer.sum_probabilities, sums)


def test_outputs_that_contradict_each_other_are_said_and_uncertain_however_probable() -> None:
    answer = Prediction.of_digit(np.eye(10)[8], np.eye(19)[9], 3)
    assert (answer.sum, answer.sum_probability) == (9, 1)  # and not 8 + 3
    said = answer.to_dict()
    assert (answer.consistent, answer.uncertain) == (said["consistent"], said["uncertain"]) == (False, True)


@pytest.mark.usefixtures("real_mnist")
def test_the_test_image_on_which_concat_contradicts_itself() -> None:
    image = mnist.load("mnist", "test").images[4571, 0]  # a 6
    answer = Predictor("concat").predict_number(image, 3)
    assert (answer.number, answer.sum, answer.consistent, answer.uncertain) == (8, 9, False, True)
    assert answer.sum_probability > 0.99 > answer.probability


@pytest.mark.parametrize("value", [np.nan, -0.5, 1.5, np.inf])
def test_a_model_whose_answers_are_no_probabilities_is_refused(
    tmp_path: Path, images: np.ndarray, value: float
) -> None:
    model = onnx.load(WEIGHTS / "exact" / "model.onnx")
    (last,) = (node for node in model.graph.node if "digit" in node.output)
    last.output[list(last.output).index("digit")] = "probability"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.float32), "value"))
    model.graph.node.append(onnx.helper.make_node("Mul", ["probability", "value"], ["digit"]))
    onnx.save(model, tmp_path / "m.onnx")
    predictor = Predictor(tmp_path / "m.onnx")
    for predict in (predictor.predict, predictor.predict_number):
        with pytest.raises(InputError, match=r"^the model isn't one of digitsum: its probabilities are "):
            predict(images[7], 5)


def test_images_are_read_as_they_are_each_with_its_addend(predictor: Predictor, images: np.ndarray) -> None:
    three, five = predictor.predict_rows(images[[3, 5]], [100, 4])
    assert isinstance(three, Prediction)
    assert isinstance(five, Prediction)
    assert (three.number, three.sum, five.number, five.sum) == (3, 103, 5, 9)
    for answer, image in zip((three, five), images[[3, 5]], strict=True):
        expected = predictor.predict(image, 0).digits[0].probabilities
        np.testing.assert_allclose(answer.digits[0].probabilities, expected, atol=1e-6)


def test_two_digits_that_touch_are_read_as_a_row_and_an_uncertain_one(
    predictor: Predictor, rows: Predictor, images: np.ndarray
) -> None:
    row = np.hstack([image[:, 4:24] for image in images[[0, 2]]])
    row[14:16, 15:27] = 255  # a stroke that joins them
    assert rows.predict_number(page_of(row), 1).number == 2  # 02
    assert predictor.predict(page_of(row), 1).uncertain


def test_two_numbers_are_read_and_added(rows: Predictor, images: np.ndarray) -> None:
    answer = rows.add_pictures(page_of(*images[[9, 9, 7]]), page_of(*images[[4]]))
    assert (answer.top.number, answer.bottom.number, answer.sum) == (997, 4, 1001)
    assert not answer.uncertain
    # nearly all of the sum's probability is that of the two numbers
    both = answer.top.probability * answer.bottom.probability
    assert answer.sum_probability == pytest.approx(both, abs=1e-3)
    assert answer.to_dict() == {
        "top": answer.top.to_dict(),
        "bottom": answer.bottom.to_dict(),
        "sum": "1001",
        "sum_probability": answer.sum_probability,
        "uncertain": False,
    }


def test_probability_of_a_sum_is_that_of_all_pairs_that_make_it() -> None:
    top, bottom = number_of({1: 0.6, 2: 0.4}), number_of({1: 0.5, 2: 0.5})
    answer = SumPrediction.of(top, bottom)  # 1 + 2 or 2 + 1; 1 + 1 is as probable as 1 + 2
    assert (answer.sum, answer.sum_probability) == (3, pytest.approx(0.6 * 0.5 + 0.4 * 0.5))
    assert answer.uncertain


def test_a_sum_is_uncertain_if_a_number_is_doubtful() -> None:
    sure, doubtful = number_of({1: 1.0}), number_of({1: 1.0}, "a mark stands before its digits")
    assert not SumPrediction.of(sure, sure).uncertain
    assert SumPrediction.of(sure, doubtful).uncertain


@pytest.mark.parametrize("addend", [-1, 2.5, "7", None, True, [1, 2]])
def test_a_number_takes_whole_addends_only(predictor: Predictor, images: np.ndarray, addend: Any) -> None:
    with pytest.raises(InputError, match=r"^a number's addend is a whole number from 0 on, not "):
        predictor.predict_number(images[0], addend)


def test_a_number_takes_addends_of_up_to_a_thousand_digits(predictor: Predictor, images: np.ndarray) -> None:
    assert predictor.predict_number(images[7], 10**1000 - 1).to_dict()["sum"] == f"1{6:01000}"
    for addend in (10**1000, 10**5000):
        with pytest.raises(InputError, match=r"^a number's addend has at most 1000 digits$"):
            predictor.predict_number(images[7], addend)


@pytest.mark.parametrize("addends", [3, np.arange(10), list(range(9, -1, -1))])
def test_an_array_of_images_is_read_each_with_its_addend(
    predictor: Predictor, images: np.ndarray, addends: Any
) -> None:
    answers = predictor.predict_all(images, addends)
    assert [answer.number for answer in answers] == list(range(10))
    assert [answer.sum for answer in answers] == list(np.arange(10) + addends)
    assert predictor.predict_all([], 3) == []


def test_more_images_than_a_chunk_give_what_each_alone_does(predictor: Predictor) -> None:
    images, addends = mnist.load().images[: CHUNK + 3], np.arange(CHUNK + 3) % 10
    digits, sums = predictor.probabilities(images, addends)
    for i in (0, CHUNK - 1, CHUNK, CHUNK + 2):
        digit, sum_ = predictor.probabilities(images[i : i + 1], addends[i : i + 1])
        np.testing.assert_allclose(digits[i], digit[0], atol=1e-6)
        np.testing.assert_allclose(sums[i], sum_[0], atol=1e-6)


@pytest.mark.parametrize("addend", [-1, 10, 2.5, 7.0, "7", None, True, np.float32(1), [1, 2], 10**30])
def test_addend_that_is_no_whole_number_from_0_to_9_is_refused(
    predictor: Predictor, images: np.ndarray, addend: Any
) -> None:
    with pytest.raises(ValueError, match=r"an addend is a whole number from 0 to 9, not|as many addends"):
        predictor.predict(images[0], addend)


@pytest.mark.parametrize("addend", [np.int64(9), np.uint8(9), 9])
def test_addend_of_any_integer_type_is_taken(addend: Any) -> None:
    np.testing.assert_array_equal(check_addends(addend, 2), np.array([9, 9], np.int64), strict=True)


def test_wrong_count_of_addends_is_refused(predictor: Predictor, images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="10 pictures need as many addends, or one for all, not 3"):
        predictor.predict_all(images, [1, 2, 3])


def test_missing_model_is_named() -> None:
    with pytest.raises(ValueError, match="there is no model 'best': name exact, concat, row, an ONNX file"):
        Predictor("best")


@pytest.mark.parametrize("content", [b"", b"not a model"])
def test_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.onnx isn't an ONNX file of digitsum: "):
        Predictor(tmp_path)


def write_model(nodes: list[onnx.NodeProto], initializers: list[onnx.TensorProto]) -> None:
    """Write m.onnx, of which the output is y."""
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [10])
    graph = onnx.helper.make_graph(nodes, "graph", [], [result], initializers)
    opset = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("evil", 1)]
    onnx.save(onnx.helper.make_model(graph, ir_version=10, opset_imports=opset), "m.onnx")


@pytest.mark.parametrize("where", ["initializer", "constant"])
def test_a_model_that_reads_another_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.chdir(tmp_path)  # where ONNX Runtime would look
    np.arange(10, dtype=np.float32).tofile("secret")
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[10])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "secret"), ("length", "40")):
        tensor.external_data.add(key=key, value=value)
    if where == "initializer":
        write_model([onnx.helper.make_node("Identity", ["w"], ["y"])], [tensor])
    else:
        write_model([onnx.helper.make_node("Constant", [], ["y"], value=tensor)], [])
    assert ort.InferenceSession(Path("m.onnx").read_bytes()).run(None, {})[0].tolist() == list(range(10))
    with pytest.raises(
        InputError, match=r"^m.onnx isn't an ONNX file of digitsum: .* does not exist: "
    ) as refused:
        Predictor("m.onnx")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (onnx.helper.make_node("Run", [], ["y"], domain="evil"), r".* evil:Run"),
        (
            onnx.helper.make_node("RandomNormal", [], ["y"], shape=[10]),
            r"its inputs and outputs are y tensor\(float\) \[10\], ",
        ),
    ],
)
def test_a_model_of_another_program_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: onnx.NodeProto, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model([node], [])
    with pytest.raises(InputError, match=f"^m.onnx isn't an ONNX file of digitsum: {why}"):
        Predictor("m.onnx")


@pytest.mark.parametrize("lost", ["network", "figures"])
def test_a_model_without_its_metadata_is_refused(tmp_path: Path, lost: str) -> None:
    model = onnx.load(WEIGHTS / "concat" / "model.onnx")
    kept = [each for each in model.metadata_props if each.key != lost]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(
        InputError, match=rf"m\.onnx isn't an ONNX file of digitsum: its metadata lacks '{lost}'$"
    ):
        Predictor(tmp_path / "m.onnx")


# Rows


def row_of(shown: str, addend: int = 0, sure: float = 1.0, may_have_lost: bool = False) -> Prediction:
    """What a network of rows makes of steps that show digits and marks ("."), each as sure, and nothing."""
    symbols = [each for one in shown for each in (MARK if one == "." else int(one), NOTHING)]
    steps = np.full((len(symbols) + 1, SYMBOLS), (1 - sure) / (SYMBOLS - 1))
    steps[np.arange(len(steps)), [*symbols, NOTHING]] = sure
    row = Row(np.zeros((32, 4 * len(steps)), np.uint8), may_have_lost)
    return Prediction.of_row(row, [steps], read_steps(steps), addend)


def test_sum_of_one_digit_in_a_row_is_as_probable_as_the_digit_that_makes_it() -> None:
    steps = np.zeros((3, SYMBOLS))
    steps[:, NOTHING] = 1
    steps[1] = 0
    steps[1, [3, 8, NOTHING]] = 0.25, 0.625, 0.125
    answer = Prediction.of_row(Row(np.zeros((32, 6), np.uint8), False), [steps], read_steps(steps), 7)
    assert (answer.number, answer.sum, answer.probability, answer.sum_probability) == (8, 15, 0.625, 0.625)
    expected = np.zeros(19)
    expected[[10, 15]] = 0.25, 0.625  # in an eighth there is no digit, and no sum
    assert answer.sum_probabilities is not None
    np.testing.assert_allclose(answer.sum_probabilities, expected, atol=1e-7)
    assert answer.digits[0].probability == pytest.approx(0.625 / 0.875)
    assert answer.digits[0].place == (
        0,
        4,
    )  # the second step: before the first four columns come four of paper
    assert answer.consistent
    assert answer.uncertain


def test_sum_of_a_row_is_exact_and_as_probable_as_the_number() -> None:
    answer = row_of("12345678901234567890", addend=10**30)
    assert (answer.number, answer.sum) == (12345678901234567890, 10**30 + 12345678901234567890)
    assert (answer.probability, answer.sum_probability, answer.sum_probabilities) == (1, 1, None)
    assert not answer.uncertain


@pytest.mark.parametrize("shown", ["1200", "1.200", "1.200.300", "1500.", "007"])
def test_a_whole_number_is_certain_whatever_parts_its_thousands(shown: str) -> None:
    answer = row_of(shown)
    assert answer.number == int(shown.replace(".", ""))
    assert (answer.doubt, answer.uncertain) == (None, False)


@pytest.mark.parametrize(
    ("shown", "doubt"),
    [
        ("3.14", "it shows 3·14: a mark stands between its digits"),
        ("12.5", "it shows 12·5: a mark stands between its digits"),
        ("0.125", "it shows 0·125: a mark stands between its digits"),
        ("1234.567", "it shows 1234·567: a mark stands between its digits"),
        (".72", "it shows ·72: a mark stands before its digits"),
    ],
)
def test_a_mark_that_makes_another_number_of_it_is_told(shown: str, doubt: str) -> None:
    answer = row_of(shown, sure=0.999)
    assert (answer.doubt, answer.uncertain) == (doubt, True)
    assert answer.to_dict()["doubt"] == doubt


def test_a_row_that_may_have_lost_a_digit_is_uncertain() -> None:
    answer = row_of("87544", may_have_lost=True)
    assert answer.probability == 1
    assert answer.doubt is not None
    assert answer.uncertain
    assert SumPrediction.of(answer, row_of("1")).uncertain


def test_steps_without_a_digit_are_refused() -> None:
    with pytest.raises(InputError, match=r"^it shows nothing that looks like a digit$"):
        row_of(".")


def test_sum_of_two_rows_is_no_more_probable_than_both_numbers() -> None:
    top, bottom = row_of("402", sure=0.99), row_of("3.14", sure=0.99)
    answer = SumPrediction.of(top, bottom)
    assert answer.sum == 402 + 314
    assert answer.sum_probability == pytest.approx(top.probability * bottom.probability, rel=0.01)
    assert answer.uncertain


def test_a_strip_is_read_alike_whatever_it_shares_a_batch_with() -> None:
    predictor = Predictor("row", threads=1)
    rng = np.random.default_rng(0)
    strips = [rng.integers(0, 256, (32, width), dtype=np.uint8) for width in (9, 200, 12, 13, 40, 9)]
    for strip, steps in zip(strips, predictor.steps(strips), strict=True):
        assert steps.shape == (-(-(strip.shape[1] + 8) // 4), SYMBOLS)
        np.testing.assert_allclose(steps, predictor.steps([strip])[0], atol=1e-6)


def test_a_short_row_that_is_not_sure_is_looked_at_again_narrower_and_the_average_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predictor, asked = Predictor("row", threads=1), []
    looks = {False: (0.6, 0.3), True: (0.2, 0.7)}  # P(4) and P(9), as it is and narrower

    def steps(strips: Sequence[np.ndarray]) -> list[np.ndarray]:
        asked.append([strip.shape[1] for strip in strips])
        found = np.zeros((len(strips), 1, SYMBOLS))
        for each, strip in zip(found, strips, strict=True):
            chances = looks[strip.shape[1] < 100] if strip[0, 0] else (1, 0)
            each[0, [4, 9, NOTHING]] = *chances, 1 - sum(chances)
        return list(found)

    monkeypatch.setattr(predictor, "steps", steps)
    sizes = ((0, 100), (255, 100), (255, SHORT + 1))  # ink, and columns
    rows = [Row(np.full((32, width), ink, np.uint8), may_have_lost=False) for ink, width in sizes]
    sure, unsure, long = predictor.predict_rows(rows, [0, 3, 0])
    assert asked == [[100, 100, SHORT + 1], [85]]
    assert isinstance(long, Prediction)
    assert (long.number, long.probability) == (4, pytest.approx(0.6))
    assert isinstance(sure, Prediction)
    assert isinstance(unsure, Prediction)
    assert (sure.number, sure.probability) == (4, 1)
    assert (unsure.number, unsure.sum, unsure.digits[0].place) == (9, 12, (0, 0))
    assert unsure.probability == unsure.sum_probability == pytest.approx(0.5)
    assert unsure.sum_probabilities is not None
    np.testing.assert_allclose(unsure.sum_probabilities[[7, 12]], [0.4, 0.5], rtol=1e-6)
