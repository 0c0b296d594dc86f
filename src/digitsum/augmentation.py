"""Distortions of a batch of images, on the device it is on: each image is another one every epoch."""

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


def augment(image: Tensor) -> Tensor:
    """Rotate, scale, shear, shift and bend each image at random.

    The affine part is drawn uniformly; the elastic part (after Simard, Steinkraus and Platt, 2003,
    doi:10.1109/ICDAR.2003.1227801) is a smooth field through normal displacements of a few knots. Both
    are one resampling of the whole batch.

    Parameters
    ----------
    image
        uint8 [N, 1, 28, 28].

    Returns
    -------
    Tensor
        float32 [N, 1, 28, 28], pixels from 0 to 255, not rounded.
    """
    size = (len(image), 1, 28, 28)
    grid = F.affine_grid(_affine(len(image), image.device), list(size), align_corners=False)
    knots = torch.randn(len(image), 2, KNOTS, KNOTS, device=image.device) * ELASTIC / 14
    bend = F.interpolate(knots, (28, 28), mode="bicubic", align_corners=True)  # [N, 2, 28, 28]
    return F.grid_sample(image.float(), grid + bend.permute(0, 2, 3, 1), align_corners=False)


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
