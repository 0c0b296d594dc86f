"""Pictures that several tests draw."""

import io

import numpy as np
from PIL import Image


def png(pixels: np.ndarray) -> bytes:
    """Write grey levels or colours, uint8 [H, W] or [H, W, 3 or 4], as a PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def page_of(*images: np.ndarray) -> np.ndarray:
    """Draw images, [28, 28], side by side on a page, four times as large, black on white."""
    row = np.kron(255 - np.hstack(images), np.ones((4, 4), np.uint8))
    return np.pad(row, 40, constant_values=255)
