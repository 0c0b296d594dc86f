import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from digitsum.config import Config
from digitsum.networks import ConcatNet
from digitsum.training.loop import fit
from digitsum.training.optim import make_optimizer, one_cycle, set_rate


def test_layers_that_start_right_learn_slowly_and_do_not_decay() -> None:
    network, config = ConcatNet(width=4), Config()
    optimizer = make_optimizer(network, config)
    set_rate(optimizer, 0.5)
    usual, slow = optimizer.param_groups
    assert (usual["lr"], usual["weight_decay"]) == (0.5, config.weight_decay)
    assert (slow["lr"], slow["weight_decay"]) == (0.005, 0)
    heads = [*network.addend.parameters(), *network.digit.parameters(), *network.sum.parameters()]
    assert set(map(id, slow["params"])) == set(map(id, heads))
    assert len(usual["params"]) + len(slow["params"]) == len(list(network.parameters()))


def test_one_cycle_rises_in_a_line_and_falls_in_half_a_cosine() -> None:
    rates = [one_cycle(step, 1000, peak=2.0) for step in (0, 50, 100, 400, 1000)]
    assert rates == pytest.approx([0.2, 1.1, 2.0, 1 + math.cos(math.pi / 3), 0])


def test_without_averaging_the_last_steps_weights_are_kept(config: Config, tmp_path: Path) -> None:
    fit(replace(config, average=0, network="exact"), tmp_path / "run")
    state = torch.load(tmp_path / "run" / "checkpoint.ckpt", weights_only=True)
    for name, weight in state["network"].items():
        assert torch.equal(weight, state["average"][f"module.{name}"]), name
