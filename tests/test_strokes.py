import numpy as np
import pytest
from scipy.interpolate import CubicHermiteSpline
from scipy.ndimage import center_of_mass

from digitsum.data.strokes import FORMS, curve, draw_digits
from digitsum.prediction import Predictor
from digitsum.reading.imaging import fit_ink, read_picture


def test_curve_is_scipys_spline_with_the_slopes_of_catmull_and_rom() -> None:
    joints = np.random.default_rng(0).random((5, 2))
    slopes = np.gradient(joints, axis=0)  # half the way from the joint before to the one after
    expected = CubicHermiteSpline(range(5), joints, slopes)(np.linspace(0, 4, 49))
    np.testing.assert_allclose(curve(joints), expected, atol=1e-12)


def test_drawn_digits_are_prepared_as_mnists_are() -> None:
    images, _ = draw_digits(100, np.random.default_rng(0))
    assert (images.dtype, images.shape) == (np.uint8, (100, 28, 28))
    for image in images:
        assert image.max() == 255
        rows, columns = np.nonzero(image)
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
        np.testing.assert_allclose(center_of_mass(image), 14, atol=1)


def test_drawn_digits_differ_and_follow_the_seed() -> None:
    (first, digits), (again, same), (other, _) = (
        draw_digits(30, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(digits, same)
    assert len(np.unique(np.concatenate([first, other]), axis=0)) == 60


def test_drawn_digits_are_read_as_what_they_show() -> None:
    images, digits = draw_digits(500, np.random.default_rng(1))
    probabilities, _ = Predictor("exact", threads=1).probabilities(images[:, None], np.zeros(500, np.int64))
    assert np.mean(probabilities.argmax(axis=1) == digits) > 0.95


def test_no_two_forms_are_the_same() -> None:
    forms = [form for forms in FORMS.values() for form in forms]
    assert len(set(forms)) == len(forms)
    assert set(FORMS) == set(range(10))


@pytest.mark.parametrize("height", [100, 200])
def test_fit_ink_ends_as_reading_a_picture_does(height: int) -> None:
    ink = np.zeros((300, 300), np.float32)
    ink[50 : 50 + height, 100:112] = ink[50:62, 100:160] = 1
    np.testing.assert_array_equal(fit_ink(ink), read_picture((255 * (1 - ink)).astype(np.uint8)))
