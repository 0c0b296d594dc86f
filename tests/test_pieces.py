import numpy as np
import pytest
from scipy import ndimage

from digitsum.reading import pieces


def test_pieces_connect_over_corners_and_not_over_the_edge() -> None:
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1]], bool)
    found = pieces.connected(mask)
    assert found.labels.tolist() == [[1, 0, 0, 2], [0, 1, 0, 0], [0, 0, 0, 3]]
    assert found.areas.tolist() == [2, 1, 1]
    assert found.boxes.tolist() == [[0, 1, 0, 1], [0, 0, 3, 3], [2, 2, 3, 3]]


def masks() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    noise = {f"{share:.0%}": rng.random((60, 45)) < share for share in (0.01, 0.2, 0.4, 0.6, 0.99)}
    row, column = np.indices((41, 41))
    rings = np.maximum(abs(row - 20), abs(column - 20)) % 2 == 0
    comb = (column % 2 == 0) | (row == 40)  # whose teeth are joined last
    snake = (row % 2 == 0) | ((column == 0) & (row % 4 == 1)) | ((column == 40) & (row % 4 == 3))
    spiral = rings & ((row != column + 1) | (row > 20)) | (row == column + 2) & (row < 20)
    full = {
        "a row": np.ones((1, 9), bool),
        "a column": np.ones((9, 1), bool),
        "one": np.ones((1, 1), bool),
        "none": np.zeros((5, 4), bool),
    }
    shapes = {"rings": rings, "comb": comb, "upside down": comb[::-1], "snake": snake, "spiral": spiral}
    return {**noise, **shapes, **full}


@pytest.mark.parametrize("mask", masks().values(), ids=masks())
def test_pieces_are_those_of_scipy_in_the_order_of_their_first_pixels(mask: np.ndarray) -> None:
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    found = pieces.connected(mask)
    order = np.unique(labels[mask], return_index=True)[1].argsort()  # scipy's numbers may go another way
    ours = np.zeros(count + 1, int)
    ours[order + 1] = np.arange(1, count + 1)
    np.testing.assert_array_equal(found.labels, ours[labels])
    assert found.areas.tolist() == np.bincount(found.labels[mask], minlength=count + 1)[1:].tolist()
    assert found.boxes.tolist() == [
        [rows.start, rows.stop - 1, columns.start, columns.stop - 1]
        for rows, columns in ndimage.find_objects(found.labels)
    ]
