import asyncio
import base64
import gzip
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from struct import pack
from typing import Any, Self

import httpx2
import jsonschema_rs
import numpy as np
import onnx
import pytest
from drawing import PAGE, SEVEN, page_of, png
from fastapi.testclient import TestClient
from service import serving
from starlette.types import Message, Receive

from digitsum import mnist
from digitsum.errors import InputError
from digitsum.files import WEIGHTS
from digitsum.prediction import Predictor
from digitsum.reading.imaging import read_picture
from digitsum.reading.strips import Row, read_row
from digitsum.serving import app, limits
from digitsum.serving.app import create_app

Images = np.ndarray[Any, np.dtype[np.uint8]]
Run = Callable[..., tuple[int, str, str]]

ZEROS = zlib.compress(bytes(1_000_000))
CONTRADICTORY = 1406  # of the embedded images: for concat its digit is 1, and its sums are those of a 3


def bomb(width: int, height: int) -> bytes:
    """A small PNG that says it is as large as this."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return pack(">I", len(data)) + name + data + pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", ZEROS) + chunk(b"IEND", b"")


def files(*pictures: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("pictures", ("picture", picture)) for picture in pictures]


def assert_refused(response: httpx2.Response, status: int, code: str, message: str = "") -> None:
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, code)
    assert response.json() == {"error": {"code": code, "message": error["message"]}}
    assert message in error["message"]
    assert "\n" not in error["message"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def post_from(receive: Receive, *more: tuple[bytes, bytes]) -> tuple[int, Any]:
    """Post a form to `/predict` whose body comes from `receive`, and give the answer's status and body."""
    app, sent = create_app(), []
    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b""}
    headers = [(b"content-type", b"multipart/form-data; boundary=x"), *more]

    async def send(message: Message) -> None:
        sent.append(message)

    async def post() -> None:
        async with app.router.lifespan_context(app):
            await app({**scope, "headers": headers}, receive, send)

    asyncio.run(post())
    return sent[0]["status"], json.loads(sent[1]["body"])


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app()) as client:
        yield client


@pytest.fixture(scope="module")
def concat() -> Iterator[TestClient]:
    with TestClient(create_app("concat")) as client:
        yield client


@pytest.fixture(scope="module")
def images() -> Images:
    return mnist.load().images[:20, 0]


@pytest.fixture
def seven() -> bytes:
    image = np.zeros((28, 28), np.uint8)
    image[6:8, 8:20] = 255
    for row in range(8, 23):
        image[row, 26 - row : 28 - row] = 255 if row < 15 else 200
    return png(image)


# Answers


@pytest.mark.parametrize("model", ["row", "exact", "concat"])
def test_an_answer_is_the_predictors_with_what_the_network_saw(images: Images, model: str) -> None:
    predictor = Predictor(model)
    first = page_of(*images[:3]) if predictor.reads_rows else images[2]
    pictures = [png(first), png(images[3]), png(images[4])]
    addends = [10**1000 - 1, 7, 10]
    with TestClient(create_app(model)) as client:
        response = client.post("/predict", files=files(*pictures), data={"addends": addends})
    assert response.status_code == 200
    for answer, picture, addend in zip(response.json()["predictions"], pictures, addends, strict=True):
        seen = answer.pop("seen")
        expected = read_row(picture).strip if predictor.reads_rows else read_picture(picture)
        assert (seen["height"], seen["width"]) == expected.shape
        assert base64.b64decode(seen["pixels"]) == expected.tobytes()
        assert_same(answer, json.loads(json.dumps(predictor.predict_number(picture, addend).to_dict())))


def assert_same(answer: Any, expected: Any) -> None:
    """Compare what JSON holds; probabilities differ a little by how many images are read at once."""
    if isinstance(expected, dict):
        assert answer.keys() == expected.keys()
        for name in expected:
            assert_same(answer[name], expected[name])
    elif isinstance(expected, list):
        for pair in zip(answer, expected, strict=True):
            assert_same(*pair)
    else:
        assert type(answer) is type(expected)
        assert answer == (pytest.approx(expected, abs=1e-6) if isinstance(expected, float) else expected)


