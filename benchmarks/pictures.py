"""How right are pictures read? The official test split of MNIST, drawn large on paper and saved as JPEG.

python benchmarks/pictures.py [--data mnist5k --split train] [--images 10000]

Each image is enlarged 8 to 20 times, black on a white page 1.1 to 1.8 times as high and as wide, off its
centre, and saved with a quality of 85. `Predictor` reads the file as it would a photo, with the addend 7;
one that is refused is wrong.
"""

import io
from argparse import ArgumentParser

import numpy as np
from PIL import Image
from script import make_parser, record

from digitsum import mnist
from digitsum.prediction import Predictor
from digitsum.types import Array

ADDEND = 7


def main() -> None:
    """Print how many digits and sums are right."""
    parser = make_data_parser(__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    args = parser.parse_args()
    digits, rng = mnist.load(args.data, args.split), np.random.default_rng(0)
    predictor = Predictor("exact")
    images, labels = digits.images[: args.images, 0], digits.labels[: args.images].tolist()
    right, right_sums, refused = 0, 0, 0
    for image, label in zip(images, labels, strict=True):
        try:
            answer = predictor.predict(photo(image, rng), ADDEND)
        except ValueError:
            refused += 1
            continue
        right += answer.number == label
        right_sums += answer.sum == label + ADDEND
    count = len(labels)
    print(
        f"digit {right / count:.2%}, sum {right_sums / count:.2%}, refused {refused / count:.2%} of {count}"
    )


def make_data_parser(description: str | None) -> ArgumentParser:
    """Make a parser of options, the first of which say what is read."""
    parser = make_parser(description)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--split", default="test")
    return parser


def photo(image: np.ndarray, rng: np.random.Generator) -> bytes:
    """Draw an image, uint8 [28, 28], large on a page, and return the page as a JPEG file."""
    size = 28 * int(rng.integers(8, 21))
    height, width = (int(size * rng.uniform(1.1, 1.8)) for _ in range(2))
    place = int(rng.integers(0, width - size)), int(rng.integers(0, height - size))
    page = Image.new("L", (width, height), "white")
    page.paste(Image.fromarray(255 - image).resize((size, size), Image.Resampling.BICUBIC), place)
    return encode(page)


def encode(picture: Array | Image.Image, kind: str = "JPEG", quality: int = 85) -> bytes:
    """Return the file of a picture, or of an array of grey levels or colours."""
    file = io.BytesIO()
    pixels = np.asarray(picture).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(file, kind, quality=quality)
    return file.getvalue()


def sheet(rows: list[list[Image.Image]], side: int = 80) -> Image.Image:
    """Draw rows of pictures, small, on one."""
    page = Image.new("L", (side * len(rows[0]), side * len(rows)))
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            page.paste(picture.resize((side, side)), (side * column, side * row))
    return page


if __name__ == "__main__":
    record(main)
