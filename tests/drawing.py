"""Pictures that several tests draw."""

import io

import numpy as np
from PIL import Image

from digitsum.reading.imaging import read_picture

# a seven, black on white, 60 x 30 pixels in a page of 120 x 100
PAGE = np.full((120, 100), 255, np.uint8)
PAGE[30:90, 60:70] = 0
PAGE[30:40, 40:70] = 0
SEVEN = read_picture(PAGE)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(pixels: np.ndarray) -> bytes:
    return encoded(Image.fromarray(pixels), "PNG")


def levels(page: np.ndarray) -> np.ndarray:
    """Round grey levels or colours to uint8."""
    return np.rint(page.clip(0, 255)).astype(np.uint8)


def drawn(image: np.ndarray, rng: np.random.Generator, scales: tuple[int, int] = (3, 7)) -> np.ndarray:
    """Draw an image some times as large, off-centre on a page: the share of ink, float [H, W]."""
    size = 28 * int(rng.integers(*scales))
    large = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
    height, width = (int(size * rng.uniform(1.1, 1.8)) for _ in range(2))
    top, left = int(rng.integers(0, height - size)), int(rng.integers(0, width - size))
    page = np.zeros((height, width))
    page[top : top + size, left : left + size] = np.asarray(large) / 255
    return page


def page_of(*images: np.ndarray) -> np.ndarray:
    """Draw images, [28, 28], side by side on a page, four times as large, black on white."""
    row = np.kron(255 - np.hstack(images), np.ones((4, 4), np.uint8))
    return np.pad(row, 40, constant_values=255)
