"""The command line: each command parses, calls the library and prints.

A user's mistake ends with exit code 2, a failure with 1, an interruption with 130; each says one sentence.
"""

import json
import sys
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from digitsum.config import PRESETS, Config
from digitsum.files import NETWORKS

if TYPE_CHECKING:  # what needs torch or pandas is imported by the command that uses it
    from digitsum.evaluation import Evaluation

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DataDir = Annotated[
    str | None,
    typer.Option(
        rich_help_panel="Data",
        metavar="FOLDER",
        help="Where MNIST's files are, raw or gzipped.",
        show_default="$DIGITSUM_DATA, else the user's cache, filled by a download",
    ),
]

RunOrWeights = Annotated[
    str,
    typer.Argument(
        metavar="RUN_OR_WEIGHTS",
        help="A run folder, a folder of saved weights, or **exact** or **concat**, the package's own.",
    ),
]

Model = Annotated[
    str,
    typer.Option(metavar="MODEL", help="**exact**, **concat**, a file that export wrote, or a run folder."),
]


def main() -> None:
    """Run the command line."""
    try:
        app()
    except ModuleNotFoundError as error:
        fail(f"{error}: pip install 'digitsum[train]'", 1)
    except ValueError as error:
        fail(str(error), 2)
    except (OSError, ArithmeticError) as error:
        fail(str(error), 1)


def fail(message: str, code: int) -> NoReturn:
    """Say in one sentence what went wrong, and end."""
    print(f"digitsum: {message}", file=sys.stderr)
    sys.exit(code)


@app.callback()
def digitsum() -> None:
    """Read a handwritten digit and add a number to it: one network, two inputs, two outputs."""


