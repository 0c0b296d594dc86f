"""The most probable number and the most probable sum, exactly, where digits are only probable.

    reading = read_steps(steps)   # [T, 12], what a network of rows says of each step along a strip
    digits, log_probability = most_probable_sum(top, bottom)   # [N, 10] each

A network of rows says for each step which symbol it sees. An alignment gives each step one symbol; like
symbols of neighbouring steps are one, and what says nothing is left out (connectionist temporal
classification, Graves et al., 2006). A number is as probable as all its alignments together. Nothing here
needs torch.
"""

import heapq
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from digitsum.types import Array, Mask

# What a network of rows sees at each step along a strip: one of ten digits, a mark or nothing
MARK = 10  # a point, comma, colon, slash, sign, or a gap much wider than the others
NOTHING = 11
SYMBOLS = 12
CERTAIN = 0.92  # an answer with a lower probability is called uncertain; 1.4 % of held-out digits are
NO_DIGIT = 0.85  # that a strip shows no digit is believed if it is as probable
SURE = 0.98  # a number that is as probable at the first look isn't looked at again
ONE_DIGIT = 0.05  # of what should be one digit several are believed if one isn't as probable
GROUP = 3  # digits between marks that part thousands
SEARCHED = 20_000  # steps, at most, that the search goes through, of all prefixes together
TINY = 1e-300  # in place of a divisor of 0


def most_probable_sum(top: Array, bottom: Array) -> tuple[Array, float]:
    """Find the most probable sum of two numbers, and the logarithm of its probability.

    It isn't always the sum of the most probable digits: many pairs of numbers have the same sum, and their
    probabilities add up.

    The search goes from the right and keeps, of the digits so far, every choice that may still win. The
    probability of whatever follows is linear in that of the digits so far with a carry and without, so only
    choices on the convex hull of those two can.

    Parameters
    ----------
    top, bottom
        P(digit), float [N, 10] each, the most significant digit first.

    Returns
    -------
    tuple
        The digits of the sum, int64 [N + 1], the first of which is 0 or 1, and log P(sum).

    Examples
    --------
    >>> top, bottom = np.zeros((1, 10)), np.zeros((1, 10))
    >>> top[0, [1, 5, 6]], bottom[0, [1, 2]] = [0.4, 0.3, 0.3], [0.55, 0.45]
    >>> digits, log_probability = most_probable_sum(top, bottom)  # 1 + 1: 0.22; 5 + 2 or 6 + 1: 0.3
    >>> digits.tolist(), round(math.exp(log_probability), 3)
    ([0, 7], 0.3)
    """
    without, carried = np.ones(1), np.zeros(1)  # probabilities of each kept choice, by the carry it ends with
    steps, log_scale = [], 0.0
    for pair in zip(top[::-1], bottom[::-1], strict=True):
        # rows: kept choices; columns: the digits 0 to 9 of the sum. A carry in needs one less of the column
        shifted = np.concatenate([[0.0], np.convolve(*pair), [0.0]])
        out = [
            np.outer(without, shifted[k + 1 : k + 11]) + np.outer(carried, shifted[k : k + 10])
            for k in (0, 10)
        ]
        scale = max(out[0].max(), out[1].max())  # only the ratios matter to the search: nothing underflows
        log_scale += math.log(scale)
        kept = _hull(out[0].ravel() / scale, out[1].ravel() / scale)
        without, carried = out[0].ravel()[kept] / scale, out[1].ravel()[kept] / scale
        steps.append(kept)
    first = int(carried.max() > without.max())
    chances = carried if first else without
    choice = int(chances.argmax())
    log_probability = math.log(chances[choice]) + log_scale
    digits = []
    for kept in reversed(steps):
        choice, digit = divmod(int(kept[choice]), 10)
        digits.append(digit)
    return np.array([first, *digits]), log_probability


def _hull(x: Array, y: Array) -> Array:
    """Return the numbers of the points that are furthest in some direction of the first quadrant."""
    hull: list[int] = []
    for point in np.lexsort((-y, -x)):
        if hull and y[point] <= y[hull[-1]]:
            continue
        while len(hull) > 1 and _turns_in(x, y, hull[-2], hull[-1], point):
            hull.pop()
        hull.append(int(point))
    return np.array(hull)


def _turns_in(x: Array, y: Array, a: int, b: int, c: int) -> bool:
    """Return whether b lies on or within the line from a to c."""
    return bool((x[b] - x[a]) * (y[c] - y[a]) <= (x[c] - x[a]) * (y[b] - y[a]))


