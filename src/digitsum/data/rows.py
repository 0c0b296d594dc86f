"""Synthetic rows: digits of one hand side by side, that touch or don't, with marks, on all kinds of paper.

    strip, symbols = draw_row(digits.images[:, 0], digits.labels, non_digits, rng)

A row is laid out on a canvas, written, bent and slanted, cut out a little unevenly, scaled to the height of a
strip, and damaged as paper and cameras damage it. No two are alike, and a row follows from `rng` alone.
NumPy and Pillow do it, without torch.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from digitsum.data.row_damage import cut_out, damage, distort, scale
from digitsum.reading.strips import MARGIN, pad
from digitsum.search import MARK
from digitsum.types import Array, Ink, Int64Array, UInt8Array

TALL = 44  # pixels of the canvas, the mean height of a row's digits
WIDEST = 3  # times TALL, the widest digit; the widest gap is 1.65 times
PITCH = 0.2  # of the height: a digit begins at least so far right of the one before, which it would hide
NARROW = 0.35  # of the height, the widest gap of a row in which a wider one, of 0.9 and more, is a mark
LENGTHS = np.array(
    [0.18, 0.13, 0.14, 0.16, 0.14, 0.1, 0.06, 0.04, 0.05]
)  # of 1, 2, ... digits; the last: longer
LONGEST = 24  # digits
ZEROS, SAME = 0.25, 0.06  # how many rows end with zeros, and how many repeat a digit
LOWER, TALLER = 0.4, 0.25  # how many have zeros at the end that are lower, and 1s that are taller
EMPTY = 0.11  # how many show no digit
BESIDE = 0.08  # how many show a part of one more digit at an edge, where the picture was cut
# digits whose right part, and whose left one, doesn't look like a 1
NO_STROKE_RIGHT, NO_STROKE_LEFT = (2, 3, 5, 6, 8), (2, 3, 4, 5, 7, 8, 9)
THOUSANDS, WITHIN, AFTER, BEFORE = 0.3, 0.17, 0.2, 0.08  # how many rows have marks, where
CELLS, JOINED = 0.08, 0.18  # how many rows have what


class Row(NamedTuple):
    """A row of digits, as `reading` makes it of a picture, and what it shows.

    Attributes
    ----------
    strip
        uint8 [32, W], 0 paper, 255 ink.
    symbols
        int64 [L], from left to right: 0 to 9 and `search.MARK`; none where it shows no digit.
    """

    strip: UInt8Array
    symbols: Int64Array


BATCHES = 16  # that are drawn together and sorted by width, so that rows of like width share a batch


class Strips(NamedTuple):
    """A batch of rows.

    Attributes
    ----------
    strips
        uint8 [N, 1, 32, W], each with paper around it.
    symbols
        int64 [L], of all rows one after the other.
    lengths
        int64 [N], how many symbols each has.
    """

    strips: UInt8Array
    symbols: Int64Array
    lengths: Int64Array


class RowSource(NamedTuple):
    """What rows are made of.

    Attributes
    ----------
    hands
        Of each kind of hand the images, uint8 [N, 28, 28], and the digits, int64 [N].
    shares
        How many of the rows are of each kind, together 1.
    non_digits
        uint8 [M, 28, 28].
    """

    hands: list[tuple[UInt8Array, Int64Array]]
    shares: list[float]
    non_digits: UInt8Array

    def draw(self, rng: np.random.Generator) -> Row:
        """Draw a row."""
        images, labels = self.hands[rng.choice(len(self.hands), p=self.shares)]
        return draw_row(images, labels, self.non_digits, rng)

    def batches(self, size: int, count: int, rng: np.random.Generator) -> list[Strips]:
        """Draw some batches, of rows of like width each, in random order."""
        rows = sorted((self.draw(rng) for _ in range(size * count)), key=lambda row: row.strip.shape[1])
        return [_join_rows(rows[size * i : size * (i + 1)], rng) for i in rng.permutation(count)]


def _join_rows(rows: list[Row], rng: np.random.Generator) -> Strips:
    places = rng.integers(0, 2 * MARGIN, len(rows)).tolist()
    symbols = np.concatenate([row.symbols for row in rows])
    return Strips(
        pad([row.strip for row in rows], places), symbols, np.array([len(row.symbols) for row in rows])
    )


def draw_row(images: UInt8Array, labels: Int64Array, non_digits: UInt8Array, rng: np.random.Generator) -> Row:
    """Draw a row of some of the digits, or of non-digits.

    Parameters
    ----------
    images, labels
        Digits of one kind of hand, uint8 [N, 28, 28] and int64 [N].
    non_digits
        uint8 [M, 28, 28]; with none, rows without a digit show paper and its lines alone.

    Examples
    --------
    >>> images = np.zeros((2, 28, 28), np.uint8)
    >>> images[:, 4:24, 13:15] = 255  # ones
    >>> strip, symbols = draw_row(images, np.array([1, 1]), images[:0], np.random.default_rng(0))
    >>> len(strip), set(symbols.tolist()) <= {1, MARK}
    (32, True)
    """
    while True:
        if rng.random() < EMPTY:
            ink, symbols = _write_none(images, labels, non_digits, rng), np.zeros(0, np.int64)
        else:
            chosen = _choose(labels, rng)
            ink, symbols = _write(images[chosen], labels[chosen], rng)
        visible = slice(None)
        if rng.random() < BESIDE and len(symbols):
            ink, visible = _set_beside(ink, images, labels, rng)
        strip = damage(scale(cut_out(distort(ink, rng)[:, visible], rng), rng), rng)
        # as many steps as the symbols take, two alike with nothing between
        if strip.shape[1] // 4 >= len(symbols) + np.count_nonzero(np.diff(symbols) == 0):
            return Row(strip, symbols)


def _choose(labels: Int64Array, rng: np.random.Generator) -> Int64Array:
    """Choose digits: any, some with zeros at the end or one digit again and again."""
    count = 1 + int(rng.choice(len(LENGTHS), p=LENGTHS))
    if count == len(LENGTHS):
        count = int(rng.integers(count, LONGEST + 1))
    chosen = rng.integers(0, len(labels), count)
    kind = rng.random()
    if count > 1 and kind < ZEROS + SAME:
        start = int(rng.integers(1, count)) if kind < ZEROS else int(rng.integers(0, count - 1))
        digit = 0 if kind < ZEROS else labels[chosen[start]]
        alike = np.flatnonzero(labels == digit)
        if len(alike):
            chosen[start:] = rng.choice(alike, count - start)
    return chosen


def _punctuate(count: int, rng: np.random.Generator) -> dict[int, str]:
    """Choose the marks, by the number of the digit that they follow; -1: before the first."""
    marks = {}
    kind = rng.random()
    if count > 3 and kind < THOUSANDS:
        mark = str(rng.choice(list(".,' "), p=[0.5, 0.25, 0.1, 0.15]))
        marks = dict.fromkeys(range(count - 4, -1, -3), mark)
    elif count > 1 and kind > 1 - WITHIN:
        marks[int(rng.integers(0, count - 1))] = str(rng.choice(list(".,://-+  ")))
    if rng.random() < AFTER:
        marks[count - 1] = str(rng.choice(["-", "=", ".", ",", ".-", "=="]))
    if rng.random() < BEFORE:
        marks[-1] = str(rng.choice(list("-.=+")))
    return marks


def _write(images: UInt8Array, labels: Int64Array, rng: np.random.Generator) -> tuple[Ink, Int64Array]:
    """Write digits and marks in one row, [H, W], and return the symbols with it."""
    count, size = len(images), TALL * rng.uniform(0.85, 1.1)
    marks = _punctuate(count, rng)
    in_cells = rng.random() < CELLS and not set(marks) & set(range(count - 1))
    gap = _gap(rng)
    if " " in marks.values():
        gap = min(gap, NARROW)
    spread = rng.uniform(0.02, 0.12)  # of the heights and base lines: a calm hand or a wild one
    canvas = np.zeros((3 * TALL, int((count + 4) * (WIDEST + 1.7) * TALL)), np.float32)
    sizes = size * (1 + rng.normal(0, spread, count)) * _proportions(labels, rng)
    pen = max(size * rng.uniform(0.05, 0.14), 2)
    warp = rng.uniform(0, 0.14)
    symbols: list[int] = []
    end, left, borders = float(TALL), 2.0 - PITCH * size, [TALL // 2]
    last: tuple[float, float] | None = None
    if -1 in marks:
        end = _mark(canvas, marks[-1], end, size, pen, rng) + size * rng.uniform(0.1, 0.35)
        symbols.append(MARK)
    joined = rng.random() < JOINED
    for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        glyph = _glyph(image, sizes[i], warp, rng)
        height, width = glyph.shape
        top = int(2 * TALL - height + size * rng.normal(0, spread / 2))
        top = min(max(top, 0), len(canvas) - height)
        if i and i - 1 not in marks:
            end += size * ((0.9 if in_cells else gap) + rng.normal(0, 0.05))
            if gap < 0.05 and not in_cells and rng.random() < 0.5:
                end = _touch(canvas[top : top + height], glyph, end) - size * rng.uniform(0, 0.07)
        left = int(max(end, left + PITCH * size))
        part = canvas[top : top + height, left : left + width]
        np.maximum(part, glyph[:, : part.shape[1]], out=part)
        if joined and last and rng.random() < 0.6:
            _join(canvas, last, (left + width * rng.uniform(0, 0.6), top + height * rng.uniform(0, 0.4)), pen)
        end = left + width
        last = (end - size * rng.uniform(0, 0.3), top + height * rng.uniform(0, 0.9))
        symbols.append(label)
        borders.append(int(end + 0.45 * size))
        if i in marks:
            end = _mark(canvas, marks[i], end, size, pen, rng)
            symbols.append(MARK)
            last = None
    if in_cells:
        _draw_cells(canvas, borders, size, rng)
    return canvas[:, : int(end) + TALL], np.array(symbols, np.int64)


def _proportions(labels: Int64Array, rng: np.random.Generator) -> Array:
    """Choose how tall each digit is beside the others: the zeros at the end may be lower, and 1s taller."""
    proportions = np.ones(len(labels))
    if rng.random() < LOWER:
        zeros = int((labels[::-1] != 0).argmax()) if labels.any() else 0
        proportions[len(labels) - zeros :] = rng.uniform(0.45, 1)
    if rng.random() < TALLER and (labels != 1).any():
        proportions[labels == 1] = rng.uniform(1, 1.4)
    return proportions


def _gap(rng: np.random.Generator) -> float:
    """Choose how far apart a row's digits stand, in heights: negative where they overlap."""
    low, high = ((-0.12, 0.05), (0.03, 0.25), (0.2, 0.7), (0.7, 1.5))[
        int(rng.choice(4, p=[0.38, 0.38, 0.19, 0.05]))
    ]
    return rng.uniform(low, high)


