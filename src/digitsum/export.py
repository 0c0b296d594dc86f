"""A network as one ONNX file, checked against torch before it is kept.

    export(DigitSumNet.from_pretrained("runs/first"), Path("model.onnx"))

Inputs: `image` uint8 [N, 1, 28, 28] and `addend` int64 [N], N as one likes. Outputs, probabilities: `digit`
float32 [N, 10] and `sum` float32 [N, 19].
"""

import json
import logging
import os
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from digitsum import mnist
from digitsum.files import replacing
from digitsum.networks import DigitSumNet

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # from 1.29 on ONNX Runtime reports its use to its maker
import onnxruntime as ort  # noqa: E402

# torch tells of its own parts that it can't translate, none of which is used here
logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)

TOLERANCE = 1e-5  # the most by which a probability may differ from torch's
BATCHES = (1, 3, 17)  # images, to check


class Answers(nn.Module):
    """What the file holds: the network with whole numbers as addends, and probabilities."""

    def __init__(self, network: DigitSumNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, addend: Tensor) -> tuple[Tensor, Tensor]:
        """Answer with P(digit), float32 [N, 10], and P(sum), float32 [N, 19]."""
        log_digit, log_sum = self.network(image, one_hot(addend, 10).float())
        return log_digit.exp(), log_sum.exp()


def export(network: DigitSumNet, path: Path, figures: Mapping[str, float] | None = None) -> float:
    """Write `network` to the ONNX file `path`, whole or not at all, and check it on embedded images.

    Its metadata says the `network`, its `parameters`, digitsum's `version`, and as JSON the `figures`.

    Parameters
    ----------
    network
        It comes back in evaluation mode.
    figures
        What an evaluation found, by name.

    Returns
    -------
    float
        The largest difference from torch that was found, at most `TOLERANCE`.

    Raises
    ------
    ArithmeticError
        ONNX Runtime answers otherwise than torch: nothing is written.
    """
    answers = Answers(network).eval()
    program = _translate(answers)
    program.model.metadata_props.update(
        network=network.config["network"],
        parameters=str(sum(parameter.numel() for parameter in network.parameters())),
        version=version("digitsum"),
        figures=json.dumps(dict(figures or {})),
    )
    with replacing(path) as file:
        program.save(file)
        difference = largest_difference(answers, file)
        if difference > TOLERANCE:
            raise ArithmeticError(
                f"{path} isn't written: its probabilities differ from torch's by {difference:.1g},"
                f" and at most {TOLERANCE:g} is allowed"
            )
    return difference


def _translate(answers: Answers) -> torch.onnx.ONNXProgram:
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():  # of torch's own deprecated calls; the answers are checked anyway
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            answers,
            _example(2),
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=["image", "addend"],
            output_names=["digit", "sum"],
            dynamic_shapes=({0: batch}, {0: batch}),
        )
    assert program is not None, "dynamo=True gives a program"  # noqa: S101
    return program


@torch.no_grad()
def largest_difference(answers: Answers, file: Path) -> float:
    """Compare the file's probabilities with torch's on embedded images, at several batch sizes."""
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    differences = []
    for count in BATCHES:
        image, addend = _example(count)
        found = session.run(["digit", "sum"], {"image": image.numpy(), "addend": addend.numpy()})
        for ours, torchs in zip(found, answers(image, addend), strict=True):
            differences.append(np.abs(ours - torchs.numpy()).max())
    return float(max(differences))


def _example(count: int) -> tuple[Tensor, Tensor]:
    """Take embedded images of all digits, each with another addend."""
    images = mnist.load().images[:: 5000 // count][:count]
    return torch.from_numpy(images.copy()), torch.arange(count) % 10
