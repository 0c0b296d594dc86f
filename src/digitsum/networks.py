"""The networks: two inputs, an image and an addend; two outputs, the digit and the sum.

    network = ConcatNet()   # or ExactNet()
    log_digit, log_sum = network(image, addend)   # uint8 [N, 1, 28, 28] and one-hot float32 [N, 10]

A network normalises the pixels itself and answers with log-probabilities, so that training, export, service
and batch share one definition and the loss is the plain negative log-likelihood of both outputs.

`RowNet` reads a whole row of digits. What it answers for the steps along the row is made a number, and the
sum of that and an addend of any size, each with its exact probability, by `digitsum.search`.
"""

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save
from torch import Tensor, nn

from digitsum.errors import InputError
from digitsum.files import locate, read, read_json, replacing
from digitsum.search import SYMBOLS
from digitsum.types import HEIGHT

MEAN, STD = 0.1307, 0.3081  # of the pixels of MNIST's training images, ink = 1
ROW_MEAN, ROW_STD = 0.2, 0.35  # of the pixels of strips, ink = 1, roughly
WIDEST = 2**16  # channels of a saved network: of any more, torch can't even count the weights
NEVER = -1e9  # the logarithm of no probability: its exponential is 0, and unlike -inf it has a gradient


class Normalise(nn.Module):
    """Scale pixels so that each image spans 0 to 1, then to the mean 0 and deviation 1 of MNIST.

    An image of MNIST spans its range anyway; one that is brighter or paler becomes what it should be. An
    image of one colour has nothing to span, and counts as background.

    Examples
    --------
    >>> scaled = Normalise()(torch.tensor([[[[60, 90, 80]]]], dtype=torch.uint8))
    >>> (scaled * STD + MEAN).round(decimals=4)
    tensor([[[[0.0000, 1.0000, 0.6667]]]])
    """

    def forward(self, image: Tensor) -> Tensor:
        """Return float32 of the shape of `image`, [N, 1, 28, 28] of 0 to 255."""
        low = image.amin(dim=(1, 2, 3), keepdim=True).float()
        high = image.amax(dim=(1, 2, 3), keepdim=True).float()
        return (image - low) * (1 / ((high - low).clamp_min(1) * STD)) - MEAN / STD


class AddByProbability(nn.Module):
    """The distribution of a sum: the convolution of the distributions of what is added.

    P(sum = s) is the total of P(digit = d) P(addend = s - d) over all d.

    Examples
    --------
    >>> digit = torch.tensor([[0.0] * 3 + [0.75, 0.0, 0.25] + [0.0] * 4])  # a 3, perhaps a 5
    >>> AddByProbability()(digit.clamp_min(1e-9).log(), torch.eye(10)[[6]]).exp()[0, 8:12]
    tensor([1.0000e-09, 7.5000e-01, 1.0000e-09, 2.5000e-01])
    """

    def forward(self, log_digit: Tensor, addend: Tensor) -> Tensor:
        """Return log P(sum), float32 [N, 19], from log P(digit), float32 [N, 10], and P(addend), [N, 10]."""
        # the logarithm of no probability stays finite, as do the gradients
        log_addend = addend.float().clamp_min(torch.finfo(torch.float32).tiny).log()
        return log_convolve(log_digit, log_addend.masked_fill(addend == 0, NEVER))


def log_convolve(log_first: Tensor, log_second: Tensor) -> Tensor:
    """Convolve distributions of digits, both given as logarithms, float32 [..., 10] -> [..., 19].

    Impossible is `NEVER`, not -inf, so that gradients are finite.
    """
    # window s of the padded digits holds d = s - 9 ... s, which meet the addends n = 9 ... 0
    windows = F.pad(log_first, (9, 9), value=NEVER).unfold(-1, 10, 1)  # [..., 19, 10]
    terms = windows + log_second.flip(-1)[..., None, :]
    # torch.logsumexp by hand: without the floor, nine of ten exponentials would be denormal or nothing,
    # with which a processor takes twice the time; e^-80 doesn't change a sum that contains a 1
    highest = terms.detach().amax(dim=-1, keepdim=True)
    return (terms - highest).clamp_min(-80).exp().sum(dim=-1).log() + highest[..., 0]