def _glyph(image: UInt8Array, height: float, warp: float, rng: np.random.Generator) -> Ink:
    """Cut a digit out and scale it, at most `WIDEST`, turned, skewed by as much as its corners are off."""
    strong = image > 60
    rows, columns = np.flatnonzero(strong.any(axis=1)), np.flatnonzero(strong.any(axis=0))
    if not len(rows):
        return np.zeros((1, 1), np.float32)
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    tall = max(round(height), 8)
    wide = max(round((right - left) * tall / (bottom - top) * rng.uniform(0.8, 1.2)), 4)
    corners = np.array([left, top, left, bottom, right, bottom, right, top], float)
    corners += rng.normal(0, warp, 8) * np.array([right - left, bottom - top] * 4).clip(6)
    corners += [-1, -1, -1, 1, 1, 1, 1, -1]  # so that no stroke is cut off
    turned = Image.fromarray(image).transform(
        (wide, tall), Image.Transform.QUAD, corners.tolist(), Image.Resampling.BICUBIC
    )
    return np.asarray(turned, np.float32)[:, : WIDEST * TALL] / np.float32(255)


def _touch(line: Ink, glyph: Ink, end: float) -> float:
    """Return the column at which a glyph that comes from the right meets the line's ink."""
    near = max(int(end) - 2 * TALL, 0)
    inked = line[:, near : int(end) + 1] > 0.4
    ends = np.where(inked.any(axis=1), near + inked.shape[1] - inked[:, ::-1].argmax(axis=1), 0)
    starts = np.where((glyph > 0.4).any(axis=1), (glyph > 0.4).argmax(axis=1), 10_000)
    return float(max((ends - starts).max(), end - 0.6 * glyph.shape[1]))


