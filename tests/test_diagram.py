import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from digitsum.networks import NETWORKS, ConcatNet, DigitSumNet, FastNet
from digitsum.reporting.diagram import draw, layers

SVG = "{http://www.w3.org/2000/svg}"
TIMES = "\N{MULTIPLICATION SIGN}"
UNDRAWN = ("float", "to", "mul")  # other types of numbers; the softmax's factor, which its box says
EVERY_KIND = pytest.mark.parametrize("kind", NETWORKS)


class Box(NamedTuple):
    """A box of a drawing: what kind it is, and what it says."""

    kind: str
    lines: list[str]
    shape: str
    parameters: int


def boxes(network: DigitSumNet) -> list[Box]:
    return [read(group) for group in ElementTree.fromstring(draw(network)).iter(f"{SVG}g")]  # noqa: S314


def read(group: ElementTree.Element) -> Box:
    lines: dict[str, list[str]] = {"": [], "shape": [], "quiet": []}
    for text in group.iter(f"{SVG}text"):
        lines[text.get("class", "")].append(text.text or "")
    numbers = [int(line.removesuffix(" parameters").replace(",", "")) for line in lines["quiet"]]
    return Box(group.attrib["class"], lines[""], *lines["shape"], sum(numbers))


class Steps(TorchFunctionMode):
    """The layers and functions of a network in the order in which it uses them, with what each gives."""

    def __init__(self, network: DigitSumNet) -> None:
        super().__init__()
        self.taken: list[tuple[str, str]] = []
        self.depth = 0  # of the layer or function that is being computed, in others
        for name, module in network.named_modules():
            if name and name != "body":
                module.register_forward_pre_hook(lambda *_: self.enter())
                module.register_forward_hook(lambda *a, name=name: self.leave(name, a[-1]))  # type: ignore[misc]
        image, addend = torch.zeros(3, 1, 28, 28, dtype=torch.uint8), torch.eye(10)[:3]
        with self, torch.no_grad():
            network.eval()(image, addend)

    def enter(self) -> None:
        self.depth += 1

    def leave(self, name: str, given: object) -> None:
        self.depth -= 1
        if self.depth == 0 and isinstance(given, Tensor):
            assert given.shape[0] == 3
            self.taken.append((name, str(list(given.shape)).replace("3", "N", 1)))

    def __torch_function__(
        self, function: Callable[..., Any], types: object, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.enter()
        given = function(*args, **kwargs or {})
        self.leave(function.__name__, given)
        return given


@EVERY_KIND
def test_a_drawing_says_what_the_network_computes(kind: str) -> None:
    network = NETWORKS[kind](width=16)
    modules = dict(network.named_modules())
    drawn = [box for box in boxes(network) if box.kind != "tensor"]
    titles = [[line for line in box.lines if not line[0].isdigit()] for box in drawn]
    names = [[re.findall(r"[\w.]+", title)[0] for title in several] for several in titles]
    taken = [step for step in Steps(network).taken if step[0] not in UNDRAWN]
    assert [name for several in names for name in several] == [name for name, _ in taken]
    for box, own, said in zip(drawn, names, titles, strict=True):
        assert box.shape == [taken.pop(0)[1] for _ in own][-1]
        layers = {name: modules[name] for name in own if name in modules}
        assert box.kind == ("module" if layers else "function")
        assert box.parameters == sum(p.numel() for layer in layers.values() for p in layer.parameters())
        assert [title for title in said if ":" in title] == [
            f"{name}: {type(layer).__name__}{kernel(layer)}" for name, layer in layers.items()
        ]


def kernel(layer: nn.Module) -> str:
    if not isinstance(layer, nn.Conv2d):
        return ""
    high, wide = layer.kernel_size
    return f" {high} {TIMES} {wide}" + ", stride 2" * (layer.stride == (2, 2))


@EVERY_KIND
def test_a_drawing_shows_what_goes_in_and_what_comes_out(kind: str) -> None:
    assert sorted((*box.lines, box.shape) for box in boxes(NETWORKS[kind](8)) if box.kind == "tensor") == [
        ("addend", "[N, 10]"),
        ("image", "[N, 1, 28, 28]"),
        ("log P(digit)", "[N, 10]"),
        ("log P(sum)", "[N, 19]"),
    ]


def test_the_softmax_of_the_reference_has_the_networks_own_sharpness() -> None:
    (softmax,) = [box for box in boxes(ConcatNet()) if box.kind == "function" and "softmax" in box.lines[0]]
    assert re.findall(r"\d+", " ".join(softmax.lines)) == ["64", "8"]
    assert (ConcatNet.EVAL_SHARPNESS, ConcatNet.SHARPNESS) == (64, 8)


@EVERY_KIND
def test_each_line_lies_in_its_box_and_boxes_lie_apart(kind: str) -> None:
    svg = ElementTree.fromstring(draw(NETWORKS[kind](128)))  # noqa: S314
    _, _, wide, high = map(float, svg.attrib["viewBox"].split())
    places = []
    for group in svg.iter(f"{SVG}g"):
        box = group.find(f"{SVG}rect")
        assert box is not None
        x, y, width, height = (float(box.attrib[name]) for name in ("x", "y", "width", "height"))
        for text in group.iter(f"{SVG}text"):
            assert float(text.attrib["x"]) == x + width / 2
            assert y + 11 < float(text.attrib["y"]) < y + height - 3
            assert len(text.text or "") * 6.6 < width  # pixels of a letter of 11, wide ones among narrow ones
        assert 0 < x < x + width < wide
        assert 0 < y < y + height < high
        places.append((x, y, x + width, y + height))
    for i, (left, top, right, bottom) in enumerate(places):
        for x, y, to_x, to_y in places[:i]:
            assert to_x + 10 < left or right + 10 < x or to_y + 10 < top or bottom + 10 < y


@EVERY_KIND
def test_each_arrow_leads_from_a_box_to_another(kind: str) -> None:
    svg = ElementTree.fromstring(draw(NETWORKS[kind](8)))  # noqa: S314
    boxes = [
        [float(box.attrib[name]) for name in ("x", "y", "width", "height")] for box in svg.iter(f"{SVG}rect")
    ]
    for path in svg.iter(f"{SVG}path"):
        x, top, bottom = map(float, re.findall(r"[\d.]+", path.attrib["d"])[:3])
        assert top < bottom
        for at in (top, bottom):
            ends = [y + height if at == top else y for _, y, _, height in boxes]
            touched = [
                left < x < left + width
                for end, (left, _, width, _) in zip(ends, boxes, strict=True)
                if end == at
            ]
            assert touched.count(True) == 1


def test_a_class_of_your_own_has_no_drawing() -> None:
    class Own(FastNet):
        pass

    with pytest.raises(ValueError, match=r"^there is no drawing of a Own, only of concat, exact, fast$"):
        draw(Own(8))


def test_layers_lists_them_as_the_network_declares_them() -> None:
    assert [tuple(row) for row in layers(ConcatNet(32)).itertuples(index=False)] == [
        ("normalise", "Normalise", "[N, 1, 28, 28]", 0),
        ("conv1", "Conv2d", "[N, 32, 24, 24]", 832),
        ("conv2", "Conv2d", "[N, 64, 8, 8]", 51_264),
        ("image", "Linear", "[N, 10]", 10_250),
        ("addend", "Linear", "[N, 10]", 110),
        ("digit", "Linear", "[N, 10]", 310),
        ("sum", "Linear", "[N, 19]", 589),
    ]
    for kind in NETWORKS.values():
        table = layers(network := kind(16))
        assert table["parameters"].sum() == sum(parameter.numel() for parameter in network.parameters())
        assert table["name"].is_unique


def test_drawing_leaves_the_network_as_it_was() -> None:
    network = FastNet(8)
    network.body[3].eval()  # a batch norm that its owner keeps as it is
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    assert draw(network) == draw(network)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_the_readmes_picture_says_what_the_default_network_has() -> None:
    text = (Path(__file__).parents[1] / "docs/concat.svg").read_text()
    boxes = re.findall(r"<text[^>]*>([^<]+)</text><text[^>]*font-size=\"11\">([^<]+)</text>", text)
    network = ConcatNet()
    assert (network.conv1.out_channels, network.conv2.out_channels) == (32, 64)
    assert network.conv1.kernel_size == network.conv2.kernel_size == (5, 5)
    assert network.digit.in_features == network.sum.in_features == 30
    assert (network.image.out_features, network.addend.out_features) == (10, 10)
    assert (network.digit.out_features, network.sum.out_features) == (10, 19)
    assert boxes == [
        (f"Conv2d 5 {TIMES} 5", "32, pool, ReLU"),
        (f"Conv2d 5 {TIMES} 5", "64, pool, ReLU"),
        ("Linear", "10 scores"),
        ("Linear", "10, softmax"),
        ("torch.cat", "30 features"),
        ("Linear", "10, log-softmax"),
        ("Linear", "19, log-softmax"),
    ]
