"""The page's own files, and what its scripts share with Python: constants stand in Python alone."""

import re
from importlib.metadata import metadata
from pathlib import Path

from digitsum import prediction, search
from digitsum.reading import decoding, finding, imaging, paper, ruling, strips

STATIC = Path(__file__).parent / "static"
README = f"{metadata('digitsum').json['description']}".encode()
OF_ONE_DIGIT = ("exact", "concat")  # the networks that the page shows at work
SHARED = (decoding, finding, imaging, paper, prediction, ruling, search, strips)  # have scripts' constants


def network_script(*names: str) -> bytes:
    """Return `network.js`: scripts of `STATIC`, after the constants of Python's that they and the page use.

    Examples
    --------
    >>> network_script("service.js").splitlines()[2:4]
    [b'const MAX_ADDEND_DIGITS = 1000;', b'const SIDE = 28;']
    """
    scripts = "\n".join((STATIC / name).read_text(encoding="utf-8") for name in names)
    page = (STATIC / "page.js").read_text(encoding="utf-8")
    used = set(re.findall(r"\b[A-Z_]+\b", scripts + page))
    constants = {
        name: value
        for module in SHARED
        for name, value in vars(module).items()
        if name in used and isinstance(value, int | float)
    }
    declared = "".join(f"const {name} = {value!r};\n" for name, value in sorted(constants.items()))
    return f'"use strict";\n\n{declared}\n{scripts}'.encode()