def _join(canvas: Ink, start: tuple[float, float], end: tuple[float, float], pen: float) -> None:
    """Draw the stroke that runs on from one digit to the next."""
    left, right = int(min(start[0], end[0])) - 4, int(max(start[0], end[0])) + 5
    _draw_line(canvas[:, max(left, 0) : right], [(x - max(left, 0), y) for x, y in (start, end)], pen * 0.7)


def _draw_line(canvas: Ink, points: list[tuple[float, float]], pen: float) -> None:
    page = Image.new("L", canvas.shape[::-1])
    brush = ImageDraw.Draw(page)
    brush.line(points, 255, max(round(pen), 1), "curve")
    for x, y in (points[0], points[-1]):
        brush.circle((x, y), pen / 2, 255)
    np.maximum(canvas, np.asarray(page, np.float32) / 255, out=canvas)


def _mark(canvas: Ink, marks: str, end: float, size: float, pen: float, rng: np.random.Generator) -> float:
    """Write marks after what ends at a column, and return where they end; a blank is one, too."""
    for mark in marks:
        end += size * rng.uniform(0.02, 0.3)
        if mark == " ":
            end += size * rng.uniform(0.9, 2.2)
            continue
        width = size * _WIDTHS.get(mark, 0.05) * rng.uniform(0.7, 1.3)
        strokes = _MARKS[mark]
        low = rng.normal(0, 0.06)
        thick = pen * (rng.uniform(0.9, 1.5) if mark in ".,:'" else rng.uniform(0.7, 1.1))
        for stroke in strokes:
            joints = np.array(stroke, float) + rng.normal(0, 0.03, (len(stroke), 2))
            points = [(6 + width * x, TALL * 2 - size * (1 - y - low)) for x, y in joints.tolist()]
            left = int(end) - 6
            _draw_line(canvas[:, left : left + int(width) + 14], points, thick)
        end += width + size * rng.uniform(0.02, 0.25)
    return end


