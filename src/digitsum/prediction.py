"""Read pictures and add: ONNX Runtime does the arithmetic.

    predictor = Predictor()
    answer = predictor.predict("photo.png", addend=7)
    print(answer.number, answer.sum, answer.sum_probability)
    answer = predictor.predict_number("row.png", addend=1234)
    print(answer.number, answer.sum, answer.sum_probability)
    answer = predictor.add_pictures("row.png", "another.png")
    print(answer.top.number, answer.bottom.number, answer.sum, answer.sum_probability)

Nothing here needs torch.
"""

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import onnxruntime as ort

from digitsum.errors import InputError
from digitsum.files import locate, read
from digitsum.reading.decoding import Picture
from digitsum.reading.finding import named
from digitsum.reading.imaging import read_picture
from digitsum.reading.strips import MARGIN, SHORT, Row, narrow, pad, read_row
from digitsum.search import (
    CERTAIN,
    SURE,
    Reading,
    combine,
    most_probable_sum,
    plain_marks,
    read_steps,
    single_digits,
)
from digitsum.types import Array, UInt8Array

MAX_ADDEND_DIGITS = 1_000
ROW_SIGNATURE = ["strip tensor(uint8) [N, 1, 32, N]", "symbols tensor(float) [N, N, 12]"]
SIGNATURE = [
    "image tensor(uint8) [N, 1, 28, 28]",
    "addend tensor(int64) [N]",
    "digit tensor(float) [N, 10]",
    "sum tensor(float) [N, 19]",
]
INSIDE = {"joined tensor(float) [N, 30]", "terms tensor(float) [N, 19, 31]"}  # which `concat` shows, too
EXTERNAL = "session.model_external_initializers_file_folder_path"  # ONNX Runtime's
HIGHEST = 1 + 1e-4  # of a probability, as float32 rounds
CHUNK = 64  # images that go through the network at once: what lies between layers then stays in the cache


@dataclass(frozen=True)
class DigitPrediction:
    """What the network says of one digit.

    Attributes
    ----------
    digit
        The most probable one, 0 to 9.
    probability
        How probable it is, 0 to 1.
    probabilities
        Of all ten, float32 [10].
    place
        Of a digit that was read in a row: from which to which column of the strip it is seen.
    """

    digit: int
    probability: float
    probabilities: Array
    place: tuple[int, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "digit": self.digit,
            "probability": self.probability,
            "probabilities": self.probabilities.tolist(),
            "place": self.place,
        }


