"""What paper does to rows: lines where they may be."""

import numpy as np

from digitsum.data import row_damage


def test_lines_reach_at_least_one_side_of_the_row() -> None:
    for seed in range(200):
        ink = np.zeros((40, 100), np.float32)
        row_damage._rule(ink, np.random.default_rng(seed))
        assert ink[:, [0, -1]].any()
