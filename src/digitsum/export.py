"""A network as one ONNX file, checked against torch before it is kept.

    to_onnx(DigitSumNet.from_pretrained("runs/first"), Path("model.onnx"))

Inputs: `image` uint8 [N, 1, 28, 28] and `addend` int64 [N], N as one likes. Outputs, probabilities: `digit`
float32 [N, 10] and `sum` float32 [N, 19].
"""

import json
import logging
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from digitsum.data import mnist
from digitsum.errors import InputError
from digitsum.evaluation import SHARES, Evaluation
from digitsum.files import replacing
from digitsum.networks import DigitSumNet

# torch tells of its own parts that it can't translate, none of which is used here
logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)

FIGURES = ("data", "split", "images", *SHARES)
# The most by which a probability may differ from torch's. The reference's sharp sums multiply a rounding of
# the scores by hundreds; what comes with the package differs by 1e-7 to 1e-6.
TOLERANCE = 1e-4
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


def to_onnx(network: DigitSumNet, path: str | Path, evaluation: Evaluation | None = None) -> float:
    """Write `network` to the ONNX file `path`, whole or not at all, and check it on embedded images.

    Its metadata says the `network`, its `parameters`, digitsum's `version`, and as JSON the `figures` of the
    evaluation.

    Parameters
    ----------
    network
        It comes back in evaluation mode.

    Returns
    -------
    float
        The largest difference from torch that was found, at most `TOLERANCE`.

    Raises
    ------
    InputError
        The network's weights aren't float32.
    FloatingPointError
        ONNX Runtime answers otherwise than torch: nothing is written.
    """
    if (number := next(network.parameters()).dtype) != torch.float32:
        raise InputError(f"a network is exported in float32, not in {number}: export network.float()")
    answers = Answers(network).eval()
    with replacing(Path(path)) as file:
        program = _translate(answers)
        for node in program.model.graph:
            node.metadata_props.clear()  # which lines of code it comes from, with their place on this machine
        program.model.metadata_props.update(
            network=network.config["network"],
            parameters=str(sum(parameter.numel() for parameter in network.parameters())),
            version=version("digitsum"),
            figures=json.dumps({name: getattr(evaluation, name) for name in FIGURES} if evaluation else {}),
        )
        program.save(file)
        difference = largest_difference(answers, file)
        if not difference <= TOLERANCE:  # which nothing that isn't a number is
            raise FloatingPointError(
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
    session = ort.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
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
