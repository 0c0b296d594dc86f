"""What moves the weights: AdamW, its one-cycle schedule, and the moving average that is kept of them."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from digitsum.config import Config
from digitsum.networks import Network

Weights = tuple[Tensor, ...] | list[Tensor]


def make_optimizer(network: Network, config: Config) -> torch.optim.Optimizer:
    """Make the optimizer; each group's learning rate is its `lr_scale` times the schedule's (`set_rate`).

    Layers that start right learn slowly, and don't decay: no small step could restore their scale.
    """
    slow: list[Tensor] = []
    usual: list[Tensor] = []
    for name, parameter in network.named_parameters():
        (slow if name.split(".")[0] in network.preset_layers else usual).append(parameter)
    groups = [{"params": usual, "lr_scale": 1.0}, {"params": slow, "lr_scale": 0.01, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.8, 0.95), weight_decay=config.weight_decay, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of each group: `rate`, times the group's scale."""
    for group in optimizer.param_groups:
        group["lr"] = group["lr_scale"] * rate


def one_cycle(step: int, steps: int, peak: float) -> float:
    """Return the learning rate of a step: up in a line over a tenth of the steps, down in half a cosine.

    After Smith and Topin, 2017, arXiv:1708.07120, with the cosine that has become usual.

    Examples
    --------
    >>> [round(one_cycle(step, 100, peak=1.0), 2) for step in (0, 5, 10, 55, 100)]
    [0.1, 0.55, 1.0, 0.5, 0.0]
    """
    warm = 0.1 * steps
    if step < warm:
        return peak * (0.1 + 0.9 * step / warm)
    return peak * (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2


def moving_average(keep: float) -> Callable[[Weights, Weights, Tensor | int], None]:
    """Return the function that moves averaged weights, of which a step keeps the share `keep`, to new ones.

    The first steps keep less, or a short run's average would still be full of its random start. Whole
    numbers, which count batches, are taken over.

    Examples
    --------
    >>> average, averaged = moving_average(0.75), [torch.tensor(0.0)]
    >>> average(averaged, [torch.tensor(16.0)], 6)  # keeps 7 / 16
    >>> averaged
    [tensor(9.)]
    >>> average(averaged, [torch.tensor(17.0)], 1000)
    >>> averaged
    [tensor(11.)]
    """

    def average(averaged: Weights, new: Weights, count: Tensor | int) -> None:
        share = min(keep, (1 + int(count)) / (10 + int(count)))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, new, 1 - share)  # all at once, a fifth of the time of one by one
        else:
            torch._foreach_copy_(averaged, new)

    return average
