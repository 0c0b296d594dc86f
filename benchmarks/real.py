"""How right is a network on real pictures, which nobody here made? Sets of pictures, each with a labels.csv.

python benchmarks/real.py FOLDER [--model row]

FOLDER has a folder for each set, whose `labels.csv` says `file` and `label`: the number that the picture
shows, or nothing where it shows none. The figures are per cent of the pictures: right; refused with a
sentence; answered, but uncertain; certain and wrong. A set of single digits is read as such
(`Predictor.predict`). Such sets may choose settings and bounds, and train no weights.
"""

import csv
from pathlib import Path

from script import make_parser, record

from digitsum.errors import InputError
from digitsum.prediction import Predictor

OUTCOMES = ("right", "refused", "uncertain", "certain and wrong")


def main() -> None:
    """Print a row for each set."""
    parser = make_parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="row")
    options = parser.parse_args()
    predictor = Predictor(options.model)
    print(f"{'set':<20}{'pictures':>9}", *(f"{outcome:>18}" for outcome in OUTCOMES))
    for labels in sorted(options.folder.glob("*/labels.csv")):
        with labels.open(newline="") as file:
            rows = list(csv.DictReader(file))
        counts = measure(predictor, {labels.parent / row["file"]: row["label"] for row in rows})
        shares = (100 * counts[outcome] / len(rows) for outcome in OUTCOMES)
        print(f"{labels.parent.name:<20}{len(rows):>9}", *(f"{share:18.1f}" for share in shares), flush=True)


def measure(predictor: Predictor, labels: dict[Path, str]) -> dict[str, int]:
    """Count what comes of pictures of these numbers, of which leading zeros count; "": of none."""
    counts = dict.fromkeys(OUTCOMES, 0)
    are_single = all(len(label) == 1 for label in labels.values())
    predict = predictor.predict if are_single else predictor.predict_number
    for picture, label in labels.items():
        try:
            answer = predict(picture, 0)
        except InputError:
            counts["refused"] += 1
            continue
        is_right = "".join(str(digit.digit) for digit in answer.digits) == label
        counts["right"] += is_right
        counts["uncertain"] += answer.uncertain
        counts["certain and wrong"] += not is_right and not answer.uncertain
    return counts


if __name__ == "__main__":
    record(main)
