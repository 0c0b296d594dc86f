"""From grey levels to ink: the paper is evened out, and what is as deep as a whole stroke is 1.

ink = find_ink(decode(read("photo.jpg")), close)   # float32 [H, W], 0 none to 1 a whole stroke's
"""

from collections.abc import Callable
from typing import cast

import numpy as np
import numpy.typing as npt

from digitsum.errors import InputError
from digitsum.reading.decoding import Grey
from digitsum.reading.ruling import erase_rules
from digitsum.types import Array, Ink

PAPER = 1 / 3  # of the longer side: what is dark and narrower is ink, what is wider is paper or shadow
AROUND = 1 / 9  # of the longer side: as far lie a pixel's surroundings, to which it is light or dark
EVEN = 2  # grey levels: pixels at the edge that differ less from its median are as bright as it
MOSTLY = 2 / 3  # of the pixels at an edge: where as many are as bright, it is that of a drawing or a sheet
DARKEST = 1 / 2  # of what is brightest: a deeper shadow isn't evened out, as that would magnify its noise
FAINTEST = 0.1  # of the paper's brightness: less contrast is no ink
HIGH = 0.75  # of the picture's height: in a row as high an upright line may be a stroke
LEFT = 1 / 4  # of the ink before: what is fainter without the lines is only their rest
STRONG = 0.45  # of a whole stroke's ink: what has more makes the digit
RIM = 0.08  # of the shorter side: what lies as near to the edge may be a border

Closing = Callable[[Array, int], Array]  # fills what is dark and narrow, which leaves the paper


def find_ink(grey: Grey, closing: Closing, of_one: bool = False) -> Ink:
    """Return the amount of ink, 0 to 1; how deep a whole stroke is doesn't follow from what lies at the edge.

    Parameters
    ----------
    grey
        [H, W], 0 black to 255 white.
    closing
        `morphology.close`, or `close_within` where the ink may reach the edge.
    of_one
        Whether the paper's lines are taken away in any case, as for a single digit. A network of rows
        overlooks those that a row stands on, and taking them away eats strokes; but not squares or margins.

    Raises
    ------
    InputError
        There is no more than noise.

    Examples
    --------
    >>> from digitsum.reading.morphology import close
    >>> page = np.full((30, 40), 240, np.uint8)
    >>> page[5:25, 18:20] = 60
    >>> find_ink(page, close)[15, [10, 18]]
    array([0., 1.], dtype=float32)
    """
    rim = rim_of(grey.shape)
    inside = slice(rim, -rim), slice(rim, -rim)
    least = 0.0
    if not grey[inside].size:
        raise InputError("no ink stands out from its background")
    depth = _find_depth(grey, _is_dark_on_light(grey[inside]), closing)
    if not np.may_share_memory(rest := _without_rules(depth, of_one), depth):
        least, depth = LEFT * _strength(depth), rest
    whole = _strength(depth[inside])
    if whole < max(FAINTEST, least):
        raise InputError("no ink stands out from its background")
    return cast(Ink, np.minimum(depth / np.float32(whole), 1))


def _without_rules(depth: Ink, of_one: bool) -> Ink:
    """Take away the paper's lines: of a row squares and margins, those that it stands on stay."""
    upright = erase_rules(depth.T).T
    if not of_one and np.may_share_memory(upright, depth):
        return depth
    rest = erase_rules(upright)
    whole = _strength(rest)
    if of_one or whole <= LEFT * _strength(depth):
        return rest
    rows = np.flatnonzero((rest > STRONG * whole).any(axis=1))
    return depth if np.ptp(rows) >= HIGH * len(rest) else rest


def rim_of(shape: tuple[int, ...]) -> int:
    """Return how many pixels from the edge of a picture a border may lie."""
    return max(int(RIM * min(shape)), 1)


