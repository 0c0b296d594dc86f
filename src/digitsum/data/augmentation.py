"""Distortions and damages of a batch of images, on its device: each image is another one every epoch."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ROTATION = math.radians(10)
SCALE = 0.1  # of the logarithm, each axis by itself
SHEAR = 0.1
SHIFT = 1.5  # pixels
ELASTIC = 0.6  # pixels, the standard deviation at each knot
KNOTS = 5  # of the elastic distortion, along each axis

DAMAGED = 1 / 16  # of a batch, by each of the eight damages; the rest stays clean
NOISE = 0.35  # of white, the largest standard deviation
IMPULSES = 0.2  # of the pixels, the largest share
BLUR = (0.3, 1.7)  # pixels, the standard deviation
COVER = 7  # pixels, the largest side
MOTION = 9  # pixels, the longest; odd
STRIPES = 0.7  # of white, the brightest
PERIOD = (3, 12)  # pixels, from one stripe to the next
GRADIENT = 0.9  # of white, the largest difference
COARSE = 8  # pixels a side, the fewest that are kept


def distort(image: Tensor) -> Tensor:
    """Rotate, scale, shear, shift and bend each image at random.

    The affine part is drawn uniformly; the elastic part (after Simard, Steinkraus and Platt, 2003,
    doi:10.1109/ICDAR.2003.1227801) is a smooth field through normal displacements of a few knots. Both
    are one resampling of the whole batch.

    Parameters
    ----------
    image
        uint8 [N, 1, 28, 28]; N may be 0.

    Returns
    -------
    Tensor
        float32 [N, 1, 28, 28], pixels from 0 to 255, not rounded.
    """
    if not len(image):  # which torch's functions refuse
        return image.float()
    size = (len(image), 1, 28, 28)
    grid = F.affine_grid(_affine(len(image), image.device), list(size), align_corners=False)
    knots = torch.randn(len(image), 2, KNOTS, KNOTS, device=image.device) * ELASTIC / 14
    bend = F.interpolate(knots, (28, 28), mode="bicubic", align_corners=True)  # [N, 2, 28, 28]
    return F.grid_sample(image.float(), grid + bend.permute(0, 2, 3, 1), align_corners=False)


def damage(image: Tensor) -> Tensor:
    """Damage half of the batch, a sixteenth each in one of eight ways.

    They are normal noise, black and white pixels, a blur, a blur by motion, a covered square, stripes or a
    grid, light from one side, and fewer pixels.

    Parameters
    ----------
    image
        uint8 or float32 [N, 1, 28, 28], in random order: the first half is damaged.

    Returns
    -------
    Tensor
        float32 [N, 1, 28, 28], pixels from 0 to 255, not rounded.
    """
    damages = (_add_noise, _add_impulses, _blur, _cover, _move, _stripe, _light, _coarsen)
    count = int(DAMAGED * len(image))
    parts = image.float().split([count] * len(damages) + [len(image) - count * len(damages)])
    return torch.cat([change(part) for change, part in zip(damages, parts, strict=False)] + [parts[-1]])


def _affine(count: int, device: torch.device) -> Tensor:
    """Draw affine maps, [N, 2, 3], in coordinates from -1 to 1: 14 pixels are 1."""

    def uniform(bound: float) -> Tensor:
        return (2 * torch.rand(count, device=device) - 1) * bound

    angle, shear = uniform(ROTATION), uniform(SHEAR)
    across, down = uniform(SCALE).exp(), uniform(SCALE).exp()
    cos, sin = angle.cos(), angle.sin()
    return torch.stack(
        [
            torch.stack([cos * across, (shear * cos - sin) * across, uniform(SHIFT) / 14], dim=1),
            torch.stack([sin * down, (shear * sin + cos) * down, uniform(SHIFT) / 14], dim=1),
        ],
        dim=1,
    )


def _each(image: Tensor) -> Tensor:
    """Draw a number between 0 and 1 for each image, [N, 1, 1, 1]."""
    return torch.rand(len(image), 1, 1, 1, device=image.device)


def _add_noise(image: Tensor) -> Tensor:
    return (image + 255 * NOISE * _each(image) * torch.randn_like(image)).clamp(0, 255)


def _add_impulses(image: Tensor) -> Tensor:
    chance, share = torch.rand_like(image), IMPULSES * _each(image)
    return image.masked_fill(chance < share / 2, 0).masked_fill(chance > 1 - share / 2, 255)


def _blur(image: Tensor) -> Tensor:
    """Blur all by the same normal distribution, along one axis, then the other."""
    least, most = BLUR
    sigma = least + (most - least) * torch.rand((), device=image.device)
    kernel = torch.exp(-(torch.arange(-4, 5, device=image.device) ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).view(1, 1, 1, 9)
    return F.conv2d(F.conv2d(image, kernel, padding=(0, 4)), kernel.mT, padding=(4, 0))


def _cover(image: Tensor) -> Tensor:
    """Hide a square of each image, its centre at least 2 pixels from the edge."""
    centre = 2 + 24 * torch.rand(len(image), 2, 1, device=image.device)
    far = (torch.arange(28, device=image.device) - centre).abs()  # [N, 2, 28]
    row, column = (far < COVER / 2 * _each(image)[:, 0]).unbind(dim=1)  # [N, 28] each
    return image.masked_fill((row[:, :, None] & column[:, None])[:, None], 0)


def _move(image: Tensor) -> Tensor:
    """Blur all along one line, as a motion does."""
    length, angle = 2 + (MOTION - 2) * torch.rand(()), math.pi * torch.rand(())
    place = torch.arange(MOTION, device=image.device) - MOTION // 2
    along = place * angle.cos() + place[:, None] * angle.sin()
    aside = place * angle.sin() - place[:, None] * angle.cos()
    kernel = (1 - aside.abs()).clamp_min(0) * (length / 2 + 1 / 2 - along.abs()).clamp(0, 1)
    return F.conv2d(image, (kernel / kernel.sum())[None, None], padding=MOTION // 2)


def _stripe(image: Tensor) -> Tensor:
    """Add stripes to each image, across, down or both."""
    least, most = PERIOD
    period = least + (most - least) * torch.rand(len(image), 2, 1, device=image.device)
    phase, width = torch.rand(2, len(image), 2, 1, device=image.device)
    pixel = torch.arange(28, device=image.device)
    lines = (pixel / period + phase) % 1 < 0.2 + 0.4 * width  # [N, 2, 28]
    ways = torch.tensor([[True, False], [False, True], [True, True]], device=image.device)
    row, column = (lines & ways[torch.randint(3, (len(image),)), :, None]).unbind(dim=1)  # [N, 28] each
    light: Tensor = 255 * STRIPES * _each(image) * (row[:, :, None] | column[:, None])[:, None]
    return (image + light).clamp(0, 255)


def _light(image: Tensor) -> Tensor:
    """Add light to each image that grows in a line from one side to the other."""
    x, y = _each(image) * 2 - 1, _each(image) * 2 - 1
    place = torch.arange(28, device=image.device) / 27
    ramp = x * place + y * place[:, None]
    ramp = ramp - ramp.amin(dim=(2, 3), keepdim=True)
    return (image + 255 * GRADIENT * _each(image) * ramp / ramp.amax(dim=(2, 3), keepdim=True)).clamp(0, 255)


def _coarsen(image: Tensor) -> Tensor:
    """Keep fewer pixels of all, and enlarge them again, smoothly or as squares."""
    pixels = int(torch.randint(COARSE, 21, ()))
    mode = "bilinear" if torch.rand(()) < 1 / 2 else "nearest-exact"
    few: Tensor = F.interpolate(image, pixels, mode="area")
    return F.interpolate(few, 28, mode=mode)
