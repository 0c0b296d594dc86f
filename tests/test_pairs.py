import itertools
import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Subset,
    SubsetRandomSampler,
    default_collate,
    random_split,
)

from digitsum.data.digits import Digits
from digitsum.data.pairs import DigitSumDataset, assign_addends, loader, pair_table, split_loaders
from digitsum.errors import InputError

DTYPES = (torch.uint8, torch.float32, torch.int64, torch.int64)


def test_pair_table_repeats_every_pair_with_its_sum() -> None:
    rows = [tuple(row) for row in pair_table(300).to_numpy().tolist()]
    assert Counter(rows) == {(a, d, a + d): 3 for a, d in itertools.product(range(10), range(10))}
    assert len(pair_table()) == 60_000  # as MNIST


def test_each_digit_is_assigned_every_addend_equally_often_and_others_with_another_seed() -> None:
    labels = np.random.default_rng(1).choice(10, size=3007, p=np.arange(1, 11) / 55)
    table = assign_addends(labels)
    assert table["digit"].tolist() == labels.tolist()
    assert (table["sum"] == table["digit"] + table["addend"]).all()
    for digit in range(10):
        counts = np.bincount(table["addend"][labels == digit], minlength=10)
        assert counts.max() - counts.min() <= 1
        assert counts[9] > 0
    assert assign_addends(labels, 1).equals(assign_addends(labels, 1))
    assert not assign_addends(labels, 1).equals(assign_addends(labels, 2))


def test_item_is_an_image_and_a_one_hot_addend_with_digit_and_sum(digits: Digits) -> None:
    dataset = DigitSumDataset(digits)
    assert dataset.images.data_ptr() == digits.images.ctypes.data  # no copy
    for index in range(len(dataset)):
        (image, addend), (digit, sum_) = dataset[index]
        assert (image.dtype, image.shape) == (torch.uint8, (1, 28, 28))
        assert (addend.dtype, addend.shape, addend.sum()) == (torch.float32, (10,), 1)
        assert image.numpy().tobytes() == digits.images[index].tobytes()
        assert digit == digits.labels[index]
        assert sum_ == digit + addend.argmax()


def test_loader_shuffles_as_torchs_own_does(digits: Digits) -> None:
    dataset = DigitSumDataset(digits)

    def seeded() -> tuple[SubsetRandomSampler, torch.Generator]:
        generator = torch.Generator().manual_seed(3)
        return SubsetRandomSampler(range(5, 40), generator), generator

    (sampler, generator), (own_sampler, own_generator) = seeded(), seeded()
    usual = DataLoader(dataset, batch_size=8, sampler=sampler, generator=generator)
    fast = loader(dataset, 8, own_sampler, own_generator)
    assert len(usual) == len(fast) == 5
    for _ in range(2):  # epochs
        for expected, found in zip(usual, fast, strict=True):
            assert_close(found, tuple(tuple(pair) for pair in expected), rtol=0, atol=0)
    assert (fast.sampler, fast.generator, fast.batch_size) == (own_sampler, own_generator, 8)
    assert list(loader(dataset, sampler=[])) == []


def test_addends_that_are_drawn_anew_change_in_the_dataset_and_its_loader(digits: Digits) -> None:
    dataset = DigitSumDataset(digits)
    batches = loader(dataset)
    for epoch, drawer in enumerate((dataset, batches.dataset), 1):
        before = dataset.addends.clone()
        drawer.resample_addends(epoch)
        (((_, addends), (_, sums)),) = batches
        assert not torch.equal(dataset.addends, before)
        assert torch.equal(addends.argmax(dim=1), dataset.addends)
        assert torch.equal(sums, dataset.sums)
        assert torch.equal(sums, dataset.digits + dataset.addends)


# The Dataset with torch's own loader


def usual_batches(batches: DataLoader) -> list[tuple[int, int]]:
    """Digit and sum of every item; each batch must have the right shapes."""
    found = []
    for (image, addend), (digit, sum_) in batches:
        assert (image.dtype, addend.dtype, digit.dtype, sum_.dtype) == DTYPES
        assert (image.shape[1:], addend.shape[1:]) == ((1, 28, 28), (10,))
        assert torch.equal(addend.argmax(dim=1), sum_ - digit)
        found += list(zip(digit.tolist(), sum_.tolist(), strict=True))
    return found


def test_dataset_works_with_torchs_own_loader_and_parts(digits: Digits) -> None:
    dataset = DigitSumDataset(digits)
    expected = list(zip(dataset.digits.tolist(), dataset.sums.tolist(), strict=True))
    assert usual_batches(DataLoader(dataset, batch_size=3)) == expected
    assert sorted(usual_batches(DataLoader(dataset, batch_size=3, shuffle=True))) == sorted(expected)
    assert usual_batches(DataLoader(Subset(dataset, [7, 3]), batch_size=4)) == [expected[7], expected[3]]
    parts = random_split(dataset, [0.75, 0.25], torch.Generator().manual_seed(0))
    assert [len(part) for part in parts] == [30, 10]
    both = usual_batches(DataLoader(ConcatDataset(parts), batch_size=7))
    assert both == [expected[i] for part in parts for i in part.indices]
    assert len(default_collate([dataset[0], dataset[1]])) == 2


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.usefixtures("semaphores")
def test_dataset_works_with_workers(digits: Digits) -> None:
    dataset = DigitSumDataset(digits)
    expected = list(zip(dataset.digits.tolist(), dataset.sums.tolist(), strict=True))
    assert usual_batches(DataLoader(dataset, batch_size=6, num_workers=2)) == expected


def test_dataset_survives_pickling(digits: Digits) -> None:
    dataset = DigitSumDataset(digits, seed=4)
    again = pickle.loads(pickle.dumps(dataset))  # noqa: S301  # as processes that are spawned get it
    assert_close(again[3], dataset[3], rtol=0, atol=0)


def test_split_loaders_are_disjoint_cover_the_data_and_keep_the_last_smaller_batch(digits: Digits) -> None:
    train, held_out = split_loaders(DigitSumDataset(digits), batch_size=3)
    assert sorted([*train.sampler, *held_out.sampler]) == list(range(40))
    assert [len(image) for (image, _), _ in train] == [3] * 10 + [2]
    assert [len(image) for (image, _), _ in held_out] == [3, 3, 2]


def test_split_loaders_are_reproducible_and_shuffle_each_epoch(digits: Digits) -> None:
    def order(seed: int) -> list[list[int]]:
        train, _ = split_loaders(DigitSumDataset(digits), seed=seed)
        return [list(train.sampler), list(train.sampler)]

    assert order(0) == order(0)
    assert order(0) != order(1)
    assert order(0)[0] != order(0)[1]


@pytest.mark.parametrize(
    ("fraction", "size", "why"),
    [
        (0.0, 1, "a training fraction of 0.0 leaves none of 40 images to train on: choose anoth"),
        (0.01, 1, "a training fraction of 0.01 leaves none of 40 images to train on: choose anoth"),
        (-0.5, 1, "a training fraction of -0.5 leaves none of 40 images to train on: choose anoth"),
        (0.99, 1, "a training fraction of 0.99 leaves none of 40 images to hold out: choose anoth"),
        (1.5, 1, "a training fraction of 1.5 leaves none of 40 images to hold out: choose anoth"),
        (0.8, 0, "the batch size must be at least 1, not 0$"),
    ],
)
def test_split_loaders_refuse_empty_parts(digits: Digits, fraction: float, size: int, why: str) -> None:
    with pytest.raises(InputError, match=f"^{why}"):
        split_loaders(DigitSumDataset(digits), fraction, size)