class Network(nn.Module):
    """What all networks share: a name, and how they are saved and read.

    Attributes
    ----------
    name : str
        The key in `NETWORKS`.
    config : dict
        What `config.json` says: the network's name and width, and whatever made it, as training adds.
    preset_layers : tuple of str
        The layers whose starting values already do their work: training should change them slowly.
    """

    name: str
    preset_layers: tuple[str, ...] = ()

    def __init__(self, width: int) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"network": self.name, "width": width}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `config.json`, each whole or not at all, into `folder`."""
        weights = {name: weight.contiguous() for name, weight in self.state_dict().items()}
        with replacing(Path(folder) / "model.safetensors") as file:
            file.write_bytes(save(weights))
        with replacing(Path(folder) / "config.json") as file:
            file.write_text(json.dumps(self.config, indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Read what `save_pretrained` wrote: `Network.from_pretrained` reads any network.

        It is ready to answer, in evaluation mode; `train()` lets it learn.

        Raises
        ------
        InputError
            A file is missing, damaged or of another network.
        OSError
            A file can't be read.
        """
        folder, refusal = Path(folder), f"{folder} doesn't hold a trained {cls.__name__}: "
        for name in ("config.json", "model.safetensors"):
            if not (folder / name).exists():
                more = ", and its training isn't finished" if (folder / "checkpoint.ckpt").exists() else ""
                raise InputError(f"{refusal}it has no {name}{more}")
        config, weights = read_json(folder / "config.json"), _read_weights(folder / "model.safetensors")
        try:
            network = _make(config, weights)
        except InputError as error:
            raise InputError(f"{refusal}{error}") from None
        if not isinstance(network, cls):
            raise InputError(f"{refusal}its network is {network.name}")
        return network.eval()


class DigitSumNet(Network, ABC):
    """What the networks of one digit share: they encode the image, then answer for an addend.

    Attributes
    ----------
    sum_nll_equals_digit_nll : bool
        Whether the sum with a known addend is as probable as the digit, so that its loss is the digit's.
    """

    sum_nll_equals_digit_nll = False

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.normalise = Normalise()

    def forward(self, image: Tensor, addend: Tensor) -> tuple[Tensor, Tensor]:
        """Answer with log P(digit) and log P(sum).

        Parameters
        ----------
        image
            uint8 [N, 1, 28, 28].
        addend
            float32 [N, 10], one-hot.

        Returns
        -------
        tuple
            float32 [N, 10] and float32 [N, 19], also of a network of other numbers (`half()`).

        Raises
        ------
        InputError
            Other shapes.
        """
        if image.shape[1:] != (1, 28, 28):
            raise InputError(f"the images should be uint8 [N, 1, 28, 28], not {_kind(image)}")
        if addend.shape != (image.shape[0], 10):  # len would make N a constant of what is exported
            raise InputError(
                f"the addends of {len(image)} images should be float32 [{len(image)}, 10], one-hot"
                f" (torch.nn.functional.one_hot(addend, 10).float()), not {_kind(addend)}"
            )
        return self.answer(self.encode(image), addend)

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """Read the image, uint8 [N, 1, 28, 28]: what `answer` needs of it, float32 [N, 10]."""

    @abstractmethod
    def answer(self, encoded: Tensor, addend: Tensor) -> tuple[Tensor, Tensor]:
        """Answer as `forward` does, from what `encode` gave: an image is encoded once for ten addends."""


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return from_bytes(read(path))
    except (SafetensorError, KeyError) as error:  # of a type that torch hasn't
        raise InputError(f"{path} is damaged: {error}") from error


def _make(config: dict[str, Any], weights: dict[str, Tensor]) -> "ConcatNet | ExactNet | RowNet":
    """Make the network that a `config.json` describes, with weights that must be of its kind."""
    name, width = config.get("network"), config.get("width")
    if name not in list(KINDS) or type(width) is not int or not 1 <= width <= WIDEST:
        raise InputError(f"its config.json speaks of a network {name!r} of width {width!r}")
    with torch.device("meta"):  # takes no memory, whatever the width
        expected = _shapes(KINDS[name](width).state_dict())
    found = _shapes(weights)
    if differing := sorted(key for key in expected | found if expected.get(key) != found.get(key)):
        shape, right = (shapes.get(differing[0], "none") for shapes in (found, expected))
        raise InputError(
            f"its model.safetensors isn't of the network {name} of width {width}: {len(differing)} tensors"
            f" differ, as {differing[0]}, {shape} in place of {right}"
        )
    network = KINDS[name](width)
    network.load_state_dict(weights)
    network.config = config
    return network


