"""What becomes of a row of digits that was written: a hand, paper and a camera change how it looks.

`rows` writes them. NumPy and Pillow do it, without torch.
"""

import math

import numpy as np
from PIL import Image

from digitsum.types import HEIGHT, Array, Ink, Int64Array, UInt8Array

RULED, HATCHED = 0.3, 0.4  # how many rows have lines along them, and safety paper
CALM = 0.4  # how many are on clean paper


def distort(ink: Ink, rng: np.random.Generator) -> Ink:
    """Slant a row, bend it along both axes, and let the pen be thicker or thinner."""
    height, width = ink.shape
    slant, fall = rng.normal(0.05, 0.2), rng.normal(0, 0.03)
    middle = height / 2
    shape = (1, slant, -slant * middle, fall, 1, -fall * width / 2)
    image = Image.fromarray(ink).transform(
        (width, height), Image.Transform.AFFINE, shape, Image.Resampling.BILINEAR
    )
    ink = np.asarray(image).clip(0, 1)
    if rng.random() < 0.6:
        down = _wave(width, rng.uniform(25, 120), rng.uniform(0, 2.5), rng)
        ink = ink[(np.arange(height)[:, np.newaxis] + down).clip(0, height - 1), np.arange(width)]
    if rng.random() < 0.6:
        aside = _wave(height, rng.uniform(20, 60), rng.uniform(0, 2.5), rng)
        ink = ink[
            np.arange(height)[:, np.newaxis], (np.arange(width) + aside[:, np.newaxis]).clip(0, width - 1)
        ]
    kind = rng.random()
    if kind < 0.3:
        ink = _spread(np.maximum, ink, 1 + (kind < 0.07))
    elif kind < 0.45:
        ink = _spread(np.minimum, ink, 1)
    return ink


def _wave(length: int, period: float, size: float, rng: np.random.Generator) -> Int64Array:
    phase = rng.uniform(0, 2 * np.pi)
    return np.rint(size * np.sin(np.arange(length) / period * 2 * np.pi + phase)).astype(np.int64)


def _spread(of: np.ufunc, ink: Ink, times: int) -> Ink:
    """Make strokes thicker or thinner by a pixel, a few times."""
    for _ in range(times):
        ink = of(ink[1:], ink[:-1])
        ink = of(ink[:, 1:], ink[:, :-1])
    return ink


def cut_out(ink: Ink, rng: np.random.Generator) -> Ink:
    """Cut the row out, nearly as reading does; rules and remains of neighbours may be cut out with it."""
    strong = ink > 0.3
    rows, columns = np.flatnonzero(strong.any(axis=1)), np.flatnonzero(strong.any(axis=0))
    if len(rows) < 4 or len(columns) < 2:
        third = math.ceil(len(ink) / 3)  # of the canvas, whose middle one a row fills
        rows, columns = np.array([third, 2 * third]), np.array([third, 3 * third])
    tall = rows[-1] - rows[0] + 1
    sides = np.array([rows[0], rows[-1] + 1, columns[0], columns[-1] + 1])
    margins = rng.uniform(0, 0.12, 4)
    kind = rng.random()
    if kind < 0.25:
        margins[:2] *= 4 * rng.random(2)
    elif kind < 0.35:
        margins[rng.integers(0, 4)] = -rng.uniform(0, 0.06)
    margins[2:] *= rng.uniform(0.5, 3)
    top, bottom, left, right = (sides + np.rint(tall * margins) * [-1, 1, -1, 1]).astype(int)
    pads = [(max(-top, 0), max(bottom - len(ink), 0)), (max(-left, 0), max(right - ink.shape[1], 0))]
    cut = np.pad(ink[max(top, 0) : bottom, max(left, 0) : right], pads).copy()
    if rng.random() < RULED:
        _rule(cut, rng)
    if rng.random() < 0.06:
        _leave_remains(cut, ink[sides[0] : sides[1]], rng)
    return cut


def _rule(ink: Ink, rng: np.random.Generator) -> None:
    """Draw a line or two of ruled paper, mostly below the digits, some over or through them; or one aside."""
    height, width = ink.shape
    for _ in range(int(rng.choice([1, 1, 1, 2]))):
        place = rng.uniform(*((0.85, 1.0), (0.0, 0.12), (0.1, 0.9))[int(rng.choice(3, p=[0.65, 0.15, 0.2]))])
        thick, fall = int(rng.integers(1, 4)), rng.normal(0, 0.015) * height
        # one that ends at both sides within the row may be the foot of a 2
        start, end = (0, width) if rng.random() < 0.8 else _from_a_side(width, rng)
        columns = np.arange(start, end)
        rows = (place * (height - thick) + fall * (columns / width - 0.5)).astype(int).clip(0, height - thick)
        strength = rng.uniform(0.2, 1)
        for down in range(thick):
            ink[rows + down, columns] = np.maximum(ink[rows + down, columns], strength)
    if rng.random() < 0.06:
        thick = int(rng.integers(1, 4))
        side = slice(0, thick) if rng.random() < 0.5 else slice(-thick, None)
        ink[:, side] = np.maximum(ink[:, side], rng.uniform(0.3, 1))


