"""A neural network with two inputs, a handwritten digit and a number, and two outputs, the digit and the sum.

    network = digitsum.load("exact")
    log_digit, log_sum = network(image, addend)

Nothing heavy is imported before it is used.
"""

import os

import lazy_loader

TYPE_CHECKING = False  # typing's own would nearly double the time of this import
if TYPE_CHECKING:
    from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # from 1.29 on ONNX Runtime reports its use to its maker
# Threads of GNU's OpenMP, which torch uses on Linux, spin 300,000 turns for each other: beside busy ones a
# training took seven times as long. It reads this when torch is loaded: a program that imports torch before
# digitsum needs it in its environment. Intel's and LLVM's OpenMP let others run meanwhile.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")

_load, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "data": ["mnist"],
        "data.augmentation": ["damage", "distort"],
        "training.calibration": ["calibrate"],
        "config": ["Config"],
        "errors": ["InputError"],
        "reporting.diagram": ["draw", "layers"],
        "export": ["to_onnx"],
        "evaluation": ["Evaluation", "RowEvaluation", "evaluate", "evaluate_rows"],
        "scoring.evaluating": ["evaluate_tables"],
        "data.digits": ["Digits"],
        "networks": ["ConcatNet", "DigitSumNet", "ExactNet", "FastNet", "RowNet", "load", "load_row"],
        "reading.imaging": ["read_picture"],
        "reading.strips": ["read_row"],
        "data.pairs": ["DigitSumDataset", "assign_addends", "pair_table", "split_loaders"],
        "prediction": ["DigitPrediction", "Prediction", "Predictor", "SumPrediction"],
        "reporting.page": ["compare", "write_report"],
        "runs": ["evaluate_held_out", "evaluate_on", "train"],
        "scoring.job": ["Scores", "score"],
        "training.loop": ["fit"],
    },
)


def __getattr__(name: str) -> "Any":
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    try:
        return _load(name)
    except ModuleNotFoundError as error:
        extra = "batch" if error.name in ("distributed", "fsspec", "pyarrow", "threadpoolctl") else "train"
        raise ModuleNotFoundError(f"{error}: pip install 'digitsum[{extra}]'", name=error.name) from error
