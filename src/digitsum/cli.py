"""The command line: each command parses, calls the library and prints.

A user's mistake ends with exit code 2, a failure with 1, an interruption with 130; each says one sentence.
"""

import inspect
import io
import itertools
import logging
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import Field, asdict, fields, replace
from datetime import datetime
from functools import partial
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from cyclopts import (
    App,
    CoercionError,
    CycloptsError,
    Group,
    MissingArgumentError,
    Parameter,
    RepeatArgumentError,
    Token,
    UnknownOptionError,
    UnusedCliTokensError,
    ValidationError,
)

import digitsum
from digitsum.config import PRESETS, Config, bounds, defaults, span
from digitsum.errors import InputError
from digitsum.files import NETWORKS

if TYPE_CHECKING:  # what needs torch or pandas is imported by the command that uses it
    from digitsum.evaluation import Evaluation, RowEvaluation
    from digitsum.prediction import Prediction
    from digitsum.reading.decoding import Picture
    from digitsum.training.state import Row

app = App(
    name="digitsum",
    help="Read a handwritten digit and add a number to it: one network, two inputs, two outputs.",
    help_format="plaintext",  # each command's is markdown, whose library takes a fifth of this page's time
    version=lambda: digitsum.__version__,
    group_parameters="Options",
    suppress_keyboard_interrupt=False,
)
for flag in ("--help", "--version"):
    app[flag].group = "Options"
app.register_install_completion_command(group="Options")

_STARTED = "TORCHELASTIC_RUN_ID"  # in the environment: by torchrun, or for --devices
NAMED = 10  # of the files that couldn't be scored

_order = itertools.count()


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a function a command, which the help lists in the order of this file."""
    app.command(function, help_format="markdown", sort_key=next(_order))
    return function


def main() -> None:
    """Run the command line."""
    logging.basicConfig(format="%(name)s: %(message)s")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as of stderr: a name of a file needn't be UTF-8
    try:
        try:  # a command ends with SystemExit
            app([_expanded(argument) for argument in sys.argv[1:]], exit_on_error=False, print_error=False)
        finally:
            if sys.stdout:
                sys.stdout.flush()  # here a closed pipe can still be told from a failure
    except CycloptsError as error:
        fail(_explain(error), 2)
    except InputError as error:
        fail(str(error), 2)
    except BrokenPipeError:  # whoever read what is printed has seen enough
        # else Python would flush, and fail, again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _leave(1)
    except OSError as error:
        fail(_reason(error), 1)
    except FloatingPointError as error:
        fail(str(error), 1)
    except ModuleNotFoundError as error:
        if "pip install" not in str(error):
            raise
        fail(str(error), 1)
    except KeyboardInterrupt:
        fail("interrupted", 130)
    except Exception:
        if _STARTED not in os.environ:
            raise
        with suppress(OSError):
            sys.excepthook(*sys.exc_info())
        _leave(1)


def _expanded(argument: str) -> str:
    """Expand the ~ of --option=~/file, which shells leave as it is."""
    name, equals, value = argument.partition("=")
    if not name.startswith("--"):
        return argument
    return name + equals + os.path.expanduser(value)  # noqa: PTH111  # text it stays, and where there is no home


def _explain(error: CycloptsError) -> str:
    """Return the sentence of a mistake in the words of this program where the library's own are none."""
    see = f"see digitsum {' '.join(error.command_chain or [])} --help".replace("  ", " ")
    name = error.argument.name if error.argument else ""
    match error:
        case UnusedCliTokensError():
            return f"there is no place for {' '.join(error.unused_tokens or [])}: {see}"
        case MissingArgumentError():
            given = error.keyword or (error.argument and error.argument.tokens)
            return f"{name} {'needs a value' if given else 'is missing'}: {see}"
        case RepeatArgumentError():
            return f"{error.token.keyword} is given more than once: {see}"
        case ValidationError():
            return f"{name} {error.exception_message}"
        case CoercionError(msg=None, target_type=kind, token=Token(value=value)) if kind is float:
            return f"{name} must be a number, not {value}"
        case CoercionError(msg=None, target_type=kind, token=Token(value=value)) if kind is bool:
            return f"{name} takes no value, but got {value}: {see}"
    return str(error)


