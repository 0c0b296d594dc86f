"""The assignment on one page: read a handwritten digit and add a number to it, in plain PyTorch.

    python examples/assignment.py   # half a minute on two cores

One network has two inputs, an image and a number from 0 to 9 (the addend), and two outputs, the digit and the
sum. The data and the network are the package's; how it is trained and measured stands here.
"""

import torch
from torch.nn.functional import nll_loss
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.utils.data import DataLoader

from digitsum import mnist
from digitsum.data.pairs import DigitSumDataset, Item, pair_table, split_loaders
from digitsum.networks import ConcatNet

EPOCHS = 16
BATCH_SIZE = 64
LEARNING_RATE = 6e-3  # the highest of the schedule
SLOW = 0.01  # of that rate for the layers that start right: they have little to learn
SUM_WEIGHT = 0.005  # a sum that is off by k costs some 5 k^2 nats: at equal weights it would drown the digit
SHIFT = 2  # pixels, at most
SEED = 0


def load_parts() -> tuple[DataLoader[Item], DataLoader[Item]]:
    """Load 80 % of the images to train on; 20 % are held out."""
    digits = mnist.load("mnist5k")  # images, uint8 [5000, 1, 28, 28], and labels, int64 [5000]
    # an item is (image, one-hot addend), (digit, sum): each image gets a row of the pair table with its digit
    dataset = DigitSumDataset(digits, SEED)
    # two DataLoaders, whose SubsetRandomSamplers share no image
    return split_loaders(dataset, train_fraction=0.8, batch_size=BATCH_SIZE, seed=SEED)


def make_optimizer(network: ConcatNet, steps: int) -> tuple[torch.optim.Optimizer, LRScheduler]:
    """Make AdamW, and the schedule of its learning rates: up, then down to nothing."""
    layers = dict(network.named_children())
    rates = [LEARNING_RATE * (SLOW if name in network.preset_layers else 1) for name in layers]
    optimizer = torch.optim.AdamW([{"params": layer.parameters()} for layer in layers.values()])
    return optimizer, OneCycleLR(optimizer, max_lr=rates, total_steps=steps)


def train_epoch(
    network: ConcatNet, train: DataLoader[Item], optimizer: torch.optim.Optimizer, schedule: LRScheduler
) -> float:
    """Train on each image once, and give the mean loss."""
    network.train()
    total = 0.0
    for (image, addend), (digit, sum_) in train:
        # the whole batch moves a little, each time elsewhere: 4,000 images are few
        move = torch.randint(-SHIFT, SHIFT + 1, (2,)).tolist()
        log_digit, log_sum = network(image.roll(move, dims=(2, 3)), addend)  # [N, 10] and [N, 19]
        # cross-entropy: the outputs have been through log_softmax, so what is left of it is the NLL
        loss = nll_loss(log_digit, digit) + SUM_WEIGHT * nll_loss(log_sum, sum_)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item() * len(digit)  # the last batch may be smaller
    return total / len(train.sampler)


@torch.no_grad()
def measure(network: ConcatNet, held_out: DataLoader[Item]) -> list[float]:
    """Return the loss of the digit and of the sum, and their accuracies, on images it never learnt from."""
    network.eval()
    totals = torch.zeros(4)
    for (image, addend), answers in held_out:
        outputs = network(image, addend)
        pairs = list(zip(outputs, answers, strict=True))  # the digit's and the sum's
        losses = [nll_loss(output, answer, reduction="sum") for output, answer in pairs]
        right = [(output.argmax(dim=1) == answer).sum() for output, answer in pairs]
        totals += torch.stack([*losses, *right])
    return (totals / len(held_out.sampler)).tolist()


def main() -> None:
    """Train the reference network and print a line an epoch."""
    torch.manual_seed(SEED)
    print(pair_table())
    train, held_out = load_parts()
    network = ConcatNet()  # two Conv2d, four Linear, torch.cat
    print(network)
    optimizer, schedule = make_optimizer(network, EPOCHS * len(train))
    print("epoch  train loss  digit loss  sum loss   digit     sum")
    for epoch in range(1, EPOCHS + 1):
        train_loss = train_epoch(network, train, optimizer, schedule)
        figures = measure(network, held_out)
        print("{:5}  {:10.4f}  {:10.4f}  {:8.4f}  {:6.2%}  {:6.2%}".format(epoch, train_loss, *figures))


if __name__ == "__main__":
    main()