class Reading(NamedTuple):
    """What steps say of a number.

    Attributes
    ----------
    digits
        Of the most probable number, whatever marks are among them.
    probability
        How probable that number is as it stands: marks are only where `plain_marks` lets them be.
    digit_probabilities
        float64 [K, 10]: of each place, how probable the number is with each digit there, together 1.
    places
        int64 [K, 2]: the steps from which to which each digit is seen.
    marks
        bool [K + 1]: whether a mark is seen before the first digit, after it, and after each other.
    """

    digits: list[int]
    probability: float
    digit_probabilities: Array
    places: Array
    marks: Mask


def read_steps(steps: Array, of_one: bool = False) -> Reading:
    """Find the most probable number, and how probable it is.

    Where it isn't clear whether there is any digit, it is the most probable single one.

    Parameters
    ----------
    steps
        P(symbol), float [T, 12].
    of_one
        Whether it should be one digit: then it is the most probable one, unless there are clearly several.

    Examples
    --------
    >>> steps = np.full((5, 12), 0.001)
    >>> steps[[0, 1, 2, 3, 4], [4, NOTHING, 2, MARK, NOTHING]] = 0.989
    >>> reading = read_steps(steps)
    >>> reading.digits, round(reading.probability, 2), reading.marks.tolist()
    ([4, 2], 0.95, [False, False, True])
    """
    steps = _normalised(steps)
    digits = most_probable_number(steps)
    if not digits or (of_one and len(digits) > 1):
        ones = single_digits(steps)
        is_one = ones.sum() >= ONE_DIGIT if digits else math.exp(log_probability(steps, [])) < NO_DIGIT
        if is_one:
            digits = [int(ones.argmax())]
    return _read_as(steps, digits)


def combine(looks: Sequence[Array], readings: Sequence[Reading]) -> Reading:
    """Average the probabilities of several looks at a row: of the numbers found, the most probable one so.

    Parameters
    ----------
    looks
        P(symbol) of each, float [T, 12], T as it likes.
    readings
        Of each what `read_steps` found. Places are those of the first.

    Examples
    --------
    >>> looks = np.full((2, 1, 12), 1e-9)
    >>> looks[0, 0, [1, 7]], looks[1, 0, [1, 7]] = (0.6, 0.4), (0.1, 0.9)
    >>> reading = combine(looks, [read_steps(steps) for steps in looks])
    >>> reading.digits, round(reading.probability, 3)
    ([7], 0.65)
    """
    choices = [
        [
            own if own.digits == found.digits else _read_as(_normalised(steps), found.digits)
            for steps, own in zip(looks, readings, strict=True)
        ]
        for found in readings
    ]
    each = max(choices, key=lambda choice: sum(reading.probability for reading in choice))
    return Reading(
        each[0].digits,
        float(np.mean([reading.probability for reading in each])),
        np.mean([reading.digit_probabilities for reading in each], axis=0),
        each[0].places,
        np.any([reading.marks for reading in each], axis=0),
    )


def _read_as(steps: Array, digits: list[int]) -> Reading:
    """Find how probable a number is, where its digits stand, and which marks are among them."""
    anywhere = np.ones(len(digits) + 1, bool)
    runs = _emitted(steps, digits, np.stack([anywhere, anywhere, plain_marks(digits)]))
    runs[1] = runs[1, ::-1, ::-1]  # from the end
    follows = _may_follow([digits, digits[::-1], digits])
    (forward, backward, plain), (scales, back_scales, plain_scales) = _forward(runs, follows)
    backward, back_scales = backward[::-1, ::-1], back_scales[::-1]
    # P(the alignment is in a state at a step | the number); each state's emission is in both factors
    occupied = forward * backward / np.maximum(runs[0], TINY)
    occupied /= np.maximum(occupied.sum(axis=1, keepdims=True), TINY)
    seen = occupied[:, 1::2]
    strong = seen >= seen.max(axis=0, initial=0) / 2
    places = np.stack([strong.argmax(axis=0), len(steps) - 1 - strong[::-1].argmax(axis=0)], axis=1)
    share = steps[:, MARK] / np.maximum(steps[:, MARK] + steps[:, NOTHING], TINY)
    return Reading(
        digits,
        math.exp(_log_totals(plain[np.newaxis], plain_scales[np.newaxis])[0]),
        _replaced(steps, digits, (forward, scales), (backward, back_scales)),
        places,
        (occupied[:, ::2] * share[:, np.newaxis]).max(axis=0) > 0.5,
    )


