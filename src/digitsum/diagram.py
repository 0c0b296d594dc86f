"""A network as a picture and as a table: its modules and functions, with the shapes between them.

    svg = draw(load("exact"))
    table = layers(load("exact"))

Both follow one image and one addend through the network itself, so they show what is computed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from graphlib import TopologicalSorter
from typing import Any, NamedTuple

import pandas as pd
import torch
from pygraphviz import AGraph
from torch.nn.functional import one_hot
from torchview import draw_graph

from digitsum.networks import DigitSumNet

TENSORS = {28: "image", 10: "addend"}, {10: "log P(digit)", 19: "log P(sum)"}  # by the last dimension


class Step(NamedTuple):
    """A module or a function, or a tensor that goes in or comes out."""

    name: str  # empty for a function
    type: str
    shape: str  # of what it gives, N the batch
    parameters: int


def draw(network: DigitSumNet) -> str:
    """Draw the network from the inputs, at the top, to the outputs, with the shape that each step gives.

    Returns
    -------
    str
        An SVG element. The nodes have the class tensor, module or function.

    Examples
    --------
    >>> from digitsum.networks import ConcatNet
    >>> print(draw(ConcatNet())[:4])
    <svg
    """
    steps, edges = _follow(network)
    graph = AGraph(directed=True, nodesep=0.15, ranksep=0.22, bgcolor="transparent")
    # boxes of one size: the fonts that measure a text here aren't those that show it
    graph.node_attr.update(
        shape="box",
        fixedsize=True,
        width=2.2,
        height=0.45,
        fontname="Helvetica,Arial,sans-serif",
        fontsize=11,
    )
    graph.edge_attr.update(arrowsize=0.6)
    for key, step in enumerate(steps):
        kind = "tensor" if not step.type else "module" if step.name else "function"
        title = ": ".join(filter(None, [step.name, step.type]))
        label = f"{title}\n{step.shape}"
        graph.add_node(key, label=label, tooltip=title, **{"class": kind})
    graph.add_edges_from(edges)
    for key in [key for key, step in enumerate(steps) if step.type == "float"]:  # float32 it is already
        graph.add_edges_from((a, b) for a in graph.predecessors(key) for b in graph.successors(key))
        graph.delete_node(key)
    with _no_stderr():
        svg: str = graph.draw(format="svg", prog="dot").decode()
    return svg[svg.index("<svg") :]


def layers(network: DigitSumNet) -> pd.DataFrame:
    """List the modules in the order in which the network declares them.

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
    steps, _ = _follow(network)
    modules = {step.name: step for step in steps if step.name and step.type}
    return pd.DataFrame([modules[name] for name, _ in network.named_modules() if name in modules])


def _follow(network: DigitSumNet) -> tuple[list[Step], list[tuple[int, int]]]:
    """Give the steps in order, and the pairs of one step and another that takes what the first one gives."""
    device = next(network.parameters()).device
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8, device=device)
    addend = one_hot(torch.tensor([0], device=device), 10).float()
    training = network.training
    graph = draw_graph(network, (image, addend), depth=2, device=device, mode="eval")
    network.train(training)
    modules = {id(module): (name, module) for name, module in network.named_modules()}
    nodes = {node.node_id: node for edge in graph.edge_list for node in edge}
    givers: dict[str, list[str]] = {key: [] for key in nodes}
    for giver, taker in graph.edge_list:
        givers[taker.node_id].append(giver.node_id)
    order = list(TopologicalSorter(givers).static_order())
    takers = {giver for several in givers.values() for giver in several}
    steps = [_step(nodes[key], modules, last=key not in takers) for key in order]
    edges = [(order.index(a.node_id), order.index(b.node_id)) for a, b in graph.edge_list]
    return steps, edges


def _step(node: Any, modules: dict[int, tuple[str, torch.nn.Module]], last: bool) -> Step:
    if hasattr(node, "tensor_shape"):
        return Step(TENSORS[last][node.tensor_shape[-1]], "", _shape(node.tensor_shape), 0)
    name, module = modules.get(node.compute_unit_id, ("", None))
    parameters = sum(parameter.numel() for parameter in module.parameters()) if module else 0
    return Step(name, node.name, _shape(node.output_shape[0]), parameters)


def _shape(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(['N', *map(str, shape[1:])])}]"


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Keep the warnings of a C library about the system's fonts from the user; errors are exceptions."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
