"""Training a network of rows: its loss, its batches, and a run that goes on."""

import multiprocessing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from digitsum import evaluate_held_out, train
from digitsum.config import PRESETS, Config
from digitsum.data import mnist
from digitsum.data.digits import Digits
from digitsum.data.rows import RowSource
from digitsum.errors import InputError
from digitsum.evaluation import RowEvaluation
from digitsum.networks import RowNet, load_row
from digitsum.prediction import Predictor
from digitsum.search import NOTHING, log_probability
from digitsum.training import ctc, loop
from digitsum.training.loop import fit

SMALL = replace(
    PRESETS["row"],
    data="mnist5k",
    synthetic_digits=0.0,
    non_digits=0.0,
    width=4,
    rows=96,
    train_fraction=0.1,
    epochs=2,
    batch_size=6,
    precision="32-true",
)


def test_the_loss_is_the_likelihood_over_all_alignments() -> None:
    torch.manual_seed(0)
    network = RowNet(4).eval()
    strips = torch.randint(0, 255, (2, 1, 32, 28), dtype=torch.uint8)
    labels = [[3, 3], [7]]
    batch = ctc.RowBatch(strips, torch.tensor([3, 3, 7]), torch.tensor([2, 1]), 2)
    steps = network(strips).exp().detach().double().numpy()
    expected = [
        -log_probability(each, label, np.zeros(len(label) + 1, bool))
        for each, label in zip(steps, labels, strict=True)
    ]
    assert ctc.row_loss(network, batch).item() == pytest.approx(np.mean(expected), rel=1e-4)


@pytest.mark.usefixtures("undrawn")
def test_a_run_learns_goes_on_bit_for_bit_and_is_taken_by_the_predictor(tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    evaluation = train(SMALL, whole)
    assert isinstance(evaluation, RowEvaluation)
    with pytest.raises(KeyboardInterrupt):
        fit(SMALL, halves, on_epoch=interrupt)
    rows = fit(SMALL, halves)
    assert rows[1]["train_loss"] < rows[0]["train_loss"]
    ours, theirs = load_row(whole).state_dict(), load_row(halves).state_dict()
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())
    assert {path.name for path in whole.iterdir()} >= {"evaluation.json", "model.onnx", "model.safetensors"}
    page = (whole / "report.html").read_text()
    assert f"<b>{100 * evaluation.number_accuracy:.2f}\N{NO-BREAK SPACE}%</b>numbers right" in page
    assert "problem" not in page[page.index("<body>") :]
    assert Predictor(whole).reads_rows
    again = evaluate_held_out(whole)
    assert replace(again, seconds=0.0) == replace(evaluation, seconds=0.0)


def interrupt(_: object) -> None:
    raise KeyboardInterrupt


def test_batches_follow_from_seed_and_epoch_whatever_draws_them(digits: Digits) -> None:
    images, labels = digits.images[::50, 0], digits.labels[::50]
    batches = ctc.RowBatches(RowSource([(images, labels)], [1.0], images[:0]), SMALL)
    assert len(batches) == 16
    first, again, other = ([batch.strips for batch in batches.epoch(number)] for number in (0, 0, 1))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not all(
        one.shape == two.shape and torch.equal(one, two) for one, two in zip(first, other, strict=True)
    )


@pytest.mark.usefixtures("semaphores")
def test_batches_are_the_same_drawn_by_no_one_or_many_processes(
    digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = digits.images[:, 0], digits.labels
    batches = ctc.RowBatches(RowSource([(images, labels)], [1.0], images[:0]), replace(SMALL, rows=192))
    assert len(batches) == 32  # two workers have something to do
    drawn = []
    for workers in (0, 1, 2):
        monkeypatch.setattr(ctc, "_workers", lambda workers=workers: workers)
        drawn.append(list(batches.epoch(0)))
    for other in drawn[1:]:
        for one, two in zip(drawn[0], other, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one[:3], two[:3], strict=True))


def test_rows_are_drawn_beside_the_training_only_where_processes_can_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none() -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(multiprocessing, "Lock", object)
    monkeypatch.setattr(ctc, "cores", lambda: 4)
    assert ctc._workers() == 3
    monkeypatch.setattr(ctc, "cores", lambda: 1)
    assert ctc._workers() == 1
    monkeypatch.setattr(multiprocessing, "Lock", none)
    assert ctc._workers() == 0


def test_rows_are_made_of_the_digits_of_a_user_s_folder(pictures: Path, tmp_path: Path) -> None:
    mine = replace(SMALL, data=str(pictures), train_fraction=0.5, epochs=1)
    fit(mine, tmp_path / "run")
    again = evaluate_held_out(tmp_path / "run")
    assert (again.data, again.split) == (str(pictures), "held-out")
    (pictures / "3" / "0.png").unlink()
    with pytest.raises(InputError, match=f"^{pictures} isn't what .* was trained on any more: "):
        evaluate_held_out(tmp_path / "run")


@pytest.mark.parametrize(("rows", "drawn"), [(96, 96), (9 * ctc.DRAWN, ctc.DRAWN)])
def test_no_more_digits_are_drawn_than_an_epoch_has_rows(
    rows: int, drawn: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So that a short trial begins at once."""

    def asked(*settings: object) -> None:
        assert settings[3] == drawn
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "row_source", asked)
    with pytest.raises(KeyboardInterrupt):
        fit(replace(SMALL, rows=rows), tmp_path / "run")


def test_several_processes_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "make_fabric", lambda _: SimpleNamespace(world_size=2, is_global_zero=True))
    with pytest.raises(InputError, match=r"^the network row is trained by one process, which draws its "):
        fit(SMALL, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_calibration_divides_the_scores_so_that_held_out_rows_are_more_probable() -> None:
    torch.manual_seed(0)
    network, held_out = RowNet(4).eval(), mnist.load()
    with torch.no_grad():
        network.symbol.weight.mul_(3)
    weight = network.symbol.weight.clone()
    rows = ctc.held_out_rows(held_out.images[::50, 0], held_out.labels[::50], replace(SMALL, rows=15 * 12))
    before = ctc.row_figures(network, rows)["number_nll"]
    temperature = ctc.calibrate_rows(network, rows)
    torch.testing.assert_close(network.symbol.weight * temperature, weight)
    assert temperature != 1
    assert ctc.row_figures(network, rows)["number_nll"] < before


def test_the_best_path_leaves_out_marks_and_nothing() -> None:
    assert ctc.best_path([NOTHING, 4, 4, NOTHING, 4, 10, 7, 7]) == [4, 4, 7]


def test_rows_of_an_earlier_setting_are_refused(tmp_path: Path) -> None:
    Config().save(tmp_path)
    with pytest.raises(InputError, match="doesn't hold a trained RowNet"):
        load_row(tmp_path)
