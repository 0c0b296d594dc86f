"""search.js beside search.py: the same number, probabilities, places and marks, and the same doubts.

The node that playwright's package brings runs it, so this needs no browser.
"""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from node import Ask, asked
from numpy.random import Generator

from digitsum import search
from digitsum.prediction import _doubt
from digitsum.reading.strips import Row
from digitsum.search import (
    MARK,
    NOTHING,
    SYMBOLS,
    Reading,
    combine,
    log_probability,
    read_steps,
    single_digits,
)

Steps = np.ndarray  # P(symbol), [T, 12]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """One process for all questions: it gives what search.js answers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "SEARCHED", 500)  # a fortieth, to be quick
        with asked("search.js", tmp_path_factory.mktemp("node")) as ask:
            yield ask


def kinds_read_alike(ask: Ask, steps: Steps, may_have_lost: bool = False) -> set[str]:
    """What kind of steps they are for Python; search.js reads the same in them."""
    steps = steps.astype(np.float32)
    answer, expected = ask(looks=[steps.tolist()], mayHaveLost=may_have_lost), read_steps(steps)
    digits = expected.digits
    doubt = _doubt(expected, Row(np.zeros((32, 4 * len(steps)), np.uint8), may_have_lost))
    assert answer["doubt"] == doubt
    for reading in (answer["readings"][0], answer["combined"]):
        assert_alike(reading, expected)
    np.testing.assert_allclose(answer["singles"], single_digits(steps), rtol=1e-9)
    kinds = {
        "plain": doubt is None,
        "searched": log_probability(steps, digits, np.ones(len(digits) + 1, bool)) < math.log(0.5),
        "empty": not digits,
        "doubled": any(one == other for one, other in pairwise(digits)),
        "marked": bool(expected.marks.any()),
        "doubtful": doubt is not None and not may_have_lost,
        "lost": may_have_lost,
    }
    return {kind for kind, holds in kinds.items() if holds}


def assert_alike(reading: dict[str, Any], expected: Reading) -> None:
    assert reading["digits"] == expected.digits
    assert reading["places"] == expected.places.tolist()
    assert reading["marks"] == expected.marks.tolist()
    assert reading["probability"] == pytest.approx(expected.probability, rel=1e-9, abs=0)
    found = np.reshape(reading["digitProbabilities"], (-1, 10))
    np.testing.assert_allclose(found, expected.digit_probabilities, rtol=0, atol=1e-9)


# Steps of all kinds


def flat(rng: Generator, length: int) -> Steps:
    return rng.dirichlet(np.full(SYMBOLS, 2), length)


def peaky(rng: Generator, length: int) -> Steps:
    return rng.dirichlet(np.full(SYMBOLS, 0.1), length)


def blank(rng: Generator, length: int) -> Steps:
    """Hardly a digit."""
    return rng.dirichlet([*np.full(10, 0.01), 0.5, 4], length)


def row(rng: Generator, length: int) -> Steps:
    """Of digits, some of them doubled, each seen for some steps, with gaps and marks between them."""
    symbols: list[int] = []
    while len(symbols) < length:
        gap = rng.choice([NOTHING, NOTHING, MARK])
        digit = rng.integers(10) if rng.random() < 0.7 or not symbols else symbols[-1]
        symbols += [gap] * rng.integers(0, 4) + [digit] * rng.integers(1, 4)
    sure = rng.uniform(0.3, 1)
    return sure * np.eye(SYMBOLS)[symbols[:length]] + (1 - sure) * peaky(rng, length)


KINDS = {
    flat: {"plain", "searched", "doubled", "marked", "doubtful", "lost"},
    peaky: {"plain", "searched", "doubled", "marked", "doubtful", "lost"},
    blank: {"plain", "empty", "marked", "doubtful", "lost"},
    row: {"plain", "searched", "empty", "doubled", "marked", "doubtful", "lost"},
}


@pytest.mark.parametrize(("way", "kinds"), KINDS.items())
def test_steps_are_read_alike(ask: Ask, way: Callable[[Generator, int], Steps], kinds: set[str]) -> None:
    rng, found = np.random.default_rng(0), set()
    for length in [*range(1, 31), 60, *rng.integers(2, 12, 40)]:
        found |= kinds_read_alike(ask, way(rng, length), may_have_lost=bool(rng.random() < 0.1))
    assert kinds <= found


@pytest.mark.parametrize("way", KINDS)
def test_two_looks_are_combined_alike(ask: Ask, way: Callable[[Generator, int], Steps]) -> None:
    rng, chosen = np.random.default_rng(0), set()
    for length in range(1, 16):
        first = way(rng, length)
        share = rng.uniform(0, 1)  # of steps that are alike, as of one row
        second = share * first + (1 - share) * way(rng, length)
        looks = [steps.astype(np.float32) for steps in (first, np.repeat(second, rng.integers(1, 3), axis=0))]
        readings = [read_steps(steps) for steps in looks]
        combined = combine(looks, readings)
        assert_alike(ask(looks=[steps.tolist() for steps in looks], mayHaveLost=False)["combined"], combined)
        chosen.add((combined.digits == readings[0].digits, combined.digits == readings[1].digits))
    assert chosen >= ({(True, False), (False, True)} if way is not blank else {(True, True)})


def test_what_is_certain_equal_or_very_long_is_read_alike(ask: Ask) -> None:
    rng, symbols = np.random.default_rng(0), np.eye(SYMBOLS)
    for steps in (
        symbols[[1, MARK, 2, 2, NOTHING, 2, MARK, 0, 0, NOTHING, 0, MARK]],  # 1·22·00: no thousands
        symbols[[1, MARK, 2, NOTHING, 2, 0, MARK, 3, NOTHING, 3, NOTHING, 3]],  # 1·220·333
        symbols[[0, MARK, 1, 2, 3]],
        symbols[[MARK, 5]],
        symbols[[MARK, MARK]],
        symbols[[NOTHING] * 60],
        symbols[[7]],
        (symbols[[3, 4, 8]] + symbols[[5, 2, 9]]) / 2,
        np.full((1, SYMBOLS), 1 / SYMBOLS),
        np.full((8, SYMBOLS), 1 / SYMBOLS),
        row(rng, 700),
    ):
        kinds_read_alike(ask, steps)