@app.command()
def train(
    context: typer.Context,
    data: Annotated[
        str,
        typer.Option(
            rich_help_panel="Data",
            metavar="NAME",
            help="**mnist5k**, the 5,000 embedded images; **mnist**, all 60,000; or a folder with sub-folders"
            " 0 to 9 of pictures, 28 x 28, light on dark.",
        ),
    ] = Config.data,
    data_dir: DataDir = Config.data_dir,
    train_fraction: Annotated[
        float,
        typer.Option(
            rich_help_panel="Data", help="The share of the images to train on; the rest is held out."
        ),
    ] = Config.train_fraction,
    addends: Annotated[
        Literal["table", "fresh"],
        typer.Option(
            rich_help_panel="Data",
            help="Each image keeps its addend of the pair table, or is dealt a new one each epoch.",
        ),
    ] = Config.addends,
    augment: Annotated[
        bool, typer.Option(rich_help_panel="Data", help="Rotate, scale, shear, shift and bend each image.")
    ] = Config.augment,
    damage: Annotated[
        bool,
        typer.Option(
            rich_help_panel="Data", help="Add noise to, speckle, blur or partly cover half of the images."
        ),
    ] = Config.damage,
    network: Annotated[
        Literal["concat", "exact", "fast"],
        typer.Option(
            rich_help_panel="Network",
            help="**concat**, the reference; **exact**, which adds by probability and can't misadd; or"
            " **fast**, a small exact one.",
        ),
    ] = Config.network,
    width: Annotated[
        int,
        typer.Option(
            rich_help_panel="Network",
            min=1,
            help="Channels of the first convolution; the others have two or three times as many.",
        ),
    ] = Config.width,
    epochs: Annotated[
        int, typer.Option(rich_help_panel="Training", min=1, help="How often to see each image.")
    ] = Config.epochs,
    batch_size: Annotated[
        int, typer.Option(rich_help_panel="Training", min=1, help="Images a step.")
    ] = Config.batch_size,
    learning_rate: Annotated[
        float, typer.Option(rich_help_panel="Training", min=0, help="The highest of the one-cycle schedule.")
    ] = Config.learning_rate,
    weight_decay: Annotated[
        float, typer.Option(rich_help_panel="Training", min=0, help="AdamW's.")
    ] = Config.weight_decay,
    average: Annotated[
        float,
        typer.Option(
            rich_help_panel="Training",
            min=0,
            max=1,
            help="How much of the averaged weights, which are evaluated and saved, a step keeps.",
        ),
    ] = Config.average,
    digit_weight: Annotated[
        float,
        typer.Option(
            rich_help_panel="Training",
            min=0,
            help="The weight of the digit's loss; 0: learn from sums alone.",
        ),
    ] = Config.digit_weight,
    sum_weight: Annotated[
        float, typer.Option(rich_help_panel="Training", min=0, help="The weight of the sum's loss.")
    ] = Config.sum_weight,
    precision: Annotated[
        Literal["auto", "bf16-mixed", "32-true"],
        typer.Option(rich_help_panel="Training", help="auto: bfloat16 where the hardware has it."),
    ] = Config.precision,
    seed: Annotated[
        int, typer.Option(rich_help_panel="Training", min=0, help="Decides all that is random.")
    ] = Config.seed,
    preset: Annotated[
        Literal["fast"] | None,
        typer.Option(
            rich_help_panel="Run",
            help="Settings to start from instead of the defaults. **fast**: 99 % right on both outputs as"
            " soon as possible, one epoch of MNIST with the fast network.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel="Run",
            metavar="FOLDER",
            help="The run folder, new or empty.",
            show_default="runs/NETWORK-DATE-TIME",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel="Run", metavar="RUN", help="Go on with an interrupted run, with its settings."
        ),
    ] = None,
    log: Annotated[
        Literal["csv", "tensorboard"],
        typer.Option(rich_help_panel="Run", help="**tensorboard**: write its events as well as metrics.csv."),
    ] = "csv",
) -> None:
    """Train a network, then evaluate it on the images it was not trained on.

    Each epoch logs the training loss and, for the held-out images with all ten addends, the loss of both
    outputs and how often the digit, the sum and both are right. The run folder then holds:

    - config.json, the settings
    - metrics.csv, the log
    - checkpoint.ckpt, for --resume
    - model.safetensors, the trained network
    - evaluation.json, the final figures
    - model.onnx, the trained network for use without torch
    - report.html, all of it to look at

    For example:

    - digitsum train
    - digitsum train --data mnist --epochs 5 --no-augment
    - digitsum train --network exact --digit-weight 0 --sum-weight 1
    - digitsum train --preset fast --log tensorboard
    - digitsum train --resume runs/first
    """
    given = {name: value for name, value in context.params.items() if _is_given(context, name)}
    if resume:
        if given.keys() - {"resume", "log"}:
            raise ValueError("--resume takes every setting from the run: leave the other options out")
        _train(Config.load(resume), resume, log)
        return
    settings = {name: value for name, value in given.items() if name not in ("preset", "out", "log")}
    config = replace(PRESETS[preset] if preset else Config(), **settings)
    run = out or Path("runs", f"{config.network}-{datetime.now():%Y%m%d-%H%M%S}")
    if run.exists() and any(run.iterdir()):
        raise ValueError(f"{run} isn't empty: choose another --out, or go on with --resume {run}")
    _train(config, run, log)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _train(config: Config, run: Path, log: str) -> None:
    from digitsum.evaluation import evaluate
    from digitsum.export import to_onnx
    from digitsum.networks import load
    from digitsum.report import write_report
    from digitsum.training import fit, load_parts

    rows = fit(config, run)
    if log == "tensorboard":
        from digitsum.events import log_evaluation, log_rows

        rows = log_rows(rows, run)
    print(_LOG_HEADER)
    epoch = 0.0
    try:
        for row in rows:
            epoch = row["epoch"]
            print(_LOG_ROW.format_map(row), flush=True)
    except KeyboardInterrupt:
        fail(f"interrupted after epoch {epoch}: go on with digitsum train --resume {run}", 130)
    network = load(run)
    _, held_out = load_parts(config)
    evaluation = evaluate(network, held_out, config.data, "held-out")
    evaluation.save(run / "evaluation.json")
    if log == "tensorboard":
        log_evaluation(evaluation, config, run)
    _show(evaluation)
    to_onnx(network, run / "model.onnx", evaluation)
    write_report(run)
    print(f"\nrun folder: {run}\nreport: {run / 'report.html'}")


