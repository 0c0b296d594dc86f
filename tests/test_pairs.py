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


def test_pair_table_has_the_length_of_mnist() -> None:
    assert len(pair_table()) == 60_000


def test_deal_gives_each_digit_every_addend_equally_often() -> None:
    labels = np.random.default_rng(1).choice(10, size=3007, p=np.arange(1, 11) / 55)
    table = assign_addends(labels)
    assert table["digit"].tolist() == labels.tolist()
    assert (table["sum"] == table["digit"] + table["addend"]).all()
    for digit in range(10):
        counts = np.bincount(table["addend"][labels == digit], minlength=10)
        assert counts.max() - counts.min() <= 1
        assert counts[9] > 0


def test_deal_is_the_same_for_a_seed_and_another_for_another() -> None:
    labels = np.arange(100) % 10
    assert assign_addends(labels, 1).equals(assign_addends(labels, 1))
    assert not assign_addends(labels, 1).equals(assign_addends(labels, 2))


def test_item_is_an_image_and_a_one_hot_addend_with_digit_and_sum(digits: Digits) -> None:
    dataset = DigitSumDataset(digits)
    for index in range(len(dataset)):
        (image, addend), (digit, sum_) = dataset[index]
        assert (image.dtype, image.shape) == (torch.uint8, (1, 28, 28))
        assert (addend.dtype, addend.shape, addend.sum()) == (torch.float32, (10,), 1)
        assert image.numpy().tobytes() == digits.images[index].tobytes()
        assert digit == digits.labels[index]
        assert sum_ == digit + addend.argmax()


def test_dataset_shares_the_memory_of_its_images(digits: Digits) -> None:
    assert DigitSumDataset(digits).images.data_ptr() == digits.images.ctypes.data


def test_deal_anew_changes_the_addends_and_keeps_the_sums_right(digits: Digits) -> None:
    dataset = DigitSumDataset(digits, seed=0)
    before = dataset.addends.clone()
    dataset.resample_addends(1)
    assert not torch.equal(dataset.addends, before)
    assert torch.equal(dataset.sums, dataset.digits + dataset.addends)


def test_loader_gives_whole_batches_of_the_same_items(digits: Digits) -> None:
    dataset = DigitSumDataset(digits)
    (batch,) = loader(dataset)
    (images, addends), (labels, sums) = batch
    assert (images.shape, addends.shape) == ((40, 1, 28, 28), (40, 10))
    for index in range(40):
        (image, addend), (digit, sum_) = dataset[index]
        assert torch.equal(images[index], image)
        assert torch.equal(addends[index], addend)
        assert (labels[index], sums[index]) == (digit, sum_)


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


def test_loader_of_a_dataset_that_is_dealt_anew_has_the_new_addends(digits: Digits) -> None:
    dataset = DigitSumDataset(digits)
    batches = loader(dataset)
    for dealer in (dataset, batches.dataset):
        dealer.resample_addends(dealer.addends[0].item() + 1)
        (((_, addends), (_, sums)),) = batches
        assert torch.equal(addends.argmax(dim=1), dataset.addends)
        assert torch.equal(sums, dataset.sums)


def test_loader_of_no_number_loads_nothing(digits: Digits) -> None:
    assert list(loader(DigitSumDataset(digits), sampler=[])) == []


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


def test_split_loaders_are_disjoint_and_cover_the_data(digits: Digits) -> None:
    train, held_out = split_loaders(DigitSumDataset(digits), batch_size=3)
    train_indices, held_out_indices = list(train.sampler), list(held_out.sampler)
    assert (len(train_indices), len(held_out_indices)) == (32, 8)
    assert sorted(train_indices + held_out_indices) == list(range(40))


def test_split_loaders_keep_the_last_smaller_batch(digits: Digits) -> None:
    train, held_out = split_loaders(DigitSumDataset(digits), batch_size=3)
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
    ("fraction", "use"),
    [(0.0, "train on"), (0.01, "train on"), (-0.5, "train on"), (0.99, "hold out"), (1.5, "hold out")],
)
def test_split_loaders_refuse_an_empty_part(digits: Digits, fraction: float, use: str) -> None:
    with pytest.raises(
        InputError,
        match=rf"^a training fraction of {fraction} leaves none of 40 images to {use}: choose anoth",
    ):
        split_loaders(DigitSumDataset(digits), train_fraction=fraction)


def test_split_loaders_refuse_an_empty_batch(digits: Digits) -> None:
    with pytest.raises(ValueError, match=r"^the batch size must be at least 1, not 0$"):
        split_loaders(DigitSumDataset(digits), batch_size=0)