@dataclass(frozen=True)
class Prediction:
    """The number in a picture, of which a single digit is the shortest, and its sum with an addend.

    Attributes
    ----------
    number, addend
        The most probable number, and what was to be added to it, of any size.
    sum
        For one digit and an addend from 0 to 9 the network's second output, which may contradict the first.
        For a longer number or a larger addend exact arithmetic, number + addend.
    probability
        How probable the number is, 0 to 1: of a row over all ways to read it, and marks that make another
        number of it count against it. A short row that isn't sure at the first look is looked at again,
        made narrower; it is the mean of both then.
    sum_probability
        How probable the sum is: by the network's second output, or else as probable as the number.
    sum_probabilities
        Of all nineteen sums, float32 [19]; None where the sum isn't the network's output.
    digits
        What the network says of each digit, from left to right.
    doubt
        Why the answer is uncertain, in a sentence; None where it isn't or no more is known.
    """

    number: int
    addend: int
    sum: int
    probability: float
    sum_probability: float
    sum_probabilities: Array | None
    digits: list[DigitPrediction]
    doubt: str | None = None

    @classmethod
    def of_digit(cls, probabilities: Array, sums: Array, addend: int) -> Self:
        """Make the prediction from both outputs of a network of one digit, [10] and [19].

        Its second output is for an addend of at most 9: to a larger one the digit is added.
        """
        number = int(probabilities.argmax())
        probability = float(probabilities[number])
        digits = [DigitPrediction(number, probability, probabilities)]
        if addend <= 9:
            sum_ = int(sums.argmax())
            return cls(number, addend, sum_, probability, float(sums[sum_]), sums, digits)
        return cls(number, addend, number + addend, probability, probability, None, digits)

    @classmethod
    def of_row(cls, row: Row, looks: Sequence[Array], reading: Reading, addend: int) -> Self:
        """Make the prediction from the number that was found in one look or more at a row.

        `looks` are what the network says of the steps along the strip, P(symbol), float [T, 12] each.

        Raises
        ------
        InputError
            No digit is more probable than some.
        """
        if not reading.digits:
            raise InputError("it shows nothing that looks like a digit")
        digits = [
            DigitPrediction(digit, float(each[digit]), each.astype(np.float32), place=(start, end))
            for digit, each, (start, end) in zip(
                reading.digits,
                reading.digit_probabilities,
                _columns_of(reading.places, row.strip),
                strict=True,
            )
        ]
        number, probability = int("".join(map(str, reading.digits))), reading.probability
        doubt = _doubt(reading, row)
        if len(digits) > 1 or addend > 9:
            return cls(number, addend, number + addend, probability, probability, None, digits, doubt)
        sums = np.zeros(19, np.float32)
        sums[addend : addend + 10] = np.mean([single_digits(steps) for steps in looks], axis=0)
        return cls(
            number, addend, number + addend, probability, float(sums[number + addend]), sums, digits, doubt
        )

    @property
    def consistent(self) -> bool:
        """Whether the sum is the number plus the addend: two outputs may contradict each other."""
        return self.sum == self.number + self.addend

    @property
    def uncertain(self) -> bool:
        """Whether the number or the sum is improbable, they contradict each other, or there is a doubt."""
        least = min(self.probability, self.sum_probability)
        return not self.consistent or self.doubt is not None or least < CERTAIN

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold. Number, addend and sum are text: many a language rounds beyond 2^53."""
        sums = self.sum_probabilities
        return {
            "number": str(self.number),
            "addend": str(self.addend),
            "sum": str(self.sum),
            "probability": self.probability,
            "sum_probability": self.sum_probability,
            "consistent": self.consistent,
            "uncertain": self.uncertain,
            "doubt": self.doubt,
            "sum_probabilities": None if sums is None else sums.tolist(),
            "digits": [digit.to_dict() for digit in self.digits],
        }


@dataclass(frozen=True)
class SumPrediction:
    """The numbers in two pictures, and their sum.

    Attributes
    ----------
    top, bottom
        What each picture shows, with the addend 0.
    sum
        The most probable sum of all. It isn't always that of the most probable numbers: where several pairs
        have the same sum, their probabilities add up.
    sum_probability
        How probable that sum is, 0 to 1.
    """

    top: Prediction
    bottom: Prediction
    sum: int
    sum_probability: float

    @classmethod
    def of(cls, top: Prediction, bottom: Prediction) -> Self:
        """Make the prediction from those of the two numbers."""
        length = max(len(top.digits), len(bottom.digits))
        digits, log_probability = most_probable_sum(*(_columns(each, length) for each in (top, bottom)))
        # that there are as many digits, and no marks, is not in the digits' own probabilities
        whole = math.prod(
            each.probability / math.prod(digit.probability for digit in each.digits) for each in (top, bottom)
        )
        probability = min(1.0, math.exp(log_probability) * min(1.0, whole))
        return cls(top, bottom, int("".join(map(str, digits))), probability)

    @property
    def uncertain(self) -> bool:
        """Whether the sum is improbable, or there is a doubt about one of the numbers."""
        doubts = self.top.doubt is not None or self.bottom.doubt is not None
        return doubts or self.sum_probability < CERTAIN

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; the numbers and the sum are text (`Prediction.to_dict`)."""
        return {
            "top": self.top.to_dict(),
            "bottom": self.bottom.to_dict(),
            "sum": str(self.sum),
            "sum_probability": self.sum_probability,
            "uncertain": self.uncertain,
        }


def _columns_of(places: Array, strip: UInt8Array) -> list[tuple[int, int]]:
    """Return the columns of a strip that steps of its batch see."""
    columns = np.array([[0, 4]]) + 4 * places - MARGIN
    return [(start, end) for start, end in columns.clip(0, strip.shape[1]).tolist()]


def _doubt(reading: Reading, row: Row) -> str | None:
    """Return what a reading leaves open."""
    if row.may_have_lost:
        return "something as tall as a digit was left out at the edge of the row"
    marks, parting = reading.marks, plain_marks(reading.digits)
    if not (marks & ~parting).any() and (not marks[:-1].any() or marks[:-1][parting[:-1]].all()):
        return None  # thousands are parted everywhere or nowhere: 1234.567 is a decimal
    shown = "".join(
        f"·{digit}" if mark else f"{digit}" for mark, digit in zip(marks[:-1], reading.digits, strict=True)
    )
    where = "before" if marks[0] else "between"
    return f"it shows {shown}: a mark stands {where} its digits"


