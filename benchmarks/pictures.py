"""How right are pictures read? The official test split of MNIST, drawn large on paper and saved as JPEG.

python benchmarks/pictures.py [--data mnist5k --split train] [--images 10000]

Each image is enlarged 8 to 20 times, black on a white page 1.1 to 1.8 times as high and as wide, off its
centre, and saved with a quality of 85. `Predictor` reads the file as it would a photo, with the addend 7;
one that is refused is wrong.
"""

import argparse
import io

import numpy as np
from PIL import Image

from digitsum import mnist
from digitsum.prediction import Predictor

ADDEND = 7


def main() -> None:
    """Print how many digits and sums are right."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--split", default="test")
    parser.add_argument("--images", type=int, default=10_000)
    args = parser.parse_args()
    digits, chance, predictor = (
        mnist.load(args.data, args.split),
        np.random.default_rng(0),
        Predictor("exact"),
    )
    images, labels = digits.images[: args.images, 0], digits.labels[: args.images].tolist()
    right, right_sums, refused = 0, 0, 0
    for image, label in zip(images, labels, strict=True):
        try:
            answer = predictor.predict(photo(image, chance), ADDEND)
        except ValueError:
            refused += 1
            continue
        right += answer.number == label
        right_sums += answer.sum == label + ADDEND
    count = len(labels)
    print(
        f"digit {right / count:.2%}, sum {right_sums / count:.2%}, refused {refused / count:.2%} of {count}"
    )


def photo(image: np.ndarray, chance: np.random.Generator) -> bytes:
    """Draw an image, uint8 [28, 28], large on a page, and give the page as a JPEG file."""
    size = 28 * int(chance.integers(8, 21))
    height, width = (int(size * chance.uniform(1.1, 1.8)) for _ in range(2))
    place = int(chance.integers(0, width - size)), int(chance.integers(0, height - size))
    page = Image.new("L", (width, height), "white")
    page.paste(Image.fromarray(255 - image).resize((size, size), Image.Resampling.BICUBIC), place)
    file = io.BytesIO()
    page.save(file, "JPEG", quality=85)
    return file.getvalue()


if __name__ == "__main__":
    main()
