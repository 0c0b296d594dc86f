"""Synthetic rows: what they show, and that they follow from their generator."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from digitsum.data import mnist, rows
from digitsum.data.rows import RowSource, draw_row
from digitsum.data.strokes import draw_digits
from digitsum.reading.strips import MARGIN
from digitsum.search import MARK
from digitsum.types import HEIGHT, Int64Array, UInt8Array

Digits = tuple[UInt8Array, Int64Array]
INNER = set(".,:/-+ '")


@pytest.fixture(scope="module")
def digits() -> Digits:
    return draw_digits(200, np.random.default_rng(0))


@pytest.fixture(scope="module")
def bars() -> Digits:
    """Make twenty thin 1s."""
    images = np.zeros((20, 28, 28), np.uint8)
    images[:, 4:24, 13:15] = 255
    return images, np.ones(20, np.int64)


@pytest.fixture
def _unmarked(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("THOUSANDS", "WITHIN", "AFTER", "BEFORE", "CELLS", "JOINED"):
        monkeypatch.setattr(rows, kind, 0)


def test_symbols_are_the_digits_that_are_written_and_one_mark_at_each_place_of_marks(digits: Digits) -> None:
    images, labels = digits
    for seed in range(100):
        chosen = rows._choose(labels, np.random.default_rng(seed))
        _, symbols = rows._write(images[chosen], labels[chosen], np.random.default_rng(seed))
        np.testing.assert_array_equal(symbols[symbols != MARK], labels[chosen])
        assert np.all(np.diff(np.flatnonzero(symbols == MARK)) > 1)  # never two in a row


def test_no_mark_is_left_out_and_none_stands_outside_of_a_short_number() -> None:
    seen: dict[str, set[str]] = {"before": set(), "within": set(), "after": set()}
    for seed in range(5000):
        count = seed % 9 + 1
        for place, mark in rows._punctuate(count, np.random.default_rng(seed)).items():
            assert -1 <= place < count
            where = "before" if place < 0 else "after" if place == count - 1 else "within"
            seen[where].add(mark)
    assert seen == {
        "before": set("-.=+"),
        "within": INNER,
        "after": {"-", "=", ".", ",", ".-", "=="},
    }


def test_rows_of_every_length_occur_and_some_end_with_zeros_or_repeat_a_digit(digits: Digits) -> None:
    labels, rng = digits[1], np.random.default_rng(0)
    drawn = [labels[rows._choose(labels, rng)] for _ in range(2000)]
    assert {len(row) for row in drawn} == set(range(1, rows.LONGEST + 1))
    four = np.array([row for row in drawn if len(row) == 4])
    assert 0.05 < np.mean((four[:, 2:] == 0).all(axis=1)) < 0.25  # by chance 0.01
    assert 0.01 < np.mean((four[:, 1:] == four[:, :1]).all(axis=1) & (four[:, 0] > 0)) < 0.1


def test_what_shows_no_digit_has_no_symbols(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "EMPTY", 1)
    rng = np.random.default_rng(0)
    for non_digits in (digits[0][:0], digits[0][:5]):
        assert all(len(draw_row(*digits, non_digits, rng).symbols) == 0 for _ in range(50))


@pytest.mark.usefixtures("_unmarked")
def test_no_digit_hides_the_one_before(bars: Digits) -> None:
    for seed in range(100):
        ink, _ = rows._write(*bars, np.random.default_rng(seed))
        columns = np.flatnonzero((ink > 0.3).any(axis=0))
        # each of 19 steps at least a fifth of the smallest size, in whole pixels
        assert np.ptp(columns) >= 19 * (0.2 * 0.85 * rows.TALL - 1)


@pytest.mark.usefixtures("_unmarked")
def test_gap_that_is_a_mark_is_twice_as_wide_as_every_other(
    bars: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "_punctuate", lambda count, rng: {2: " "})
    monkeypatch.setattr(rows, "_gap", lambda rng: rng.uniform(0.3, 1.5))
    images, labels = bars
    for seed in range(100):
        ink, symbols = rows._write(images[:6], labels[:6], np.random.default_rng(seed))
        assert symbols.tolist() == [1, 1, 1, MARK, 1, 1, 1]
        columns = np.flatnonzero((ink > 0.3).any(axis=0))
        gaps = np.diff(columns)[np.diff(columns) > 1] - 1
        if len(gaps) == 5:
            assert gaps.argmax() == 2
            assert gaps[2] >= 2 * np.delete(gaps, 2).max()


def test_images_without_ink_make_rows_without_a_fault() -> None:
    blank = np.zeros((3, 28, 28), np.uint8)
    for seed in range(60):
        assert len(draw_row(blank, np.array([1, 2, 3]), blank[:0], np.random.default_rng(seed)).strip) == 32


def test_digits_much_wider_than_tall_are_all_on_the_canvas() -> None:
    images = np.zeros((5, 28, 28), np.uint8)
    images[:, 13:15, 4:24] = 255  # ten times as wide, in a user's own folder
    for seed in range(100):
        ink, symbols = rows._write(images, np.arange(5), np.random.default_rng(seed))
        assert symbols[symbols != MARK].tolist() == [0, 1, 2, 3, 4]
        assert (ink[:, -2 * rows.TALL :] > 0.3).any()  # the last one's, too


def test_batch_holds_rows_of_like_width_each_after_the_other(digits: Digits) -> None:
    source = RowSource([digits], [1.0], digits[0][:5])
    batches = source.batches(8, 3, np.random.default_rng(0))
    widths = []
    for strips, symbols, lengths in batches:
        assert (strips.dtype, strips.shape[:3], strips.shape[3] % 4) == (np.uint8, (8, 1, HEIGHT), 0)
        assert len(lengths) == 8
        assert lengths.sum() == len(symbols)
        widths.append([int(np.flatnonzero(strip.any(axis=(0, 1)))[-1]) for strip in strips])
    widths.sort(key=min)
    for narrow, wide in pairwise(widths):
        assert max(narrow) <= min(wide) + 2 * MARGIN + 24  # places, and paper at a strip's end


@pytest.fixture(scope="module")
def source() -> RowSource:
    digits, chosen = mnist.load(), slice(0, None, 10)
    letters = np.zeros((1, 28, 28), np.uint8)
    letters[0, 4:24, 4:24] = np.eye(20, dtype=np.uint8) * 255
    return RowSource([(digits.images[chosen, 0], digits.labels[chosen])], [1.0], letters)


def test_rows_are_strips_with_the_symbols_that_they_show(source: RowSource) -> None:
    rng = np.random.default_rng(0)
    drawn = [source.draw(rng) for _ in range(300)]
    for strip, symbols in drawn:
        assert (strip.dtype, strip.shape[0], symbols.dtype) == (np.uint8, 32, np.int64)
        # a step for each symbol, and one more between like ones
        assert strip.shape[1] // 4 >= len(symbols) + np.count_nonzero(np.diff(symbols) == 0)
    lengths = Counter(np.count_nonzero(symbols < MARK) for _, symbols in drawn)
    assert all(lengths[count] for count in range(8))  # none is a row without a digit
    assert max(lengths) > 8
    assert {symbol for _, symbols in drawn for symbol in symbols.tolist()} == set(range(11))


def test_rows_follow_from_their_generator(source: RowSource) -> None:
    first, again, other = (source.draw(np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.strip, again.strip)
    np.testing.assert_array_equal(first.symbols, again.symbols)
    assert first.strip.shape != other.strip.shape or not np.array_equal(first.strip, other.strip)


def test_marks_within_a_number_part_thousands_or_stand_alone() -> None:
    rng = np.random.default_rng(0)
    kinds = Counter[str]()
    for _ in range(500):
        marks = rows._punctuate(7, rng)
        within = sorted(set(marks) & set(range(6)))
        assert within == [0, 3] or len(within) <= 1
        kinds.update("thousands" if within == [0, 3] else "within" if within else "none" for _ in "1")
        kinds.update(kind for kind, place in (("before", -1), ("after", 6)) if place in marks)
    assert min(kinds[kind] for kind in ("thousands", "within", "none", "before", "after")) > 20


def test_of_one_more_digit_beside_a_row_less_than_half_is_seen() -> None:
    ink, block = np.zeros((3 * rows.TALL, 400), np.float32), np.full((1, 28, 28), 255, np.uint8)
    ink[rows.TALL : 2 * rows.TALL, 200:210] = 1  # a 1
    sides = Counter[str]()
    for seed in range(50):
        wide, visible = rows._set_beside(ink, block, np.array([8]), np.random.default_rng(seed))
        columns = (wide[:, visible] > 0.3).any(axis=0)
        runs = np.flatnonzero(np.diff(columns.astype(int), prepend=0, append=0)).reshape(-1, 2)
        shown = np.diff(runs).ravel().tolist()
        assert 10 in shown
        assert sum(shown) - 10 < 0.7 * rows.TALL
        sides["before" if visible.stop is None else "after"] += len(shown) == 2  # not a part too faint
    assert min(sides.values()) > 10


@pytest.mark.parametrize(
    ("digit", "places"), [(1, {"none"}), (4, {"none", "after"}), (6, {"before", "none"})]
)
def test_no_part_that_looks_like_a_1_is_set_beside_a_row(digit: int, places: set[str]) -> None:
    ink, block = np.zeros((3 * rows.TALL, 400), np.float32), np.full((1, 28, 28), 255, np.uint8)
    ink[rows.TALL : 2 * rows.TALL, 200:210] = 1
    found = set()
    for seed in range(30):
        wide, visible = rows._set_beside(ink, block, np.array([digit]), np.random.default_rng(seed))
        # what is set before a row is cut at its left
        found.add("none" if wide is ink else "before" if visible.stop is None else "after")
    assert found == places


def test_zeros_at_the_end_are_lower_in_some_rows_and_1s_taller_in_others() -> None:
    sizes = np.array(
        [rows._proportions(np.array([1, 0, 2, 0, 0]), np.random.default_rng(i)) for i in range(400)]
    )
    assert (sizes[:, 1:3] == 1).all()  # a zero that more digits follow, and another digit
    np.testing.assert_array_equal(sizes[:, 3], sizes[:, 4])
    assert 0.45 <= sizes[:, 3].min() < 0.6
    assert np.mean(sizes[:, 3] < 1) == pytest.approx(rows.LOWER, abs=0.08)
    assert 1.2 < sizes[:, 0].max() <= 1.4
    assert np.mean(sizes[:, 0] > 1) == pytest.approx(rows.TALLER, abs=0.08)


@pytest.mark.parametrize("number", [[0, 0, 0], [1, 1]])
def test_zeros_or_1s_alone_are_of_the_row_s_size(number: list[int]) -> None:
    """Beside nothing there is nothing that they could be lower or taller than."""
    sizes = [rows._proportions(np.array(number), np.random.default_rng(seed)) for seed in range(20)]
    np.testing.assert_array_equal(sizes, np.ones_like(sizes))
