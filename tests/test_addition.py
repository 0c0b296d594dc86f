import itertools

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from digitsum.addition import (
    AdditionDataset,
    add_digits,
    as_log_probabilities,
    log_likelihood,
    most_probable_sums,
)
from digitsum.data.digits import Digits
from digitsum.errors import InputError
from digitsum.networks import ExactNet


def readings(sums: int, length: int, seed: int, sharpness: float = 2.0) -> Tensor:
    """Draw log P(digit), float32 [sums, length, 10]."""
    generator = torch.Generator().manual_seed(seed)
    return (sharpness * torch.randn(sums, length, 10, generator=generator)).log_softmax(dim=2)


def digits_of(numbers: np.ndarray, length: int) -> Tensor:
    return torch.tensor(numbers[..., None] // 10 ** np.arange(length - 1, -1, -1) % 10)


def brute_force(log_top: Tensor, log_bottom: Tensor) -> np.ndarray:
    """Give P(sum = 0, 1, 2 ...) by going through all pairs of numbers of N digits, [2 * 10^N]."""
    length = len(log_top)
    numbers = np.array(list(itertools.product(range(10), repeat=length)))
    top, bottom = (
        np.exp(log.double().numpy()[np.arange(length), numbers].sum(axis=1)) for log in (log_top, log_bottom)
    )
    return np.append(np.convolve(top, bottom), 0.0)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_likelihood_is_that_of_brute_force_over_all_numbers(length: int) -> None:
    log_top, log_bottom = readings(1, length, seed=1), readings(1, length, seed=2)
    sums = digits_of(np.arange(2 * 10**length), length + 1)
    many = (len(sums), -1, -1)
    found = log_likelihood(log_top.expand(many), log_bottom.expand(many), sums).exp()
    np.testing.assert_allclose(found, brute_force(log_top[0], log_bottom[0]), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("length", [4, 7, 8, 33])
def test_likelihood_of_a_long_sum_is_that_of_a_step_by_step_chain_in_numpy(length: int) -> None:
    log_top, log_bottom = readings(1, length, seed=3), readings(1, length, seed=4)
    right = add_digits(log_top.argmax(dim=2), log_bottom.argmax(dim=2))
    carry = np.array([1.0, 0.0])
    for column in range(length - 1, -1, -1):
        chances = np.convolve(
            log_top[0, column].double().exp().numpy(), log_bottom[0, column].double().exp().numpy()
        )
        after = np.zeros(2)
        for (before, out), digit in itertools.product(np.ndindex(2, 2), [int(right[0, column + 1])]):
            needed = digit + 10 * out - before
            if 0 <= needed <= 18:
                after[out] += carry[before] * chances[needed]
        carry = after
    expected = np.log(carry[int(right[0, 0])])
    assert log_likelihood(log_top, log_bottom, right).item() == pytest.approx(expected, rel=1e-5)


def test_likelihood_of_one_digit_and_a_known_addend_is_the_exact_networks() -> None:
    torch.manual_seed(0)
    network = ExactNet(width=2).eval()
    images = torch.randint(256, (40, 1, 28, 28), dtype=torch.uint8)
    addends = torch.arange(40) % 10
    log_digit, log_sum = network(images, torch.eye(10)[addends])
    for sum_ in range(19):
        possible = (sum_ - addends >= 0) & (sum_ - addends <= 9)
        found = log_likelihood(
            log_digit[:, None], as_log_probabilities(addends[:, None]), digits_of(np.full(40, sum_), length=2)
        )
        torch.testing.assert_close(found[possible], log_sum[possible, sum_])
        assert (found[~possible] < -1e8).all()


@pytest.mark.parametrize("sharpness", [1.0, 40.0, 1000.0])
def test_gradients_are_finite_even_where_the_right_sum_seems_impossible(sharpness: float) -> None:
    log_top = readings(3, 50, seed=7, sharpness=sharpness).requires_grad_()
    log_bottom = readings(3, 50, seed=8, sharpness=sharpness).requires_grad_()
    random = torch.randint(10, (2, 3, 50), generator=torch.Generator().manual_seed(9))
    likelihood = log_likelihood(log_top, log_bottom, add_digits(*random))
    likelihood.sum().backward()
    assert likelihood.isfinite().all()
    assert log_top.grad is not None
    assert log_top.grad.isfinite().all()
    assert log_top.grad.abs().sum() > 0


def test_gradient_is_that_of_finite_differences() -> None:
    log_top, log_bottom = readings(2, 5, seed=10).double(), readings(2, 5, seed=11).double()
    right = add_digits(log_top.argmax(dim=2), log_bottom.argmax(dim=2))
    assert torch.autograd.gradcheck(
        lambda top, bottom: log_likelihood(top, bottom, right),
        (log_top.requires_grad_(), log_bottom.requires_grad_()),
    )


@pytest.mark.parametrize(("length", "rounds"), [(1, 0), (2, 1), (8, 3), (9, 4), (1000, 10)])
def test_likelihood_takes_log_n_rounds(length: int, rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def logaddexp(*terms: Tensor) -> Tensor:
        calls.append(terms)
        return torch.Tensor.logaddexp(*terms)

    monkeypatch.setattr(torch, "logaddexp", logaddexp)
    log_top, log_bottom = readings(1, length, 21), readings(1, length, 22)
    log_likelihood(log_top, log_bottom, add_digits(log_top.argmax(dim=2), log_bottom.argmax(dim=2)))
    assert len(calls) == rounds


def test_total_is_pythons_sum_of_whole_numbers() -> None:
    top, bottom = torch.randint(10, (2, 20, 40), generator=torch.Generator().manual_seed(13))
    for row in range(20):
        number, other, found = (
            int("".join(map(str, digits[row].tolist()))) for digits in (top, bottom, add_digits(top, bottom))
        )
        assert found == number + other


@pytest.mark.parametrize(("length", "sharpness"), [(1, 1.0), (2, 1.0), (3, 0.5), (3, 2.0)])
def test_add_finds_the_most_probable_sum_of_all(length: int, sharpness: float) -> None:
    log_top, log_bottom = readings(10, length, 14, sharpness), readings(10, length, 15, sharpness)
    best = [brute_force(*pair).argmax() for pair in zip(log_top, log_bottom, strict=True)]
    assert most_probable_sums(log_top, log_bottom).tolist() == digits_of(np.array(best), length + 1).tolist()


def test_add_can_differ_from_the_digits_read_one_by_one() -> None:
    log_top, log_bottom = readings(50, 3, 16, sharpness=0.5), readings(50, 3, 17, sharpness=0.5)
    by_digit = add_digits(log_top.argmax(dim=2), log_bottom.argmax(dim=2))
    best = most_probable_sums(log_top, log_bottom)
    better = log_likelihood(log_top, log_bottom, best) - log_likelihood(log_top, log_bottom, by_digit)
    assert (better > -1e-5).all()
    assert (better > 0.1).any()


def test_long_numbers_that_are_read_surely_add_up() -> None:
    top, bottom = torch.randint(10, (2, 3, 500), generator=torch.Generator().manual_seed(18))
    numbers = as_log_probabilities(top), as_log_probabilities(bottom)
    assert torch.equal(most_probable_sums(*numbers), add_digits(top, bottom))
    assert log_likelihood(*numbers, add_digits(top, bottom)).tolist() == [0.0] * 3


def dataset(images: int, length: int, seed: int = 0) -> tuple[Digits, AdditionDataset]:
    random = np.random.default_rng(19)
    pixels = random.integers(256, size=(images, 1, 28, 28), dtype=np.uint8)
    digits = Digits(pixels, random.integers(10, size=images))
    return digits, AdditionDataset(digits, length, seed)


def test_dataset_uses_each_image_once_and_knows_the_sum() -> None:
    digits, sums = dataset(images=48, length=4)
    labels = {image.tobytes(): int(label) for image, label in zip(digits.images, digits.labels, strict=True)}
    seen = set()
    assert len(sums) == 6
    for images, right in (sums[index] for index in range(6)):
        assert images.shape == (2, 4, 1, 28, 28)
        top, bottom = (
            int("".join(str(labels[image.numpy().tobytes()]) for image in number)) for number in images
        )
        assert int("".join(map(str, right.tolist()))) == top + bottom
        seen |= {image.numpy().tobytes() for number in images for image in number}
    assert len(seen) == 48


def test_dataset_leaves_out_what_fills_no_sum_and_pairs_otherwise_with_another_seed() -> None:
    first, again, other = (dataset(41, 2, seed)[1].images for seed in (0, 0, 1))
    assert len(first) == 10
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    with pytest.raises(InputError, match="of 5 digits takes 10 images, and there are only 9"):
        dataset(images=9, length=5)


def test_dataset_works_with_torchs_own_loader_and_gives_batches_at_once() -> None:
    sums = dataset(images=60, length=3)[1]
    at_once = DataLoader(
        sums, batch_size=None, sampler=BatchSampler(SequentialSampler(sums), 4, drop_last=False)
    )
    for batches in (DataLoader(sums, batch_size=4), at_once):
        images, totals = zip(*batches, strict=True)
        assert [len(part) for part in totals] == [4, 4, 2]
        assert torch.equal(torch.cat(images), sums.images)
        assert torch.equal(torch.cat(totals), sums.totals)


def test_no_label_can_be_reached_from_the_dataset() -> None:
    sums = dataset(images=20, length=5)[1]
    assert set(vars(sums)) == {"images", "totals"}
    # other digits with the same sums give the same dataset: nothing else of the labels is in it
    digits, _ = dataset(images=20, length=5)
    order = np.random.default_rng(0).permutation(20).reshape(2, 2, 5)
    top, bottom = order[:, 0], order[:, 1]
    swapped = digits.labels.copy()
    swapped[top], swapped[bottom] = digits.labels[bottom], digits.labels[top]
    assert not np.array_equal(swapped, digits.labels)
    assert torch.equal(AdditionDataset(Digits(digits.images, swapped), 5).totals, sums.totals)
