"""The assignment on one page: what it may use, and what it prints."""

import ast
import re
import sys
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss

from digitsum.networks import load

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.append(str(EXAMPLES))
assignment = import_module("assignment")

TEXT = (EXAMPLES / "assignment.py").read_text()


def test_the_assignment_fits_on_a_page() -> None:
    assert len(TEXT.splitlines()) <= 100


def test_of_the_package_it_uses_the_data_and_the_network_alone() -> None:
    nodes = [node for node in ast.walk(ast.parse(TEXT)) if isinstance(node, ast.Import | ast.ImportFrom)]
    imports = [re.match(r"(?:from|import) ([\w.]+)(?: import (.*))?", ast.unparse(node)) for node in nodes]
    used = {found[1]: found[2] for found in imports if found and not found[1].startswith("torch")}
    assert used.keys() == {"digitsum", "digitsum.networks", "digitsum.data.pairs"}
    assert used["digitsum"] == "mnist"


@pytest.mark.docs
def test_it_learns_both_outputs_and_prints_a_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(assignment, "EPOCHS", 2)
    assignment.main()
    printed = capsys.readouterr().out
    assert re.search(r"addend +digit +sum\n0 +0 +0 +0\n", printed)
    assert "[60000 rows x 3 columns]" in printed
    assert (printed.count("Conv2d("), printed.count("Linear(")) == (2, 4)
    header, *rows = printed[printed.index("epoch") :].splitlines()
    assert re.split(" {2,}", header) == ["epoch", "train loss", "digit loss", "sum loss", "digit", "sum"]
    log = pd.DataFrame([[float(cell.rstrip("%")) for cell in row.split()] for row in rows])
    epoch, *losses, digit, sum_ = (log[column] for column in log)
    assert epoch.tolist() == [1, 2]
    assert all(loss.is_monotonic_decreasing for loss in losses)
    # of ten seeds the worst has 94.8: a processor that rounds otherwise changes no more
    assert min(digit.iloc[-1], sum_.iloc[-1]) > 94


def test_it_measures_what_scikit_learn_does() -> None:
    network, (_, held_out) = load("exact"), assignment.load_parts()
    (image, addend), answers = held_out.dataset[sorted(held_out.sampler.indices)]
    with torch.no_grad():
        # in double precision, as scikit-learn wants probabilities that add up to 1
        outputs = [output.double().softmax(dim=1) for output in network(image, addend)]
    pairs = list(zip(answers, outputs, strict=True))
    losses = [log_loss(answer, output, labels=range(output.shape[1])) for answer, output in pairs]
    accuracies = [accuracy_score(answer, output.argmax(dim=1)) for answer, output in pairs]
    assert len(image) == 1000
    assert assignment.measure(network, held_out) == pytest.approx([*losses, *accuracies], rel=1e-4)
