from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform, gaussian_filter, uniform_filter1d

from digitsum.data import augmentation
from digitsum.data.augmentation import damage, distort

IMAGE = torch.zeros(300, 1, 28, 28, dtype=torch.uint8)
IMAGE[:, :, 8:20, 11:17] = 255


@pytest.fixture
def _nothing_random(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ROTATION", "SCALE", "SHEAR", "SHIFT", "ELASTIC"):
        monkeypatch.setattr(augmentation, name, 0.0)


@pytest.mark.usefixtures("_nothing_random")
def test_distort_of_strength_zero_changes_nothing() -> None:
    np.testing.assert_allclose(distort(IMAGE), IMAGE.float(), atol=0.01)


@pytest.mark.usefixtures("_nothing_random")
def test_distort_rotates_as_scipy_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "ROTATION", 0.3)
    monkeypatch.setattr(torch, "rand", lambda *size, device: torch.ones(*size, device=device))  # the bound
    cos, sin = np.cos(0.3), np.sin(0.3)
    matrix = np.array([[cos, sin], [-sin, cos]])  # SciPy counts rows first
    centre = np.array([13.5, 13.5])
    expected = affine_transform(IMAGE[0, 0].numpy().astype(float), matrix, centre - matrix @ centre, order=1)
    np.testing.assert_allclose(distort(IMAGE[:1])[0, 0], expected, atol=0.1)


def test_distort_differs_for_each_image_and_follows_the_seed() -> None:
    torch.manual_seed(0)
    first = distort(IMAGE)
    torch.manual_seed(0)
    again = distort(IMAGE)
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])


def test_distort_keeps_the_range_and_most_of_the_ink() -> None:
    torch.manual_seed(0)
    result = distort(IMAGE)
    assert (result.dtype, result.shape) == (torch.float32, IMAGE.shape)
    assert result.min() >= 0
    assert result.max() <= 255.01
    assert result.mean().item() == pytest.approx(IMAGE.float().mean().item(), rel=0.05)


def test_damage_does_one_thing_to_each_sixteenth_and_leaves_the_rest() -> None:
    torch.manual_seed(0)
    whole = IMAGE[:160]
    parts = damage(whole).split(10)
    noisy, speckled, _, covered, *_, lit, _ = parts[:8]
    assert torch.equal(torch.cat(parts[8:]), whole[80:].float())
    for part in parts[:8]:
        assert (part != whole[:10]).any()
    assert (noisy != whole[:10]).any(dim=(1, 2, 3)).all()
    assert set(speckled.unique().tolist()) == {0, 255}
    assert (covered <= whole[:10]).all()
    lost = (covered != whole[:10]).sum(dim=(1, 2, 3))
    assert 0 < lost.max() <= augmentation.COVER**2
    assert (lit >= whole[:10]).all()


def test_damage_blurs_as_scipy_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "BLUR", (1.0, 1.0))
    blurred = damage(IMAGE[:16])[2, 0]
    np.testing.assert_allclose(blurred, gaussian_filter(IMAGE[0, 0].numpy().astype(float), 1.0), atol=0.1)


def test_damage_blurs_by_motion_as_scipy_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda *size, device=None: torch.ones(*size))  # the longest, sideways
    moved = damage(IMAGE[:16])[4, 0]
    expected = uniform_filter1d(IMAGE[0, 0].numpy().astype(float), augmentation.MOTION, mode="constant")
    np.testing.assert_allclose(moved, expected, atol=0.1)


def test_fewer_pixels_are_means_of_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.randint
    monkeypatch.setattr(
        torch,
        "randint",
        lambda low, *rest, **on: torch.tensor(14) if low == augmentation.COARSE else draw(low, *rest, **on),
    )
    monkeypatch.setattr(torch, "rand", lambda *size, device=None: torch.ones(*size))  # not smoothed
    image = torch.arange(784.0).view(1, 1, 28, 28).expand(16, 1, 28, 28) / 4
    expected = image[0, 0].numpy().reshape(14, 2, 14, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(damage(image)[7, 0], np.kron(expected, np.ones((2, 2))), atol=1e-3)


def test_stripes_are_of_one_grey_and_run_from_edge_to_edge() -> None:
    torch.manual_seed(0)
    for image in damage(torch.zeros(320, 1, 28, 28))[100:120, 0]:
        assert image.unique().numel() == 2
        lit = image > 0
        rows, columns = lit.all(dim=1), lit.all(dim=0)
        assert torch.equal(lit, rows[:, None] | columns)


def test_light_grows_in_a_line_from_nothing() -> None:
    torch.manual_seed(0)
    for image in damage(torch.zeros(320, 1, 28, 28))[120:140, 0].numpy():
        assert image.min() == 0
        assert 0 < image.max() <= 255 * augmentation.GRADIENT
        for axis in (0, 1):
            np.testing.assert_allclose(np.diff(image, 2, axis=axis), 0, atol=1e-3)


def test_damage_keeps_the_range_and_follows_the_seed() -> None:
    torch.manual_seed(0)
    first = damage(IMAGE)
    torch.manual_seed(0)
    assert torch.equal(damage(IMAGE), first)
    assert first.min() == 0
    assert first.max().item() == pytest.approx(255)


@pytest.mark.parametrize("count", [0, 1, 15])
def test_damage_of_a_batch_too_small_for_a_sixteenth_changes_nothing(count: int) -> None:
    assert torch.equal(damage(IMAGE[:count]), IMAGE[:count].float())


@pytest.mark.parametrize("change", [distort, damage])
def test_no_images_stay_none(change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    changed = change(torch.zeros(0, 1, 28, 28, dtype=torch.uint8))
    assert (changed.shape, changed.dtype) == ((0, 1, 28, 28), torch.float32)
