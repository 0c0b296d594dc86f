"""Probabilities that mean what they say: one temperature for each output layer, found on held-out images."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from digitsum.data.pairs import Item
from digitsum.evaluation import answer_every_addend
from digitsum.networks import DigitSumNet


@torch.no_grad()
def calibrate(network: DigitSumNet, batches: Iterable[Item]) -> dict[str, float]:
    """Divide each output layer by the temperature that `batches` ask for, and return the temperatures.

    No answer changes, only its probability. The network is left in evaluation mode. On these same batches
    its probabilities are then a little better than on others.
    """
    network.eval()
    device = next(network.parameters()).device
    rows = [
        answer_every_addend(network, image.to(device), label.to(device)) for (image, _), (label, _) in batches
    ]
    log_digit, log_sum, digit, sum_ = (torch.cat(column) for column in zip(*rows, strict=True))
    temperatures = {}
    for name, log_probabilities, right in (("digit", log_digit, digit), ("sum", log_sum, sum_)):
        layer = dict(network.named_children()).get(name)
        if layer is not None:  # the exact network's sum has no layer: it follows from the digit
            temperatures[name] = temperature(log_probabilities, right)
            for parameter in layer.parameters():
                parameter.div_(temperatures[name])
    return temperatures


def temperature(log_probabilities: Tensor, right: Tensor) -> float:
    """Find the temperature at which the mean confidence is the accuracy, between 1/10 and 10.

    After "expectation consistency" (Clarté, Loureiro, Krzakala and Zdeborová, 2023, arXiv:2303.02644). The
    usual temperature has the best likelihood (Guo et al., 2017, arXiv:1706.04599); that of the reference
    network's sum would be set by the few misread images, each of which costs hundreds of nats.

    Parameters
    ----------
    log_probabilities
        float32 [N, classes].
    right
        int64 [N], the right classes.

    Examples
    --------
    >>> log_probabilities = torch.tensor([[0.9, 0.1]] * 4).log()  # four times the first class
    >>> found = temperature(log_probabilities, torch.tensor([0, 0, 0, 1]))
    >>> (log_probabilities / found).softmax(dim=1)[0]
    tensor([0.7500, 0.2500])
    """
    accuracy = (log_probabilities.argmax(dim=1) == right).double().mean()
    low, high = 0.1, 10.0
    for _ in range(40):
        middle = math.sqrt(low * high)
        confidence = (log_probabilities.double() / middle).softmax(dim=1).amax(dim=1).mean()
        low, high = (middle, high) if confidence > accuracy else (low, middle)
    return high
