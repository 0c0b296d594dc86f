"""Learn digits from the sums of two numbers of N digits each, with no digit's label: MNIST Addition.

python benchmarks/addition.py 15 [--network lenet] [--networks 1] [--seeds 10] [--epochs 20]

Each of MNIST's 60,000 training images is in one sum only, and all that is known of it is that sum. `lenet` is
the network of the field's publications, without distortions; `exact` is ours, with distortions. A row is a
seed; none is left out. Of several networks, all learn from the same sums, and their readings are averaged;
in the row "all" are those of all seeds, which learn from other sums of the same images. "digit" is the share
of the 10,000 test images that are read rightly. "sum" is that of right sums, each added from its most
probable digits, as the field does it: the mean over 100 shufflings of the test split, because one has only 10
sums at N = 500. "allowed" is what so many right digits allow: digit^2N. "nats" is the loss of the last
epoch's sums, a column: a right reading has less than 0.2, a reading that is caught in a trap about 1.

The trap: with long sums, a network with batch normalisation nearly always settles on a reading that is
wrong by one, up or down, or by five, and stays there. One without, as LeNet, hardly ever does. So `exact` is
led: a LeNet learns from the same sums for a few epochs, and another one if its loss tells that it is caught;
for an epoch `exact` learns what that LeNet reads, and from then on from the sums. As it learns from distorted
images, it also reads each as the mean of sixteen distorted ones. Several of them have one leader.
"""

import resource
import time
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from fusion import BF16
from script import make_parser, print_spread, record
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from digitsum import mnist
from digitsum.addition import AdditionDataset, add_digits, log_likelihood
from digitsum.data.augmentation import distort
from digitsum.networks import ExactNet
from digitsum.training.optim import moving_average, one_cycle

IMAGES = 240  # a step, or one sum if that has more
CLIP = 1.0  # of the gradient's norm
AVERAGE = 0.99  # as in config.py
SHUFFLINGS = 100
READS = 0.6  # nats a column: a leader with more is caught in a trap
LEADERS = 5  # at most
OTHER = 1000  # added to a row's seed for another network of it
HEADS = ("sum, %", "digit, %", "allowed, %", "nats", "seconds", "MB")


