"""A network as a picture and as a table: its layers and functions, with the shapes between them.

    svg = draw(load("exact"))
    table = layers(load("exact"))

The pictures are drawn by hand, one a kind of network, in `templates/drawings`; their numbers are the
network's own, found by one image and one addend that go through it.
"""

from copy import deepcopy
from functools import partial
from pathlib import Path

import jinja2
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from digitsum.errors import InputError
from digitsum.networks import NETWORKS, DigitSumNet

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    trim_blocks=True,
    undefined=jinja2.StrictUndefined,
)
TEMPLATES.filters["thousands"] = "{:,}".format


def draw(network: DigitSumNet) -> str:
    """Return a drawing of the network, from the inputs, at the top, to the outputs.

    A box says its layers and functions in their order, the shape of what the last one gives, and how many
    parameters they have.

    Returns
    -------
    str
        An SVG element. The boxes have the class tensor, module or function.

    Raises
    ------
    InputError
        It is of no kind that there is a drawing of: a class of your own.

    Examples
    --------
    >>> from digitsum.networks import ConcatNet
    >>> print(draw(ConcatNet())[:4])
    <svg
    """
    if type(network) is not NETWORKS.get(network.name):
        raise InputError(f"there is no drawing of a {type(network).__name__}, only of {', '.join(NETWORKS)}")
    return TEMPLATES.get_template(f"drawings/{network.name}.svg").render(
        network=network,
        modules=dict(network.named_modules()),
        layers={layer.name: layer for layer in layers(network).itertuples()},
    )


def layers(network: DigitSumNet) -> pd.DataFrame:
    """Return the network's layers, in the order in which it declares them.

    Returns
    -------
    DataFrame
        Columns `name`, `type`, `shape` (of what it gives, N the batch) and `parameters`.

    Examples
    --------
    >>> from digitsum.networks import ConcatNet
    >>> layers(ConcatNet(16)).query("parameters > 0")["type"].tolist()
    ['Conv2d', 'Conv2d', 'Linear', 'Linear', 'Linear', 'Linear']
    """
    followed = deepcopy(network).eval()  # hooks, and a mode of its own
    shapes: dict[str, str] = {}
    layers = {name: module for name, module in followed.named_modules() if not any(module.children())}
    for name, layer in layers.items():
        layer.register_forward_hook(partial(_note, shapes, name))
    device = next(network.parameters()).device
    with torch.no_grad():
        followed(
            torch.zeros(1, 1, 28, 28, dtype=torch.uint8, device=device),
            one_hot(torch.tensor([0], device=device), 10).float(),
        )
    return pd.DataFrame(
        {
            "name": name,
            "type": type(layer).__name__,
            "shape": shapes[name],
            "parameters": sum(parameter.numel() for parameter in layer.parameters()),
        }
        for name, layer in layers.items()
    )


def _note(shapes: dict[str, str], name: str, _: nn.Module, inputs: object, output: Tensor) -> None:
    """Keep the shape of what a layer gives."""
    shapes[name] = f"[{', '.join(['N', *map(str, output.shape[1:])])}]"
