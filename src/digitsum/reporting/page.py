"""The page of a run: how right it is, its curves, the worst errors, the network, what was run on what.

    problems = write_report("runs/first")  # runs/first/report.html, one file that opens from disk
    table = compare(["runs/first", "runs/second"], "comparison.html")

A section needs some of the run's files. One that is missing or damaged costs the sections that need it.
"""

import base64
import io
import shlex
from collections.abc import Callable, Sequence, Sized
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from PIL import Image

from digitsum.config import Config, defaults, option
from digitsum.data.pairs import DigitSumDataset, loader, pair_table
from digitsum.errors import InputError
from digitsum.evaluation import LARGEST, SHARES, Evaluation, RowEvaluation, Trials, run_rows, run_trials
from digitsum.files import read, read_json, replacing
from digitsum.networks import NETWORKS, load, load_row
from digitsum.reporting import plots
from digitsum.reporting.diagram import TEMPLATES, draw, layers
from digitsum.search import CERTAIN
from digitsum.training.ctc import held_out_rows
from digitsum.training.state import COLUMNS, ROW_COLUMNS, load_parts
from digitsum.types import Mask, UInt8Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Section = dict[str, Any]

SAMPLES = 6  # images of the training part
ERRORS = 12  # the most confident ones


def write_report(run: str | Path, data_dir: str | None = None) -> list[str]:
    """Write `report.html` into the folder of a run, whole or not at all.

    Parameters
    ----------
    data_dir
        Where MNIST's files are, if not where the run found them.

    Returns
    -------
    list of str
        A sentence for each file that is missing or damaged. The page says it in the place of the sections
        that need the file, and shows the others.

    Raises
    ------
    InputError
        The folder has none of the files that a run leaves behind.
    """
    source = _Run(Path(run), data_dir)
    template, makers = ("rows.html", ROW_SECTIONS) if source.is_of_rows else ("report.html", SECTIONS)
    sections = {name: _attempt(make, source) for name, make in makers.items()}
    _render(template, source.folder / "report.html", name=source.name, sections=sections)
    return list(dict.fromkeys(section for section in sections.values() if isinstance(section, str)))


class _Run:
    """The files of a run, each read when it is first asked for."""

    def __init__(self, folder: Path, data_dir: str | None = None) -> None:
        files = ("config.json", "metrics.csv", "evaluation.json")
        if not any((folder / name).is_file() for name in files):
            raise InputError(f"{folder} isn't a run folder: it has none of {', '.join(files)}")
        self.folder = folder
        self.data_dir = data_dir
        self.name = folder.resolve().name

    @cached_property
    def config(self) -> Config:
        return Config.load(self.folder)

    @property
    def is_of_rows(self) -> bool:
        """Whether the network reads rows; of a damaged run that isn't known."""
        try:
            return self.config.network == "row"
        except (InputError, OSError):
            return False

    @cached_property
    def environment(self) -> dict[str, str]:
        """What the run was made with; nothing of an earlier version's that isn't finished."""
        found = read_json(self.folder / "config.json").get("environment", {})
        if not isinstance(found, dict):
            raise InputError(f"{self.folder / 'config.json'} is damaged: its environment isn't an object")
        return found

    @cached_property
    def log(self) -> pd.DataFrame:
        """The training log, a row an epoch, whose number is the index."""
        path, columns = self.folder / "metrics.csv", ROW_COLUMNS if self.is_of_rows else COLUMNS
        data = io.BytesIO(read(path))
        try:
            table = pd.read_csv(data, dtype=float)
            if list(table) != list(columns) or table.empty or not (table.abs() <= LARGEST).all(axis=None):
                raise InputError(f"expected rows of {', '.join(columns)}")
            epochs = table["epoch"].astype(int)
            if not epochs.eq(table["epoch"]).all():
                raise InputError("an epoch isn't a whole number")
            return table.drop(columns="epoch").set_index(epochs)
        except ValueError as error:
            raise InputError(f"{path} is damaged: {error}") from error

    @cached_property
    def evaluation(self) -> Evaluation:
        return Evaluation.load(self.folder / "evaluation.json")

    @cached_property
    def parts(self) -> tuple[DigitSumDataset, list[int], list[int]]:
        """The data, and which of its images are trained on and which are held out."""
        config = replace(self.config, data_dir=self.data_dir or self.config.data_dir)
        train, held_out = load_parts(config, self.folder)
        return train.dataset, list(train.sampler), list(held_out.sampler)  # type: ignore[return-value]


