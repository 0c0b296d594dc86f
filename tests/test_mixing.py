import numpy as np
import pytest
import torch

from digitsum.config import Config
from digitsum.data import mixing
from digitsum.data.digits import Digits
from digitsum.data.mixing import TrainingBatches
from digitsum.data.pairs import DigitSumDataset, split_loaders

PLAIN = Config(augment=False)


@pytest.fixture(autouse=True)
def _few_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run's synthetic digits and non-digits, which take half a minute."""
    monkeypatch.setattr(mixing, "DRAWN", 50)


def batches_of(images: int, size: int, config: Config = PLAIN) -> TrainingBatches:
    """Images of noise to train on, and one that is held out."""
    pixels = np.random.default_rng(0).integers(0, 256, (images + 1, 1, 28, 28), dtype=np.uint8)
    digits = Digits(pixels, np.arange(images + 1) % 10)
    return TrainingBatches(split_loaders(DigitSumDataset(digits), images / (images + 1), size)[0], config)


@pytest.mark.parametrize(
    ("images", "size", "expected"),
    [
        (33, 8, [8, 8, 8, 9]),
        (9, 8, [9]),
        (32, 8, [8, 8, 8, 8]),
        (34, 8, [8, 8, 8, 8, 2]),
        (1, 8, [1]),
        (7, 8, [7]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_a_last_batch_of_one_image_joins_the_one_before(images: int, size: int, expected: list[int]) -> None:
    batches = batches_of(images, size)
    found = list(batches.epoch(0))
    assert [len(batch.image) for batch in found] == expected
    assert len(batches) == len(expected)
    batches.loader.generator.manual_seed(0)
    plain = [
        (image, addend, *numbers) for (image, addend), numbers in batches.loader
    ]  # what torch makes of it
    for ours, torchs in zip(zip(*found, strict=True), zip(*plain, strict=True), strict=False):
        assert torch.equal(torch.cat(ours), torch.cat(torchs))


def test_an_epoch_follows_from_the_seed_and_its_number_alone() -> None:
    config = Config(damage=True, non_digits=0.5, addends="resampled")
    batches = batches_of(30, 10, config)
    first, other, again = (list(batches.epoch(number)) for number in (3, 4, 3))
    assert all(torch.equal(one.image, same.image) for one, same in zip(first, again, strict=True))
    assert all(torch.equal(one.addend, same.addend) for one, same in zip(first, again, strict=True))
    assert not any(torch.equal(one.addend, new.addend) for one, new in zip(first, other, strict=True))
    assert not any(torch.equal(one.image, new.image) for one, new in zip(first, other, strict=True))


@pytest.mark.parametrize("processes", [2, 3])
def test_the_parts_of_all_processes_are_the_batch_and_the_mean_of_their_losses_is_its(
    processes: int,
) -> None:
    whole = list(batches_of(31, 8).epoch(0))
    parts = [list(batches_of(31, 8).epoch(0, rank=rank, world_size=processes)) for rank in range(processes)]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert sorted(torch.cat([part.digit for part in shares]).tolist()) == sorted(batch.digit.tolist())
        assert [part.size for part in shares] == [len(batch.digit)] * processes
        losses = [part.weight * part.image.float().mean() for part in shares]
        torch.testing.assert_close(torch.stack(losses).mean(), batch.weight * batch.image.float().mean())


def test_a_batch_of_too_few_images_to_share_is_every_process_s() -> None:
    (batch,) = batches_of(3, 8).epoch(0, rank=1, world_size=2)
    assert (len(batch.digit), batch.size, batch.weight) == (3, 3, 1)


def test_synthetic_digits_are_mixed_in_and_non_digits_go_beside() -> None:
    batches = batches_of(20, 10, Config(augment=False, synthetic_digits=0.3, non_digits=0.5))
    for batch in batches.epoch(0):
        assert len(batch.image) == len(batch.addend) == len(batch.digit) == batch.size == 13
        assert torch.equal(batch.sum, batch.digit + batch.addend.argmax(1))
        assert 3 <= len(batch.non_digits) <= round(0.5 * 13)  # of a 0 none is made
        ours = {image.tobytes() for image in batches.loader.dataset.images.numpy()}
        drawn = [image.numpy().tobytes() not in ours for image in batch.image.byte()]
        assert sum(drawn) == 3


def test_so_few_non_digits_are_asked_for_that_none_is_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mixing, "DRAWN", 6)
    (batch,) = batches_of(3, 8, Config(non_digits=0.4)).epoch(0)
    assert batch.non_digits.shape == (1, 1, 28, 28)
