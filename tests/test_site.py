"""The folder of static files; what it does in a browser is in test_site_page.py."""

import base64
import hashlib
import http.server
import io
import json
import re
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from digitsum import prediction
from digitsum.files import WEIGHTS, user_cache
from digitsum.reading import paper
from digitsum.serving import page, site
from digitsum.serving.app import create_app
from digitsum.serving.page import STATIC, network_script
from digitsum.serving.site import write_site

Run = Callable[..., tuple[int, str, str]]

PAGE = {"index.html", "page.css", "page.js", "strip.js", "network.js", "readme.txt"}
MODELS = {"model.onnx", "exact.onnx", "concat.onnx"}
NAMES = PAGE | MODELS | {"model.json", "ort.wasm.bundle.min.js", "ort-wasm-simd-threaded.wasm"}
MEMBERS = {
    "package/dist/ort.wasm.bundle.min.mjs": b"script",
    "package/dist/ort-wasm-simd-threaded.wasm": b"machine code",
    "../../evil": b"evil",
}


def packed(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


ARCHIVE = packed(MEMBERS)


class Registry(http.server.BaseHTTPRequestHandler):
    """Sends the archive; under another path than npm's it fails in the way that the path names."""

    def do_GET(self) -> None:
        self.server.requests.append(self.path)  # type: ignore[attr-defined]
        way, _, rest = self.path[1:].partition("/onnxruntime-web/-/")
        assert rest == site.ARCHIVE
        body = {"wrong": ARCHIVE + b" ", "long": bytes(2000)}.get(way, ARCHIVE)
        self.send_response(404 if way == "absent" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:-5] if way == "cut" else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[http.server.HTTPServer]:
    """A small archive on loopback, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(site, "SHA512", base64.b64encode(hashlib.sha512(ARCHIVE).digest()).decode())
    monkeypatch.setattr(site, "LARGEST", 1000)
    server = http.server.HTTPServer(("127.0.0.1", 0), Registry)
    server.requests = []  # type: ignore[attr-defined]
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_port}/npm/")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# What is written


def test_the_folder_holds_the_page_the_network_and_its_runtime(registry: object, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "site"
    files = write_site(folder, "concat")
    assert {file.name for file in files} == contents(folder).keys() == NAMES
    assert all(file.parent == folder for file in files)
    for name, network in (("model", "concat"), ("exact", "exact"), ("concat", "concat")):
        model = (folder / f"{name}.onnx").read_bytes()
        assert model == (WEIGHTS / network / "model.onnx").read_bytes()
    assert (folder / "ort.wasm.bundle.min.js").read_bytes() == b"script"
    assert (folder / "ort-wasm-simd-threaded.wasm").read_bytes() == b"machine code"
    assert not list(tmp_path.rglob("evil"))


def test_the_page_is_the_services_but_for_the_part_that_asks(registry: object, tmp_path: Path) -> None:
    write_site(tmp_path)
    with TestClient(create_app()) as service:
        for name in PAGE:
            same = (tmp_path / name).read_bytes() == service.get(f"/{name}".replace("index.html", "")).content
            assert same == (name != "network.js")
    network = (tmp_path / "network.js").read_bytes()
    assert network == network_script("local.js", "search.js", "prepare.js")
    network = network.decode()
    assert network.count("async function predict(") == 1
    assert 'post("predict"' not in network


def test_the_policy_allows_the_sites_own_files_alone(registry: object, tmp_path: Path) -> None:
    write_site(tmp_path)
    page = (tmp_path / "index.html").read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    names = re.findall(r'(?:src|href)="(?!data:)([^"]*)"', page)
    assert names == ["page.css", "readme.txt", "network.js", "strip.js", "page.js"]
    assert policy.start() < page.index(names[0])
    assert policy[1] == (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src data: blob:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'"
    )


def test_what_the_network_is_stands_in_a_file_whatever_its_name(
    registry: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    predictor = prediction.Predictor("row")
    predictor.about["network"] = "</script><b>"
    monkeypatch.setattr(site, "Predictor", lambda _: predictor)
    write_site(tmp_path)
    about = {"network": "</script><b>", "parameters": predictor.about["parameters"], "reads_rows": True}
    about["bytes"] = (WEIGHTS / "row" / "model.onnx").stat().st_size + len(b"machine code")
    assert json.loads((tmp_path / "model.json").read_bytes()) == about
    assert not any(b"</script><b>" in (tmp_path / name).read_bytes() for name in PAGE - {"index.html"})
    assert (tmp_path / "index.html").read_bytes() == (STATIC / "page.html").read_bytes()


def test_a_constant_that_is_changed_in_python_is_changed_in_the_site(
    registry: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    declared = "const FAINTEST = 0.1;\n"
    network = write_site(tmp_path / "site")[0].with_name("network.js")
    before = network.read_text()
    assert declared in before
    monkeypatch.setattr(paper, "FAINTEST", 0.5)
    write_site(tmp_path / "site")
    assert network.read_text() == before.replace(declared, "const FAINTEST = 0.5;\n")


def test_the_scripts_have_no_constant_that_python_has_too() -> None:
    for name in ("local.js", "prepare.js", "search.js", "service.js", "strip.js", "page.js"):
        script = (STATIC / name).read_text()
        own = set(re.findall(r"^const ([A-Z_]+) = ", script, re.MULTILINE))
        assert not own & {shared for module in page.SHARED for shared in vars(module)}


def test_a_constant_of_the_scripts_has_one_meaning_in_python() -> None:
    declared = re.findall(
        r"^const ([A-Z_]+) = [\d.]+;$", network_script("local.js", "search.js", "prepare.js").decode(), re.M
    )
    of_each = {"BOX", "CERTAIN", "EDGE", "EVEN", "HIGHEST", "MARGIN", "MAX_BYTES", "SPECK"}
    assert of_each < set(declared)
    for name in declared:
        assert len({getattr(module, name) for module in page.SHARED if hasattr(module, name)}) == 1


@pytest.mark.parametrize(("model", "reads_rows"), [("row", True), ("concat", False)])
def test_a_site_says_what_its_network_reads(
    registry: object, tmp_path: Path, model: str, reads_rows: bool
) -> None:
    write_site(tmp_path, model)
    assert json.loads((tmp_path / "model.json").read_bytes())["reads_rows"] is reads_rows


@pytest.mark.parametrize("earlier", [False, True])
def test_a_site_is_written_whole_or_not_at_all(
    registry: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, earlier: bool
) -> None:
    folder, write = tmp_path / "site", Path.write_bytes
    folder.mkdir()
    if earlier:
        write_site(folder, "concat")
    before = contents(folder)

    def full(path: Path, data: bytes) -> int:
        if path.name == "index.html":
            raise OSError("no space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space"):
        write_site(folder, "exact")
    assert contents(folder) == before


def test_an_earlier_site_and_what_was_left_lying_are_replaced(registry: object, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    write_site(folder, "concat")
    (folder / f"{site.UNFINISHED}abc").mkdir()
    (folder / f"{site.UNFINISHED}abc" / "index.html").touch()
    (folder / "index.html").unlink()
    write_site(folder, "exact")
    assert contents(folder).keys() == NAMES
    assert (folder / "model.onnx").read_bytes() == (WEIGHTS / "exact" / "model.onnx").read_bytes()


def test_a_folder_with_other_files_is_refused(registry: http.server.HTTPServer, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("mine")
    (tmp_path / "style.css").write_text("mine")
    with pytest.raises(ValueError, match=r" holds other files, as style.css: choose a new folder$"):
        write_site(tmp_path)
    assert (tmp_path / "index.html").read_text() == "mine"
    assert registry.requests == []  # type: ignore[attr-defined]


def test_an_unknown_model_is_refused_before_anything_is_fetched(
    registry: http.server.HTTPServer, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"^there is no model 'best': name exact, concat, row"):
        write_site(tmp_path / "site", "best")
    assert not (tmp_path / "site").exists()
    assert registry.requests == []  # type: ignore[attr-defined]


# onnxruntime-web


def test_the_archive_is_fetched_once(registry: http.server.HTTPServer, tmp_path: Path) -> None:
    write_site(tmp_path / "one")
    write_site(tmp_path / "two")
    assert registry.requests == [f"/npm/onnxruntime-web/-/{site.ARCHIVE}"]  # type: ignore[attr-defined]


def test_a_damaged_archive_is_fetched_again(registry: http.server.HTTPServer, tmp_path: Path) -> None:
    cached = user_cache() / site.ARCHIVE
    cached.parent.mkdir(parents=True)
    cached.write_bytes(ARCHIVE[:50])
    write_site(tmp_path / "site")
    assert cached.read_bytes() == ARCHIVE
    assert len(registry.requests) == 1  # type: ignore[attr-defined]


def test_a_cache_that_cant_be_written_costs_only_a_download(
    registry: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    write_site(tmp_path / "site")
    assert contents(tmp_path / "site").keys() == NAMES


def test_no_home_folder_costs_only_a_download(
    registry: http.server.HTTPServer, no_home: None, tmp_path: Path
) -> None:
    write_site(tmp_path / "site")
    write_site(tmp_path / "site")
    assert contents(tmp_path / "site").keys() == NAMES
    assert len(registry.requests) == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("wrong", r"expected sha512 \S+, got \S+"),
        ("cut", r"expected sha512 \S+, got \S+|IncompleteRead.*"),
        ("long", "it sends more than 1000 bytes"),
        ("absent", "HTTP Error 404: Not Found"),
    ],
)
def test_an_archive_that_isnt_right_leaves_nothing(
    registry: http.server.HTTPServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str, reason: str
) -> None:
    address = f"http://127.0.0.1:{registry.server_port}/{way}"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", address)
    with pytest.raises(
        OSError,
        match=rf"^onnxruntime-web, which runs the network in the browser, couldn't be downloaded:"
        rf" {address}/onnxruntime-web/-/{site.ARCHIVE} \(({reason})\);"
        " NPM_CONFIG_REGISTRY can name another registry$",
    ):
        write_site(tmp_path / "site")
    assert not (tmp_path / "site").exists()
    assert not (tmp_path / "cache").exists()


# The command


def test_the_command_says_how_to_serve_the_folder(registry: object, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    code, output, _ = run("site", folder, "--model", "concat")
    assert code == 0
    assert output.startswith(f"{folder}: 12 files, ")
    assert output.endswith(f": python -m http.server -d {folder}\n")


def test_the_command_fails_with_one_sentence_when_the_registry_isnt_there(
    registry: object, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{unused.getsockname()[1]}")
    code, output, errors = run("site", tmp_path / "site")
    assert (code, output) == (1, "")
    assert errors.startswith("digitsum: onnxruntime-web, which runs the network in the browser, couldn't be")
    assert "tgz (Connection refused); " in errors
    assert errors.count("\n") == 1
