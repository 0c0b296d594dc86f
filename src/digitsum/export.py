"""A network as one ONNX file, checked against torch before it is kept.

    to_onnx(DigitSumNet.from_pretrained("runs/first"), Path("model.onnx"))

Inputs: `image` uint8 [N, 1, 28, 28] and `addend` int64 [N], N as one likes. Outputs, probabilities: `digit`
float32 [N, 10] and `sum` float32 [N, 19]. `concat` shows its inside, too: `joined`, float32 [N, 30], and
`terms`, float32 [N, 19, 31], of which the score of each sum is the total: a weight times each of the joined
numbers, and the bias. Of a network of rows the input is `strip` uint8 [N, 1, 32, W], N as
one likes and W any multiple of 4, and the output `symbols` float32 [N, W / 4, 12], probabilities too.
"""

import json
import logging
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from digitsum.data import mnist
from digitsum.errors import InputError
from digitsum.evaluation import SHARES, Evaluation, RowEvaluation
from digitsum.files import replacing
from digitsum.networks import ConcatNet, DigitSumNet, RowNet
from digitsum.types import HEIGHT

# torch tells of its own parts that it can't translate, none of which is used here
logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)

FIGURES = {  # those that a file tells
    Evaluation: ("data", "split", "images", *SHARES),
    RowEvaluation: ("data", "split", "rows", "number_accuracy"),
    type(None): (),
}
# The most by which a probability may differ from torch's. The reference's sharp sums multiply a rounding of
# the scores by hundreds; what comes with the package differs by 1e-7 to 1e-6.
TOLERANCE = 1e-4
BATCHES = (1, 3, 17)  # images, to check


class Answers(nn.Module):
    """What the file holds: the network with whole numbers as addends, and probabilities."""

    def __init__(self, network: DigitSumNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, addend: Tensor) -> tuple[Tensor, ...]:
        """Answer with P(digit), float32 [N, 10], P(sum), float32 [N, 19], and what else is shown."""
        encoded, number = self.network.encode(image), one_hot(addend, 10).float()
        log_digit, log_sum = self.network.answer(encoded, number)
        return log_digit.exp(), log_sum.exp(), *self.inside(encoded, number)

    def inside(self, encoded: Tensor, number: Tensor) -> tuple[Tensor, ...]:
        """Return what `concat` joins, [N, 30], and the terms of each sum's score, [N, 19, 31]."""
        if not isinstance(self.network, ConcatNet):
            return ()
        joined, layer = self.network.join(encoded, number), self.network.sum
        bias = layer.bias[:, None].expand(joined.shape[0], -1, 1)
        return joined, torch.cat([layer.weight * joined[:, None], bias], dim=2)


class Symbols(nn.Module):
    """What the file of a network of rows holds: the network with probabilities."""

    def __init__(self, network: RowNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, strip: Tensor) -> Tensor:
        """Answer with P(symbol) of each step, float32 [N, T, 12]."""
        log_symbols: Tensor = self.network(strip)
        return log_symbols.exp()


class _Signature(NamedTuple):
    """What goes in and what comes out, by name, which sizes are free, and an example of a given size."""

    inputs: list[str]
    outputs: list[str]
    free: tuple[dict[int, str], ...]
    example: Callable[[int], tuple[Tensor, ...]]


def to_onnx(
    network: DigitSumNet | RowNet, path: str | Path, evaluation: Evaluation | RowEvaluation | None = None
) -> float:
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
    answers = (Symbols(network) if isinstance(network, RowNet) else Answers(network)).eval()
    with replacing(Path(path)) as file:
        program = _translate(answers)
        for node in program.model.graph:
            node.metadata_props.clear()  # which lines of code it comes from, with their place on this machine
        program.model.metadata_props.update(
            network=network.config["network"],
            parameters=str(sum(parameter.numel() for parameter in network.parameters())),
            version=version("digitsum"),
            figures=json.dumps({name: getattr(evaluation, name) for name in FIGURES[type(evaluation)]}),
        )
        program.save(file)
        difference = largest_difference(answers, file)
        if not difference <= TOLERANCE:  # which nothing that isn't a number is
            raise FloatingPointError(
                f"{path} isn't written: its probabilities differ from torch's by {difference:.1g},"
                f" and at most {TOLERANCE:g} is allowed"
            )
    return difference


def _translate(answers: Answers | Symbols) -> torch.onnx.ONNXProgram:
    signature = _signature(answers)
    dims = {name: torch.export.Dim(name) for name in ("batch", "quarters")}
    free = {"batch": dims["batch"], "width": 4 * dims["quarters"]}
    with warnings.catch_warnings():  # of torch's own deprecated calls; the answers are checked anyway
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            answers,
            signature.example(2),
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=signature.inputs,
            output_names=signature.outputs,
            dynamic_shapes=tuple(
                {axis: free[name] for axis, name in sizes.items()} for sizes in signature.free
            ),
        )
    assert program is not None, "dynamo=True gives a program"  # noqa: S101
    return program


def _signature(answers: Answers | Symbols) -> _Signature:
    if isinstance(answers, Symbols):
        return _Signature(["strip"], ["symbols"], ({0: "batch", 3: "width"},), _strips)
    inside = ["joined", "terms"] if isinstance(answers.network, ConcatNet) else []
    return _Signature(["image", "addend"], ["digit", "sum", *inside], ({0: "batch"}, {0: "batch"}), _images)


@torch.no_grad()
def largest_difference(answers: Answers | Symbols, file: Path) -> float:
    """Compare outputs with torch's on embedded images, at several sizes; those over 1 by their own size."""
    session = ort.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    signature, differences = _signature(answers), []
    for count in BATCHES:
        example = signature.example(count)
        given = {name: part.numpy() for name, part in zip(signature.inputs, example, strict=True)}
        torchs = answers(*example)
        for ours, theirs in zip(
            session.run(signature.outputs, given),
            torchs if isinstance(torchs, tuple) else (torchs,),
            strict=True,
        ):
            sizes = np.maximum(np.abs(theirs.numpy()), 1)
            differences.append((np.abs(ours - theirs.numpy()) / sizes).max())
    return float(max(differences))


def _images(count: int) -> tuple[Tensor, Tensor]:
    """Take embedded images of all digits, each with another addend."""
    images = mnist.load().images[:: 5000 // count][:count]
    return torch.from_numpy(images.copy()), torch.arange(count) % 10


def _strips(count: int) -> tuple[Tensor]:
    """Make strips of embedded images, the more of them the longer."""
    images, _ = _images(count)
    row = torch.cat(images.unbind(), dim=2)  # [1, 28, 28 count]
    strip = torch.zeros(1, HEIGHT, row.shape[2], dtype=torch.uint8)
    strip[:, 2 : 2 + row.shape[1]] = row
    return (strip.expand(count, -1, -1, -1).contiguous(),)
