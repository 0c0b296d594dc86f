"""Read pictures and add: ONNX Runtime does the arithmetic.

    predictor = Predictor("exact")
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
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime as ort

from digitsum.errors import InputError
from digitsum.files import locate, read
from digitsum.reading.decoding import Picture
from digitsum.reading.imaging import may_be_two, read_number, read_picture
from digitsum.search import most_probable_sum
from digitsum.types import Array

CERTAIN = 0.92  # an answer with a lower probability is called uncertain; 1.4 % of held-out digits are
MAX_ADDEND_DIGITS = 1_000
SIGNATURE = [
    "image tensor(uint8) [N, 1, 28, 28]",
    "addend tensor(int64) [N]",
    "digit tensor(float) [N, 10]",
    "sum tensor(float) [N, 19]",
]
EXTERNAL = "session.model_external_initializers_file_folder_path"  # ONNX Runtime's
HIGHEST = 1 + 1e-4  # of a probability, as float32 rounds
CHUNK = 64  # images that go through the network at once: what lies between layers then stays in the cache


@dataclass(frozen=True)
class DigitPrediction:
    """What the network says of the image of one digit.

    Attributes
    ----------
    digit
        The most probable one, 0 to 9.
    probability
        How probable it is, 0 to 1.
    probabilities
        Of all ten, float32 [10].
    may_be_two
        Whether the image may show two digits that touch (`digitsum.reading.imaging.may_be_two`).
    """

    digit: int
    probability: float
    probabilities: Array
    may_be_two: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "digit": self.digit,
            "probability": self.probability,
            "probabilities": self.probabilities.tolist(),
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
        How probable the number is, 0 to 1: the product of its digits' probabilities.
    sum_probability
        How probable the sum is: by the network's second output, or else as probable as the number.
    sum_probabilities
        Of all nineteen sums, float32 [19]; None where the sum isn't the network's output.
    digits
        What the network says of each digit, from left to right.
    """

    number: int
    addend: int
    sum: int
    probability: float
    sum_probability: float
    sum_probabilities: Array | None
    digits: list[DigitPrediction]

    @classmethod
    def of(cls, digits: list[DigitPrediction], addend: int, sums: Array) -> Self:
        """Make the prediction from those of the digits.

        `sums`, [19], is the network's second output for the first digit, which counts if it is the only one
        and the addend is at most 9.
        """
        number = int("".join(str(each.digit) for each in digits))
        probability = math.prod(each.probability for each in digits)
        if len(digits) == 1 and addend <= 9:
            sum_ = int(sums.argmax())
            return cls(number, addend, sum_, probability, float(sums[sum_]), sums, digits)
        return cls(number, addend, number + addend, probability, probability, None, digits)

    @property
    def consistent(self) -> bool:
        """Whether the sum is the number plus the addend: two outputs may contradict each other."""
        return self.sum == self.number + self.addend

    @property
    def uncertain(self) -> bool:
        """Whether the number or the sum is improbable, they contradict each other, or a digit may be two."""
        least = min(self.probability, self.sum_probability)
        return not self.consistent or _is_uncertain(least, self.digits)

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
        return cls(top, bottom, int("".join(map(str, digits))), min(1.0, math.exp(log_probability)))

    @property
    def uncertain(self) -> bool:
        """Whether the sum is improbable, or one of the digits may be two."""
        return _is_uncertain(self.sum_probability, self.top.digits + self.bottom.digits)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; the numbers and the sum are text (`Prediction.to_dict`)."""
        return {
            "top": self.top.to_dict(),
            "bottom": self.bottom.to_dict(),
            "sum": str(self.sum),
            "sum_probability": self.sum_probability,
            "uncertain": self.uncertain,
        }


def _is_uncertain(probability: float, digits: list[DigitPrediction]) -> bool:
    """Return whether an answer is less probable than `CERTAIN`, or one of its digits may be two."""
    return probability < CERTAIN or any(digit.may_be_two for digit in digits)


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
        "exact" or "concat", the package's own; an ONNX file that `digitsum export` wrote; or the folder of a
        run, which has one.
    threads
        For one call; 0: one a core. Calls from several threads are safe.

    Attributes
    ----------
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
    >>> answer = Predictor("exact").predict(image, addend=6)
    >>> answer.number, answer.sum, answer.uncertain
    (1, 7, False)
    """

    def __init__(self, model: str | Path = "exact", threads: int = 0) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        file = find_model(model)
        # no other file can be part of it: the folder in which they would be sought can't exist
        options.add_session_config_entry(EXTERNAL, f"{os.devnull}/none")
        data = read(file)
        try:
            self._session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            metadata = self._session.get_modelmeta().custom_metadata_map
            _check_signature(self._session)
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

        Raises
        ------
        InputError
            A picture that can't be read, or an addend that isn't a whole number from 0 to 9.
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
        rows = [read_picture(picture)[np.newaxis] for picture in pictures]
        return self.predict_rows(rows, addends.tolist())

    def predict_number(self, picture: Picture, addend: int) -> Prediction:
        """Read a picture of a number, of any kind that `read_number` takes, and add.

        Raises
        ------
        InputError
            A picture that can't be read, or an addend that isn't a whole number from 0 on.
        OSError
            A file that isn't there.
        """
        addend = check_any_addend(addend)
        return self.predict_rows([read_number(picture)], [addend])[0]

    def add_pictures(self, top: Picture, bottom: Picture) -> SumPrediction:
        """Read two pictures of numbers, of any kind that `read_number` takes, and add them.

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
        >>> page[20:40, 30:32] = page[20:40, 60:62] = 255  # two strokes: eleven
        >>> Predictor("exact").add_pictures(page, page).sum
        22
        """
        return SumPrediction.of(*(self.predict_number(picture, 0) for picture in (top, bottom)))

    def predict_rows(self, rows: Sequence[Array], addends: Sequence[int]) -> list[Prediction]:
        """Answer for many numbers at once, each the images of its digits.

        Parameters
        ----------
        rows
            Of each number uint8 [K, 28, 28], as `read_number` gives them.
        addends
            What to add to each, 0 or more: unchecked (`check_any_addend`).
        """
        if not rows:
            return []
        images, counts = np.concatenate(rows), [len(row) for row in rows]
        firsts = np.cumsum([0, *counts[:-1]])
        outputs, sums = self.probabilities(
            images[:, np.newaxis], np.repeat([addend if addend <= 9 else 0 for addend in addends], counts)
        )
        shares = outputs.max(axis=1)
        two = may_be_two(images, shares)
        digits = map(DigitPrediction, outputs.argmax(axis=1).tolist(), shares.tolist(), outputs, two.tolist())
        return [
            Prediction.of(list(islice(digits, count)), addend, of_first)
            for count, addend, of_first in zip(counts, addends, sums[firsts], strict=True)
        ]

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
            if not (found.min() >= 0 and found.max() <= HIGHEST):  # which NaN isn't either
                raise InputError(
                    f"the model isn't one of digitsum: its probabilities are {found.min()} to {found.max()},"
                    " not from 0 to 1; train or export it again"
                )
        return digits, sums


def _check_signature(session: ort.InferenceSession) -> None:
    """Check that a model's inputs and outputs are those of digitsum."""
    signature = []
    for each in [*session.get_inputs(), *session.get_outputs()]:
        sizes = ["N" if isinstance(size, str) else f"{size}" for size in each.shape]
        signature.append(f"{each.name} {each.type} [{', '.join(sizes)}]")
    if sorted(signature) != sorted(SIGNATURE):
        raise InputError(f"its inputs and outputs are {', '.join(signature)}, not {', '.join(SIGNATURE)}")


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
        f"there is no model {str(model)!r}: name exact, concat, an ONNX file, or a run folder that holds one"
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