# The sections of the report


def _attempt(make: Callable[[_Run], Section], run: _Run) -> Section | str:
    """Make a section, or say which file is in the way."""
    try:
        return make(run)
    except (OSError, InputError) as error:
        return str(error)


def _settings(run: _Run) -> Section:
    return {
        "settings": [
            (setting.name, value, setting.metadata["shown"]["help"].replace("**", ""))
            for setting in fields(run.config)
            if (value := getattr(run.config, setting.name)) is not None
        ],
        "command": command(run.config),
        "environment": run.environment,
    }


def command(config: Config) -> str:
    """Return the command that trains with these settings.

    Examples
    --------
    >>> command(Config(network="exact", augment=False, epochs=5))
    'digitsum train --no-augment --network exact --epochs 5'
    """
    # what the options have when left out
    usual = replace(defaults(config.start_from, config.network), start_from=None, network=Config.network)
    words = ["digitsum", "train"]
    for field in fields(config):
        value = getattr(config, field.name)
        if value != getattr(usual, field.name):
            words += (
                [option(field) if value else option(field).replace("--", "--no-", 1)]
                if isinstance(value, bool)
                else [option(field), f"{value}"]
            )
    return shlex.join(words)


def _data(run: _Run) -> Section:
    dataset, trained, held_out = run.parts
    return {
        "trained": len(trained),
        "held_out": len(held_out),
        "table": pair_table(),
        "assigned": pd.crosstab(dataset.digits[trained].numpy(), dataset.addends[trained].numpy()),
        "samples": [
            {
                "picture": _picture(dataset.images[i].numpy()),
                **{name: int(getattr(dataset, f"{name}s")[i]) for name in ("digit", "addend", "sum")},
            }
            for i in trained[:SAMPLES]
        ],
        "config": run.config,
    }


def _network(run: _Run) -> Section:
    network = NETWORKS[run.config.network](run.config.width)
    return {"diagram": _svg(draw(network)), "layers": layers(network)}


def _losses(run: _Run) -> Section:
    return {"config": run.config}


def _training(run: _Run) -> Section:
    losses = _ending(run.log, "_nll") | {"training": run.log["train_loss"]}
    right = {name: 100 * share for name, share in _ending(run.log, "_accuracy").items()}
    return {
        "log": run.log,
        "right": _figure(plots.curves(right, "right, %")),
        "losses": _figure(plots.curves(losses, "loss, nats", log=True)),
    }


def _ending(log: pd.DataFrame, end: str) -> "dict[str, pd.Series[float]]":
    """Return the columns whose names have this end, by the rest of their names."""
    return {name.removesuffix(end): log[name] for name in map(str, log) if name.endswith(end)}


def _log(run: _Run) -> Section:
    log = run.log.rename(columns={"learning_rate": "rate", "seconds": "s"})  # to fit on a phone
    shown = {"accuracy": "{:.2%}", "rate": "{:.5f}", "s": "{:.1f}"}  # by the last word of a name
    table = {
        name.replace("_nll", " loss").removesuffix("_accuracy").replace("_", " "): log[name].map(
            shown.get(name.split("_")[-1], "{:.4f}").format
        )
        for name in map(str, log)
    }
    return {"log": pd.DataFrame(table)}


def _evaluation(run: _Run) -> Section:
    evaluation = run.evaluation
    return {
        "evaluation": evaluation,
        "confusion": _figure(plots.confusion(evaluation)),
        "sum_accuracy": _figure(plots.sum_accuracy(evaluation)),
    }


def _all_figures(run: _Run) -> Section:
    return {"evaluation": run.evaluation}