def _reason(error: OSError) -> str:
    """Return the sentence of a failure of the system's, without the number that Python puts first."""
    if error.strerror is None:
        return str(error)
    reason = error.strerror[:1].lower() + error.strerror[1:]
    return reason if error.filename is None else f"{os.fsdecode(error.filename)} can't be used: {reason}"


def fail(message: str, code: int) -> NoReturn:
    """Print in one sentence what went wrong, and end."""
    with suppress(OSError):  # whoever read what is printed may be gone
        print(f"digitsum: {message}", file=sys.stderr, flush=True)
    _leave(code)


def _leave(code: int) -> NoReturn:
    """End; one of several processes does at once: without a peer, Python's own end may never come."""
    if _STARTED in os.environ:
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


# Kinds of options and arguments


def _whole(_: object, tokens: Sequence[Token]) -> int:
    """Read a whole number; cyclopts itself would round 2.7."""
    return _wholes(_, tokens)[0]


def _wholes(_: object, tokens: Sequence[Token]) -> list[int]:
    """Read whole numbers, each from an option of its own."""
    for token in tokens:
        if not re.fullmatch("[+-]?[0-9]+", token.value):
            raise InputError(f"{token.value} isn't a whole number")
    try:
        return [int(token.value) for token in tokens]
    except ValueError:  # Python's own bound on digits
        raise InputError("the number has too many digits") from None


def _between(least: int, most: float = math.inf) -> Callable[[object, int | None], None]:
    """Make the validator of a whole number."""

    def check(_: object, value: int | None) -> None:
        if value is not None and not least <= value <= most:
            raise InputError(f"must be a whole number {span(least, most)}, not {value}")

    return check


def _names(command: str, _: object, tokens: Sequence[Token]) -> list[str]:
    """Read names of files, of which only the standard input's starts with a hyphen."""
    for token in tokens:
        if token.value.startswith("-") and token.value != "-":
            options = app[command].assemble_argument_collection()
            raise UnknownOptionError(token=token, argument_collection=options)
    return [token.value for token in tokens]


def _name(command: str, _: object, tokens: Sequence[Token]) -> str:
    """Read the name of a file, as `_names` does."""
    return _names(command, _, tokens)[0]


def _shown(setting: "Field[Any]") -> Parameter:
    """Return how the help page shows a setting of a run, as `Config` declares it."""
    shown = dict(setting.metadata["shown"])
    shown["group"] = _GROUPS[shown["group"]]
    if bounds(setting):
        shown["help"] += f" {bounds(setting).capitalize()}."
    if setting.type is bool:
        shown["show_default"] = "yes" if setting.default else "no"
    return Parameter(**shown)


def with_settings(function: Callable[..., None]) -> Callable[..., None]:
    """Add the settings of a run to a command as options; those that are given reach it as keywords."""
    settings = [
        inspect.Parameter(
            setting.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=setting.default,
            annotation=Annotated[Whole if setting.type is int else setting.type, _shown(setting)],
        )
        for setting in fields(Config)
    ]
    signature = inspect.signature(function)
    own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    function.__signature__ = signature.replace(parameters=[*settings, *own])  # type: ignore[attr-defined]
    return function


_GROUPS = {name: Group.create_ordered(name) for name in ("Data", "Network", "Training", "Run")}

Whole = Annotated[int, Parameter(converter=_whole)]
FLAG = Parameter(negative="", show_default=False)

DataDir = Annotated[str | None, _shown(Config.__dataclass_fields__["data_dir"])]

RunOrWeights = Annotated[
    str,
    Parameter(help="A run folder, a folder of saved weights, or **exact**, **concat** or **row**, our own."),
]

Model = Annotated[
    str,
    Parameter(
        metavar="MODEL",
        help="**row**, which reads numbers of any length; **exact** or **concat**, which read single digits;"
        " a file that export wrote; or a run folder.",
    ),
]

PictureColumn = Annotated[
    str | None,
    Parameter(
        metavar="NAME",
        help="The column of the pictures: files' bytes, or 784 uint8, the rows of 28 x 28.",
        show_default="the only such column",
    ),
]