@pytest.mark.parametrize("addends", [[5], list(range(10)) * 2])
def test_answers_stand_in_the_order_of_their_pictures(
    client: TestClient, images: Images, addends: list[int]
) -> None:
    response = client.post("/predict", files=files(*map(png, images)), data={"addends": addends})
    expected = Predictor().predict_all(images, addends if len(addends) > 1 else 5)
    names = ("number", "addend", "sum")
    assert [[int(answer[name]) for name in names] for answer in response.json()["predictions"]] == [
        [answer.number, answer.addend, answer.sum] for answer in expected
    ]


def test_the_sum_is_the_networks_second_output_though_it_contradicts_the_first(concat: TestClient) -> None:
    picture = png(mnist.load().images[CONTRADICTORY, 0])
    response = concat.post("/predict", files=files(*[picture] * 11), data={"addends": [*range(11)]})
    *answers, exact = response.json()["predictions"]
    both = Predictor("concat").probabilities(mnist.load().images[[CONTRADICTORY] * 10], np.arange(10))
    for addend, digits, sums, answer in zip(range(10), *both, answers, strict=True):
        digit, sum_ = int(digits.argmax()), int(sums.argmax())
        assert sum_ != digit + addend
        assert (answer["number"], answer["sum"]) == (str(digit), str(sum_))
        assert answer["probability"] == pytest.approx(digits[digit], abs=1e-6)
        assert answer["sum_probability"] == pytest.approx(sums[sum_], abs=1e-6)
        assert (answer["consistent"], answer["uncertain"]) == (False, True)
    assert (exact["number"], exact["sum"], exact["consistent"]) == ("1", "11", True)
    assert exact["sum_probability"] == exact["probability"]


def test_the_networks_of_one_digit_are_shown_at_work(client: TestClient, seven: bytes) -> None:
    answer = client.post("/networks", files={"picture": seven}, data={"addend": 5}).json()
    seen, document = answer.pop("seen"), client.get("/openapi.json").json()
    image = read_picture(seven)
    assert (seen["height"], seen["width"], base64.b64decode(seen["pixels"])) == (28, 28, image.tobytes())
    for name, outputs in answer.items():
        digit, sum_ = Predictor(name).probabilities(image[np.newaxis, np.newaxis], np.array([5]))
        assert (outputs["digit"], outputs["sum"]) == (digit[0].tolist(), sum_[0].tolist())
        schema = {"exact": "Outputs", "concat": "ConcatOutputs"}[name]
        assert outputs.keys() == document["components"]["schemas"][schema]["properties"].keys()
    terms, sums = np.array(answer["concat"]["terms"]), answer["concat"]["sum"]
    assert terms.shape == (19, 31)
    assert terms.sum(axis=1).argmax() == np.argmax(sums) == 12


@pytest.mark.parametrize(
    ("picture", "addend", "said"),
    [
        (png(page_of(SEVEN, SEVEN)), 5, "it shows 2 digits, not one"),
        (png(PAGE), 10, "addend: input should be less than or equal to 9"),
        (b"seven", 5, "it is none of PNG"),
    ],
    ids=["two digits", "addend", "no picture"],
)
def test_what_the_networks_of_one_digit_dont_read_is_refused(
    client: TestClient, picture: bytes, addend: int, said: str
) -> None:
    answer = client.post("/networks", files={"picture": picture}, data={"addend": addend})
    assert answer.status_code == 422
    assert said in answer.json()["error"]["message"]


def test_the_page_is_sent_packed_to_who_can_unpack_it(client: TestClient) -> None:
    whole = client.get("/page.js", headers={"Accept-Encoding": "identity"})
    with client.stream("GET", "/page.js", headers={"Accept-Encoding": "gzip"}) as packed:
        sent = b"".join(packed.iter_raw())
    assert "Content-Encoding" not in whole.headers
    assert packed.headers["Vary"] == whole.headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(sent) == whole.content
    assert len(sent) < len(whole.content) / 2


def test_the_model_says_what_it_is(client: TestClient, concat: TestClient) -> None:
    for asked, model in ((client, "row"), (concat, "concat")):
        assert asked.get("/model").json() == Predictor(model).about


