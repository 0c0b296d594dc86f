"""Do the probabilities mean what they say? Reliability of both outputs on the official test split of MNIST.

python benchmarks/calibration.py exact concat

Each network is one that comes with the package or a folder with a saved one.
"""

import numpy as np
from script import make_parser, record

from digitsum import mnist
from digitsum.data.pairs import DigitSumDataset, loader
from digitsum.evaluation import calibration_error, reliability, run_trials
from digitsum.networks import load


def main() -> None:
    """Print, for each network and output, a row a bin of confidence, and the expected calibration error."""
    parser = make_parser(__doc__)
    parser.add_argument("networks", nargs="+", metavar="NETWORK")
    options = parser.parse_args()
    batches = loader(DigitSumDataset(mnist.load("mnist", "test")))
    for name in options.networks:
        network = load(name)
        trials = run_trials(network, batches)
        show(f"{name}, digit", trials.digit_confidence, trials.digit_right)
        show(f"{name}, sum", trials.sum_confidence, trials.sum_right)


def show(title: str, confidence: np.ndarray, right: np.ndarray) -> None:
    """Print the table of an output."""
    table = reliability(confidence, right).to_string(index=False, float_format="%.4f")
    print(f"{title}: expected calibration error {calibration_error(confidence, right):.2%}\n{table}\n")


if __name__ == "__main__":
    record(main)