class LeNet(ExactNet):
    """The field's network (LeCun et al., 1998, doi:10.1109/5.726791, as Manhaeve et al., 2018, have it)."""

    name = "lenet"
    DROPOUT = 0.2, 0.3  # of the second convolution's channels, of what the linear layers give

    def make_body(self, width: int) -> tuple[list[nn.Module], int]:
        """Make the layers that read the image, and return how many features they end with."""
        channels, features = self.DROPOUT
        return [
            *(nn.Conv2d(1, 6, 5), nn.MaxPool2d(2), nn.ReLU()),  # [N, 6, 12, 12]
            *(nn.Conv2d(6, 16, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Dropout2d(channels)),  # [N, 16, 4, 4]
            *(nn.Flatten(), nn.Linear(16 * 4 * 4, 120), nn.ReLU(), nn.Dropout(features)),
            *(nn.Linear(120, 84), nn.ReLU(), nn.Dropout(features)),
        ], 84


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; chosen on held-out training images with sums of N = 15."""

    network: type[ExactNet]
    learning_rate: float
    weight_decay: float = 0.05
    distorted: bool = False
    led: bool = False
    mixed: bool = False  # bfloat16 where the processor multiplies it
    looks: int = 0  # at an image that is read, each distorted otherwise; 0: one, as it is


LEADER, LEAD = Recipe(LeNet, 0.002), 4  # its epochs
RECIPES = {
    "lenet": Recipe(LeNet, 0.005),
    "exact": Recipe(ExactNet, 0.004, distorted=True, led=True, mixed=True, looks=16),
}


def main() -> None:
    """Print a row a seed, their mean and their standard deviation."""
    parser = make_parser(__doc__)
    parser.add_argument("length", type=int, metavar="N", help="digits of each number")
    parser.add_argument("--network", choices=RECIPES, default="lenet")
    parser.add_argument("--networks", type=int, default=1, help="of a row, that read together")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    train_digits, test = mnist.load("mnist"), mnist.load("mnist", "test")
    images, digits = torch.from_numpy(test.images), torch.from_numpy(test.labels)
    recipe = RECIPES[options.network]
    print(f"{options.networks} x {options.network}, N = {options.length}, {options.epochs} epochs")
    print("seed" + "".join(f"{head:>12}" for head in HEADS), flush=True)
    rows, together = [], torch.zeros(len(digits), 10)
    for seed in range(options.seeds):
        start = time.perf_counter()
        sums = AdditionDataset(train_digits, options.length, seed)
        networks, loss = train_all(recipe, sums, options.epochs, seed, options.networks)
        seconds = time.perf_counter() - start
        read = torch.stack([read_digits(network, images, recipe.looks) for network in networks]).mean(dim=0)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append([*figures(read, digits, options.length), loss, seconds, memory])
        show(f"{seed:>4}", rows[-1])
        together += read
    print_spread(rows, show)
    if len(rows) > 1:
        show(" all", figures(together, digits, options.length))


def show(name: str, row: list[float] | np.ndarray) -> None:
    """Print a row."""
    print(name + "".join(f"{value:12.3f}" for value in row), flush=True)


def figures(read: Tensor, digits: Tensor, length: int) -> list[float]:
    """Return the shares of right sums and of right digits, and what the latter allow, in per cent."""
    found = read.argmax(1)
    right = float((found == digits).float().mean())
    return [100 * share for share in (add_shuffled(found, digits, length), right, right ** (2 * length))]


def train_all(
    recipe: Recipe, sums: AdditionDataset, epochs: int, seed: int, count: int
) -> tuple[list[ExactNet], float]:
    """Train networks on the same sums, and return the mean of their losses too."""
    leader = lead(sums, seed) if recipe.led else None
    trained = [train(recipe, sums, epochs, seed + OTHER * i, leader) for i in range(count)]
    return [network for network, _ in trained], float(np.mean([loss for _, loss in trained]))


def train(
    recipe: Recipe, sums: AdditionDataset, epochs: int, seed: int, leader: ExactNet | None = None
) -> tuple[ExactNet, float]:
    """Train a network on sums alone: its averaged weights, and the last epoch's loss in nats a column."""
    torch.manual_seed(seed)
    network = recipe.network()
    average = AveragedModel(network, multi_avg_fn=moving_average(AVERAGE), use_buffers=True)
    optimizer = torch.optim.AdamW(
        network.parameters(), betas=(0.8, 0.95), weight_decay=recipe.weight_decay, fused=True
    )
    length = sums.totals.shape[1] - 1
    batches = BatchSampler(RandomSampler(sums), max(1, IMAGES // (2 * length)), drop_last=False)
    loader = DataLoader(sums, batch_size=None, sampler=batches)
    for epoch in range(epochs):
        losses = []
        for step, (images, totals) in enumerate(loader, start=epoch * len(loader)):
            for group in optimizer.param_groups:
                group["lr"] = one_cycle(step, epochs * len(loader), recipe.learning_rate)
            flat = images.flatten(0, 2)
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.mixed and BF16):
                log_digit = network.encode(distort(flat) if recipe.distorted else flat)
            if leader and epoch == 0:
                loss = imitation_loss(log_digit, leader, flat)
            else:
                loss = sum_loss(log_digit, totals)
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm_(network.parameters(), CLIP)
            optimizer.step()
            average.update_parameters(network)
            losses.append(loss.detach())
    return cast("ExactNet", average.module), float(torch.stack(losses).mean())


def lead(sums: AdditionDataset, seed: int) -> ExactNet:
    """Train a LeNet for a few epochs on sums alone, again with another seed while it is caught in a trap."""
    for attempt in range(LEADERS):
        leader, loss = train(LEADER, sums, LEAD, seed + OTHER * attempt)
        if loss < READS:
            return leader.eval()
    raise RuntimeError(f"{LEADERS} leaders were caught: {loss:.2f} nats a column")


def sum_loss(log_digit: Tensor, totals: Tensor) -> Tensor:
    """Return the negative log-likelihood of sums, int64 [B, N + 1], a column.

    `log_digit`, float32 [B * 2 * N, 10], has for each sum the digits of the top number, then of the other.
    """
    log_top, log_bottom = log_digit.view(len(totals), 2, -1, 10).unbind(1)  # [B, N, 10] each
    return -log_likelihood(log_top, log_bottom, totals).mean() / log_top.shape[1]


def imitation_loss(log_digit: Tensor, leader: ExactNet, images: Tensor) -> Tensor:
    """Return the cross-entropy with what a leader reads, of images uint8 [M, 1, 28, 28]."""
    with torch.no_grad():
        read = leader.encode(images).exp()
    return -(read * log_digit).sum(dim=1).mean()


@torch.inference_mode()
def read_digits(network: ExactNet, images: Tensor, looks: int = 0) -> Tensor:
    """Read images, uint8 [N, 1, 28, 28] -> P(digit), float32 [N, 10], the mean of all looks at each."""
    network.eval()
    read = []
    for part in images.split(200):
        views = [distort(part) for _ in range(looks)] or [part]
        read.append(torch.stack([network.encode(view).exp() for view in views]).mean(dim=0))
    return torch.cat(read)


def add_shuffled(read: Tensor, digits: Tensor, length: int) -> float:
    """Return the share of right sums of the digits that were read, the mean over shufflings of the images."""
    shares = []
    for seed in range(SHUFFLINGS):
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(digits)))
        order = order[: len(order) // (2 * length) * 2 * length]
        found, right = (add_digits(*each[order].view(-1, 2, length).unbind(1)) for each in (read, digits))
        shares.append(float((found == right).all(1).float().mean()))
    return float(np.mean(shares))


if __name__ == "__main__":
    record(main)