def test_health(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("path", "files"),
    [
        ("/", ["page.css", "readme.txt", "network.js", "strip.js", "page.js"]),
        ("/docs", ["swagger-ui.css", "swagger-ui-bundle.js", "docs.js"]),
    ],
)
def test_a_page_loads_its_own_files_alone(client: TestClient, path: str, files: list[str]) -> None:
    page = client.get(path)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert re.findall(r'(?:src|href)="(?!data:)([^"]*)"', page.text) == files
    assert not re.search(r"<script(?! src=)|<style| style=| on\w+=", page.text)  # nothing inline
    policy = page.headers["Content-Security-Policy"]
    assert policy == app.POLICY.decode()
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; img-src data: blob:; ")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["Referrer-Policy"] == "no-referrer"
    kinds = {"css": "css", "js": "javascript", "txt": "plain"}
    for name in files:
        file, kind = client.get(f"/{name}"), kinds[name.rpartition(".")[2]]
        assert (file.status_code, file.headers["Content-Type"]) == (200, f"text/{kind}; charset=utf-8")
    assert not client.get("/openapi.json").json()["paths"].keys() & {path, *(f"/{name}" for name in files)}


def test_the_page_asks_the_service_and_isnt_kept(client: TestClient) -> None:
    page = client.get("/")
    assert "<title>digitsum</title>" in page.text
    assert 'post("predict"' in client.get("/network.js").text
    assert re.findall(r"https?://[^']*", page.text) == ["http://www.w3.org/2000/svg"]
    for path in ("/", "/page.css", "/network.js", "/page.js"):
        assert client.get(path).headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("path", ["/", "/page.js", "/docs"])
def test_the_page_answers_head_without_a_body(client: TestClient, path: str) -> None:
    plain = {"Accept-Encoding": "identity"}
    head, whole = client.head(path, headers=plain), client.get(path, headers=plain)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(whole.content))


def test_a_page_elsewhere_is_let_ask_only_where_it_is_named(client: TestClient, seven: bytes) -> None:
    named, other = {"Origin": "https://example.org"}, {"Origin": "https://example.com"}
    question: dict[str, Any] = {"files": files(seven), "data": {"addends": 5}}
    assert "Access-Control-Allow-Origin" not in client.post("/predict", **question, headers=named).headers
    with TestClient(create_app(allow_origins=[named["Origin"]])) as allowing:
        allowed = allowing.post("/predict", **question, headers=named)
        refused = allowing.post("/predict", **question, headers=other)
    assert allowed.headers["Access-Control-Allow-Origin"] == named["Origin"]
    assert allowed.headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in refused.headers


def test_metrics_count_requests_and_predictions(seven: bytes) -> None:
    with TestClient(create_app()) as client:
        client.post("/predict", files=files(seven, seven), data={"addends": 5})
        client.post("/predict", files=files(b"no picture"), data={"addends": 5})
        client.get("/nowhere")
        client.get("/elsewhere")
        text = client.get("/metrics").text
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    values = {name: float(value) for name, value in lines}
    assert values['digitsum_requests_total{route="/predict",status="200"}'] == 1
    assert values['digitsum_requests_total{route="/predict",status="422"}'] == 1
    assert values['digitsum_requests_total{route="none",status="404"}'] == 2
    assert values['digitsum_request_seconds_count{route="/predict"}'] == 2
    assert sum(value for name, value in values.items() if "digitsum_predictions_total{" in name) == 2


# Refusals


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", "/nowhere", 404, "not_found"), ("DELETE", "/predict", 405, "method_not_allowed")],
)
def test_unknown_addresses_and_methods(
    client: TestClient, method: str, path: str, status: int, code: str
) -> None:
    assert_refused(client.request(method, path), status, code)


@pytest.mark.parametrize(
    ("addends", "message"),
    [
        ([1, -1], "addends[1]: input should be a whole number, 0 or more"),
        (["7.5"], "addends[0]: input should be a whole number"),
        (["seven"], "addends[0]: input should be a whole number"),
        (["९"], "addends[0]: input should be a whole number"),
        (["1e3", "NaN"], "addends[0]: input should be a whole number"),
        (["\x00"], "addends[0]: input should be a whole number"),
        ([""], "addends[0]: input should be a whole number"),
        (["9" * 1001], "addends[0]: input should have at most 1000 digits"),
        ([1] * 51, "addends: there should be at most 50 in a request"),
        ([1, 2, 3], "2 pictures need as many addends, or one for all, not 3"),
        ([], "addends: field required"),
    ],
)
def test_addends_that_are_none(client: TestClient, seven: bytes, addends: list[object], message: str) -> None:
    response = client.post("/predict", files=files(seven, seven), data={"addends": addends})
    assert_refused(response, 422, "invalid", message)