Workers = Annotated[
    Whole | None,
    Parameter(
        validator=_between(1),
        help="Processes, each with one core and a file at a time. From 1 up.",
        show_default="one a core",
    ),
]

Scheduler = Annotated[
    str | None,
    Parameter(
        metavar="ADDRESS",
        help="The address of a Dask scheduler, such as tcp://10.0.0.1:8786: its workers do it. Whoever"
        " reaches it can run programs on them: let it listen in a network that you trust, or use TLS.",
    ),
]


Preset = Annotated[
    Literal["fast", "adapt", "row"] | None,
    Parameter(
        group=_GROUPS["Run"],
        help="Settings to start from instead of the defaults. **fast**: 99 % right on both outputs as soon as"
        " possible, one epoch of MNIST with the fast network. **adapt**: the package's exact network learns"
        " a handwriting from a few pictures of it, those of --data. **row**: the network of rows, on"
        " synthetic rows of MNIST's digits and others.",
    ),
]

RunFolder = Annotated[
    Path | None,
    Parameter(
        group=_GROUPS["Run"],
        metavar="FOLDER",
        help="The run folder, new or empty.",
        show_default="runs/NETWORK-DATE-TIME",
    ),
]

Resumed = Annotated[
    Path | None,
    Parameter(group=_GROUPS["Run"], metavar="RUN", help="Go on with an interrupted run, with its settings."),
]

Log = Annotated[
    Literal["csv", "tensorboard"],
    Parameter(group=_GROUPS["Run"], help="**tensorboard**: write its events as well as metrics.csv."),
]


Devices = Annotated[
    Whole,
    Parameter(
        group=_GROUPS["Run"],
        metavar="N",
        validator=_between(1),
        help="Processes on this machine, or GPUs, that share each batch; under torchrun, its numbers count.",
    ),
]


