"""The page as a folder of static files: the network runs in the browser, so no service is needed.

    write_site("site")   # then: python -m http.server -d site

The page is the service's own, and only its `network.js` is another: `prepare.js` repeats `imaging.py` and
`strips.py` and what those import, `search.js` repeats `search.py`, and `local.js` runs the ONNX file in
onnxruntime-web, which is downloaded once, verified.
"""

import base64
import contextlib
import hashlib
import io
import json
import os
import shutil
import tarfile
import urllib.request
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, cast

from digitsum.errors import InputError
from digitsum.files import reason, replacing, user_cache
from digitsum.prediction import Predictor, find_model
from digitsum.serving.page import OF_ONE_DIGIT, README, STATIC, network_script

REGISTRY = "https://registry.npmjs.org"
ARCHIVE = "onnxruntime-web-1.27.0.tgz"
SHA512 = "ogDLsqIozHZwifPuN37OproAo0byX6t43/bP8GzeZWBWD6MOGExswFAx3up4NS/vvWBOg2u2PXomDt3rMmdQSg=="  # npm's
LARGEST = 40_000_000  # bytes of the archive, which has 31 million
UNFINISHED = ".digitsum-site."  # how the names of temporary folders begin
SECONDS = 30  # without a byte from the registry
WASM = "ort-wasm-simd-threaded.wasm"
RUNTIME = {  # name in the site: name in the archive; not every server knows .mjs as JavaScript
    "ort.wasm.bundle.min.js": "package/dist/ort.wasm.bundle.min.mjs",
    WASM: f"package/dist/{WASM}",
}
PAGE = {  # name in the site: the package's own file
    "page.css": "page.css",
    "page.js": "page.js",
    "strip.js": "strip.js",
    "index.html": "page.html",  # written last, so a page that exists is complete
}


def write_site(folder: str | Path, model: str | Path = "row") -> list[Path]:
    """Write a page that reads digits and adds in the browser alone, and all that it needs.

    Any server of files can serve the folder, in a sub-folder too. A page that is opened as a file can't load
    the network: browsers allow that to a server's pages only.

    Parameters
    ----------
    folder
        New, empty, or an earlier site, which is replaced. It is written whole or not at all.
    model
        As for `Predictor`.

    Returns
    -------
    list
        The files, onnxruntime-web's among them. They come from the user's cache, or once from npm's registry;
        `NPM_CONFIG_REGISTRY`, as for npm, names another.

    Raises
    ------
    InputError
        There is no such model, or the folder holds other files.
    OSError
        onnxruntime-web can't be had, or the folder can't be written.
    """
    folder = Path(folder)
    predictor = Predictor(model)
    _check_folder(folder)
    files = _runtime() | {"model.onnx": find_model(model).read_bytes()}
    about = {name: predictor.about[name] for name in ("network", "parameters")}
    about["reads_rows"] = predictor.reads_rows
    about["bytes"] = sum(len(files[name]) for name in (WASM, "model.onnx"))  # what takes its time to load
    contents = files | {
        "model.json": json.dumps(about).encode(),
        "network.js": network_script("local.js", "search.js", "prepare.js"),
        "readme.txt": README,
        **{f"{name}.onnx": find_model(name).read_bytes() for name in OF_ONE_DIGIT},
        **{name: (STATIC / file).read_bytes() for name, file in PAGE.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{UNFINISHED}*"):  # by a process that was killed
        shutil.rmtree(left)
    with TemporaryDirectory(dir=folder, prefix=UNFINISHED) as new:
        for name, data in contents.items():
            (Path(new) / name).write_bytes(data)
        return [(Path(new) / name).replace(folder / name) for name in contents]


def _check_folder(folder: Path) -> None:
    """Refuse to mix the site with other files, or to replace someone's index.html."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder} isn't a folder: choose a new one")
    models = (f"{name}.onnx" for name in ("model", *OF_ONE_DIGIT))
    ours = {*RUNTIME, *models, "model.json", "network.js", "readme.txt", *PAGE}
    others = [
        path.name
        for path in folder.iterdir()
        if not (path.name in ours and path.is_file()) and not path.name.startswith(UNFINISHED)
    ]
    if others:
        raise InputError(f"{folder} holds other files, as {min(others)}: choose a new folder")


# onnxruntime-web


def _runtime() -> dict[str, bytes]:
    """Return the files that run the network: the archive's name for each and nothing else is unpacked."""
    with tarfile.open(fileobj=io.BytesIO(_archive()), mode="r:gz") as archive:
        files = {name: cast(IO[bytes], archive.extractfile(member)) for name, member in RUNTIME.items()}
        return {name: file.read() for name, file in files.items()}


def _archive() -> bytes:
    """Return the archive from the cache or, where that has no intact one, from the registry."""
    # a cache that isn't there or can't be written to costs another download, no more
    with contextlib.suppress(OSError):
        data = (user_cache() / ARCHIVE).read_bytes()
        if _digest(data) == SHA512:
            return data
    data = _download()
    with contextlib.suppress(OSError, ValueError), replacing(user_cache() / ARCHIVE) as part:
        part.write_bytes(data)
    return data


def _download() -> bytes:
    registry = os.environ.get("NPM_CONFIG_REGISTRY", REGISTRY).rstrip("/")
    url = f"{registry}/onnxruntime-web/-/{ARCHIVE}"
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as response:  # noqa: S310  # an address that the user names
            data: bytes = response.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise InputError(f"it sends more than {LARGEST} bytes")
        if _digest(data) != SHA512:
            raise InputError(f"expected sha512 {SHA512}, got {_digest(data)}")
    except (OSError, ValueError, HTTPException) as error:
        raise OSError(
            f"onnxruntime-web, which runs the network in the browser, couldn't be downloaded: {url}"
            f" ({reason(error)}); NPM_CONFIG_REGISTRY can name another registry"
        ) from error
    return data


def _digest(data: bytes) -> str:
    return base64.b64encode(hashlib.sha512(data).digest()).decode()