def _is_dark_on_light(grey: Grey) -> bool:
    """Return whether the ink is darker than the paper.

    Where the edge doesn't tell, it is the sign of the third moment of what stands out from its surroundings:
    a shadow, which is as much too dark as too light, adds nothing. Of strokes as thick as the surroundings
    are wide the holes alone would stand out, which is why the edge is asked first.
    """
    radius = int(max(grey.shape) * AROUND)
    is_edge_light = _is_edge_light(grey, max(radius, 1))
    if is_edge_light is not None:
        return is_edge_light
    light = grey - _mean_around(grey, radius)
    return bool(np.sum(light * light * light) <= 0)  # `** 3` takes a hundred times as long


def _is_edge_light(grey: Grey, radius: int) -> bool | None:
    """Return whether a drawing's paper is light, by its edge of one level; None where that doesn't tell.

    A dark line around lighter paper isn't paper, nor is what a sheet lies on that has such an edge itself.
    """
    edge = _border(grey, 1)
    level = _median(edge)
    if np.count_nonzero(abs(edge - level) <= EVEN) < MOSTLY * edge.size:
        return None
    middle = (float(grey.min()) + float(grey.max())) / 2
    is_light = bool(level >= middle)
    if not is_light and np.mean(_border(grey, radius) >= middle) >= 1 / 2:
        return True
    other = (grey >= middle) != is_light
    if not other.any():
        return None
    edge = _border(crop(other.astype(np.float32)), 1)
    return is_light if np.count_nonzero(edge) < MOSTLY * edge.size else None


def _border(grey: Grey, width: int) -> npt.NDArray[np.float32]:
    """Return the pixels, [N], that are less than `width` from the edge."""
    inside = np.zeros(grey.shape, bool)
    inside[width:-width, width:-width] = True
    return grey[~inside].astype(np.float32)


def _mean_around(grey: Grey, radius: int) -> npt.NDArray[np.float64]:
    """Average the square around each pixel; beyond the edge the picture goes on as at the edge."""
    size = 2 * radius + 1
    sums: Array = grey
    exact = np.int32 if grey.dtype == np.uint8 else np.float64  # whole numbers add up in a third of the time
    for _ in range(2):  # along the rows, then, transposed, along the columns
        ends = np.pad(sums, ((0, 0), (radius + 1, radius)), mode="edge").cumsum(axis=1, dtype=exact)
        sums = (ends[:, size:] - ends[:, :-size]).T.copy()
    return sums / size**2


def _find_depth(grey: Grey, is_dark: bool, closing: Closing) -> Ink:
    """Return how much darker than its paper each pixel is, 0 to 1; of light ink, how much lighter."""
    brightest = float(grey.max())  # of light ink it is noise on a bright page that is dark
    if not is_dark:
        grey = 255 - grey
    paper = closing(grey, int(max(grey.shape) * PAPER / 2))
    dark = np.float32(max(DARKEST * max(paper.max(), brightest), 1))
    depth = cast(Ink, (paper - grey) / np.maximum(paper, dark))
    return cast(Ink, np.maximum(depth - _median(depth), 0))  # by which `paper` is too bright throughout


def _median(depth: Ink) -> np.float32:
    """Return the middle of numbers of at least 0, of an even count the higher of both.

    The zeros, which are most of a clean page, are only counted: parting many equal numbers takes long.

    Examples
    --------
    >>> _median(np.array([[0.5, 0, 0.25, 0.75]], np.float32))
    np.float32(0.5)
    """
    positive = depth[depth > 0]
    place = depth.size // 2 - (depth.size - positive.size)
    return np.float32(np.partition(positive, place)[place] if place >= 0 else 0)


def _strength(depth: Ink) -> float:
    """Return the ink's depth: the mean of all depths weighted by their fourth powers.

    Unlike Otsu's threshold it finds few ink pixels among many of noisy paper, and unlike the deepest pixel it
    isn't led by one of them.
    """
    weight = np.square(np.square(depth))
    return float(np.sum(weight * depth, dtype=np.float64) / max(np.sum(weight, dtype=np.float64), 1e-9))


def crop(ink: Ink) -> Ink:
    """Cut the digit out: what is fainter at its edge goes."""
    strong = ink > STRONG
    rows, columns = np.flatnonzero(strong.any(axis=1)), np.flatnonzero(strong.any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
