"""A neural network with two inputs, a handwritten digit and a number, and two outputs, the digit and the sum.

    network = digitsum.load("exact")
    log_digit, log_sum = network(image, addend)

Nothing heavy is imported before it is used.
"""

import os

import lazy_loader

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # from 1.29 on ONNX Runtime reports its use to its maker

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules={"mnist"},
    submod_attrs={
        "augmentation": ["damage", "distort"],
        "calibration": ["calibrate"],
        "config": ["Config"],
        "diagram": ["draw", "layers"],
        "export": ["to_onnx"],
        "evaluation": ["Evaluation", "evaluate"],
        "mnist": ["Digits"],
        "networks": ["ConcatNet", "DigitSumNet", "ExactNet", "load"],
        "imaging": ["read_picture"],
        "pairs": ["DigitSumDataset", "deal", "pair_table", "split_loaders"],
        "prediction": ["Prediction", "Predictor"],
        "report": ["compare", "write_report"],
        "training": ["fit"],
    },
)
