import itertools
import math

import numpy as np
import pytest

from digitsum.search import most_probable_sum


def readings(length: int, seed: int, sharpness: float) -> np.ndarray:
    """Draw P(digit), [length, 10]."""
    scores = np.exp(sharpness * np.random.default_rng(seed).standard_normal((length, 10)))
    return scores / scores.sum(axis=1, keepdims=True)


def number_chances(digits: np.ndarray) -> np.ndarray:
    """Give P(number), [10^N]."""
    return np.array([math.prod(chosen) for chosen in itertools.product(*digits)])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("length", "sharpness"), [(1, 1.0), (2, 1.0), (3, 0.5), (3, 2.0)])
def test_sum_and_probability_are_those_of_brute_force(length: int, sharpness: float, seed: int) -> None:
    top, bottom = readings(length, seed, sharpness), readings(length, seed + 100, sharpness)
    chances = np.convolve(number_chances(top), number_chances(bottom))
    digits, log_probability = most_probable_sum(top, bottom)
    assert int("".join(map(str, digits))) == chances.argmax()
    assert math.exp(log_probability) == pytest.approx(chances.max())


def test_probability_of_a_very_long_sum_does_not_underflow() -> None:
    digits, log_probability = most_probable_sum(np.full((2000, 10), 0.1), np.eye(10)[[0] * 2000])
    assert len(digits) == 2001
    assert log_probability == pytest.approx(2000 * math.log(0.1))


def test_numbers_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        most_probable_sum(np.eye(10)[:3], np.eye(10)[:2])
