"""How right are pictures read? The official test split of MNIST, drawn large on paper and saved as JPEG.

python benchmarks/pictures.py [--images 10000]

Each image is enlarged 8 to 20 times, black on a white page 1.1 to 1.8 times as high and as wide, off its
centre, and saved with a quality of 85. `Predictor` reads the file as it would a photo, with the addend 7.
"""

import argparse
import io

import numpy as np
from PIL import Image

from digitsum import mnist
from digitsum.prediction import Predictor

CHUNK = 100  # pictures at a time
ADDEND = 7


def main() -> None:
    """Print how many digits and sums are right."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=10_000)
    count = parser.parse_args().images
    test, chance, predictor = mnist.load("mnist", "test"), np.random.default_rng(0), Predictor("exact")
    digits, sums = [], []
    for start in range(0, count, CHUNK):
        images = test.images[start : min(start + CHUNK, count), 0]
        for answer in predictor.predict_all([photo(image, chance) for image in images], ADDEND):
            digits.append(answer.digit)
            sums.append(answer.sum)
    labels = test.labels[:count]
    print(
        f"digit {np.mean(digits == labels):.2%}, sum {np.mean(sums == labels + ADDEND):.2%} of {count} right"
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
