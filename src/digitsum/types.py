"""Names for arrays whose numbers' type, but not shape, a checker of types can check; and a common size."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
UInt8Array = npt.NDArray[np.uint8]
Int64Array = npt.NDArray[np.int64]
IndexArray = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool]
Ink = npt.NDArray[np.float32]  # 0 none to 1 a whole stroke's

HEIGHT = 32  # pixels, of a strip: a row of digits as one image