def log_probability(steps: Array, digits: list[int], marks: Mask | None = None) -> float:
    """Return the logarithm of the probability of a number, over all alignments; -inf if it has none.

    Parameters
    ----------
    steps
        P(symbol), float [T, 12].
    digits
        Of the number, any count.
    marks
        bool [K + 1], before, between and after which digits marks may stand; by default `plain_marks`.

    Examples
    --------
    >>> steps = np.full((1, 12), 1e-9)
    >>> steps[0, [7, MARK]] = 0.75, 0.25
    >>> round(math.exp(log_probability(steps, [7])), 3), round(math.exp(log_probability(steps, [])), 3)
    (0.75, 0.25)
    """
    marks = plain_marks(digits) if marks is None else marks
    runs = _emitted(_normalised(steps), digits, marks[np.newaxis])
    return float(_log_totals(*_forward(runs, _may_follow([digits])))[0])


def plain_marks(digits: list[int]) -> Mask:
    """Return where marks may stand that don't change a whole number, bool [K + 1].

    They part thousands, or stand after the last digit. Behind a leading zero they are of a decimal.

    Examples
    --------
    >>> plain_marks([1, 2, 0, 0]).tolist()  # 1.200-
    [False, True, False, False, True]
    >>> plain_marks([0, 1, 2, 5]).tolist()  # 0.125 isn't 125
    [False, False, False, False, True]
    """
    count = len(digits)
    place = np.arange(count + 1)
    if digits[:1] == [0]:
        return np.asarray(place == count)
    return np.asarray((place == count) | ((place > 0) & ((count - place) % GROUP == 0)))


def single_digits(steps: Array) -> Array:
    """Return the probabilities that there is one digit alone, and that it is 0, ..., 9: float64 [10]."""
    steps = _normalised(steps)
    before = np.broadcast_to(steps[:, NOTHING], (10, len(steps)))
    after = before + steps[:, MARK]
    emitted = np.stack([before, steps[:, :10].T, after], axis=2)
    return np.asarray(np.exp(_log_totals(*_forward(emitted, np.ones((10, 0))))))


def most_probable_number(steps: Array) -> list[int]:
    """Find the digits of the most probable number, whatever marks are among them.

    The best alignment's number is it if it has half of all probability. If not, prefixes of numbers are
    extended, the most probable one first, until no other can begin a more probable number (prefix search,
    Graves et al., 2006), or until `SEARCHED` steps are gone through.

    Parameters
    ----------
    steps
        P(symbol), float64 [T, 12], each step's together 1.
    """
    best = steps[:, : MARK + 1].copy()
    best[:, MARK] += steps[:, NOTHING]  # a mark parts digits as nothing does
    path = best.argmax(axis=1)
    digits: list[int] = path[(path != MARK) & (path != np.append(MARK, path[:-1]))].tolist()
    if best.max(axis=1).prod() >= 0.5:  # of this alignment alone
        return digits
    least = math.exp(log_probability(steps, digits, np.ones(len(digits) + 1, bool)))
    return digits if least >= 0.5 else _search(best, digits, least)


