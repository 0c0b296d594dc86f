"""Non-digits, to train doubt with (Hendrycks, Mazeika and Dietterich, 2019, arXiv:1812.04606).

Scribbles, letters, rings and digits that are struck out are drawn once a run (`draw_non_digits`);
others are made of the digits of a batch (`spoil`): two squeezed into one frame, turned or mirrored ones, and
ones with their quarters shuffled.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from digitsum.data.strokes import FORMS, draw, parse
from digitsum.errors import InputError
from digitsum.files import reason
from digitsum.reading.imaging import fit_ink
from digitsum.types import UInt8Array

# those that no handwritten digit looks like: without O, l, Z, b, P, r, t, u, Э, Ч, δ, ∂, ∫ and others
LATIN = "ACEFHJKMNRUVWXacdefhkmnvwx"
CYRILLIC = "ЖДЦШЩЮЯФЛИЙПГжцшщюяфлийпд"
GREEK = "ΓΞΠΣΦΨΩαβεηκλμπφχψω"
SIGNS = "∑∏∮∀∃∄∈∉⊂⊃⊆∪∩≈≠≤≥≡∝∠±×÷⊕⊗{}[]<*£¥~"  # noqa: RUF001
OTHERS = (
    "ԱԲԵԷԸԹԺԻԽՃՄՈՊՌՍՐՒՓՔաբեէըթժիխհճմնոպռստրփքֆև"  # Armenian
    "დთლორფღშ"  # Georgian
    "\u05d0\u05d4\u05d7\u05de\u05e2\u05e6\u05e7\u05e9\u05ea"  # Hebrew
    "\u0628\u062a\u062b\u062c\u062e\u0633\u0634\u0635\u0636\u0639\u063a\u0641\u0643\u0644"  # Arabic
    "ⴲⴳⴴⴸⴹⴺⴼⴽⴿⵃⵄⵅⵇⵉⵋⵍⵕⵖⵝⵞⵟⵡⵣⵥ"  # Tifinagh
    "ກຍດຕທນບປຜຝພຟມຢຫ"  # Lao
)
CM = ("cmr10", "cmmi10", "cmss10", "cmtt10", "cmb10")
DEJAVU = (
    *("DejaVuSans", "DejaVuSans-BoldOblique", "DejaVuSans-Oblique", "DejaVuSansMono-Bold"),
    *("DejaVuSerif", "DejaVuSerif-BoldItalic", "DejaVuSerif-Italic", "DejaVuSerif-Bold"),
)
STIX = ("STIXGeneral", "STIXGeneralItalic", "STIXGeneralBolIta")
ALPHABETS = (  # each with fonts, by their files' names, that have it, of those that come with matplotlib
    (LATIN, (*CM, *DEJAVU, *STIX)),
    (CYRILLIC, (*DEJAVU, *STIX)),
    (GREEK, (*DEJAVU, *STIX)),
    (SIGNS, ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "STIXGeneral", "STIXGeneralBol")),
    (OTHERS, ("DejaVuSans", "DejaVuSans-Bold")),
)
LETTER = 80  # pixels, of a letter before it is fitted into its box
LEAN = 0.15  # of a letter, to the side and up: the standard deviations
STROKES = 4  # of a scribble, at most
JOINTS, LONE = (2, 5), (3, 8)  # of each of several strokes, and of a single one: from, to
CLOSED, DOTTED = 0.3, 0.3  # how often
GRID = 3  # steps from side to side
DOT = 0.04  # of the height, before the pen's width
WIDE = 1.8  # times as wide as a digit
CORNERS = (5, 9)  # of a ring: from, to
RADIUS, DENT = (0.3, 0.5), 0.1  # of its corners, from, to; and of the one that is drawn in
# of strokes in a ring and of those around one: how many, from, to; how far from its centre; half a length
INSIDE, AROUND = (0, 4, 0.1, 0.12), (2, 5, 0.7, 0.3)
STRUCK = (2, 3, 5, 6, 8, 9)  # digits that no further stroke makes another digit of
ACROSS = (0.8, 1.4)  # times the digit's height, of the stroke that strikes it out: from, to
STEEP = np.pi / 3  # at most, of that stroke
MIRROR = 4  # beside 1 to 3 quarter turns: what makes a digit none
TURNS = {
    **dict.fromkeys((1, 2, 5, 8), (1,)),
    **dict.fromkeys((3, 7), (1, 2, 3, MIRROR)),
    **dict.fromkeys((4, 6, 9), (1, 3, MIRROR)),
}


def draw_non_digits(count: int, rng: np.random.Generator) -> UInt8Array:
    """Draw scribbles, letters, rings and digits that are struck out in turn, uint8 [N, 28, 28].

    Raises
    ------
    InputError
        matplotlib, whose fonts are drawn, isn't installed.

    Examples
    --------
    >>> draw_non_digits(6, np.random.default_rng(0)).shape
    (6, 28, 28)
    """
    kinds = (scribble, letter, scribble, letter, ring, struck)
    return np.stack([kinds[i % len(kinds)](rng) for i in range(count)])


def scribble(rng: np.random.Generator) -> UInt8Array:
    """Draw a few strokes through joints anywhere, or on a grid as those of a sign; or a single long stroke.

    All strokes are curved, or all straight; some are closed, and some have a dot.
    """
    count = rng.integers(1, STROKES, endpoint=True)
    least, most = JOINTS if count > 1 else LONE
    lines = []
    for number in rng.integers(least, most, size=count, endpoint=True):
        line = rng.random((number, 2))
        lines.append(np.concatenate([line, line[:1]]) if number > 3 and rng.random() < CLOSED else line)
    if rng.random() < 1 / 2:
        lines = [np.rint(line * GRID) / GRID for line in lines]
    if rng.random() < 1 / 2:
        lines = [line[i : i + 2] for line in lines for i in range(len(line) - 1)]
    if rng.random() < DOTTED:
        lines.append(rng.random(2) + np.array([[0, 0], [0, DOT]]))
    return draw([(line - 0.5) * (WIDE, 1) + 0.5 for line in lines], rng)


def ring(rng: np.random.Generator) -> UInt8Array:
    """Draw a closed curve that is dented, or has a few strokes in it or around it."""
    start, corners = 2 * np.pi * rng.random(), rng.integers(*CORNERS)
    angle = np.linspace(start, start + 2 * np.pi, corners, endpoint=False)
    radius = rng.uniform(*RADIUS, len(angle))
    least, most, far, half = AROUND if rng.random() < 1 / 2 else INSIDE
    count = rng.integers(least, most)
    if count < 2:  # one alone may be the slash of a 0
        radius[0] = DENT
    line = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    marks = rng.uniform(-far, far, (count, 1, 2)) + rng.uniform(-half, half, (count, 2, 2))
    lines = [np.concatenate([line, line[:1]]), *marks]
    return draw([each * (WIDE, 1) + 0.5 for each in lines], rng)


def struck(rng: np.random.Generator) -> UInt8Array:
    """Draw a digit that is struck out by one stroke or two, straight or bent."""
    forms = FORMS[rng.choice(STRUCK)]
    lines = [parse(stroke) for stroke in forms[rng.integers(len(forms))]]
    for _ in range(rng.integers(1, 2, endpoint=True)):
        angle, length = rng.uniform(-STEEP, STEEP), rng.uniform(*ACROSS)
        ends = length / 2 * np.outer((-1, 0, 1), (np.cos(angle), np.sin(angle)))
        lines.append(ends + rng.uniform(0.3, 0.7, 2) + rng.normal(0, LEAN / 2, (3, 2)))
    return draw(lines, rng)


def letter(rng: np.random.Generator) -> UInt8Array:
    """Draw a letter or a sign of one of the alphabets, slanted and tilted a little."""
    characters, fonts = ALPHABETS[rng.integers(len(ALPHABETS))]
    font = fonts[rng.integers(len(fonts))]
    page, middle = Image.new("L", (3 * LETTER, 3 * LETTER)), 3 * LETTER // 2
    character = characters[rng.integers(len(characters))]
    ImageDraw.Draw(page).text((middle, middle), character, 255, _font(font), anchor="mm")
    slant, tilt = rng.normal(0, LEAN, 2)
    back = (1, slant, -slant * middle, tilt, 1, -tilt * middle)
    page = page.transform(page.size, Image.Transform.AFFINE, back, Image.Resampling.BILINEAR)
    return fit_ink(np.asarray(page, np.float32) / np.float32(255))


@cache
def _font(name: str) -> ImageFont.FreeTypeFont:
    """Open a font's file, without importing matplotlib."""
    found = find_spec("matplotlib")
    if found is None or found.origin is None:
        raise InputError(
            "the letters to train doubt with come with matplotlib: pip install 'digitsum[train]'"
        )
    file = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / f"{name}.ttf"
    try:
        return ImageFont.truetype(file, LETTER)
    except OSError as error:
        raise OSError(f"{file}, a font that comes with matplotlib, can't be read: {reason(error)}") from error


