import re
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from digitsum.diagram import draw, layers
from digitsum.networks import NETWORKS, ConcatNet, DigitSumNet, ExactNet

SVG = "{http://www.w3.org/2000/svg}"


def boxes(network: DigitSumNet) -> list[tuple[str, str]]:
    """The kind of each box and what it says."""
    nodes = ElementTree.fromstring(draw(network)).iter(f"{SVG}g")  # noqa: S314
    return [
        (
            node.get("class", "").removeprefix("node "),
            " ".join(text.text or "" for text in node.iter(f"{SVG}text")),
        )
        for node in nodes
        if node.get("class", "").startswith("node")
    ]


def test_the_reference_is_drawn_with_its_layers_and_their_shapes() -> None:
    assert sorted(boxes(ConcatNet(32))) == sorted(
        [
            ("tensor", "image [N, 1, 28, 28]"),
            ("tensor", "addend [N, 10]"),
            ("module", "normalise: Normalise [N, 1, 28, 28]"),
            ("module", "conv1: Conv2d [N, 32, 24, 24]"),
            ("function", "max_pool2d [N, 32, 12, 12]"),
            ("function", "relu [N, 32, 12, 12]"),
            ("module", "conv2: Conv2d [N, 64, 8, 8]"),
            ("function", "max_pool2d [N, 64, 4, 4]"),
            ("function", "relu [N, 64, 4, 4]"),
            ("function", "flatten [N, 1024]"),
            ("module", "image: Linear [N, 10]"),
            ("function", "mul [N, 10]"),
            ("function", "softmax [N, 10]"),
            ("module", "addend: Linear [N, 10]"),
            ("function", "softmax [N, 10]"),
            ("function", "cat [N, 30]"),
            ("module", "digit: Linear [N, 10]"),
            ("module", "sum: Linear [N, 19]"),
            ("function", "log_softmax [N, 10]"),
            ("function", "log_softmax [N, 19]"),
            ("tensor", "log P(digit) [N, 10]"),
            ("tensor", "log P(sum) [N, 19]"),
        ]
    )


def test_the_exact_network_adds_what_it_reads_and_the_addend() -> None:
    drawn = ElementTree.fromstring(draw(ExactNet(8)))  # noqa: S314
    titles = {}
    for node in drawn.iter(f"{SVG}g"):
        if node.get("class", "").startswith("node"):
            titles[node.findtext(f"{SVG}title")] = next(node.iter(f"{SVG}text")).text
    edges = [
        tuple(titles[end] for end in re.split("->", edge.findtext(f"{SVG}title") or ""))
        for edge in drawn.iter(f"{SVG}g")
        if edge.get("class") == "edge"
    ]
    assert {giver for giver, taker in edges if taker == "add: AddByProbability"} == {"log_softmax", "addend"}
    assert ("add: AddByProbability", "log P(sum)") in edges
    assert ("log_softmax", "log P(digit)") in edges


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_lists_every_parameter_once(name: str) -> None:
    network = NETWORKS[name](16)
    table = layers(network)
    assert table["parameters"].sum() == sum(parameter.numel() for parameter in network.parameters())
    assert table["name"].is_unique
    first = table[table["type"] == "Conv2d"].iloc[0]
    convolution = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    assert first["parameters"] == sum(parameter.numel() for parameter in convolution.parameters())


def test_drawing_leaves_the_network_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    network = ConcatNet(8)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert draw(network) == draw(network)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert capfd.readouterr() == ("", "")
