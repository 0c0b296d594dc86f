"""Two numbers of N digits each, read from images and added: the exact likelihood of their sum.

    loss = -log_likelihood(read(top), read(bottom), total).mean()

`read` gives log P(digit) of each image, and the sum is all that is known: no digit's label is. That is the
field's benchmark for learning from sums (MNIST Addition: Manhaeve et al., 2018, arXiv:1805.10872). In each
column two digits and a carry add up, so the likelihood takes a convolution of two distributions a column and
a chain of two states, the carry, along them: it is exact, and linear in N.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from digitsum.data.digits import Digits
from digitsum.errors import InputError
from digitsum.networks import NEVER, log_convolve
from digitsum.search import most_probable_sum


def column_sums(log_top: Tensor, log_bottom: Tensor) -> Tensor:
    """Return the distribution of each column's two digits added, without a carry.

    Parameters
    ----------
    log_top, log_bottom
        log P(digit), float32 [B, N, 10]: B sums of N columns as they are written, the most significant first.

    Returns
    -------
    Tensor
        log P(0 to 18), float32 [B, N, 19].
    """
    return log_convolve(log_top, log_bottom)


def log_likelihood(log_top: Tensor, log_bottom: Tensor, total: Tensor) -> Tensor:
    """Return the logarithm of the probability that two numbers add up to `total`.

    Parameters
    ----------
    log_top, log_bottom
        log P(digit), float32 [B, N, 10], the most significant digit first. A number that is known is
        `as_log_probabilities` of its digits.
    total
        int64 [B, N + 1], the digits of the sum, the most significant first: that one is 0 or 1.

    Returns
    -------
    Tensor
        float32 [B]. Its gradients are finite. Of a sum that can't be it is about -1e9.

    Examples
    --------
    >>> top = torch.tensor([[0.0, 0.0, 0.0, 0.75, 0.0, 0.25, 0.0, 0.0, 0.0, 0.0]])  # a 3, perhaps a 5
    >>> log_top = top.clamp_min(1e-9).log()[None]
    >>> log_likelihood(log_top, as_log_probabilities(torch.tensor([[6]])), torch.tensor([[0, 9]])).exp()
    tensor([0.7500])
    """
    steps = _carries(column_sums(log_top, log_bottom), total[:, 1:])
    # no carry comes in on the right; what goes out on the left is the first digit
    return _chain(steps)[:, :, 0].gather(1, total[:, :1])[:, 0]


def _carries(log_columns: Tensor, digits: Tensor) -> Tensor:
    """Return the logarithms of P(digit of the sum, carry out | carry in), [B, N, out 2, in 2]."""
    padded = F.pad(log_columns, (1, 1), value=NEVER)  # two digits don't make -1 or 19
    carry_out, carry_in = torch.tensor([[0], [10]]), torch.tensor([[0, 1]])
    needed = digits[..., None, None] + (carry_out - carry_in).to(digits.device)  # [B, N, 2, 2]
    return padded.gather(2, needed.flatten(2) + 1).view(needed.shape)


def _chain(steps: Tensor) -> Tensor:
    """Multiply N matrices given as logarithms, [B, N, 2, 2] -> [B, 2, 2], neighbours first: log N rounds."""
    while (length := steps.shape[1]) > 1:
        left, right = steps[:, 0 : length - 1 : 2], steps[:, 1::2]
        through = left[..., :, :, None] + right[..., None, :, :]  # [B, N / 2, out, between, in]
        product = torch.logaddexp(through[..., 0, :], through[..., 1, :])
        steps = torch.cat([product, steps[:, length - 1 :]], dim=1) if length % 2 else product
    return steps[:, 0]


def as_log_probabilities(digits: Tensor) -> Tensor:
    """Return log P(digit) of digits that are known, int64 [B, N] -> float32 [B, N, 10]."""
    certain = torch.full((*digits.shape, 10), NEVER, device=digits.device)
    return certain.scatter(-1, digits[..., None], 0.0)


def add_digits(top: Tensor, bottom: Tensor) -> Tensor:
    """Add numbers of any length, int64 [B, N] each -> int64 [B, N + 1], the most significant digit first.

    Examples
    --------
    >>> add_digits(torch.tensor([[9, 5]]), torch.tensor([[0, 7]]))
    tensor([[1, 0, 2]])
    """
    added, carry = [], torch.zeros_like(top[:, 0])
    for column in (top + bottom).flip(1).unbind(1):
        carry, digit = (column + carry).div(10, rounding_mode="floor"), (column + carry) % 10
        added.append(digit)
    return torch.stack([carry, *reversed(added)], dim=1)


def most_probable_sums(log_top: Tensor, log_bottom: Tensor) -> Tensor:
    """Return the most probable sums.

    It isn't always the sum of the most probable digits: many pairs of numbers have the same sum, and their
    probabilities add up.

    Parameters
    ----------
    log_top, log_bottom
        log P(digit), float32 [B, N, 10], the most significant digit first.

    Returns
    -------
    Tensor
        int64 [B, N + 1].

    Examples
    --------
    >>> top, bottom = torch.zeros(1, 1, 10), torch.zeros(1, 1, 10)
    >>> top[..., [1, 5, 6]] = torch.tensor([0.4, 0.3, 0.3])
    >>> bottom[..., [1, 2]] = torch.tensor([0.55, 0.45])
    >>> log_top, log_bottom = (each.clamp_min(1e-9).log() for each in (top, bottom))
    >>> most_probable_sums(log_top, log_bottom)  # 1 + 1: 0.22; 5 + 2 or 6 + 1: 0.3
    tensor([[0, 7]])
    """
    top, bottom = (log.double().exp().cpu().numpy() for log in (log_top, log_bottom))
    found = [most_probable_sum(*pair)[0] for pair in zip(top, bottom, strict=True)]
    return torch.tensor(np.array(found), device=log_top.device)


class AdditionDataset(Dataset[tuple[Tensor, Tensor]]):
    """Images of two numbers of N digits -> the digits of their sum, which is all that is kept of the labels.

    An item is `(images uint8 [2, N, 1, 28, 28], total int64 [N + 1])`, a batch likewise. Each image is in one
    sum only; the images that don't fill another sum are left out.

    Raises
    ------
    InputError
        There are too few images for one sum.

    Examples
    --------
    >>> digits = Digits(np.zeros((10, 1, 28, 28), np.uint8), np.arange(10))
    >>> images, total = AdditionDataset(digits, length=2)[0]
    >>> images.shape, total.shape
    (torch.Size([2, 2, 1, 28, 28]), torch.Size([3]))
    """

    def __init__(self, digits: Digits, length: int, seed: int = 0) -> None:
        count = len(digits.images) // (2 * length)
        if count == 0:
            raise InputError(
                f"a sum of two numbers of {length} digits takes {2 * length} images, and there are only"
                f" {len(digits.images)}"
            )
        order = np.random.default_rng(seed).permutation(len(digits.images))[: count * 2 * length]
        images, labels = (torch.from_numpy(part[order]) for part in (digits.images, digits.labels))
        self.images = images.view(count, 2, length, *images.shape[1:])
        self.totals = add_digits(*labels.view(count, 2, length).unbind(1))

    def __len__(self) -> int:
        return len(self.totals)

    def __getitem__(self, index: int | list[int]) -> tuple[Tensor, Tensor]:
        return self.images[index], self.totals[index]