_WIDTHS = {"-": 0.45, "+": 0.5, "=": 0.5, "/": 0.45, ",": 0.1}
_MARKS: dict[
    str, list[list[tuple[float, float]]]
] = {  # strokes; across, in widths, and down, in the digits' heights
    ".": [[(0, 0.97), (0.1, 1.0)]],
    ",": [[(0.9, 0.93), (0, 1.15)]],
    "'": [[(0.9, -0.02), (0, 0.2)]],
    ":": [[(0, 0.4), (0.1, 0.42)], [(0, 0.85), (0.1, 0.87)]],
    "/": [[(1, -0.05), (0, 1.1)]],
    "-": [[(0, 0.55), (1, 0.5)]],
    "+": [[(0, 0.55), (1, 0.52)], [(0.5, 0.3), (0.5, 0.8)]],
    "=": [[(0, 0.42), (1, 0.4)], [(0, 0.65), (1, 0.63)]],
}


def _set_beside(
    ink: Ink, images: UInt8Array, labels: Int64Array, rng: np.random.Generator
) -> tuple[Ink, slice]:
    """Set one more digit before or after a row, and say which columns show only a part of it."""
    before = rng.random() < 0.5
    others = np.flatnonzero(np.isin(labels, NO_STROKE_RIGHT if before else NO_STROKE_LEFT))
    columns = np.flatnonzero((ink > 0.3).any(axis=0))
    if not len(columns) or not len(others):
        return ink, slice(None)
    glyph = _glyph(images[rng.choice(others)], TALL * rng.uniform(0.85, 1.1), 0.06, rng)
    gap, seen = int(TALL * rng.uniform(0.03, 0.35)), max(int(glyph.shape[1] * rng.uniform(0.1, 0.45)), 1)
    wide = np.zeros((len(ink), glyph.shape[1] + gap), np.float32)
    rows = slice(2 * TALL - len(glyph), 2 * TALL)
    if before:
        wide[rows, : glyph.shape[1]] = glyph
        return np.hstack([wide, ink[:, columns[0] :]]), slice(glyph.shape[1] - seen, None)
    wide[rows, gap:] = glyph
    return np.hstack([ink[:, : columns[-1] + 1], wide]), slice(0, columns[-1] + 1 + gap + seen)