@pytest.mark.parametrize("picture", [b"", b"hello", b"\x89PNG\r\n\x1a\n", bomb(50_000, 50_000)])
def test_a_bad_picture_fails_the_request_and_is_named(
    client: TestClient, seven: bytes, picture: bytes
) -> None:
    alone = client.post("/predict", files=files(picture), data={"addends": 1})
    assert_refused(alone, 422, "invalid", "the picture can't be read: it ")
    among = client.post("/predict", files=files(seven, picture, seven), data={"addends": 1})
    assert_refused(among, 422, "invalid", "number 2 of 3: the picture can't be read: it ")


def test_a_picture_without_a_digit_is_refused_once_the_network_has_read_it(
    client: TestClient, seven: bytes
) -> None:
    line = np.zeros((100, 200), np.uint8)
    line[48:52, 10:190] = 255
    response = client.post("/predict", files=files(seven, png(line)), data={"addends": 1})
    assert_refused(
        response,
        422,
        "invalid",
        "number 2 of 2: the picture can't be read: it shows nothing that looks like ",
    )


def test_pictures_that_are_none_or_too_many(client: TestClient, seven: bytes) -> None:
    missing = client.post("/predict", data={"addends": 1})
    assert_refused(missing, 422, "invalid", "pictures: field required")
    swapped = client.post("/predict", files=[*files(seven), ("addends", ("seven.png", seven))])
    assert_refused(swapped, 422, "invalid", "addends[0]: input should be a whole number")
    text = client.post("/predict", data={"pictures": "text", "addends": 1})
    assert_refused(text, 422, "invalid", "pictures[0]: input should be a file, as curl sends it with ")
    many = client.post("/predict", files=files(*[seven] * 51), data={"addends": 1})
    assert_refused(many, 422, "invalid", "pictures: there should be at most 50 in a request")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["pictures[]", "addends"], "pictures: field required; the form has 'pictures[]', 'addends'"),
        (["pictures", "addends[]"], "addends: field required; the form has 'pictures', 'addends[]'"),
        (["picture"], "pictures: field required; the form has 'picture'"),
    ],
)
def test_a_field_of_another_name_is_named(
    client: TestClient, seven: bytes, names: list[str], said: str
) -> None:
    parts = [
        (name, ("seven.png", seven) if "picture" in name else (None, b"5"))  # the others are no files
        for name in names
    ]
    assert_refused(client.post("/predict", files=parts), 422, "invalid", said)


def test_of_odd_fields_the_first_are_named_and_cut(client: TestClient) -> None:
    refused = client.post("/predict", data={"a\n" * 20: 1, "b": 2, "c": 3, "d": 4})
    assert_refused(refused, 422, "invalid", "the form has '" + 15 * r"a\n" + "', 'b', 'c'")


def test_a_body_over_the_bound_is_refused(client: TestClient, seven: bytes) -> None:
    large = seven + bytes(limits.MAX_BODY)
    alone = client.post("/predict", files=files(large), data={"addends": 1})
    assert_refused(alone, 413, "too_large", "the picture has more than 10 MB; send a smaller one")
    among = client.post("/predict", files=files(seven, large), data={"addends": 1})
    assert_refused(among, 413, "too_large", "the request has more than 10 MB; send fewer pictures")