def _answers(run: _Run) -> Section:
    dataset, _, held_out = run.parts
    trials = run_trials(load(run.folder), loader(dataset, sampler=held_out))
    doubtful = trials.digit_confidence < CERTAIN
    return {
        "images": len(held_out),
        "errors": _most_confident_errors(trials, dataset.images[held_out].numpy()),
        "confidence": _figure(plots.confidence(trials)),
        "calibration": _figure(plots.calibration(trials)),
        "config": run.config,
        "bound": CERTAIN,
        "all": _sums(trials, np.ones_like(doubtful)),
        "doubtful": _sums(trials, doubtful) if doubtful.any() else None,
        "usual": tuple(np.quantile(trials.sum_confidence, [0.05, 0.95])),
    }


def _sums(trials: Trials, chosen: Mask) -> Section:
    """Return of some trials how many they are, how sure their sums are, and how many of these are right."""
    return {
        "trials": chosen.sum(),
        "sure": trials.sum_confidence[chosen].mean(dtype=float),
        "right": trials.sum_right[chosen].mean(),
    }


SECTIONS: dict[str, Callable[[_Run], Section]] = {
    "training": _training,
    "evaluation": _evaluation,
    "answers": _answers,
    "network": _network,
    "data": _data,
    "losses": _losses,
    "figures": _all_figures,
    "settings": _settings,
    "log": _log,
}


def _row_evaluation(run: _Run) -> Section:
    evaluation = RowEvaluation.load(run.folder / "evaluation.json")
    return {"evaluation": evaluation, "by_length": _figure(plots.by_length(evaluation))}


def _row_answers(run: _Run) -> Section:
    dataset, _, held_out = run.parts
    rows = held_out_rows(dataset.images.numpy()[held_out, 0], dataset.digits.numpy()[held_out], run.config)
    trials = run_rows(load_row(run.folder), rows)
    wrong = sorted(
        (trial for trial in trials if not trial.right), key=lambda trial: -trial.reading.probability
    )
    return {
        "rows": len(trials),
        "errors": [
            {
                "picture": _picture(trial.strip[None]),
                "number": "".join(map(str, trial.number)),
                "read": "".join(map(str, trial.reading.digits)),
                "probability": trial.reading.probability,
            }
            for trial in wrong[:ERRORS]
        ],
    }


ROW_SECTIONS: dict[str, Callable[[_Run], Section]] = {
    "training": _training,
    "evaluation": _row_evaluation,
    "answers": _row_answers,
    "losses": _losses,
    "settings": _settings,
    "log": _log,
}


class Error(NamedTuple):
    """A wrong answer: the picture, what it shows, the addend, and both answers with their probabilities."""

    picture: str
    label: int
    addend: int
    digit: int
    digit_confidence: float
    sum: int
    sum_confidence: float


def _most_confident_errors(trials: Trials, images: UInt8Array) -> list[Error]:
    """Return the images with the most confident wrong answers, each with the addend of the surest one.

    An answer is as sure as the less sure of its outputs: the sum of `concat` is always sure.
    """
    both = np.minimum(trials.digit_confidence, trials.sum_confidence)  # [images, 10]
    sure = np.where(trials.digit_right & trials.sum_right, 0, both)
    worst = sure.max(axis=1)
    chosen = [i for i in np.argsort(-worst, kind="stable")[:ERRORS] if worst[i] > 0]
    columns = (trials.digit, trials.digit_confidence, trials.sum, trials.sum_confidence)
    return [
        Error(_picture(images[i]), trials.label[i], n, *(column[i, n] for column in columns))
        for i in chosen
        for n in [int(sure[i].argmax())]
    ]


# Comparing


