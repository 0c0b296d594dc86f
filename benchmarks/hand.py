"""x"""

import numpy as np
from PIL import Image, ImageDraw

PAGE = 300  # pixels, each side
FINE = 3  # times finer is drawn, then averaged
HAND = {
    # slashed
    0: [[(0.5, 0.0), (0.05, 0.4), (0.4, 1.0), (0.95, 0.5), (0.5, 0.0)], [(1.0, 0.0), (0.5, 0.5), (0.0, 1.0)]],
    # a long nose, no foot
    1: [[(0.0, 0.5), (0.4, 0.25), (0.8, 0.0)], [(0.8, 0.0), (0.8, 0.5), (0.8, 1.0)]],
    # a large loop at the foot
    2: [[(0.1, 0.15), (0.4, 0.0), (0.75, 0.2), (0.5, 0.65), (0.15, 0.95), (0.0, 0.7), (0.3, 0.6), (0.7, 0.95), (1.0, 0.85)]],
    # a loop in the middle
    3: [[(0.15, 0.1), (0.5, 0.0), (0.8, 0.15), (0.5, 0.45), (0.25, 0.5), (0.35, 0.35), (0.6, 0.45), (0.85, 0.75), (0.4, 1.0), (0.05, 0.8)]],
    # closed, its stem ends near the bar
    4: [[(0.75, 0.0), (0.4, 0.4), (0.0, 0.82)], [(0.0, 0.82), (0.5, 0.8), (1.0, 0.82)], [(0.75, 0.0), (0.72, 0.5), (0.7, 1.0)]],
    # an S
    5: [[(0.9, 0.05), (0.5, 0.0), (0.15, 0.25), (0.5, 0.48), (0.8, 0.75), (0.45, 1.0), (0.05, 0.9)]],
    6: [[(0.6, 0.0), (0.25, 0.4), (0.2, 0.85), (0.4, 1.0), (0.55, 0.85), (0.4, 0.75), (0.2, 0.85)]],
    # crossed, short top with a serif
    7: [[(0.1, 0.3), (0.12, 0.02)], [(0.12, 0.02), (0.5, 0.05), (0.8, 0.0)], [(0.8, 0.0), (0.6, 0.45), (0.5, 1.0)], [(0.1, 0.5), (0.55, 0.48), (1.0, 0.46)]],
    # open at the top
    8: [[(0.9, 0.0), (0.3, 0.7), (0.4, 1.0), (0.75, 0.85), (0.6, 0.5), (0.2, 0.3), (0.15, 0.0)]],
    # a tail that closes to a loop
    9: [[(0.8, 0.12), (0.4, 0.0), (0.2, 0.22), (0.45, 0.42), (0.8, 0.12), (0.85, 0.6), (0.65, 0.98), (0.25, 0.95), (0.35, 0.7), (1.0, 0.5)]],
}


def curve(joints: np.ndarray) -> np.ndarray:
    """Catmull-Rom"""
    p = np.concatenate([[2 * joints[0] - joints[1]], joints, [2 * joints[-1] - joints[-2]]])
    t = np.linspace(0, 1, 12, endpoint=False)[:, None]
    parts = [
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        for a, b, c, d in zip(p, p[1:], p[2:], p[3:])
    ]
    return np.concatenate([*parts, joints[-1:]])


def draw(digit: int, chance: np.random.Generator) -> Image.Image:
    """Draw a digit on a page of 300 x 300 pixels, dark on light."""
    height = chance.uniform(110, 190)
    width = height * chance.uniform(0.5, 0.8)
    slant, turn = chance.normal(0.1, 0.1), chance.normal(0, 0.05)
    shape = np.array([[width, turn * width], [-slant * height, height]])
    place = PAGE / 2 + chance.normal(0, 12, 2)
    pen, paper, ink = round(FINE * chance.uniform(5, 14)), int(chance.integers(225, 256)), int(chance.integers(0, 90))
    page = Image.new("L", (PAGE * FINE, PAGE * FINE), paper)
    brush = ImageDraw.Draw(page)
    for stroke in HAND[digit]:
        joints = np.array(stroke) + chance.normal(0, 0.04, (len(stroke), 2))
        line = ((curve(joints) - 0.5) @ shape + place) * FINE
        brush.line([tuple(p) for p in line], ink, pen, "curve")
        for x, y in line[[0, -1]]:
            brush.ellipse([x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2], ink)
    return page.reduce(FINE)
