"""The pair table, the Dataset of (image, addend) -> (digit, sum), and its 80/20 loaders.

Every image meets one addend an epoch; the exhaustive evaluation alone meets all ten.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader, Dataset, SubsetRandomSampler

from digitsum.data.digits import Digits
from digitsum.errors import InputError

Item = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]  # (image, addend), (digit, sum)


def pair_table(length: int = 60_000) -> pd.DataFrame:
    """Repeat the 100 pairs of an addend and a digit, with their sums, to `length` rows.

    Returns
    -------
    DataFrame
        int64 columns `addend`, `digit` and `sum`.

    Examples
    --------
    >>> pair_table().head(3)
       addend  digit  sum
    0       0      0    0
    1       0      1    1
    2       0      2    2
    >>> pair_table().value_counts().unique()
    array([600])
    """
    addend, digit = np.divmod(np.arange(length) % 100, 10)
    return pd.DataFrame({"addend": addend, "digit": digit, "sum": addend + digit})


def assign_addends(labels: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """Assign each image a row of the pair table that has its digit.

    Within each digit every addend occurs equally often, give or take one, in random order: the images'
    addend then says nothing about their digit.

    Parameters
    ----------
    labels
        int64 [N], the images' digits.

    Returns
    -------
    DataFrame
        N rows in the order of `labels`, columns as in `pair_table`.

    Examples
    --------
    >>> assign_addends(np.array([3, 3, 3, 8]), seed=0)["digit"].tolist()
    [3, 3, 3, 8]
    """
    random = np.random.default_rng(seed)
    images = pd.DataFrame({"digit": labels}).sample(frac=1, random_state=random)
    first = random.integers(10, size=10)  # else the odd images out would always meet the small addends
    images["addend"] = (images.groupby("digit").cumcount() + first[images["digit"]]) % 10
    return (
        images.merge(pair_table(100), how="left")
        .set_index(images.index)
        .sort_index()[["addend", "digit", "sum"]]
    )


class DigitSumDataset(Dataset[Item]):
    """(image, addend) -> (digit, sum), one addend an image.

    An item is `(image uint8 [1, 28, 28], addend one-hot float32 [10]), (digit int64 [], sum int64 [])`, and
    of several numbers, a slice or a list, each of the four has them in its first dimension. The images are
    one uint8 tensor that shares its memory with `digits.images`.

    torch's DataLoader collates items as of any Dataset; `loader` loads the same batches many times faster.

    Examples
    --------
    >>> dataset = DigitSumDataset(Digits(np.zeros((10, 1, 28, 28), np.uint8), np.arange(10)))
    >>> (image, addend), (digit, sum_) = next(iter(DataLoader(dataset, batch_size=4)))
    >>> image.shape, addend.shape, digit
    (torch.Size([4, 1, 28, 28]), torch.Size([4, 10]), tensor([0, 1, 2, 3]))
    """

    def __init__(self, digits: Digits, seed: int = 0) -> None:
        self.images = torch.from_numpy(digits.images)
        self.digits = torch.from_numpy(digits.labels)
        self.resample_addends(seed)

    def resample_addends(self, seed: int) -> None:
        """Assign new addends to the images (`assign_addends`)."""
        table = assign_addends(self.digits.numpy(), seed)
        self.addends = torch.tensor(table["addend"].to_numpy())
        self.sums = torch.tensor(table["sum"].to_numpy())

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int | slice | list[int] | Tensor) -> Item:
        addend = one_hot(self.addends[index], 10).float()
        return (self.images[index], addend), (self.digits[index], self.sums[index])


class _Batched(DigitSumDataset):
    """The same dataset, of which a DataLoader takes a batch at once: one gather, and nothing to collate."""

    def __init__(self, dataset: DigitSumDataset) -> None:
        self.__dict__ = dataset.__dict__  # shared: when one gets new addends, so does the other

    def __getitems__(self, indices: list[int]) -> Item:
        index = torch.tensor(indices)
        # whole rows are copied: a fifth of the time of self.images[index]
        image, addend, digit, sum_ = (
            part.index_select(0, index) for part in (self.images, self.addends, self.digits, self.sums)
        )
        return (image, one_hot(addend, 10).float()), (digit, sum_)


def loader(
    dataset: DigitSumDataset,
    batch_size: int = 200,
    sampler: Iterable[int] | None = None,
    generator: torch.Generator | None = None,
) -> DataLoader[Item]:
    """Load whole batches of `dataset`, in its order or in that of the numbers in `sampler`.

    The last one may be smaller. The batches are those of torch's DataLoader with the same arguments.

    What lies between a network's layers is written and read again: for batches of 1,000, which no cache
    holds, an evaluation takes a third longer than for 200.
    """
    return DataLoader(
        _Batched(dataset),
        batch_size=batch_size,
        sampler=sampler,
        collate_fn=_already_a_batch,
        generator=generator,
    )


def _already_a_batch(batch: Any) -> Any:
    return batch


def split_loaders(
    dataset: DigitSumDataset, train_fraction: float = 0.8, batch_size: int = 128, seed: int = 0
) -> tuple[DataLoader[Item], DataLoader[Item]]:
    """Split `dataset` at random into a training part and a held-out part, and load both.

    The two loaders' `SubsetRandomSampler`s are disjoint and cover the data; the same seed gives the same
    parts and, through the loaders' `generator`, the same batches.

    Raises
    ------
    InputError
        A batch size below 1, or a part that would be empty.

    Examples
    --------
    >>> from digitsum.data.digits import Digits
    >>> dataset = DigitSumDataset(Digits(np.zeros((10, 1, 28, 28), np.uint8), np.arange(10)))
    >>> train, held_out = split_loaders(dataset)
    >>> len(train.sampler), len(held_out.sampler)
    (8, 2)
    """
    if batch_size < 1:
        raise InputError(f"the batch size must be at least 1, not {batch_size}")
    cut = round(train_fraction * len(dataset))
    if not 0 < cut < len(dataset):
        to = "train on" if cut <= 0 else "hold out"
        raise InputError(
            f"a training fraction of {train_fraction} leaves none of {len(dataset)} images to {to}: choose"
            " another between 0 and 1, or give more images"
        )
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(dataset), generator=generator).tolist()
    train, held_out = (
        loader(dataset, batch_size, SubsetRandomSampler(part, generator), generator)
        for part in (order[:cut], order[cut:])
    )
    return train, held_out
