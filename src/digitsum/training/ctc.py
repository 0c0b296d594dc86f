"""What the network of rows learns from, and its loss: connectionist temporal classification.

Rows are drawn in other processes while the network trains. What a row shows follows from the seed, the epoch
and its place in it alone, so a resumed run repeats what an uninterrupted one does.
"""

import multiprocessing
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import ctc_loss
from torch.utils.data import DataLoader, Dataset

from digitsum.config import Config
from digitsum.cores import cores
from digitsum.data.non_digits import draw_non_digits
from digitsum.data.pairs import Item
from digitsum.data.rows import BATCHES, RowSource, Strips
from digitsum.data.strokes import draw_digits
from digitsum.networks import RowNet
from digitsum.search import MARK, NOTHING
from digitsum.types import Int64Array, UInt8Array

# synthetic digits, at most, and half as many non-digits are drawn once a run
DRAWN, DRAWN_HELD_OUT = 20_000, 1_000
HELD_OUT = 1 / 15  # of an epoch's rows, as many are held out
TEMPERATURES = np.geomspace(0.5, 2, 41)


class RowBatch(NamedTuple):
    """What one step learns from: as `Strips`, as tensors, and how many rows it has."""

    strips: Tensor
    symbols: Tensor
    lengths: Tensor
    size: int


def row_source(images: UInt8Array, labels: Int64Array, config: Config, drawn: int, seed: int) -> RowSource:
    """Return what rows are made of: digits, uint8 [N, 28, 28], and drawn ones and non-digits beside them."""
    rng, hands, shares = np.random.default_rng(seed), [(images, labels)], [1 - config.synthetic_digits]
    if config.synthetic_digits > 0:
        hands.append(draw_digits(drawn, rng))
        shares.append(config.synthetic_digits)
    non_digits = draw_non_digits(drawn // 2, rng) if config.non_digits > 0 else images[:0]
    return RowSource(hands, shares, non_digits)


def sampled_digits(loader: DataLoader[Item]) -> tuple[UInt8Array, Int64Array]:
    """Return the digits that a loader samples, uint8 [N, 28, 28] and int64 [N]."""
    data, indices = loader.dataset, loader.sampler.indices  # type: ignore[attr-defined]
    return data.images.numpy()[indices, 0], data.digits.numpy()[indices]  # type: ignore[attr-defined]


class RowBatches(Dataset[list[Strips]]):
    """The batches of a training, epoch by epoch; an item is a few of them, drawn together."""

    def __init__(self, source: RowSource, config: Config) -> None:
        self.source, self.config, self.number = source, config, 0

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return max(self.config.rows // (self.config.batch_size * BATCHES), 1) * BATCHES

    def __getitem__(self, place: int) -> list[Strips]:
        rng = np.random.default_rng([self.config.seed, self.number, place])
        return self.source.batches(self.config.batch_size, BATCHES, rng)

    def epoch(self, number: int, device: torch.device | str = "cpu") -> Iterator[RowBatch]:
        """Yield the batches of an epoch."""
        self.number = number
        torch.manual_seed(10_000 * self.config.seed + number)
        sampler = range(len(self) // BATCHES)
        loader = DataLoader(self, batch_size=None, sampler=sampler, num_workers=_workers())
        for batch in chain.from_iterable(loader):
            yield _to_tensors(batch, device)


def _workers() -> int:
    """Count the processes that draw rows; without shared memory none can, and the training draws them."""
    try:
        multiprocessing.Lock()
    except (ImportError, OSError):
        return 0
    return max(cores() - 1, 1)


def _to_tensors(batch: Strips, device: torch.device | str) -> RowBatch:
    strips, symbols, lengths = (torch.as_tensor(part).to(device) for part in batch)
    return RowBatch(strips, symbols, lengths, len(strips))


def held_out_rows(images: UInt8Array, labels: Int64Array, config: Config) -> list[Strips]:
    """Draw the rows on which a run is measured, always the same, of digits that were held out."""
    source = row_source(images, labels, config, DRAWN_HELD_OUT, config.seed + 2**32)
    count = max(round(config.rows * HELD_OUT) // config.batch_size, 1)
    return source.batches(config.batch_size, count, np.random.default_rng([config.seed, 2**32]))


def row_loss(network: RowNet, batch: RowBatch) -> Tensor:
    """Return the negative log-likelihood of the rows' symbols, over all alignments: the mean, nats, []."""
    log_symbols = network(batch.strips)
    return _nll(log_symbols, batch).mean()


def _nll(log_symbols: Tensor, batch: RowBatch) -> Tensor:
    """Return the negative log-likelihood of each row, [N]."""
    steps = torch.full_like(batch.lengths, log_symbols.shape[1])
    return ctc_loss(
        log_symbols.transpose(0, 1), batch.symbols, steps, batch.lengths, NOTHING, "none", zero_infinity=True
    )


@torch.no_grad()
def row_figures(network: RowNet, rows: list[Strips], device: torch.device | str = "cpu") -> dict[str, float]:
    """Return the mean negative log-likelihood of rows, and how many of their numbers the best path reads."""
    was_training = network.training
    network.eval()
    nll, right, count = 0.0, 0, 0
    for strips in rows:
        batch = _to_tensors(strips, device)
        log_symbols = network(batch.strips)
        nll += _nll(log_symbols, batch).sum().item()
        found = (best_path(steps) for steps in log_symbols.argmax(dim=2).tolist())
        labels = [part[part < MARK].tolist() for part in batch.symbols.split(batch.lengths.tolist())]
        right += sum(digits == label for digits, label in zip(found, labels, strict=True))
        count += batch.size
    network.train(was_training)
    return {"number_nll": nll / count, "number_accuracy": right / count}


def best_path(steps: list[int]) -> list[int]:
    """Return the digits of the most probable alignment, from the most probable symbol of each step.

    Examples
    --------
    >>> best_path([11, 4, 4, 11, 4, 10, 7, 11])
    [4, 4, 7]
    """
    return [
        symbol
        for symbol, before in zip(steps, [NOTHING, *steps], strict=False)
        if symbol < MARK and symbol != before
    ]


@torch.no_grad()
def calibrate_rows(network: RowNet, rows: list[Strips]) -> float:
    """Divide the scores of the symbols by the temperature with which held-out rows are most probable.

    After Guo et al., 2017, arXiv:1706.04599; the temperature becomes part of the last layer's weights.
    """
    network.eval()
    device = next(network.parameters()).device
    batches = [_to_tensors(strips, device) for strips in rows]
    scores = [network(batch.strips) for batch in batches]

    def nll(temperature: float) -> float:
        return sum(
            _nll((log_symbols / temperature).log_softmax(2), batch).sum().item()
            for log_symbols, batch in zip(scores, batches, strict=True)
        )

    best = float(min(TEMPERATURES, key=nll))
    network.symbol.weight.div_(best)
    network.symbol.bias.div_(best)
    return best