def test_a_large_picture_is_read_where_no_temporary_file_can_be_written(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = 255 - 50 * np.random.default_rng(0).integers(0, 2, (3000, 3000), np.uint8)
    page[600:2400, 1400:1600] = 0  # a one
    picture = png(page)
    assert 1_048_576 < len(picture) < limits.MAX_BODY  # the library's own bound

    def fail(**_: object) -> None:
        raise OSError("read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", fail)
    answer = client.post("/predict", files=files(picture), data={"addends": 6}).json()["predictions"][0]
    assert (answer["number"], answer["sum"]) == ("1", "7")


def test_a_body_without_a_length_is_refused_as_soon_as_it_is_too_large() -> None:
    chunks = [b'--x\r\nContent-Disposition: form-data; name="pictures"; filename="a"\r\n\r\n']
    sent = 0

    async def receive() -> Message:
        nonlocal sent
        chunk = chunks.pop() if chunks else bytes(100_000)
        sent += len(chunk)
        return {"type": "http.request", "body": chunk, "more_body": True}

    status, body = post_from(receive)
    assert (status, body["error"]["code"]) == (413, "too_large")
    assert limits.MAX_BODY < sent <= limits.MAX_BODY + 100_000
    assert body["error"]["message"] == "the picture has more than 10 MB; send a smaller one"


@pytest.mark.parametrize("length", [b"99999999999", b"9" * 5000])
def test_a_body_that_says_it_is_far_too_large_is_refused_before_it_is_read(length: bytes) -> None:
    async def receive() -> Message:
        raise AssertionError

    status, body = post_from(receive, (b"content-length", length))
    assert (status, body["error"]["code"]) == (413, "too_large")


@pytest.mark.parametrize("cut", range(1, 9))
def test_pictures_are_counted_whatever_pieces_a_body_comes_in(cut: int) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="pictures"; filename="a"\r\n\r\n\r\n'
    middle = part.index(b"filename=") + cut
    chunks = [part[middle:] + bytes(limits.MAX_BODY), part[:middle], part]  # the last one first

    async def receive() -> Message:
        return {"type": "http.request", "body": chunks.pop(), "more_body": True}

    _, body = post_from(receive)
    assert body["error"]["message"] == "the request has more than 10 MB; send fewer pictures"


def test_requests_over_the_bound_are_refused(
    client: TestClient, seven: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, go_on = threading.Event(), threading.Event()
    predictor = client.app.state.predictor

    def wait(picture: bytes) -> Row:
        reading.set()
        assert go_on.wait(100)
        return read_row(picture)

    monkeypatch.setattr(predictor, "read", wait)
    monkeypatch.setattr(limits, "MAX_REQUESTS", 1)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(client.post, "/predict", files=files(seven), data={"addends": 1})
        assert reading.wait(100)
        refused = client.post("/predict", files=files(seven), data={"addends": 1})
        assert client.get("/health").status_code == 200
        go_on.set()
        assert first.result().status_code == 200
    assert_refused(refused, 429, "busy")
    assert refused.headers["Retry-After"] == "1"
    assert client.post("/predict", files=files(seven), data={"addends": 1}).status_code == 200


def test_a_request_over_its_time_is_refused(
    client: TestClient, seven: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(client.app.state.predictor, "read", lambda _: go_on.wait(100))
    monkeypatch.setattr(limits, "MAX_SECONDS", 0.5)  # in which a slow machine has read the form
    response = client.post("/predict", files=files(seven), data={"addends": 1})
    go_on.set()
    assert_refused(response, 504, "timeout", "no answer in 0.5 seconds")


def test_an_upload_that_stalls_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_SECONDS", 0.05)

    async def receive() -> Message:
        await asyncio.sleep(100)
        raise AssertionError

    status, body = post_from(receive)
    assert (status, body["error"]["code"]) == (408, "slow_upload")


@pytest.mark.parametrize("error", [TypeError("a mistake"), InputError("the model isn't one of digitsum")])
def test_a_failure_of_the_service_has_the_same_shape(
    seven: bytes, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    app = create_app()
    with TestClient(app, raise_server_exceptions=False) as client:
        monkeypatch.setattr(app.state.predictor, "steps", fail)
        response = client.post("/predict", files=files(seven), data={"addends": 1})
        assert 'status="500"} 1.0' in client.get("/metrics").text
    assert_refused(response, 500, "failed", "the service failed; its log says why")


# Names


OWN = ("localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:8000", "[::1]", "[::1]:8000", "localhost:")
OTHERS = (
    "",
    "example.org",
    "localhost.example.org",
    "127.0.0.1.example.org:80",
    "[::1",
    "localhost:80:80",
    "é",
)


def test_a_service_for_its_own_machine_answers_to_its_names(named: TestClient) -> None:
    for host in OWN:
        assert named.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", OTHERS)
def test_a_service_for_its_own_machine_refuses_other_names(named: TestClient, host: str) -> None:
    for method, path in (("GET", "/"), ("POST", "/predict"), ("GET", "/nowhere")):
        response = named.request(method, path, headers={"Host": host.encode()})
        said = "ask it as localhost or 127.0.0.1 (or, as behind a proxy, by "
        assert_refused(response, 421, "misdirected", said)


@pytest.fixture(scope="module")
def named() -> Iterator[TestClient]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        names = app._names(listener, "127.0.0.1", [])
    with TestClient(create_app(names=names)) as client:
        yield client


@pytest.mark.parametrize(
    ("host", "origins", "more"),
    [
        ("localhost", [], ["localhost"]),
        ("127.0.0.2", ["https://Example.org:8443", "http://[::2]"], ["127.0.0.2", "example.org", "[::2]"]),
        ("127.0.0.1", ["https://example.org", "*"], None),
        ("0.0.0.0", [], None),  # noqa: S104
    ],
)
def test_the_names_of_a_service_follow_its_address(
    host: str, origins: list[str], more: list[str] | None
) -> None:
    with socket.create_server((host, 0)) as listener:
        names = app._names(listener, host, origins)
    assert set(names) == (set() if more is None else {"localhost", "127.0.0.1", "[::1]", *more})


# Hostile clients


# starlette leaves the file of a part that never ends to the garbage collector
@pytest.mark.filterwarnings("ignore:Unclosed file <tempfile:ResourceWarning")
def test_no_form_however_broken_is_a_failure_of_the_service(client: TestClient, seven: bytes) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="pictures"; filename="a"\r\n\r\n'
    form = head + seven + b"\r\n--x--\r\n"
    kinds = ("multipart/form-data; boundary=x", "multipart/form-data", "application/json", "")
    rng, statuses = np.random.default_rng(0), set()
    for i in range(200):
        cut, noise = int(rng.integers(len(form))), rng.bytes(int(rng.integers(1, 2000)))
        broken = form[:cut] + noise[:20] + form[cut + int(rng.integers(20)) :]
        content, kind = (broken, kinds[0]) if i % 2 else (noise, kinds[i // 2 % 4])
        response = client.post("/predict", content=content, headers={"Content-Type": kind})
        statuses.add(response.status_code)
        assert response.json()["error"].keys() == {"code", "message"}
    assert statuses == {400, 422}


def test_a_name_of_a_file_and_fields_more_are_let_be(client: TestClient, seven: bytes) -> None:
    picture = ("pictures", ('\ud7ff\n"../' * 50, seven))
    response = client.post("/predict", files=[picture], data={"addends": 1, "more": "x" * 5000})
    assert response.json()["predictions"][0]["sum"] == "8"


def test_answers_are_as_the_schema_says() -> None:
    import schemathesis  # here, as each process of the tests would take a second to import it
    from hypothesis import given, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

    checks = [not_a_server_error, response_schema_conformance, status_code_conformance]
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app())
    operations = [operation.ok() for operation in schema.get_all_operations()]
    assert {operation.path for operation in operations} == {
        *("/predict", "/networks", "/health", "/model", "/metrics")
    }
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(max_examples=15, derandomize=True, deadline=None, database=None)
        def check(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=checks)

        check()


@pytest.mark.parametrize("addend", [5, 10])
def test_an_answer_is_as_the_schema_says(client: TestClient, seven: bytes, addend: int) -> None:
    document = client.get("/openapi.json").json()
    operation = document["paths"]["/predict"]["post"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    answers = client.post("/predict", files=files(seven, seven), data={"addends": addend}).json()
    jsonschema_rs.validate({**schema, "components": document["components"]}, answers)
    schemas = document["components"]["schemas"]
    for answer in answers["predictions"]:
        assert answer.keys() == schemas["Prediction"]["properties"].keys()
        assert answer["digits"][0].keys() == schemas["DigitPrediction"]["properties"].keys()


def test_examples_of_the_schema_are_valid(client: TestClient, seven: bytes) -> None:
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    checked = 0
    for component in schemas.values():
        for part in component.get("properties", {}).values():
            for example in part.get("examples", []):
                jsonschema_rs.validate(part, example)
                checked += 1
    # of an answer, a digit, what is seen, an error, the model, the health, addends, an addend
    assert checked == 11 + 5 + 3 + 2 + 4 + 1 + 1 + 1
    properties = schemas["Body_predict"]["properties"]
    example = properties["addends"]["examples"][0]
    assert client.post("/predict", files=files(seven), data={"addends": example}).status_code == 200
    assert properties["pictures"]["items"] == {"type": "string", "format": "binary"}
    assert properties["pictures"]["minItems"] == properties["addends"]["minItems"] == 1


def test_a_generated_client_uploads_pictures(client: TestClient, seven: bytes, tmp_path: Path) -> None:
    document, generated = tmp_path / "openapi.json", tmp_path / "digitsum_client"
    document.write_bytes(client.get("/openapi.json").content)
    (tmp_path / "config.json").write_text('{"post_hooks": []}')  # which would only format it
    options = ["--path", document, "--output-path", generated, "--config", tmp_path / "config.json"]
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none", *options]
    subprocess.run([*command, "--fail-on-warning"], check=True, capture_output=True)
    (tmp_path / "seven.png").write_bytes(seven)
    with serving() as url:
        asked = subprocess.run(
            [sys.executable, "-c", ASK_WITH_THE_CLIENT, url], cwd=tmp_path, check=True, capture_output=True
        )
    assert asked.stdout == b"7 1207\n"


ASK_WITH_THE_CLIENT = """
import sys
from digitsum_client import Client
from digitsum_client.api.default import predict
from digitsum_client.models import BodyPredict
from digitsum_client.types import File
with Client(base_url=sys.argv[1]) as client, open("seven.png", "rb") as file:
    body = BodyPredict(pictures=[File(file, "seven.png", "image/png")], addends=["1200"])
    (prediction,) = predict.sync(client=client, body=body).predictions
print(prediction.number, prediction.sum_)
"""


# The process


SERVE = ("-m", "digitsum", "serve", "--port", "0")


class Server:
    """`digitsum serve` on a free port."""

    def __init__(self, *options: str, command: Sequence[str | Path] = SERVE) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.communicate(timeout=100)

    def wait_for(self, pattern: str) -> str:
        """Read what it says until the pattern is there, and give the pattern's group."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(pattern, line):
                return found[1]
        raise AssertionError(f"the server ended without saying {pattern}")

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=100)


def test_serve_finishes_accepted_requests_when_terminated(seven: bytes) -> None:
    with Server() as server:
        port = int(server.wait_for(r"running on http://127\.0\.0\.1:(\d+) "))
        url = f"http://127.0.0.1:{port}/predict"
        request = httpx2.Request("POST", url, files=files(seven), data={"addends": "5"})
        body = request.read()
        head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=100) as connection:
            kind = request.headers["Content-Type"]
            connection.sendall(f"{head}Expect: 100-continue\r\nContent-Type: {kind}\r\n\r\n".encode())
            assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")  # so it is accepted
            if sys.platform == "linux":
                used = Path(f"/proc/{server.process.pid}/maps").read_text()
                assert "/uvloop/" in used
                assert "/httptools/" in used
            server.process.terminate()
            server.wait_for("(Shutting down)")
            connection.sendall(body)
            answer = b"".join(iter(lambda: connection.recv(10_000), b""))
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b'"number":"7","addend":"5","sum":"12"' in answer
        assert server.process.wait(timeout=100) == 0  # a second signal may meet Python while it ends


def test_serve_with_workers_counts_for_all_of_them(seven: bytes) -> None:
    with Server("--workers", "2") as server:
        url = server.wait_for(r"running on (http://\S+) ")
        server.wait_for("(startup complete)")
        for _ in range(6):
            answer = httpx2.post(url + "/predict", files=files(seven), data={"addends": "5"}, timeout=100)
            assert answer.status_code == 200
        assert 'route="/predict",status="200"} 6.0' in httpx2.get(url + "/metrics", timeout=100).text
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=100) == 0


SERVE_BRIEFLY = """
import sys
from digitsum.serving import limits
limits.MAX_SECONDS = 0.5  # here, as a worker runs this again
if __name__ == "__main__":
    from digitsum.serving.app import serve
    serve(sys.argv[1], port=0, workers=int(sys.argv[2]))
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_serve_ends_though_a_model_never_does(tmp_path: Path, seven: bytes, workers: str) -> None:
    def value(name: str, kind: int, shape: list[int | str]) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(name, kind, shape)

    loop = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", [f"{each}_in"], [f"{each}_out"]) for each in ("again", "digit")],
        "loop",
        [value("i", 7, []), value("again_in", 9, []), value("digit_in", 1, ["N", 10])],
        [value("again_out", 9, []), value("digit_out", 1, ["N", 10])],
    )
    graph = (model := onnx.load(WEIGHTS / "exact" / "model.onnx")).graph
    (last,) = (each for each in graph.node if "digit" in each.output)
    last.output[list(last.output).index("digit")] = "probability"
    graph.node.append(onnx.helper.make_node("Loop", ["", "true", "probability"], ["digit"], body=loop))
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "true"))
    onnx.save(model, tmp_path / "m.onnx")
    (tmp_path / "serve.py").write_text(SERVE_BRIEFLY)
    with Server(command=[tmp_path / "serve.py", tmp_path / "m.onnx", workers]) as server:
        url = server.wait_for(r"running on (http://\S+) ")
        answer = httpx2.post(url + "/predict", files=files(seven), data={"addends": "5"}, timeout=100)
        assert_refused(answer, 504, "timeout")
        assert server.stop() == 0


def test_serve_lets_named_origins_ask_refuses_what_is_no_request_and_logs_nothing_of_it() -> None:
    origins = ["https://example.org", "http://localhost:3000"]
    with Server(*(f"--allow-origin={origin}" for origin in origins)) as server:
        url = server.wait_for(r"running on (http://\S+) ")
        long = b"GET / HTTP/1.1\r\n" + (limits.MAX_LINES + 1) * b"X: y\r\n" + b"\r\n"
        websocket = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        for request, status in ((b"hello\r\n\r\n", b"400"), (long, b"400"), (websocket, b"200")):
            port = int(url.rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), timeout=100) as connection:
                connection.sendall(request)
                assert connection.recv(10_000).startswith(b"HTTP/1.1 " + status)
        for origin in origins:
            answer = httpx2.get(url + "/health", headers={"Origin": origin}, timeout=100)
            assert answer.headers["Access-Control-Allow-Origin"] == origin
        for host, code in (("example.org", 200), ("example.com", 421)):  # as a proxy may pass it on
            assert httpx2.get(url + "/health", headers={"Host": host}, timeout=100).status_code == code
        assert server.stop() == 0
        assert server.process.stderr is not None
        log = server.process.stderr.read()
    assert {line.split()[0] for line in log.splitlines()} == {"INFO:"}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_serve_on_a_busy_port_fails_with_one_sentence(run: Run, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        sentence = f"digitsum: 127.0.0.1:{port} is taken by another program: choose another --port\n"
        assert run("serve", "--port", port, "--workers", workers) == (1, "", sentence)


def test_serve_on_an_address_that_isnt_this_machines_fails_with_one_sentence() -> None:
    with pytest.raises(OSError, match=r"^192\.0\.2\.1:0 can't be listened at: .*assign.*; choose another"):
        app.serve(host="192.0.2.1", port=0)


@pytest.mark.parametrize("origin", ["example.org", "https://example.org/", "file:///page.html", "null", ""])
def test_serve_refuses_what_is_no_origin(origin: str) -> None:
    with pytest.raises(
        ValueError, match=r"^an origin is like https://example\.org, without a path, or \*, not"
    ):
        app.serve(port=0, allow_origins=["https://example.org", origin])


def test_serve_without_its_libraries_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("digitsum.serving.app")
    monkeypatch.delitem(sys.modules, "digitsum.serving.app")
    monkeypatch.setitem(sys.modules, "fastapi", None)
    code, _, errors = run("serve")
    assert code == 1
    assert errors.endswith(": pip install 'digitsum[serve]'\n")
