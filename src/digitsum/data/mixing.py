"""What a training batch is: distorted and damaged images, synthetic digits among them, non-digits beside."""

from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from digitsum.config import Config
from digitsum.data.augmentation import damage, distort
from digitsum.data.digits import Digits
from digitsum.data.non_digits import draw_non_digits, spoil
from digitsum.data.pairs import DigitSumDataset, Item
from digitsum.data.strokes import draw_digits

DRAWN = 20_000  # synthetic digits, and as many non-digits, are drawn once a run


class Batch(NamedTuple):
    """What one step of a training learns from; where several processes share it, one's part.

    Attributes
    ----------
    image, addend, digit, sum
        As those of `DigitSumDataset`; a distorted image is float32.
    non_digits
        [M, 1, 28, 28] as the images, M may be 0: all ten digits should be equally probable for them.
    size
        How many images the whole batch has.
    weight
        By which to multiply the loss of a part: the mean over all processes is then that of the whole batch.
    """

    image: Tensor
    addend: Tensor
    digit: Tensor
    sum: Tensor
    non_digits: Tensor
    size: int
    weight: float


class TrainingBatches:
    """The batches of a training, epoch by epoch, as its settings want them.

    Parameters
    ----------
    loader
        Of the images to train on, with a generator of its own, as `split_loaders` gives it.
    config
        Of which `augment`, `damage`, `synthetic_digits`, `non_digits`, `addends` and `seed` count.

    Examples
    --------
    >>> from digitsum.data.pairs import split_loaders
    >>> dataset = DigitSumDataset(Digits(np.zeros((10, 1, 28, 28), np.uint8), np.arange(10)))
    >>> batches = TrainingBatches(split_loaders(dataset, batch_size=5)[0], Config())
    >>> [batch.image.shape for batch in batches.epoch(0)]
    [torch.Size([5, 1, 28, 28]), torch.Size([3, 1, 28, 28])]
    """

    def __init__(self, loader: DataLoader[Item], config: Config) -> None:
        self.loader, self.config = loader, config

    @cached_property  # a run without an epoch left needs none
    def _drawn(self) -> tuple[DigitSumDataset | None, Tensor | None]:
        """Draw synthetic digits, and non-digits, uint8 [N, 1, 28, 28], once for all epochs."""
        rng, synthetic, non_digits = np.random.default_rng(self.config.seed), None, None
        if self.config.synthetic_digits > 0:
            images, labels = draw_digits(DRAWN, rng)
            synthetic = DigitSumDataset(Digits(images[:, None], labels), self.config.seed)
        if self.config.non_digits > 0:
            non_digits = torch.from_numpy(draw_non_digits(DRAWN, rng)[:, None])
        return synthetic, non_digits

    def __len__(self) -> int:
        """Count the batches of an epoch; a last one of one image joins the one before it."""
        images, size = len(self.loader.sampler), self.loader.batch_size or 1  # type: ignore[arg-type]
        return len(self.loader) - (images > size > 1 and images % size == 1)

    def epoch(
        self, number: int, device: torch.device | str = "cpu", rank: int = 0, world_size: int = 1
    ) -> Iterator[Batch]:
        """Yield the batches of an epoch, which follow from the seed and its number alone.

        All processes draw the same images, and each changes its own part of them.
        """
        seed = 10_000 * self.config.seed + number
        torch.manual_seed(seed + (rank << 48))  # beyond what the seed of a run may be
        self.loader.generator.manual_seed(seed)
        if self.config.addends == "resampled":
            self.loader.dataset.resample_addends(seed)  # type: ignore[attr-defined]
        synthetic, drawn = self._drawn
        for batch in self._loaded():
            if synthetic:
                batch = self._mix_in(batch, synthetic)
            (image, addend), (digit, sum_) = batch
            size = len(digit)
            shared = size >= 2 * world_size  # of one image there are no batch statistics
            own = slice(rank, None, world_size) if shared else slice(None)
            image, addend, digit, sum_ = (part[own].to(device) for part in (image, addend, digit, sum_))
            image, non_digits = self._change(image, digit, drawn)
            weight = len(digit) * world_size / size if shared else 1.0
            yield Batch(image, addend, digit, sum_, non_digits, size, weight)

    def _loaded(self) -> Iterator[Item]:
        """Yield the loader's batches, none of a single image, which would have no batch statistics."""
        batches = iter(self.loader)
        yield from islice(batches, len(self) - 1)
        yield _join(*batches)

    def _mix_in(self, batch: Item, synthetic: DigitSumDataset) -> Item:
        """Mix some of the digits that were drawn into a batch, in random order."""
        rng = self.loader.generator
        count = round(self.config.synthetic_digits * len(batch[1][0]))
        drawn = synthetic[torch.randint(len(synthetic), (count,), generator=rng)]
        (image, addend), (digit, sum_) = _join(batch, drawn)
        order = torch.randperm(len(digit), generator=rng)
        return (image[order], addend[order]), (digit[order], sum_[order])

    def _change(self, image: Tensor, digit: Tensor, drawn: Tensor | None) -> tuple[Tensor, Tensor]:
        """Distort and damage images as the settings say, and make non-digits to go beside them."""
        if self.config.augment:
            image = distort(image)
        non_digits = image[:0] if drawn is None else self._non_digits(image, digit, drawn)
        if self.config.damage:
            image, non_digits = damage(image), damage(non_digits)
        return image, non_digits

    def _non_digits(self, image: Tensor, digit: Tensor, drawn: Tensor) -> Tensor:
        """Return non-digits, half of them drawn and half made of the images, in random order."""
        count = round(self.config.non_digits * len(image))
        chosen = drawn[torch.randint(len(drawn), (count // 2,))].to(image.device)
        chosen = distort(chosen) if self.config.augment else chosen.float()
        both = torch.cat([chosen, spoil(image.float(), digit, count - count // 2)])
        return both[torch.randperm(len(both))]


def _join(*batches: Item) -> Item:
    (image, addend), (digit, sum_) = (
        [torch.cat(parts) for parts in zip(*sides, strict=True)] for sides in zip(*batches, strict=True)
    )
    return (image, addend), (digit, sum_)
