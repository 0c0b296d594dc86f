"""How right is a network on digits by other hands? scikit-learn's `load_digits`, read as pictures.

python benchmarks/hands.py exact

Thirteen people in Turkey wrote the 1,797 digits (Alpaydin and Kaynak, 1998, doi:10.24432/C50P49). Each has
8 x 8 pixels, is enlarged to 240 x 240, dark on a light page of 400 x 400, and read as any picture is. No
network is trained on them, but the training of the package's was chosen with them.
"""

import numpy as np
from PIL import Image
from script import make_parser, record
from sklearn.datasets import load_digits

from digitsum.prediction import Predictor

PAGE, SIZE = 400, 240  # pixels


def main() -> None:
    """Print how many are right, and how many of the errors are certain."""
    parser = make_parser(__doc__)
    parser.add_argument("network", help="exact, concat, an ONNX file, or the folder of a run")
    right, certain = measure(Predictor(parser.parse_args().network))
    print(f"{np.mean(right):.2%} of {len(right)} right, {np.mean(~certain):.2%} uncertain;", end=" ")
    print(f"{np.sum(~right & certain)} of {np.sum(~right)} errors certain")


def measure(predictor: Predictor) -> tuple[np.ndarray, np.ndarray]:
    """Return which are right and which are certain, bool [1797] each."""
    data = load_digits()
    answers = predictor.predict_all([picture(image) for image in data.images], 0)
    right = np.array([answer.number for answer in answers]) == data.target
    return right, np.array([not answer.uncertain for answer in answers])


def picture(image: np.ndarray) -> Image.Image:
    """Draw a digit, [8, 8] of 0 to 16, large and dark on a light page."""
    page = Image.new("L", (PAGE, PAGE), "white")
    grey = Image.fromarray((255 - image * 255 / 16).round().astype(np.uint8))
    page.paste(grey.resize((SIZE, SIZE), Image.Resampling.BICUBIC), ((PAGE - SIZE) // 2,) * 2)
    return page


if __name__ == "__main__":
    record(main)