_LOG_HEADER = "epoch  train loss  digit loss  sum loss     digit       sum     joint  seconds"
_LOG_ROW = (
    "{epoch:5}  {train_loss:10.4f}  {digit_nll:10.4f}  {sum_nll:8.4f}"
    "  {digit_accuracy:8.2%}  {sum_accuracy:8.2%}  {joint_accuracy:8.2%}  {seconds:7.1f}"
)


@app.command()
def evaluate(
    name: RunOrWeights,
    data: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="As for train.", show_default="the run's own"),
    ] = None,
    split: Annotated[
        Literal["train", "test"],
        typer.Option(help="Which split of --data; mnist alone has a test split."),
    ] = "train",
    data_dir: DataDir = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
) -> None:
    """Try every image with all ten addends and say how right both outputs are.

    Without --data the images are those that the run held out.

    For example:

    - digitsum evaluate runs/first
    - digitsum evaluate exact --data mnist --split test
    """
    from digitsum import evaluation, mnist
    from digitsum.networks import load
    from digitsum.pairs import DigitSumDataset, loader
    from digitsum.training import load_parts

    network = load(name)
    if data:
        batches = loader(DigitSumDataset(mnist.load(data, split, data_dir)))
        found = evaluation.evaluate(network, batches, data, split)
    elif name in NETWORKS:
        raise ValueError(f"{name} comes with the package: name the images, as in --data mnist --split test")
    else:
        config = Config.load(Path(name))
        _, held_out = load_parts(replace(config, data_dir=data_dir) if data_dir else config)
        found = evaluation.evaluate(network, held_out, config.data, "held-out")
    if as_json:
        print(json.dumps(asdict(found)))
    else:
        _show(found)


def _show(evaluation: "Evaluation") -> None:
    e = evaluation
    rows = [
        ("digit", e.digit_accuracy, "{:.2%} to {:.2%}".format(*e.digit_ci95)),
        ("sum", e.sum_accuracy, "{:.2%} to {:.2%}".format(*e.sum_ci95)),
        ("joint", e.joint_accuracy, "both right"),
        ("consistency", e.consistency, "predicted sum = predicted digit + addend"),
        ("misread", e.misread, "sum wrong because the digit is"),
        ("misadded", e.misadded, "sum wrong although the digit is right"),
    ]
    print(
        f"\n{e.network}, {e.parameters:,} parameters, on {e.data} {e.split}:"
        f" {e.images:,} images x 10 addends = {e.trials:,} trials in {e.seconds:.1f} s\n"
    )
    for name, share, note in rows:
        print(f"{name:<12}{share:8.2%}   {note}")


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    data_dir: DataDir = None,
    pdf: Annotated[
        bool, typer.Option("--pdf", help="Write report.pdf as well: needs the extra pdf, and Pango.")
    ] = False,
) -> None:
    """Write report.html, a page about a run, into its folder: train does so too.

    It shows what was run on what, the network, the training log, the evaluation and the worst errors. If a
    file of the run is missing or damaged, that is said, the rest is shown, and the exit code is 1.
    """
    from digitsum.report import write_report

    try:
        problems = write_report(run, data_dir, pdf)
    except ModuleNotFoundError as error:
        fail(f"{error}: pip install 'digitsum[train,pdf]'", 1)
    for problem in problems:
        print(f"digitsum: {problem}", file=sys.stderr)
    print(run / "report.html")
    sys.exit(1 if problems else 0)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    to: Annotated[Path, typer.Option(metavar="FILE", help="The page with the curves of all.")] = Path(
        "comparison.html"
    ),
) -> None:
    """Compare finished runs: a table, and a page with their curves and the settings that differ.

    For example:

    - digitsum compare runs/first runs/second
    """
    from digitsum.evaluation import SHARES
    from digitsum.report import compare

    table = compare(runs, to)
    print(
        table.rename(columns=lambda name: name.removesuffix("_accuracy")).to_string(
            formatters={name.removesuffix("_accuracy"): "{:.2%}".format for name in SHARES}
            | {"parameters": "{:,}".format, "seconds": "{:.1f}".format}
        )
    )
    print(f"\n{to}")