def _search(steps: Array, best: list[int], least: float) -> list[int]:
    """Search from the empty prefix on for a number more probable than the `best`, which has `least`."""
    blank = steps[:, MARK]
    # of a prefix: P(its alignments of the first t steps that end with its last digit, or with none), [T + 1]
    start = np.append(1.0, np.cumprod(blank))
    queue: list[tuple[float, tuple[int, ...], Array, Array]] = [(-1.0, (), np.zeros(len(start)), start)]
    most, found = max((least, tuple(best)), (float(start[-1]), ()))
    for _ in range(SEARCHED // len(steps)):
        if not queue or -queue[0][0] <= most:
            break
        _, prefix, ends, rests = heapq.heappop(queue)
        entering = np.repeat((rests + ends)[:-1, np.newaxis], 10, axis=1)
        if prefix:
            entering[:, prefix[-1]] = rests[:-1]
        entering *= steps[:, :10]
        news, others = np.zeros((len(start), 10)), np.zeros((len(start), 10))
        first = int(entering.any(axis=1).argmax())  # before, the prefix hasn't been seen
        for t in range(first, len(steps)):
            news[t + 1] = entering[t] + steps[t, :10] * news[t]
            others[t + 1] = blank[t] * (others[t] + news[t])
        whole = news[-1] + others[-1]
        begun = entering.sum(axis=0)  # of all that begins so: where the digit is first seen
        for digit in range(10):
            if whole[digit] > most:
                most, found = whole[digit], (*prefix, digit)
            if begun[digit] > most:
                heapq.heappush(queue, (-begun[digit], (*prefix, digit), news[:, digit], others[:, digit]))
    return list(found)


def _normalised(steps: Array) -> Array:
    """Return float64 steps that add up to 1: float32 doesn't quite, which tells over hundreds of steps."""
    steps = steps.astype(np.float64)
    return np.asarray(steps / steps.sum(axis=1, keepdims=True))


def _emitted(steps: Array, digits: list[int], marks: Mask) -> Array:
    """Return what each state emits at each step, gaps and digits in turn, of several choices of marks.

    `marks` is bool [B, K + 1], the result [B, T, 2 K + 1].
    """
    emitted = np.empty((len(marks), len(steps), 2 * len(digits) + 1))
    emitted[:, :, ::2] = steps[:, [NOTHING]] + steps[:, [MARK]] * marks[:, np.newaxis]
    emitted[:, :, 1::2] = steps[:, digits]
    return emitted


def _may_follow(numbers: list[list[int]]) -> Array:
    """Return whether each digit but the first may follow the last one without a gap, [B, K - 1]."""
    return np.asarray(np.diff(numbers) != 0, np.float64)


def _forward(emitted: Array, follows: Array) -> tuple[Array, Array]:
    """Return P(state) of each step, [B, T, 2 K + 1], divided by the exponential of a scale, [B, T]."""
    states, totals = np.empty_like(emitted), np.empty(emitted.shape[:2])
    state = np.zeros((len(emitted), emitted.shape[2]))
    state[:, 0] = 1.0  # a gap before the first step, that has emitted nothing
    for t in range(emitted.shape[1]):
        new = state.copy()
        new[:, 1:] += state[:, :-1]
        new[:, 3::2] += follows * state[:, 1:-2:2]
        new *= emitted[:, t]
        totals[:, t] = total = new.sum(axis=1)
        state = states[:, t] = new / np.maximum(total, TINY)[:, np.newaxis]
    return states, np.log(np.maximum(totals, TINY)).cumsum(axis=1)


def _log_totals(states: Array, scales: Array) -> Array:
    """Return log P(number), [B], from what `_forward` gave: all digits have been seen."""
    whole = states[:, -1, -2:].sum(axis=1)
    return np.asarray(
        np.where(whole > 0, np.log(np.maximum(whole, TINY)) + scales[:, -1], -np.inf).clip(max=0)
    )


def _replaced(
    steps: Array, digits: list[int], forward: tuple[Array, Array], backward: tuple[Array, Array]
) -> Array:
    """Return how probable a number is with each digit in each place, [K, 10], each place's together 1.

    Marks may stand anywhere. What comes before a place and what comes after it stay as they are, so the
    states' probabilities from both ends are used, and only the place itself is gone through for ten digits.
    """
    (states, scales), (back, back_scales) = forward, backward
    count = len(digits)
    if not count:
        return np.zeros((0, 10))
    differs = (np.array(digits)[:, np.newaxis] != np.arange(10)).astype(np.float64)
    after = np.vstack([np.zeros((1, 10)), differs[:-1]])  # whether the digit before a place may be so near
    before = np.vstack([differs[1:], np.zeros((1, 10))])
    # one more at each end: the gap that has emitted nothing
    gaps, previous, ends, following = np.zeros((4, len(steps), count))
    gaps[0, 0], gaps[1:], previous[1:, 1:] = 1, states[:-1, :-1:2], states[:-1, 1:-2:2]
    ends[-1, -1], ends[:-1], following[:-1, :-1] = 1, back[1:, 2::2], back[1:, 3::2]
    shrink = np.exp(-np.diff(scales, prepend=0))
    weights = scales + np.append(back_scales[1:], 0.0)
    weights = np.exp(weights - weights.max())
    seen = gaps[:, :, np.newaxis] + previous[:, :, np.newaxis] * after  # enters the place, and then is in it
    leaving = ends[:, :, np.newaxis] + following[:, :, np.newaxis] * before
    state = np.zeros((count, 10))
    for t, emitted in enumerate(steps[:, :10] * shrink[:, np.newaxis]):
        state = seen[t] = (state + seen[t]) * emitted
    totals = np.einsum("tkd,tkd,t->kd", seen, leaving, weights)
    return np.asarray(totals / np.maximum(totals.sum(axis=1, keepdims=True), TINY))
