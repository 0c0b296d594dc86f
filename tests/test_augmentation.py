import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from digitsum import augmentation
from digitsum.augmentation import augment

IMAGE = torch.zeros(300, 1, 28, 28, dtype=torch.uint8)
IMAGE[:, :, 8:20, 11:17] = 255


@pytest.fixture
def _nothing_random(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ROTATION", "SCALE", "SHEAR", "SHIFT", "ELASTIC"):
        monkeypatch.setattr(augmentation, name, 0.0)


@pytest.mark.usefixtures("_nothing_random")
def test_augment_of_strength_zero_changes_nothing() -> None:
    np.testing.assert_allclose(augment(IMAGE), IMAGE.float(), atol=0.01)


@pytest.mark.usefixtures("_nothing_random")
def test_augment_rotates_as_scipy_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "ROTATION", 0.3)
    monkeypatch.setattr(torch, "rand", lambda *size, device: torch.ones(*size, device=device))  # the bound
    cos, sin = np.cos(0.3), np.sin(0.3)
    matrix = np.array([[cos, sin], [-sin, cos]])  # SciPy counts rows first
    centre = np.array([13.5, 13.5])
    expected = affine_transform(IMAGE[0, 0].numpy().astype(float), matrix, centre - matrix @ centre, order=1)
    np.testing.assert_allclose(augment(IMAGE[:1])[0, 0], expected, atol=0.1)


def test_augment_differs_for_each_image_and_follows_the_seed() -> None:
    torch.manual_seed(0)
    first = augment(IMAGE)
    torch.manual_seed(0)
    again = augment(IMAGE)
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])


def test_augment_keeps_the_range_and_most_of_the_ink() -> None:
    torch.manual_seed(0)
    result = augment(IMAGE)
    assert (result.dtype, result.shape) == (torch.float32, IMAGE.shape)
    assert result.min() >= 0
    assert result.max() <= 255.01
    assert result.mean().item() == pytest.approx(IMAGE.float().mean().item(), rel=0.05)
