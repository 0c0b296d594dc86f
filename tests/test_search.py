import itertools
import math

import numpy as np
import pytest

from digitsum.search import (
    MARK,
    NOTHING,
    SYMBOLS,
    combine,
    log_probability,
    most_probable_number,
    most_probable_sum,
    plain_marks,
    read_steps,
    single_digits,
)


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


# Numbers


def draw_steps(length: int, seed: int, sharpness: float = 0.5) -> np.ndarray:
    """Draw P(symbol), [length, 12]."""
    return np.random.default_rng(seed).dirichlet(np.full(12, sharpness), length)


def chances(steps: np.ndarray) -> tuple[dict[tuple[int, ...], float], dict[tuple[int, ...], float]]:
    """Go through all alignments: P of each number, whatever marks it has, and P of each plain number."""
    of_all: dict[tuple[int, ...], float] = {}
    of_plain: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(12), repeat=len(steps)):
        symbols = [
            one for one, before in zip(path, (None, *path), strict=False) if one not in (before, NOTHING)
        ]
        number = tuple(one for one in symbols if one != MARK)
        chance = math.prod(step[one] for step, one in zip(steps, path, strict=True))
        of_all[number] = of_all.get(number, 0.0) + chance
        gaps = {sum(one != MARK for one in symbols[:i]) for i, mark in enumerate(symbols) if mark == MARK}
        if all(gap == len(number) or (gap and number[0] and (len(number) - gap) % 3 == 0) for gap in gaps):
            of_plain[number] = of_plain.get(number, 0.0) + chance
    return of_all, of_plain


@pytest.mark.parametrize("seed", range(4))
def test_probabilities_of_numbers_are_those_of_all_alignments(seed: int) -> None:
    steps = draw_steps(4, seed)
    of_all, of_plain = chances(steps)
    assert sum(of_all.values()) == pytest.approx(1)
    for number in list(of_all)[::50]:
        anywhere = np.ones(len(number) + 1, bool)
        assert math.exp(log_probability(steps, list(number), anywhere)) == pytest.approx(of_all[number])
        assert math.exp(log_probability(steps, list(number))) == pytest.approx(of_plain[number])