def _shapes(weights: dict[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(weight.shape) for name, weight in weights.items()}


class ConcatNet(DigitSumNet):
    """The reference: two convolutions and four linear layers, joined by a concatenation.

        image -> conv1 -> conv2 -> image layer -+- cat -+- digit layer -> log-softmax -> digit
        addend one-hot -------> addend layer ---+       +- sum layer ---> log-softmax -> sum

    For a linear layer the score of a sum s is a term from the image plus a term from the addend. That is
    enough to add: with digit d, addend n and sum s measured from their means 4.5, 4.5 and 9,

        -(s - d - n)^2 = 2 s d + 2 s n - s^2 + (terms without s)

    once some feature of the image measures d and some feature of the addend measures n. Plainly initialised,
    a network takes many epochs to find that. This one starts there:

    - The image layer's ten units are scores of the digits. They enter the concatenation twice: as they are,
      for the digit layer, and as softmax(sharpness * scores), which is nearly one-hot, so it measures d. (One
      layer, two activations, like the concatenated ReLU of Shang et al., 2016, arXiv:1603.05201.) A blunt
      softmax adds a 5 where the image may be a 3 or an 8, and the two outputs disagree. A sharp one hardly
      passes a gradient. So it is sharper once training is over.
    - The addend layer has a softmax too, and starts as the identity.
    - The digit layer starts by handing the scores on, the sum layer as the identity above.

    All of it stays trainable, and the gradient of the sum's loss reaches the convolutions. But the layers
    that start right should learn slowly (`preset_layers`): what they change makes the two outputs disagree.

    Parameters
    ----------
    width
        Channels of the first convolution; the second has twice as many.
    """

    name = "concat"
    SHARPNESS = 8.0  # in training
    EVAL_SHARPNESS = 64.0
    GAP = 5.0  # nats between the scores of the right sum and of its neighbours, before training
    preset_layers = ("addend", "digit", "sum")

    def __init__(self, width: int = 32) -> None:
        super().__init__(width)
        self.conv1 = nn.Conv2d(1, width, kernel_size=5)
        self.conv2 = nn.Conv2d(width, 2 * width, kernel_size=5)
        self.image = nn.Linear(2 * width * 4 * 4, 10)
        self.addend = nn.Linear(10, 10)
        self.digit = nn.Linear(30, 10)
        self.sum = nn.Linear(30, 19)
        self._start_adding()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def _start_adding(self) -> None:
        eye, zero = torch.eye(10), torch.zeros(10, 10)
        s, d = torch.arange(19.0) - 9, torch.arange(10.0) - 4.5
        # the columns are joined as in `answer`: the scores, their softmax, the addend's softmax
        self.addend.weight.copy_(self.SHARPNESS * eye)
        self.digit.weight.copy_(torch.cat([eye, zero, zero], dim=1))
        self.sum.weight.copy_(self.GAP * 2 * torch.outer(s, torch.cat([torch.zeros(10), d, d])))
        self.sum.bias.copy_(-self.GAP * s**2)
        nn.init.zeros_(self.addend.bias)
        nn.init.zeros_(self.digit.bias)

    def encode(self, image: Tensor) -> Tensor:
        """Score the ten digits."""
        x = self.normalise(image).to(self.conv1.weight.dtype)  # [N, 1, 28, 28]
        x = F.relu(F.max_pool2d(self.conv1(x), 2))  # [N, width, 12, 12]
        x = F.relu(F.max_pool2d(self.conv2(x), 2))  # [N, 2 width, 4, 4]
        scores: Tensor = self.image(x.flatten(1))
        return scores.float()

    def answer(self, encoded: Tensor, addend: Tensor) -> tuple[Tensor, Tensor]:
        """Join the scores with the addend; two linear layers answer."""
        # float32 under autocast too: bfloat16 would round the sum's large scores by whole units
        with torch.autocast(encoded.device.type, enabled=False):
            joined = self.join(encoded, addend).to(self.digit.weight.dtype)
            log_digit, log_sum = (
                F.log_softmax(layer(joined).float(), dim=1) for layer in (self.digit, self.sum)
            )
            return log_digit, log_sum

    def join(self, encoded: Tensor, addend: Tensor) -> Tensor:
        """Return the ten scores, their softmax and the addend's, float32 [N, 30]."""
        sharpness = self.SHARPNESS if self.training else self.EVAL_SHARPNESS
        digit = F.softmax(sharpness * encoded, dim=1)
        number = F.softmax(self.addend(addend.to(self.addend.weight.dtype)).float(), dim=1)
        return torch.cat([encoded, digit, number], dim=1)


class ExactNet(DigitSumNet):
    """Reads the digit, then adds by probability, so it can't misadd.

        image -> convolutions -> linear layer -> log-softmax -> digit -+- convolution of both
        addend --------------------------------------------------------+  distributions -> sum

    P(sum = s) is the total of P(digit = d) P(addend = s - d) over all d (`AddByProbability`). With a known
    addend n that is P(digit = s - n): the most probable sum is the most probable digit plus n, whatever the
    weights.

    The sum has no parameters, and its gradient is the digit's: -log P(sum = d + n) is -log P(digit = d), so
    a sum with a known addend teaches exactly what the digit's own label would.

    Parameters
    ----------
    width
        Channels of the first convolution; the others have two and three times as many.
    """

    name = "exact"
    sum_nll_equals_digit_nll = True

    def __init__(self, width: int = 32) -> None:
        super().__init__(width)
        layers, features = self.make_body(width)
        self.body = nn.Sequential(*layers)
        self.digit = nn.Linear(features, 10)
        self.add_by_probability = AddByProbability()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def make_body(self, width: int) -> tuple[list[nn.Module], int]:
        """Make the layers that read the image, and say how many features they end with."""
        return [
            *_block(1, width, 5, pool=True),  # [N, width, 12, 12]
            *_block(width, 2 * width, 3, padding=1),
            *_block(2 * width, 2 * width, 3, padding=1, pool=True),  # [N, 2 width, 6, 6]
            *_block(2 * width, 3 * width, 3, padding=1),
            *_block(3 * width, 3 * width, 3),  # [N, 3 width, 4, 4]
            nn.Flatten(),
        ], 3 * width * 4 * 4

    def encode(self, image: Tensor) -> Tensor:
        """Return log P(digit)."""
        number = self.digit.weight.dtype
        x = self.body(self.normalise(image).to(number))
        with torch.autocast(image.device.type, enabled=False):
            return F.log_softmax(self.digit(x.to(number)).float(), dim=1)

    def answer(self, encoded: Tensor, addend: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve the distributions of the digit and the addend.

        The addend may be any distribution, float32 [N, 10], not only one-hot: another image's reading, say.
        """
        return encoded, self.add_by_probability(encoded, addend)


class FastNet(ExactNet):
    """Adds as the exact network does, and reads with one convolution: made to be trained in a second.

    The convolution takes every other window of the middle 24 x 24 pixels, so nothing is ever computed at more
    than 10 x 10.
    """

    name = "fast"

    def make_body(self, width: int) -> tuple[list[nn.Module], int]:
        """Make the layers that read the image, and say how many features they end with."""
        hidden = 4 * width
        return [
            nn.ZeroPad2d(-2),  # crops: [N, 1, 24, 24]
            *_block(1, width, 6, stride=2, pool=True),  # [N, width, 5, 5]
            FlattenChannelsLast(),
            nn.Linear(width * 5 * 5, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
        ], hidden


class FlattenChannelsLast(nn.Module):
    """Flatten [N, C, H, W] to [N, H W C], the order in memory of channels_last.

    `nn.Flatten` would have to copy, and its gradient, in the other order, slows down all layers before it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the rows, [N, H W C]."""
        return x.permute(0, 2, 3, 1).flatten(1)


class RowNet(Network):
    """Reads a whole row of digits, however long, that may touch, and the marks among them.

        strip -> convolutions, down to one row of a quarter of its columns -> log-softmax -> steps

    Each step says which symbol it sees: one of the ten digits, a mark or nothing. A number is read from them
    as in connectionist temporal classification (Graves et al., 2006), with which the network is trained: like
    symbols of neighbouring steps are one, and what says nothing is left out.

    Parameters
    ----------
    width
        Channels of the first convolution; the others have two to four times as many.
    """

    name = "row"

    def __init__(self, width: int = 32) -> None:
        super().__init__(width)
        self.body = nn.Sequential(  # of a strip [N, 1, 32, W]
            *_block(1, width, 3, padding=1, pool=True),  # [N, width, 16, W / 2]
            *_block(width, 2 * width, 3, padding=1),
            *_block(2 * width, 2 * width, 3, padding=1, pool=True),  # [N, 2 width, 8, W / 4]
            *_block(2 * width, 3 * width, 3, padding=1),
            *_block(3 * width, 3 * width, 3, padding=1),
            _Residual(3 * width, 3, padding=1),
            nn.MaxPool2d((2, 1)),  # [N, 3 width, 4, W / 4]
            nn.Conv2d(3 * width, 4 * width, (4, 3), padding=(0, 1), bias=False),  # [N, 4 width, 1, W / 4]
            nn.BatchNorm2d(4 * width),
            nn.ReLU(),
        )
        self.along = nn.Sequential(  # what stands beside a digit
            *_block(4 * width, 4 * width, (1, 5), padding=(0, 2)),
            *_block(4 * width, 4 * width, (1, 5), padding=(0, 2)),
            _Residual(4 * width, (1, 5), padding=(0, 4), dilation=(1, 2)),
            nn.Dropout(0.2),
        )
        self.symbol = nn.Linear(4 * width, SYMBOLS)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, strip: Tensor) -> Tensor:
        """Say which symbol each step along the rows shows.

        Parameters
        ----------
        strip
            uint8 [N, 1, 32, W], 0 paper to 255 ink, of any width from 4 on.

        Returns
        -------
        Tensor
            log P(symbol), float32 [N, W // 4, 12]: the digits 0 to 9, `search.MARK` and `search.NOTHING`.

        Raises
        ------
        InputError
            Another shape.
        """
        if strip.shape[1:3] != (1, HEIGHT):
            raise InputError(f"the strips should be uint8 [N, 1, {HEIGHT}, W], not {_kind(strip)}")
        number = self.symbol.weight.dtype
        x = (strip.float() * (1 / 255) - ROW_MEAN) * (1 / ROW_STD)
        x = self.along(self.body(x.to(number)))[:, :, 0]  # [N, 4 width, W / 4]
        with torch.autocast(strip.device.type, enabled=False):
            return F.log_softmax(self.symbol(x.transpose(1, 2).to(number)).float(), dim=2)


class _Residual(nn.Module):
    """Adds a convolution of what comes in to it, at first nothing (Goyal et al., 2017, arXiv:1706.02677)."""

    def __init__(
        self,
        channels: int,
        kernel: int | tuple[int, int],
        padding: int | tuple[int, int],
        dilation: int | tuple[int, int] = 1,
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(
            channels, channels, kernel, padding=padding, dilation=dilation, bias=False
        )
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.convolution(x)))


def _block(
    inputs: int,
    outputs: int,
    kernel: int | tuple[int, int],
    stride: int = 1,
    padding: int | tuple[int, int] = 0,
    pool: bool = False,
) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    return [convolution, *[nn.MaxPool2d(2)] * pool, nn.BatchNorm2d(outputs), nn.ReLU()]


def load(name: str | Path = "exact") -> DigitSumNet:
    """Load a trained network of one digit, ready to answer: one that comes with the package, or a folder's.

    What made a network of the package, what it can do and where it fails stands beside its weights, in
    `weights/NAME/README.md`.

    Parameters
    ----------
    name
        "exact" or "concat", or what `save_pretrained` wrote to: a run folder, for example ("./exact", if it
        has the name of one of the package's).

    Raises
    ------
    InputError
        There is no such network, or its files are damaged.

    Examples
    --------
    >>> image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    >>> image[0, 0, 4:24, 13:15] = 255  # a stroke from top to bottom
    >>> log_digit, log_sum = load("exact")(image, torch.eye(10)[[6]])
    >>> log_digit.argmax().item(), log_sum.argmax().item()
    (1, 7)
    """
    return DigitSumNet.from_pretrained(find(name))


def load_row(name: str | Path = "row") -> RowNet:
    """Load a trained network of rows, as `load` does one of single digits.

    Raises
    ------
    InputError
        There is no such network, or its files are damaged.
    """
    return RowNet.from_pretrained(find(name))


def load_any(name: str | Path) -> DigitSumNet | RowNet:
    """Load a trained network of either kind; raises what `load` does."""
    return cast("DigitSumNet | RowNet", Network.from_pretrained(find(name)))


def find(name: str | Path) -> Path:
    """Find the folder of a network that `load` takes.

    Raises
    ------
    InputError
        There is none.
    """
    folder = locate(name)
    if folder.is_dir():
        return folder
    raise InputError(
        f"there is no network {str(name)!r}: name exact, concat, row, or a folder that holds one"
    )


NETWORKS: dict[str, type[ConcatNet] | type[ExactNet]] = {  # of one digit
    network.name: network for network in (ConcatNet, ExactNet, FastNet)
}
KINDS: dict[str, type[ConcatNet] | type[ExactNet] | type[RowNet]] = NETWORKS | {RowNet.name: RowNet}