@app.command()
def predict(
    pictures: Annotated[
        list[str],
        typer.Argument(metavar="PICTURE...", help="Files, each with one digit; - is the standard input."),
    ],
    addend: Annotated[int, typer.Option("--addend", "-a", help="The number to add, 0 to 9.")],
    model: Model = "exact",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a picture instead of a table.")
    ] = False,
) -> None:
    """Read the digit in each picture and add a number to it.

    A picture may be a drawing, a scan or a photo. One that can't be read is named, the others are read, and
    the exit code is 2.

    For example:

    - digitsum predict photo.jpg scan.png --addend 7
    - cat photo.jpg | digitsum predict - --addend 7 --json
    """
    from digitsum.prediction import Predictor, check_addends

    check_addends(addend, 1)  # else each picture would be refused for it
    predictor = Predictor(model)
    if not as_json:
        print(_PREDICTION.format("digit", "certain", "sum", "certain", "picture"))
    failed = False
    for name in pictures:
        try:
            answer = predictor.predict(sys.stdin.buffer if name == "-" else name, addend)
        except (ValueError, OSError) as error:
            print(f"digitsum: {error}", file=sys.stderr)
            failed = True
            continue
        if as_json:
            print(json.dumps({"picture": name, "addend": addend} | answer.to_dict()))
        else:
            shares = (f"{share:.2%}" for share in (answer.digit_probability, answer.sum_probability))
            note = "  (uncertain)" if answer.uncertain else ""
            print(_PREDICTION.format(answer.digit, next(shares), answer.sum, next(shares), name + note))
    if failed:
        sys.exit(2)


_PREDICTION = "{:>5}  {:>8}  {:>3}  {:>8}  {}"


@app.command()
def export(
    name: RunOrWeights,
    to: Annotated[Path, typer.Option(metavar="FILE", help="Where to write it.")] = Path("model.onnx"),
) -> None:
    """Write a network as an ONNX file, checked against torch, for use without torch.

    Its inputs are `image`, uint8 [N, 1, 28, 28], and `addend`, int64 [N]; its outputs, probabilities, are
    `digit`, float32 [N, 10], and `sum`, float32 [N, 19].

    For example:

    - digitsum export runs/first --to first.onnx
    """
    from digitsum.evaluation import Evaluation
    from digitsum.export import to_onnx
    from digitsum.networks import find, load

    saved = find(name) / "evaluation.json"
    difference = to_onnx(load(name), to, Evaluation.load(saved) if saved.exists() else None)
    print(f"{to}: probabilities within {difference:.1g} of torch's")


@app.command()
def data(
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Download MNIST into the user's cache, verified.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """List the data sets and where they are, and fetch what isn't there."""
    from digitsum import mnist

    if fetch:
        mnist.fetch()
    for source in mnist.available(data_dir):
        print(f"{source.name:<8}  {source.split:<5}  {source.images:>6,} images  {source.where}")


@app.command()
def serve(
    model: Model = "exact",
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0: on all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes that answer.")] = 1,
) -> None:
    """Serve a web page to draw on, and an HTTP interface for programs.

    For example:

    - digitsum serve
    - digitsum serve --model runs/first --port 9000 --workers 4
    - curl -F pictures=@seven.png -F addends=5 http://127.0.0.1:8000/predict
    """
    try:
        from digitsum import service
    except ModuleNotFoundError as error:
        fail(f"{error}: pip install 'digitsum[serve]'", 1)
    service.serve(model, host, port, workers)


@app.command()
def site(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder, or an earlier site.")],
    model: Model = "exact",
) -> None:
    """Write the web page as a folder of static files that predict in the browser, without a service.

    The first time, onnxruntime-web is downloaded from npm's registry, or from the one that
    NPM_CONFIG_REGISTRY names.

    For example:

    - digitsum site public
    - digitsum site public --model runs/first
    """
    from digitsum.site import write_site

    files = write_site(folder, model)
    size = sum(file.stat().st_size for file in files)
    print(f"{folder}: {len(files)} files, {size / 1e6:.1f} MB")
    print(f"Serve it, as browsers load no network from files: python -m http.server -d {folder}")