def _from_a_side(width: int, rng: np.random.Generator) -> tuple[int, int]:
    end = int(rng.integers(0, width))
    return (0, end) if rng.random() < 0.5 else (end, width)


def _leave_remains(ink: Ink, others: Ink, rng: np.random.Generator) -> None:
    """Let a little of another row's ink reach in at the top or at the bottom."""
    reach = max(int(len(ink) * rng.uniform(0.03, 0.12)), 1)
    width = min(ink.shape[1], others.shape[1])
    start = int(rng.integers(0, others.shape[1] - width + 1))
    part = others[:, start : start + width]
    if rng.random() < 0.5:
        np.maximum(ink[:reach, :width], part[-reach:], out=ink[:reach, :width])
    else:
        np.maximum(ink[-reach:, :width], part[:reach], out=ink[-reach:, :width])


def scale(ink: Ink, rng: np.random.Generator) -> Ink:
    """Scale to the height of a strip; pictures of few pixels are blurred by it."""
    image = Image.fromarray(ink)
    width = max(round(ink.shape[1] * HEIGHT / len(ink)), 8)
    if rng.random() < 0.35:
        few = int(rng.integers(12, 28))
        image = image.resize((max(width * few // HEIGHT, 4), few), Image.Resampling.BOX)
        return np.asarray(image.resize((width, HEIGHT), Image.Resampling.BICUBIC)).clip(0, 1)
    kind = Image.Resampling.BOX if rng.random() < 0.7 else Image.Resampling.BICUBIC
    return np.asarray(image.resize((width, HEIGHT), kind)).clip(0, 1)


def damage(ink: Ink, rng: np.random.Generator) -> UInt8Array:
    """Let ink and paper be uneven: blur, contrast, faint strokes, hatching, shadow, noise, specks."""
    if rng.random() < 0.35:
        ink = _blur(ink, rng)
    ink = ink / max(ink.max(), 0.3)
    if rng.random() < CALM:
        return (255 * ink.clip(0, 1)).astype(np.uint8)
    if rng.random() < 0.25:
        few = rng.uniform(0.35, 1.3, (2, max(ink.shape[1] // 16, 2))).astype(np.float32)
        ink = ink * np.asarray(Image.fromarray(few).resize(ink.shape[::-1], Image.Resampling.BICUBIC))
    if rng.random() < 0.5:
        ink = ink * rng.uniform(0.6, 1.5)
    if rng.random() < HATCHED:
        ink = np.maximum(ink, _hatch(ink.shape, rng))
    if rng.random() < 0.12:
        few = rng.normal(0, 0.15, (2, max(ink.shape[1] // 24, 2))).astype(np.float32)
        ink = ink + np.asarray(Image.fromarray(few).resize(ink.shape[::-1], Image.Resampling.BICUBIC)).clip(0)
    if rng.random() < 0.4:
        noise = rng.standard_normal(ink.shape, np.float32) * np.float32(rng.uniform(0.03, 0.15))
        ink = ink + (noise.clip(0) if rng.random() < 0.6 else noise)
    if rng.random() < 0.1:
        count = int(rng.integers(1, 12))
        ink[rng.integers(0, HEIGHT, count), rng.integers(0, ink.shape[1], count)] = rng.uniform(0.3, 1)
    return (255 * ink.clip(0, 1)).astype(np.uint8)


def _blur(ink: Ink, rng: np.random.Generator) -> Ink:
    share = np.float32(rng.uniform(0.1, 0.33))
    for _ in range(int(rng.integers(1, 3))):
        wide = np.pad(ink, 1, mode="edge")
        ink = share * (wide[:-2, 1:-1] + wide[2:, 1:-1]) + (1 - 2 * share) * ink
        wide = np.pad(ink, 1, mode="edge")
        ink = share * (wide[1:-1, :-2] + wide[1:-1, 2:]) + (1 - 2 * share) * ink
    return ink


def _hatch(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Draw the waves, lines or dots of safety paper."""
    down, across = np.arange(shape[0], dtype=np.float32)[:, np.newaxis], np.arange(shape[1], dtype=np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(2.2, 9)
    place = np.float32(np.cos(angle)) * across + np.float32(np.sin(angle)) * down
    if rng.random() < 0.6:  # waves
        place = place + np.float32(rng.uniform(1, 6)) * np.sin(
            (across * np.float32(np.sin(angle)) - down * np.float32(np.cos(angle)))
            / np.float32(rng.uniform(4, 20))
        )
    pattern = np.sin(2 * np.pi / np.float32(period) * place)
    if rng.random() < 0.3:  # dots, where two meet
        pattern = np.minimum(pattern, np.sin(2 * np.pi / np.float32(period) * (across - place + down)))
    lowest = rng.uniform(0.2, 0.85)
    strength = np.float32(rng.uniform(0.1, 0.55))
    return strength * ((pattern - np.float32(lowest)) / np.float32(1 - lowest)).clip(0, 1)