@command
@with_settings
def train(
    *,
    preset: Preset = None,
    out: RunFolder = None,
    resume: Resumed = None,
    log: Log = "csv",
    devices: Devices = 1,
    **settings: Any,
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
    - SHA256SUMS, the digests of what nobody edits: the checkpoint, the network, its figures, the model

    For example:

    - digitsum train
    - digitsum train --data mnist --epochs 5 --no-augment
    - digitsum train --network exact --digit-weight 0 --sum-weight 1
    - digitsum train --preset fast --log tensorboard
    - digitsum train --start-from exact --data my_pictures
    - digitsum train --resume runs/first
    - digitsum train --data mnist --network exact --devices 2
    """
    if resume:
        if settings or preset or out:
            raise InputError("--resume takes every setting from the run: leave the other options out")
        _train(Config.load(resume), resume, log, devices)
        return
    config = replace(PRESETS[preset] if preset else _defaults(settings), **settings)
    if config.start_from is not None:
        from digitsum.training.state import with_start

        config = with_start(config, given=settings)
    run = out or Path(f"runs/{config.network}-{datetime.now():%Y%m%d-%H%M%S}")
    if run.exists() and not run.is_dir():
        raise InputError(f"{run} isn't a folder: choose another --out")
    if _is_first() and run.exists() and any(run.iterdir()):
        raise InputError(f"{run} isn't empty: choose another --out, or go on with --resume {run}")
    _train(config, run, log, devices, () if out else (f"--out={run}",))


def _defaults(settings: dict[str, Any]) -> Config:
    """Return what holds where nothing else is chosen, of the network that is chosen or comes with weights."""
    start_from, network = settings.get("start_from"), settings.get("network")
    if start_from and not network:
        from digitsum.networks import load_any

        network = load_any(start_from).config["network"]
    return defaults(start_from, network)


def _is_first() -> bool:
    """Whether this is the process that writes, or the only one."""
    return _STARTED not in os.environ or os.environ["RANK"] == "0"


def _train(config: Config, run: Path, log: str, devices: int, more: Sequence[str] = ()) -> None:
    """Train in this process, or in several that are started with `more` arguments; say how to go on."""
    rows: list[Row] = []
    try:
        if devices > 1 and _STARTED not in os.environ:
            from digitsum.training.processes import launch

            launch(devices, run, more)
        else:
            _train_here(config, run, log, rows)
    except KeyboardInterrupt:
        if not (run / "config.json").exists():
            raise  # nothing has begun that could go on
        after = f" after epoch {rows[-1]['epoch']}" if rows else ""
        fail(f"interrupted{after}: go on with digitsum train --resume {run}", 130)


def _train_here(config: Config, run: Path, log: str, rows: "list[Row]") -> None:
    """Train, and print and gather the log."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else torch warns of machines without a host name
    from digitsum import train

    def show(row: "Row") -> None:
        header, line = (_ROW_LOG_HEADER, _ROW_LOG_ROW) if "number_nll" in row else (_LOG_HEADER, _LOG_ROW)
        if not rows:
            print(header)
        rows.append(row)
        print(line.format_map(row), flush=True)

    with _told_to_end():
        evaluation = train(config, run, show, tensorboard=log == "tensorboard")
    _show(evaluation)
    print(f"\nrun folder: {run}")
    if (run / "report.html").exists():
        print(f"report: {run / 'report.html'}")


@contextmanager
def _told_to_end() -> Iterator[None]:
    """End as if interrupted where a service manager, a cluster or torchrun ends this; one process says so."""
    if os.environ.get("LOCAL_RANK", "0") != "0" or "DIGITSUM_MEETING" in os.environ:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


_LOG_HEADER = "epoch  train loss  digit loss  sum loss     digit       sum     joint  seconds"
_LOG_ROW = (
    "{epoch:5}  {train_loss:10.4f}  {digit_nll:10.4f}  {sum_nll:8.4f}"
    "  {digit_accuracy:8.2%}  {sum_accuracy:8.2%}  {joint_accuracy:8.2%}  {seconds:7.1f}"
)
_ROW_LOG_HEADER = "epoch  train loss  number loss    number  seconds"
_ROW_LOG_ROW = "{epoch:5}  {train_loss:10.4f}  {number_nll:11.4f}  {number_accuracy:8.2%}  {seconds:7.1f}"


@command
def evaluate(
    run_or_weights: RunOrWeights,
    /,
    *,
    data: Annotated[
        str | None,
        Parameter(
            metavar="NAME",
            help="As for train, or Parquet files: a path, an address or a pattern that ends in .parquet,"
            " .parq or .pq.",
            show_default="the run's own",
        ),
    ] = None,
    split: Annotated[
        Literal["train", "test"], Parameter(help="Which split of --data; mnist alone has a test split.")
    ] = "train",
    data_dir: DataDir = None,
    column: PictureColumn = None,
    label_column: Annotated[
        str | None,
        Parameter(
            metavar="NAME",
            help="The column of the digits, in Parquet files or, as label=7, in their folders' names.",
            show_default="label",
        ),
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    json: Annotated[bool, FLAG, Parameter(help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Try every image with all ten addends and say how right both outputs are.

    A network of rows reads 2,000 synthetic rows, made of the images, instead.

    Without --data the images are those that the run held out. Its probabilities were calibrated on them too:
    the likelihoods and calibration errors, which --json prints, may be worse on others. Images of Parquet
    files are read a batch of rows at a time, as by score.

    For example:

    - digitsum evaluate runs/first
    - digitsum evaluate exact --data mnist --split test
    - digitsum evaluate exact --data 's3://bucket/digits/*.parquet' --scheduler tcp://10.0.0.1:8786
    """
    from digitsum import evaluate_held_out
    from digitsum.runs import evaluate_on

    of_tables = {"column": column, "label-column": label_column, "workers": workers, "scheduler": scheduler}
    given = {name: value for name, value in of_tables.items() if value is not None}
    if data and data.lower().endswith((".parquet", ".parq", ".pq")):
        found: Evaluation | RowEvaluation = _evaluate_tables(run_or_weights, data, split, given)
    elif given:
        raise InputError(f"--{next(iter(given))} is for Parquet files: --data should end in .parquet")
    elif data:
        found = evaluate_on(run_or_weights, data, split, data_dir)
    elif run_or_weights in NETWORKS:
        raise InputError(
            f"{run_or_weights} comes with the package: name the images, as in --data mnist --split test"
        )
    else:
        found = evaluate_held_out(run_or_weights, data_dir)
    if json:
        print(dumps(asdict(found)))
    else:
        _show(found)


def _evaluate_tables(run_or_weights: str, data: str, split: str, given: dict[str, Any]) -> "Evaluation":
    from digitsum.scoring.evaluating import evaluate_tables

    if split != "train":
        raise InputError("Parquet files have no splits: leave --split out")
    try:
        return evaluate_tables(
            run_or_weights, data, **{name.replace("-", "_"): given[name] for name in given}
        )
    except ModuleNotFoundError as error:
        fail(f"{error}: pip install 'digitsum[batch]'", 1)


def _show(evaluation: "Evaluation | RowEvaluation") -> None:
    from digitsum.evaluation import RowEvaluation

    e = evaluation
    tried, lines = _row_figures(e) if isinstance(e, RowEvaluation) else _figures(e)
    print(f"\n{e.network}, {e.parameters:,} parameters, on {tried} in {e.seconds:.1f} s\n")
    for name, share, note in lines:
        print(f"{name:<12}{share:8.2%}   {note}")


def _figures(e: "Evaluation") -> tuple[str, list[tuple[str, float, str]]]:
    """Return on what a network was tried, and each figure's name, share and note."""
    return f"{e.data} {e.split}: {e.images:,} images x 10 addends = {e.trials:,} trials", [
        ("digit", e.digit_accuracy, "{:.2%} to {:.2%}".format(*e.digit_ci95)),
        ("sum", e.sum_accuracy, "{:.2%} to {:.2%}".format(*e.sum_ci95)),
        ("joint", e.joint_accuracy, "both right"),
        ("consistency", e.consistency, "predicted sum = predicted digit + addend"),
        ("misread", e.misread, "sum wrong because the digit is"),
        ("misadded", e.misadded, "sum wrong although the digit is right"),
    ]


def _row_figures(e: "RowEvaluation") -> tuple[str, list[tuple[str, float, str]]]:
    """Return the same of a network of rows."""
    return f"{e.rows:,} rows of {e.data} {e.split}", [
        ("number", e.number_accuracy, "{:.2%} to {:.2%}".format(*e.number_ci95)),
        ("digits", e.digit_error_rate, "wrong, missing or too many"),
        ("uncertain", e.uncertain, "of all rows"),
        ("wrong", e.certain_and_wrong, "and certain"),
    ]


@command
def report(
    run: Annotated[Path, Parameter(help="A run folder.")],
    /,
    *,
    data_dir: DataDir = None,
) -> None:
    """Write report.html, a page about a run, into its folder: train does so too.

    It opens with how right the run is, its curves, what it confuses and the worst errors; then come the
    network, the data, the settings and the log. If a file of the run is missing or damaged, that is said, the
    rest is shown, and the exit code is 1. A browser prints the page, or saves it as a PDF.
    """
    from digitsum import write_report

    problems = write_report(run, data_dir)
    for problem in problems:
        print(f"digitsum: {problem}", file=sys.stderr)
    print(run / "report.html")
    sys.exit(1 if problems else 0)


@command
def compare(
    runs: Annotated[list[Path], Parameter(help="Run folders.")],
    /,
    *,
    to: Annotated[Path, Parameter(metavar="FILE", help="The page with the curves of all.")] = Path(
        "comparison.html"
    ),
) -> None:
    """Compare finished runs: a table, and a page with their curves and the settings that differ.

    An earlier comparison is replaced, any other file is not.

    For example:

    - digitsum compare runs/first runs/second
    """
    from digitsum import compare
    from digitsum.evaluation import SHARES

    table = compare(runs, to)
    print(
        table.rename(columns=lambda name: name.removesuffix("_accuracy")).to_string(
            formatters={name.removesuffix("_accuracy"): "{:.2%}".format for name in SHARES}
            | {"parameters": "{:,}".format, "seconds": "{:.1f}".format}
        )
    )
    print(f"\n{to}")


Pictures = Annotated[
    list[str],
    Parameter(
        converter=partial(_names, "predict"),
        allow_leading_hyphen=True,
        help="Files, each with one number; - is the standard input.",
    ),
]


@command
def predict(
    pictures: Pictures,
    /,
    *,
    addend: Annotated[
        list[int],
        Parameter(
            converter=_wholes,
            alias="-a",
            negative="",
            help="The number to add, 0 or more: once for all pictures, or again for each.",
        ),
    ],
    model: Model = "row",
    json: Annotated[
        bool, FLAG, Parameter(help="Print one JSON object a picture instead of a table.")
    ] = False,
) -> None:
    """Read the number in each picture, a digit or a row of digits, and add another to it.

    For one digit and an addend from 0 to 9 the sum is the network's second output, with a probability of its
    own; where the two outputs contradict each other, that is said. For a longer number or a larger addend the
    sum is exact arithmetic on the number, and "exact" stands in place of its probability.

    A picture may be a drawing, a scan or a photo. One that can't be read is named, the others are read, and
    the exit code is 2. An answer that the network isn't sure of is called uncertain: perhaps the picture
    shows another number, perhaps none.

    For example:

    - digitsum predict photo.jpg scan.png --addend 7
    - digitsum predict photo.jpg scan.png --addend 7 --addend 1200
    - cat photo.jpg | digitsum predict - --addend 7 --json
    """
    from digitsum.prediction import Predictor, broadcast_addends, check_any_addend

    # else each picture would be refused for its addend
    addends = broadcast_addends([check_any_addend(value) for value in addend], len(pictures))
    predictor, answered = Predictor(model), 0
    for name, added in zip(pictures, addends, strict=True):
        try:
            answer = predictor.predict_number(_source(name), added)
        except (InputError, OSError) as error:
            print(f"digitsum: {_refusal(error)}", file=sys.stderr)
            continue
        if json:
            print(dumps({"picture": name} | answer.to_dict()))
        else:
            if not answered:
                print(_PREDICTION.format("number", "probability", "sum", "probability", "picture"))
            print(_line(name, answer))
        answered += 1
    if answered < len(pictures):
        sys.exit(2)


def _source(name: str) -> "Picture":
    if name != "-":
        return name
    if sys.stdin is None:
        raise InputError("the standard input is closed: name a file")
    return sys.stdin.buffer


def _refusal(error: InputError | OSError) -> str:
    """Return why a picture isn't read."""
    if isinstance(error, IsADirectoryError):
        return f"{error.filename} is a folder: digitsum score reads all pictures of a folder"
    return _reason(error) if isinstance(error, OSError) else str(error)


def _line(name: str, answer: "Prediction") -> str:
    of_sum = "exact" if answer.sum_probabilities is None else _percent(answer.sum_probability)
    probability = _percent(answer.probability)
    return _PREDICTION.format(answer.number, probability, answer.sum, of_sum, name + _doubt(answer))


def _doubt(answer: "Prediction") -> str:
    if not answer.consistent:
        return f"  (uncertain: the two outputs contradict each other, as {_addition(answer)})"
    if answer.doubt:
        return f"  (uncertain: {answer.doubt})"
    kind = "digit" if len(answer.digits) == 1 else "number"
    return f"  (uncertain: perhaps not a {kind})" if answer.uncertain else ""


def _addition(answer: "Prediction") -> str:
    return f"{answer.number} + {answer.addend} is {answer.number + answer.addend}, not {answer.sum}"


def _percent(probability: float) -> str:
    """Return a probability in the words of the web page."""
    if probability > 0.999:
        return "> 99.9 %"  # a network is never quite sure, whatever rounding makes of it
    if probability < 0.001:
        return "< 0.1 %"
    return f"{100 * probability:.{0 if 0.01 <= probability <= 0.99 else 1}f} %"


_PREDICTION = "{:>8}  {:>11}  {:>8}  {:>11}  {}"


PICTURE = Parameter(converter=partial(_name, "add"), allow_leading_hyphen=True)


@command
def add(
    top: Annotated[str, PICTURE, Parameter(help="A picture of a number; - is the standard input.")],
    bottom: Annotated[str, PICTURE, Parameter(help="Another.")],
    /,
    *,
    model: Model = "row",
    json: Annotated[bool, FLAG, Parameter(help="Print a JSON object instead of a table.")] = False,
) -> None:
    """Read the numbers in two pictures and add them.

    The sum is the most probable of all, with its exact probability: where it isn't clear which two numbers
    there are, several pairs may have the same sum.

    For example:

    - digitsum add photo.jpg scan.png
    """
    from digitsum.prediction import Predictor

    if top == bottom == "-":
        fail("the standard input holds one picture: name a file for the other", 2)
    predictor = Predictor(model)
    try:
        answer = predictor.add_pictures(_source(top), _source(bottom))
    except OSError as error:
        fail(_refusal(error), 2)
    if json:
        print(dumps({"pictures": [top, bottom]} | answer.to_dict()))
        return
    print(_SUMMAND.format("number", "probability", "picture"))
    for name, read in ((top, answer.top), (bottom, answer.bottom)):
        print(_SUMMAND.format(read.number, _percent(read.probability), name + _doubt(read)))
    doubt = "  (uncertain)" if answer.uncertain else ""
    print(_SUMMAND.format(answer.sum, _percent(answer.sum_probability), "sum" + doubt))


_SUMMAND = "{:>16}  {:>11}  {}"


@command
def score(
    source: Annotated[
        str,
        Parameter(
            name="IN",
            help="Parquet files or pictures: a file, a folder with all in it, or a pattern such as"
            " 'data/*.parquet', as a path or as an address such as s3://bucket/data. Where some are Parquet,"
            " whatever their names, only these are read. Names that begin with a dot or, but for pictures',"
            " with _ are left out.",
        ),
    ],
    out: Annotated[
        str,
        Parameter(
            name="OUT", help="The folder for the scores, new or an earlier job's: a path or an address."
        ),
    ],
    /,
    *,
    addend: Annotated[
        Whole | None, Parameter(alias="-a", help="The number to add to each, 0 or more.")
    ] = None,
    addend_column: Annotated[
        str | None,
        Parameter(
            metavar="NAME",
            help="The column of what to add, whole numbers or text, in the files or, as n=7, in their"
            " folders' names.",
        ),
    ] = None,
    column: PictureColumn = None,
    model: Model = "row",
    csv: Annotated[
        bool,
        FLAG,
        Parameter(
            help="Write CSV instead of Parquet, for a spreadsheet: UTF-8 with a mark that says so, and an"
            " apostrophe before each text that would be a formula, as it begins with =, +, -, @ or a tab.",
        ),
    ] = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Read the number in each of very many pictures, add another to it, and write a table.

    Each Parquet file, and each thousand pictures of a folder, gets a file in OUT: its columns without the
    pictures, number and sum (as text, as they may be long), probability and sum_probability, consistent,
    uncertain and error. Every row is there once; where one can't be read, error says why.

    For one digit and an addend from 0 to 9 the sum is the network's second output, and consistent says
    whether it is the number plus the addend. For a longer number or a larger addend it is exact arithmetic.

    One process does a file at a time, and writes its scores whole or not at all: after an interruption the
    same command goes on with what is missing. A file that is damaged, or whose process is killed, is named,
    the others are scored, and the exit code is 1.

    For example:

    - digitsum score pictures scores --addend 7 --csv
    - digitsum score 'data/*.parquet' scores --addend-column n
    - digitsum score s3://bucket/data s3://bucket/scores --addend 7 --scheduler tcp://10.0.0.1:8786
    """
    from digitsum import score

    done = score(
        source,
        out,
        addend=addend,
        addend_column=addend_column,
        column=column,
        model=model,
        csv=csv,
        workers=workers,
        scheduler=scheduler,
    )
    for sentence in done.failed[:NAMED]:
        print(f"digitsum: {sentence}", file=sys.stderr)
    if len(done.failed) > NAMED:
        print(f"digitsum: and {len(done.failed) - NAMED} more files", file=sys.stderr)
    print(
        f"{out}: {done.rows:,} rows written, {done.errors:,} with an error;"
        f" {done.files:,} file{'s' if done.files != 1 else ''}, {done.already_scored:,} already scored"
    )
    sys.exit(1 if done.failed else 0)


@command
def export(
    run_or_weights: RunOrWeights,
    /,
    *,
    to: Annotated[Path, Parameter(metavar="FILE", help="Where to write it.")] = Path("model.onnx"),
) -> None:
    """Write a network as an ONNX file, checked against torch, for use without torch.

    Its inputs are `image`, uint8 [N, 1, 28, 28], and `addend`, int64 [N]; its outputs, probabilities, are
    `digit`, float32 [N, 10], and `sum`, float32 [N, 19]. `concat` shows its inside, too: `joined`, float32
    [N, 30], and `terms`, float32 [N, 19, 31]. Of a network of rows the input is `strip`, uint8
    [N, 1, 32, W], W a multiple of 4, and the output `symbols`, float32 [N, W / 4, 12].

    For example:

    - digitsum export runs/first --to first.onnx
    """
    from digitsum import to_onnx
    from digitsum.evaluation import load_evaluation
    from digitsum.networks import find, load_any

    saved = find(run_or_weights) / "evaluation.json"
    evaluation = load_evaluation(saved) if saved.exists() else None
    difference = to_onnx(load_any(run_or_weights), to, evaluation)
    print(f"{to}: probabilities within {difference:.1g} of torch's")


@command
def data(
    *,
    fetch: Annotated[bool, FLAG, Parameter(help="Download MNIST into the user's cache, verified.")] = False,
    data_dir: DataDir = None,
) -> None:
    """List the data sets and where they are; with --fetch, download MNIST."""
    from digitsum.data import mnist

    if fetch:
        mnist.fetch()
    for source in mnist.available(data_dir):
        print(f"{source.name:<8}  {source.split:<5}  {source.images:>6,} images  {source.where}")


@command
def serve(
    *,
    model: Model = "row",
    host: Annotated[
        str,
        Parameter(
            help="The address to listen on; 0.0.0.0: on all. A loopback address, as 127.0.0.1, answers only"
            " to localhost and the like, and to the hosts of --allow-origin."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        Whole,
        Parameter(
            validator=_between(0, 65535), help="The port to listen on; 0: a free one. From 0 to 65535."
        ),
    ] = 8000,
    workers: Annotated[Whole, Parameter(validator=_between(1), help="Processes that answer. From 1 up.")] = 1,
    allow_origin: Annotated[
        tuple[str, ...],
        Parameter(
            metavar="ORIGIN",
            negative="",
            show_default="none",
            help="Let pages of another origin, such as https://example.org, ask and read the answers; *: of"
            " every origin. More than once for several.",
        ),
    ] = (),
) -> None:
    """Serve a web page to draw on, and an HTTP interface for programs.

    For example:

    - digitsum serve
    - digitsum serve --model runs/first --port 9000 --workers 4
    - digitsum serve --allow-origin https://example.org
    - curl -F pictures=@seven.png -F addends=5 http://127.0.0.1:8000/predict
    """
    try:
        from digitsum.serving.app import serve
    except ModuleNotFoundError as error:
        fail(f"{error}: pip install 'digitsum[serve]'", 1)
    serve(model, host, port, workers, allow_origin)


@command
def site(
    folder: Annotated[Path, Parameter(help="A new or empty folder, or an earlier site.")],
    /,
    *,
    model: Model = "row",
) -> None:
    """Write the web page as a folder of static files that predict in the browser, without a service.

    The first time, onnxruntime-web is downloaded from npm's registry, or from the one that
    NPM_CONFIG_REGISTRY names.

    For example:

    - digitsum site public
    - digitsum site public --model runs/first
    """
    from digitsum.serving.site import write_site

    files = write_site(folder, model)
    size = sum(file.stat().st_size for file in files)
    print(f"{folder}: {len(files)} files, {size / 1e6:.1f} MB")
    print(f"Serve it, as browsers load no network from files: python -m http.server -d {folder}")