def _draw_cells(canvas: Ink, borders: list[int], size: float, rng: np.random.Generator) -> None:
    """Draw the cells of a form, of which the row fills one each."""
    thick, ink = int(rng.integers(1, 4)), rng.uniform(0.3, 1)
    top = int(2 * TALL - size * rng.uniform(1.15, 1.5))
    bottom = min(int(2 * TALL + size * rng.uniform(0.12, 0.4)), len(canvas) - thick)
    for border in borders if rng.random() < 0.8 else borders[:: len(borders) - 1]:
        canvas[top : bottom + thick, border : border + thick] = ink
    if len(borders) == 2 or rng.random() < 0.8:  # two lines alone would be two 1s
        for row in (top, bottom):
            canvas[row : row + thick, borders[0] : borders[-1] + thick] = ink


def _write_none(
    images: UInt8Array, labels: Int64Array, non_digits: UInt8Array, rng: np.random.Generator
) -> Ink:
    """Write what is no digit: others' signs, a disc, an edge of a digit, an empty cell, or nothing at all."""
    canvas = np.zeros((3 * TALL, 6 * TALL), np.float32)
    kind = rng.random()
    if kind < 0.65 and len(non_digits):
        end, count = TALL, int(rng.choice([1, 1, 1, 2, 3]))
        for image in non_digits[rng.integers(0, len(non_digits), count)]:
            glyph = _glyph(image, TALL * rng.uniform(0.8, 1.1), 0.06, rng)[:, : int(1.5 * TALL)]
            canvas[2 * TALL - len(glyph) : 2 * TALL, end : end + glyph.shape[1]] = glyph[: 2 * TALL]
            end += glyph.shape[1] + int(rng.integers(2, 12))
    elif kind < 0.73:
        radius = rng.uniform(0.12, 0.5) * TALL
        page = Image.new("L", canvas.shape[::-1])
        box = [
            3 * TALL - radius,
            1.5 * TALL - radius * rng.uniform(0.6, 1),
            3 * TALL + radius,
            1.5 * TALL + radius,
        ]
        (ImageDraw.Draw(page).ellipse if rng.random() < 0.7 else ImageDraw.Draw(page).rectangle)(box, 255)
        canvas += np.asarray(page, np.float32) / 255
    elif kind < 0.82:
        side, share = int(rng.integers(0, 4)), rng.uniform(0.1, 0.3)
        cut = (range(10), range(10), NO_STROKE_LEFT, NO_STROKE_RIGHT)[side]
        others = np.flatnonzero(np.isin(labels, cut))
        if len(others):
            glyph = _glyph(images[rng.choice(others)], TALL, 0.03, rng)
            rows, columns = (max(int(share * length), 1) for length in glyph.shape)
            part = (glyph[:rows], glyph[-rows:], glyph[:, :columns], glyph[:, -columns:])[side]
            canvas[TALL : TALL + len(part), TALL : TALL + part.shape[1]] = part
    elif kind < 0.92:
        _draw_cells(canvas, [TALL, TALL + int(rng.integers(TALL // 2, 2 * TALL))], TALL, rng)
    else:
        canvas[TALL : 2 * TALL, TALL : TALL + int(rng.integers(10, 60))] = 0.02
    return canvas