@pytest.mark.parametrize("sharpness", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_the_number_found_is_the_most_probable_of_all(seed: int, sharpness: float) -> None:
    steps = draw_steps(4, seed, sharpness)
    of_all, of_plain = chances(steps)
    best = max(of_all, key=lambda number: of_all[number])
    reading = read_steps(steps)
    assert tuple(reading.digits) == best
    assert reading.probability == pytest.approx(of_plain[best])


@pytest.mark.parametrize("seed", range(3))
def test_probabilities_of_a_digit_are_of_the_number_with_others_in_its_place(seed: int) -> None:
    steps = draw_steps(4, seed, 2.0)
    of_all, _ = chances(steps)
    reading = read_steps(steps)
    for i, found in enumerate(reading.digit_probabilities):
        others = [(*reading.digits[:i], digit, *reading.digits[i + 1 :]) for digit in range(10)]
        expected = np.array([of_all.get(number, 0) for number in others])
        np.testing.assert_allclose(found, expected / expected.sum())


@pytest.mark.parametrize("seed", range(4))
def test_two_looks_find_the_number_that_is_most_probable_on_average_of_those_of_each(seed: int) -> None:
    looks = [draw_steps(3, seed, 0.3), draw_steps(4, seed + 50, 0.3)]
    of_all, of_plain = zip(*map(chances, looks), strict=True)
    each = [read_steps(steps) for steps in looks]
    reading = combine(looks, each)
    best = max(
        (tuple(one.digits) for one in each),
        key=lambda number: sum(found.get(number, 0) for found in of_plain),
    )
    assert tuple(reading.digits) == best
    assert reading.probability == pytest.approx(sum(found.get(best, 0) for found in of_plain) / 2)
    assert len(reading.places) == len(best)
    for i, found in enumerate(reading.digit_probabilities):
        others = [(*best[:i], digit, *best[i + 1 :]) for digit in range(10)]
        both = np.array([[numbers.get(number, 0) for number in others] for numbers in of_all])
        np.testing.assert_allclose(found, np.mean(both / both.sum(axis=1, keepdims=True), axis=0))


def test_a_mark_that_one_of_two_looks_sees_is_seen() -> None:
    looks = [sure([3, NOTHING, 1]), sure([3, MARK, MARK, 1])]
    reading = combine(looks, [read_steps(steps) for steps in looks])
    assert (reading.digits, reading.marks.tolist()) == ([3, 1], [False, True, False])
    assert reading.probability == pytest.approx(0.5, abs=0.01)


def test_single_digits_are_as_probable_as_their_numbers() -> None:
    steps = draw_steps(4, seed=0)
    _, of_plain = chances(steps)
    np.testing.assert_allclose(single_digits(steps), [of_plain[digit,] for digit in range(10)])


def sure(symbols: list[int], rest: float = 0.001) -> np.ndarray:
    """Return steps that show these symbols, nearly for sure."""
    steps = np.full((len(symbols), 12), rest / 11)
    steps[np.arange(len(symbols)), symbols] = 1 - rest
    return steps


@pytest.mark.parametrize(
    ("shown", "digits", "is_plain"),
    [
        ("1.200", [1, 2, 0, 0], True),
        ("12.345.678-", [1, 2, 3, 4, 5, 6, 7, 8], True),
        ("3.14", [3, 1, 4], False),
        ("12:30", [1, 2, 3, 0], False),
        ("-3", [3], False),
        ("1.2.00", [1, 2, 0, 0], False),
    ],
)
def test_marks_count_against_a_number_but_where_they_part_thousands(
    shown: str, digits: list[int], is_plain: bool
) -> None:
    symbols = [each for one in shown for each in (int(one) if one.isdigit() else MARK, NOTHING)]
    reading = read_steps(sure(symbols))
    assert reading.digits == digits
    assert (reading.probability > 0.95) == is_plain
    assert is_plain or reading.probability < 0.05
    marks = np.cumsum([one.isdigit() for one in shown])[[not one.isdigit() for one in shown]]
    assert np.flatnonzero(reading.marks).tolist() == marks.tolist()


def test_digits_are_placed_where_they_are_seen() -> None:
    reading = read_steps(sure([NOTHING, 7, 7, NOTHING, NOTHING, 2, NOTHING]))
    assert reading.places.tolist() == [[1, 2], [5, 5]]


def test_like_digits_need_a_gap_between_them() -> None:
    assert read_steps(sure([4, 4, 4])).digits == [4]
    assert read_steps(sure([4, NOTHING, 4])).digits == [4, 4]


def test_a_long_number_does_not_underflow() -> None:
    symbols = [each for i in range(400) for each in (i % 10, NOTHING)]
    reading = read_steps(sure(symbols, rest=0.0005))
    assert len(reading.digits) == 400
    assert reading.probability == pytest.approx(0.9995**800, rel=0.05)


def test_steps_that_tell_nothing_end_the_search() -> None:
    steps = np.full((60, 12), 1 / 12)
    assert isinstance(most_probable_number(steps), list)


def test_steps_without_a_digit_are_no_number() -> None:
    reading = read_steps(sure([NOTHING, MARK, NOTHING]))
    assert (reading.digits, reading.places.shape, reading.digit_probabilities.shape) == ([], (0, 2), (0, 10))


@pytest.mark.parametrize(("nothing", "digits"), [(0.84, [7]), (0.86, [])])
def test_where_it_isnt_clear_that_there_is_no_digit_it_is_the_most_probable_one(
    nothing: float, digits: list[int]
) -> None:
    steps = np.zeros((1, SYMBOLS))
    steps[0, [7, 3, NOTHING]] = (1 - nothing) * 0.6, (1 - nothing) * 0.4, nothing
    reading = read_steps(steps)
    assert reading.digits == digits
    assert reading.probability == pytest.approx((1 - nothing) * 0.6 if digits else nothing)


@pytest.mark.parametrize(("second", "digits"), [(0.96, [7, 1]), (0.94, [7])])
def test_what_should_be_one_digit_is_several_only_if_that_is_clear(second: float, digits: list[int]) -> None:
    steps = np.zeros((3, SYMBOLS))
    steps[0, 7] = steps[1, NOTHING] = 1
    steps[2, [1, NOTHING]] = second, 1 - second
    assert read_steps(steps).digits == [7, 1]
    reading = read_steps(steps, of_one=True)
    assert reading.digits == digits
    assert reading.probability == pytest.approx(second if len(digits) > 1 else 1 - second)


def test_what_should_be_one_digit_may_be_none() -> None:
    assert read_steps(sure([NOTHING, NOTHING]), of_one=True).digits == []


def test_marks_may_part_groups_of_three_from_the_right() -> None:
    assert np.flatnonzero(plain_marks([1] * 7)).tolist() == [1, 4, 7]


def test_most_probable_number_may_not_be_that_of_the_best_alignment() -> None:
    # nothing twice is the best alignment, 0.36; but three others spell 5: 0.16 + 2 * 0.24
    steps = np.zeros((2, SYMBOLS))
    steps[:, [5, NOTHING]] = 0.4, 0.6
    assert read_steps(steps).digits == [5]
    assert read_steps(steps).probability == pytest.approx(0.64)


@pytest.mark.parametrize("length", [100, 1600])
def test_steps_that_say_next_to_nothing_have_a_reading_too(length: int) -> None:
    for evenness in (1.0, 5.0):
        reading = read_steps(draw_steps(length, 0, evenness).astype(np.float32))
        assert 0 <= reading.probability < 1e-9
        assert len(reading.digits) < length
        np.testing.assert_allclose(reading.digit_probabilities.sum(axis=1), 1)


def test_search_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = draw_steps(6, seed=3, sharpness=1.0)
    monkeypatch.setattr("digitsum.search.SEARCHED", 0)
    best = np.column_stack([steps[:, :10], steps[:, 10:].sum(axis=1)]).argmax(axis=1).tolist()
    assert read_steps(steps).digits == [d for d, _ in itertools.groupby(best) if d < 10]


def test_probability_of_a_long_number_is_neither_lost_nor_above_one() -> None:
    steps = np.full((1600, SYMBOLS), 1e-6, np.float32)  # which sum to 1.00001
    steps[:, NOTHING] = 1
    steps[::8, NOTHING], steps[::8, 7] = 1e-6, 1
    reading = read_steps(steps)
    assert reading.digits == [7] * 200
    assert 0.97 < reading.probability < 1  # of 1600 steps each is as it seems with 1 - 1.1e-5


def test_marks_behind_a_leading_zero_are_of_a_decimal() -> None:
    symbols = [each for one in "0.125" for each in (int(one) if one.isdigit() else MARK, NOTHING)]
    reading = read_steps(sure(symbols))
    assert reading.digits == [0, 1, 2, 5]
    assert reading.probability < 0.05
    assert np.flatnonzero(plain_marks([0, 1, 2, 5])).tolist() == [4]