def _columns(number: Prediction, length: int) -> Array:
    """Return P(digit) of a number's columns, [length, 10]: those on the left that it hasn't are 0."""
    probabilities = np.zeros((length, 10))
    probabilities[:, 0] = 1
    probabilities[length - len(number.digits) :] = [each.probabilities for each in number.digits]
    return probabilities


class Predictor:
    """A trained network, ready to read pictures and add.

    Parameters
    ----------
    model
        "row", "exact" or "concat", the package's own; an ONNX file that `digitsum export` wrote; or the
        folder of a run, which has one. "row" reads numbers of any length, the others single digits.
    threads
        For one call; 0: one a core. Calls from several threads are safe.

    Attributes
    ----------
    reads_rows : bool
        Whether the network reads a whole row of digits at once.
    read : function
        What reads a picture as the network takes it: `read_row`, or else `read_picture`.
    about : dict
        What the file says of itself: `network`, `parameters`, `version`, and by name the `figures` of its
        evaluation.

    Raises
    ------
    InputError
        There is no such model, or the file isn't one.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((28, 28), np.uint8)
    >>> image[4:24, 13:15] = 255  # a stroke from top to bottom
    >>> answer = Predictor().predict(image, addend=6)
    >>> answer.number, answer.sum, answer.uncertain
    (1, 7, False)
    """

    def __init__(self, model: str | Path = "row", threads: int = 0) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        file = find_model(model)
        # no other file can be part of it: the folder in which they would be sought can't exist
        options.add_session_config_entry(EXTERNAL, f"{os.devnull}/none")
        data = read(file)
        try:
            self._session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            metadata = self._session.get_modelmeta().custom_metadata_map
            self.reads_rows = _check_signature(self._session)
            self.read: Callable[[Picture], Any] = read_row if self.reads_rows else read_picture
            self.about: dict[str, Any] = {
                "network": metadata["network"],
                "parameters": int(metadata["parameters"]),
                "version": metadata["version"],
                "figures": json.loads(metadata["figures"]),
            }
        except Exception as error:  # ONNX Runtime's own have no common class but this
            why = f"its metadata lacks {error}" if isinstance(error, KeyError) else f"{error}".split("\n")[0]
            raise InputError(f"{file} isn't an ONNX file of digitsum: {why}") from error

    def predict(self, picture: Picture, addend: int) -> Prediction:
        """Read a picture of one digit, of any kind that `read_picture` takes, and add: both outputs.

        What stands at the picture's edge beside the digit is left out. Where it may be one digit or several,
        it is taken for one, and is uncertain.

        Raises
        ------
        InputError
            A picture that can't be read, or of clearly several digits; or an addend that isn't a whole number
            from 0 to 9.
        OSError
            A file that isn't there.
        """
        return self.predict_all([picture], [addend])[0]

    def predict_all(
        self, pictures: Sequence[Picture] | Array, addends: int | Sequence[int] | Array
    ) -> list[Prediction]:
        """Read many pictures, a list or an array [N, 28, 28], each with its addend or all with one.

        Raises what `predict` does.
        """
        addends = check_addends(addends, len(pictures))
        if not len(pictures):
            return []
        read = partial(read_row, of_one=True) if self.reads_rows else read_picture
        found = self.predict_rows([read(picture) for picture in pictures], addends.tolist(), of_one=True)
        for answer, picture in zip(found, pictures, strict=True):
            with named(picture):
                if isinstance(answer, InputError):
                    raise answer
                if (count := len(answer.digits)) > 1:
                    raise InputError(f"it shows {count} digits, not one; predict_number reads all of them")
        return cast("list[Prediction]", found)

    def predict_number(self, picture: Picture, addend: int) -> Prediction:
        """Read a picture of a number, of any kind that `read_row` takes, and add.

        Raises
        ------
        InputError
            A picture that can't be read, or of several digits if the network reads one; or an addend that
            isn't a whole number from 0 on.
        OSError
            A file that isn't there.
        """
        addend = check_any_addend(addend)
        (answer,) = self.predict_rows([self.read(picture)], [addend])
        if isinstance(answer, InputError):
            with named(picture):
                raise answer
        return answer

    def add_pictures(self, top: Picture, bottom: Picture) -> SumPrediction:
        """Read two pictures of numbers, of any kind that `read_row` takes, and add them.

        Raises
        ------
        InputError
            A picture that can't be read.
        OSError
            A file that isn't there.

        Examples
        --------
        >>> import numpy as np
        >>> page = np.zeros((60, 100), np.uint8)
        >>> page[20:40, 42:45] = page[20:40, 55:58] = 255  # two strokes: eleven
        >>> Predictor().add_pictures(page, page).sum
        22
        """
        return SumPrediction.of(*(self.predict_number(picture, 0) for picture in (top, bottom)))

    def predict_rows(
        self, rows: Sequence[Any], addends: Sequence[int], *, of_one: bool = False
    ) -> list[Prediction | InputError]:
        """Answer for many numbers at once.

        Parameters
        ----------
        rows
            Of each number what `read` gave.
        addends
            What to add to each, 0 or more: unchecked (`check_any_addend`).
        of_one
            Whether each should be one digit, as for `search.read_steps`.

        Returns
        -------
        list
            Of each its prediction, or why there is none: a network of rows may find no digit.
        """
        if not len(rows):
            return []
        if not self.reads_rows:
            own = [addend if addend <= 9 else 0 for addend in addends]
            outputs = self.probabilities(np.stack(rows)[:, np.newaxis], np.array(own))
            return [Prediction.of_digit(*each) for each in zip(*outputs, addends, strict=True)]
        answers: list[Prediction | InputError] = []
        for row, (looks, reading), addend in zip(rows, self._look(rows, of_one), addends, strict=True):
            try:
                answers.append(Prediction.of_row(row, looks, reading, addend))
            except InputError as error:
                answers.append(error)
        return answers

    def _look(self, rows: Sequence[Row], of_one: bool) -> list[tuple[list[Array], Reading]]:
        """Return the steps and the number of rows: short unsure ones are looked at again, narrower."""
        looks = [[steps] for steps in self.steps([row.strip for row in rows])]
        readings = [read_steps(steps, of_one) for (steps,) in looks]
        unsure = [
            i
            for i, (row, reading) in enumerate(zip(rows, readings, strict=True))
            if reading.probability < SURE and row.strip.shape[1] <= SHORT
        ]
        for i, steps in zip(unsure, self.steps([narrow(rows[i].strip) for i in unsure]), strict=True):
            looks[i].append(steps)
            readings[i] = combine(looks[i], [readings[i], read_steps(steps, of_one)])
        return list(zip(looks, readings, strict=True))

    def probabilities(self, images: Array, addends: Array) -> tuple[Array, Array]:
        """Answer for images that are as MNIST's: the fast way for very many.

        Parameters
        ----------
        images
            uint8 [N, 1, 28, 28], N at least 1.
        addends
            int64 [N], 0 to 9: unchecked (`check_addends`).

        Returns
        -------
        tuple
            P(digit), float32 [N, 10], and P(sum), float32 [N, 19].

        Raises
        ------
        InputError
            The model, a file from elsewhere perhaps, answers with what are no probabilities.
        """
        chunks = [
            self._session.run(
                ["digit", "sum"],
                {"image": images[start : start + CHUNK], "addend": addends[start : start + CHUNK]},
            )
            for start in range(0, len(images), CHUNK)
        ]
        digits, sums = map(np.concatenate, zip(*chunks, strict=True))
        for found in (digits, sums):
            _check_probabilities(found)
        return digits, sums

    def outputs(self, image: UInt8Array, addend: int) -> dict[str, Array]:
        """Return all outputs of a network of one digit, by their names in its ONNX file.

        Parameters
        ----------
        image
            uint8 [28, 28], as MNIST's.
        addend
            0 to 9: unchecked.

        Examples
        --------
        >>> outputs = Predictor("concat").outputs(np.zeros((28, 28), np.uint8), addend=3)
        >>> {name: output.shape for name, output in outputs.items()}
        {'digit': (10,), 'sum': (19,), 'joined': (30,), 'terms': (19, 31)}
        """
        found = self._session.run(
            None, {"image": image[np.newaxis, np.newaxis], "addend": np.array([addend])}
        )
        names = (output.name for output in self._session.get_outputs())
        return {name: output[0] for name, output in zip(names, found, strict=True)}

    def steps(self, strips: Sequence[UInt8Array]) -> list[Array]:
        """Say which symbol each step along strips shows; of a network of rows.

        Parameters
        ----------
        strips
            uint8 [32, W] each.

        Returns
        -------
        list
            P(symbol), float32 [T, 12], of each strip, of steps of four columns, the first of which begins
            `MARGIN` columns before the strip.

        Raises
        ------
        InputError
            As `probabilities`.
        """
        found: list[Array] = [np.empty(0)] * len(strips)
        alike: dict[int, list[int]] = {}  # by width: more paper beside a row changes what is read a little
        for i, strip in enumerate(strips):
            alike.setdefault(-(-(strip.shape[1] + 2 * MARGIN) // 4), []).append(i)
        for same in alike.values():
            for start in range(0, len(same), CHUNK):
                chosen = same[start : start + CHUNK]
                (symbols,) = self._session.run(["symbols"], {"strip": pad([strips[i] for i in chosen])})
                _check_probabilities(symbols)
                for i, steps in zip(chosen, symbols, strict=True):
                    found[i] = steps
        return found


def _check_probabilities(found: Array) -> None:
    if not (found.min() >= 0 and found.max() <= HIGHEST):  # which NaN isn't either
        raise InputError(
            f"the model isn't one of digitsum: its probabilities are {found.min()} to {found.max()},"
            " not from 0 to 1; train or export it again"
        )


def _check_signature(session: ort.InferenceSession) -> bool:
    """Check that a model's inputs and outputs are those of digitsum, and return whether it reads rows."""
    signature = []
    for each in [*session.get_inputs(), *session.get_outputs()]:
        sizes = ["N" if isinstance(size, str) else f"{size}" for size in each.shape]
        signature.append(f"{each.name} {each.type} [{', '.join(sizes)}]")
    if sorted(set(signature) - INSIDE) not in (sorted(SIGNATURE), sorted(ROW_SIGNATURE)):
        raise InputError(f"its inputs and outputs are {', '.join(signature)}, not {', '.join(SIGNATURE)}")
    return "strip" in signature[0]


def find_model(model: str | Path) -> Path:
    """Find the ONNX file of a name of the package's, a file or a run folder.

    Raises
    ------
    InputError
        There is none.
    """
    place = locate(model)
    for file in (place / "model.onnx", place):
        if file.is_file():
            return file
    raise InputError(
        f"there is no model {str(model)!r}: name exact, concat, row, an ONNX file, or a run folder that holds"
        " one"
    )


def broadcast_addends(addends: list[Any], count: int) -> list[Any]:
    """Return the addend of each of `count` pictures; a single one stands for all.

    Raises
    ------
    InputError
        There is neither one addend nor one for each picture.

    Examples
    --------
    >>> broadcast_addends([1200], count=2)
    [1200, 1200]
    """
    if len(addends) not in (1, count):
        need = (
            "one picture needs one addend"
            if count == 1
            else f"{count} pictures need as many addends, or one for all"
        )
        raise InputError(f"{need}, not {len(addends)}")
    return addends * count if len(addends) == 1 else addends


def check_addends(addends: int | Sequence[int] | Array, count: int) -> Array:
    """Check addends and return them as int64 [count]; a single one stands for all.

    Raises
    ------
    InputError
        One isn't a whole number from 0 to 9, or there are not `count` of them.

    Examples
    --------
    >>> check_addends(7, count=3)
    array([7, 7, 7])
    >>> check_addends([2.5], count=1)
    Traceback (most recent call last):
    digitsum.errors.InputError: an addend is a whole number from 0 to 9, not 2.5
    """
    values = broadcast_addends(np.atleast_1d(np.asarray(addends, dtype=object)).tolist(), count)
    for value in values:
        if not (_is_whole(value) and 0 <= value <= 9):
            raise InputError(f"an addend is a whole number from 0 to 9, not {value!r}")
    return np.array(values, np.int64)


def check_any_addend(addend: int) -> int:
    """Check an addend of a number, which may have up to `MAX_ADDEND_DIGITS` digits.

    Raises
    ------
    InputError
        It isn't a whole number from 0 on, or is larger.
    """
    if not (_is_whole(addend) and addend >= 0):
        raise InputError(f"a number's addend is a whole number from 0 on, not {addend!r}")
    if addend >= 10**MAX_ADDEND_DIGITS:  # beyond 4,300 digits Python itself makes no text of them
        raise InputError(f"a number's addend has at most {MAX_ADDEND_DIGITS} digits")
    return int(addend)


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