def spoil(image: Tensor, digit: Tensor, count: int) -> Tensor:
    """Make non-digits of the digits of a batch.

    Parameters
    ----------
    image
        float32 [N, 1, 28, 28].
    digit
        int64 [N], what the images show.
    count
        How many to make at most, C: a 0 can't be turned into none.

    Returns
    -------
    Tensor
        float32 [C, 1, 28, 28], a quarter of each kind, one after the other.
    """
    chosen = torch.randint(len(image), (count,), device=image.device)
    pair, turned, crossed, shifted = chosen.tensor_split(4)
    beside = torch.randint(len(image), (len(pair),), device=image.device)
    turned = turned[digit[turned] != 0]  # a 0 stays one
    return torch.cat(
        [
            _squeeze(image[pair], image[beside]),
            _turn(image[turned], digit[turned]),
            _cross(image[crossed]),
            _shift(image[shifted]),
        ]
    )


def _squeeze(left: Tensor, right: Tensor) -> Tensor:
    """Put two images side by side into one frame, all of them narrower only, or lower as well."""
    both = torch.cat([left[..., 4:24], right[..., 4:24]], dim=3)  # [C, 1, 28, 40]
    height = 20 if torch.rand(()) < 1 / 2 else 28
    return F.pad(
        F.interpolate(both, (height, 28), mode="area"), (0, 0, (28 - height) // 2, (28 - height) // 2)
    )


def _turn(image: Tensor, digit: Tensor) -> Tensor:
    """Turn or mirror each digit so that it is none."""
    turned = image.clone()
    for i, shown in enumerate(digit.tolist()):
        turns = TURNS[shown]
        turn = turns[int(torch.randint(len(turns), ()))]
        turned[i] = image[i].flip(2) if turn == MIRROR else image[i].rot90(turn, (1, 2))
    return turned


def _cross(image: Tensor) -> Tensor:
    """Let the quarters on each diagonal change places."""
    return F.pad(image[..., 4:24, 4:24].roll((10, 10), dims=(2, 3)), (4, 4, 4, 4))


def _shift(image: Tensor) -> Tensor:
    """Let the upper two quarters change places."""
    box = image[..., 4:24, 4:24]
    return F.pad(torch.cat([box[:, :, :10].roll(10, dims=3), box[:, :, 10:]], dim=2), (4, 4, 4, 4))