def compare(runs: Sequence[str | Path], path: str | Path) -> pd.DataFrame:
    """Compare finished runs: a page with a table, the settings that differ and the curves of all.

    Parameters
    ----------
    path
        Of the page, which is written whole or not at all. An earlier comparison is replaced.

    Returns
    -------
    DataFrame
        A row a run: its `network`, `parameters`, `data`, `seed`, `epochs`, `seconds` of training and, on the
        images that it held out, the accuracies and the consistency, fractions.

    Raises
    ------
    InputError
        A run isn't finished, is of the network of rows, is named twice, or a file of it is damaged; or `path`
        is a file of another kind.
    """
    path = Path(path)
    _check_replaceable(path)
    sources = _named([_Run(Path(run)) for run in runs])
    for run in sources.values():
        if run.is_of_rows:
            raise InputError(f"{run.folder} is a run of the network row: networks of one digit are compared")
    configs = [run.config for run in sources.values()]
    settings = {each.name: [getattr(config, each.name) for config in configs] for each in fields(Config)}
    _render(
        "comparison.html",
        path,
        mark=MARK.decode(),
        runs=sources,
        same_images=_hold_out_the_same(list(sources.values())),
        differing={name: values for name, values in settings.items() if len(set(values)) > 1},
        plots=[
            _figure(
                plots.curves({name: run.log[column] * scale for name, run in sources.items()}, label, log)
            )
            for column, label, scale, log in COMPARED
        ],
    )
    return pd.DataFrame({name: _figures(source) for name, source in sources.items()}).T.infer_objects()


def _check_replaceable(path: Path) -> None:
    """Refuse to replace a file that isn't an earlier comparison."""
    if path.is_file():
        with path.open("rb") as file:
            if MARK not in file.read(1000):
                raise InputError(f"{path} isn't an earlier comparison: choose another file for the page")


def _named(runs: list[_Run]) -> dict[str, _Run]:
    """Call each run by the name of its folder, or by the whole path where folders have the same name."""
    for i, run in enumerate(runs):
        for earlier in runs[:i]:
            if run.folder.samefile(earlier.folder):
                raise InputError(f"{run.folder} and {earlier.folder} are one run: name each run once")
    short = {run.name: run for run in runs}
    return short if len(short) == len(runs) else {str(run.folder): run for run in runs}


def _hold_out_the_same(runs: list[_Run]) -> bool:
    """Whether all runs held out the same images."""
    digests = [read_json(run.folder / "config.json").get("data_sha256") for run in runs]
    if None in digests:  # of an earlier version, whose settings decide
        digests = [[getattr(run.config, name) for name in ("data", "train_fraction", "seed")] for run in runs]
    return all(digest == digests[0] for digest in digests)


MARK = b"digitsum compare"  # near the start of a comparison, which may be replaced
COMPARED = [  # column of the log, label, scale, whether logarithmic
    ("digit_accuracy", "digit right, %", 100, False),
    ("sum_accuracy", "sum right, %", 100, False),
    ("digit_nll", "loss of the digit, nats", 1, True),
    ("sum_nll", "loss of the sum, nats", 1, True),
]


def _figures(run: _Run) -> Section:
    return {
        "network": run.config.network,
        "parameters": run.evaluation.parameters,
        "data": run.config.data,
        "seed": run.config.seed,
        "epochs": run.config.epochs,
        "seconds": run.log["seconds"].sum(),
        **{name: getattr(run.evaluation, name) for name in SHARES},
    }


# The pages


def _picture(image: UInt8Array) -> str:
    """Return an image, uint8 [1, height, width], as the address of a PNG whose ink is black on nothing."""
    ink = Image.fromarray(image[0])
    file = io.BytesIO()
    Image.merge("LA", [Image.new("L", ink.size), ink]).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _figure(figure: "Figure") -> Markup:
    return _svg(plots.svg(figure))


def _svg(text: str) -> Markup:
    """Take an SVG element over as it is: the libraries that wrote it have escaped what it says."""
    return Markup(text)  # noqa: S704


def _render(template: str, path: Path, **values: Any) -> None:
    with replacing(path) as file:
        file.write_text(TEMPLATES.get_template(template).render(values), "utf-8", "backslashreplace")


def _percent(share: float, places: int = 2) -> str:
    return f"{100 * share:.{places}f}\N{NO-BREAK SPACE}%"


def _interval(ends: tuple[float, float]) -> str:
    low, high = (100 * end for end in ends)
    return f"{low:.2f} to {high:.2f}\N{NO-BREAK SPACE}%"


def _count(things: Sized, name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _setting(value: object) -> object:
    """Return what a page says for the value of a setting."""
    if value is None:
        return "none"
    return ("yes" if value else "no") if isinstance(value, bool) else value


TEMPLATES.filters.update(percent=_percent, interval=_interval, count=_count, setting=_setting)
