import asyncio
import base64
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from struct import pack
from typing import Any, Self

import httpx2
import jsonschema_rs
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from starlette.types import Message, Receive

from digitsum import bounds, mnist, service
from digitsum.imaging import read_number
from digitsum.prediction import Predictor

Images = np.ndarray[Any, np.dtype[np.uint8]]
Run = Callable[..., tuple[int, str, str]]

ZEROS = zlib.compress(bytes(1_000_000))


def png(image: Images) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


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


def post_from(receive: Receive) -> tuple[int, Any]:
    """Post a form to `/predict` whose body comes from `receive`, and give the answer's status and body."""
    app, sent = service.create_app(), []
    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b""}
    headers = [(b"content-type", b"multipart/form-data; boundary=x")]

    async def send(message: Message) -> None:
        sent.append(message)

    async def post() -> None:
        async with app.router.lifespan_context(app):
            await app({**scope, "headers": headers}, receive, send)

    asyncio.run(post())
    return sent[0]["status"], json.loads(sent[1]["body"])


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(service.create_app("exact")) as client:
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


@pytest.mark.parametrize("addends", [[5], list(range(10)) * 2])
def test_answers_are_the_predictors_in_order(client: TestClient, images: Images, addends: list[int]) -> None:
    response = client.post("/predict", files=files(*map(png, images)), data={"addends": addends})
    assert response.status_code == 200
    expected = Predictor("exact").predict_all(images, addends if len(addends) > 1 else 5)
    answers = response.json()["predictions"]
    assert len(answers) == 20
    for answer, prediction, image in zip(answers, expected, images, strict=True):
        for name in ("digit", "sum", "uncertain"):
            assert answer[name] == getattr(prediction, name)
        for name in ("digit_probability", "sum_probability", "digit_probabilities", "sum_probabilities"):
            np.testing.assert_allclose(answer[name], getattr(prediction, name), rtol=0, atol=1e-6)
        assert base64.b64decode(answer["image"]) == image.tobytes()


def page_of(*images: Images) -> bytes:
    """Draw images side by side on a page, four times as large, black on white."""
    row = np.hstack([np.pad(image, ((0, 0), (2, 2))) for image in images])
    return png(np.pad(np.kron(255 - row, np.ones((4, 4), np.uint8)), 40, constant_values=255))


@pytest.mark.parametrize("model", ["exact", "concat"])
def test_numbers_are_the_predictors_in_order(images: Images, model: str) -> None:
    pictures, addends = [page_of(*images[:3]), page_of(images[3])], [10**30, 7]
    with TestClient(service.create_app(model)) as client:
        response = client.post("/numbers", files=files(*pictures), data={"addends": addends})
    assert response.status_code == 200
    several, one = response.json()["predictions"]
    predictor = Predictor(model)
    for answer, picture, addend in zip((several, one), pictures, addends, strict=True):
        expected = predictor.predict_number(picture, addend)
        assert (answer["number"], answer["sum"]) == (str(expected.number), str(expected.number + addend))
        assert answer["probability"] == pytest.approx(expected.probability, abs=1e-6)
        assert answer["uncertain"] == expected.uncertain
        seen = [base64.b64decode(digit["image"]) for digit in answer["digits"]]
        assert seen == [image.tobytes() for image in read_number(picture)]
        for digit, prediction in zip(answer["digits"], expected.digits, strict=True):
            assert digit["digit"] == prediction.digit
            assert digit["probability"] == max(digit["probabilities"])
            np.testing.assert_allclose(digit["probabilities"], prediction.digit_probabilities, atol=1e-6)
    assert len(several["digits"]) == 3
    assert several["sum_probabilities"] is None
    expected_sums = predictor.predict(pictures[1], 7).sum_probabilities  # the network's own, with the addend
    np.testing.assert_allclose(one["sum_probabilities"], expected_sums, atol=1e-6)


def test_a_number_is_refused_where_one_digit_is_asked_for(client: TestClient, images: Images) -> None:
    response = client.post("/predict", files=files(page_of(*images[:2])), data={"addends": 1})
    assert_refused(response, 422, "invalid", "it shows 2 digits, not one")
    assert "POST /numbers" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("addends", "message"),
    [
        (["-1"], "addends[0]: input should be a whole number"),
        (["1", "7.5"], "addends[1]: input should be a whole number"),
        (["९"], "addends[0]: input should be a whole number"),
        (["1e3"], "addends[0]: input should be a whole number"),
        (["9" * 1001], "addends[0]: string should have at most 1000 characters"),
        (["1", "2", "3"], "2 pictures need as many addends, or one for all, not 3"),
        ([], "addends: field required"),
    ],
)
def test_addends_of_numbers_that_are_none(
    client: TestClient, seven: bytes, addends: list[str], message: str
) -> None:
    response = client.post("/numbers", files=files(seven, seven), data={"addends": addends})
    assert_refused(response, 422, "invalid", message)


def test_an_addend_of_a_thousand_digits_is_added_exactly(client: TestClient, seven: bytes) -> None:
    (answer,) = client.post("/numbers", files=files(seven), data={"addends": "9" * 1000}).json()[
        "predictions"
    ]
    assert answer["sum"] == "1" + "0" * 999 + "6"


def test_a_bad_picture_among_numbers_is_named(client: TestClient, seven: bytes) -> None:
    among = client.post("/numbers", files=files(seven, b"hello"), data={"addends": "1"})
    assert_refused(among, 422, "invalid", "number 2 of 2: the picture can't be read: it ")


def test_answers_of_another_model(images: Images) -> None:
    with TestClient(service.create_app("concat")) as client:
        assert client.get("/model").json() == Predictor("concat").about
        response = client.post("/predict", files=files(png(images[0])), data={"addends": 3})
    expected = Predictor("concat").predict(images[0], 3)
    np.testing.assert_allclose(
        response.json()["predictions"][0]["sum_probabilities"], expected.sum_probabilities, atol=1e-6
    )


def test_a_photograph_is_prepared(client: TestClient) -> None:
    page = np.full((300, 400), 230, np.uint8)
    page[100:200, 50:60] = 40  # a one, dark on light, far from the centre
    answer = client.post("/predict", files=files(png(page)), data={"addends": 6}).json()["predictions"][0]
    assert (answer["digit"], answer["sum"]) == (1, 7)
    seen = np.frombuffer(base64.b64decode(answer["image"]), np.uint8).reshape(28, 28)
    assert np.ptp(np.nonzero(seen)[0]) + 1 == 20


def test_health_and_model(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/model").json() == Predictor("exact").about


def test_the_page_and_all_files_that_it_names(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<title>digitsum</title>" in page.text
    names = re.findall(r'(?:src|href)="(?!data:)([^"]*)"', page.text)
    assert names == ["page.css", "network.js", "page.js"]
    for name, kind in zip(names, ("css", "javascript", "javascript"), strict=True):
        file = client.get(f"/{name}")
        assert (file.status_code, file.headers["Content-Type"]) == (200, f"text/{kind}; charset=utf-8")
        assert file.headers["Cache-Control"] == page.headers["Cache-Control"] == "no-cache"
    assert 'fetch("numbers"' in client.get("/network.js").text
    assert not client.get("/openapi.json").json()["paths"].keys() & {"/", *(f"/{name}" for name in names)}


@pytest.mark.parametrize("path", ["/", "/page.js", "/docs"])
def test_the_page_answers_head_without_a_body(client: TestClient, path: str) -> None:
    head, whole = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(whole.content))


def test_the_documentation_loads_its_own_files_alone(client: TestClient) -> None:
    page = client.get("/docs")
    names = re.findall(r'(?:src|href)="(?!data:)([^"]*)"', page.text)
    assert names == ["swagger-ui.css", "swagger-ui-bundle.js", "docs.js"]
    assert page.headers["Content-Security-Policy"] == service.POLICY.decode()
    assert not re.search(r"<script(?! src=)|<style| style=| on\w+=", page.text)
    for name, kind in zip(names, ("css", "javascript", "javascript"), strict=True):
        assert client.get(f"/{name}").headers["Content-Type"] == f"text/{kind}; charset=utf-8"


def test_a_page_elsewhere_is_let_ask_only_where_it_is_named(client: TestClient, seven: bytes) -> None:
    named, other = {"Origin": "https://example.org"}, {"Origin": "https://example.com"}
    question: dict[str, Any] = {"files": files(seven), "data": {"addends": 5}}
    assert "Access-Control-Allow-Origin" not in client.post("/predict", **question, headers=named).headers
    with TestClient(service.create_app(allow_origins=[named["Origin"]])) as allowing:
        allowed = allowing.post("/predict", **question, headers=named)
        refused = allowing.post("/predict", **question, headers=other)
    assert allowed.headers["Access-Control-Allow-Origin"] == named["Origin"]
    assert allowed.headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in refused.headers


def test_metrics_count_requests_and_predictions(seven: bytes) -> None:
    with TestClient(service.create_app()) as client:
        client.post("/predict", files=files(seven, seven), data={"addends": 5})
        client.post("/predict", files=files(b"no picture"), data={"addends": 5})
        client.get("/nowhere")
        client.get("/elsewhere")
        text = client.get("/metrics").text
    values = {
        line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line[0] != "#"
    }
    assert values['digitsum_requests_total{route="/predict",status="200"}'] == 1
    assert values['digitsum_requests_total{route="/predict",status="422"}'] == 1
    assert values['digitsum_requests_total{route="none",status="404"}'] == 2
    assert values['digitsum_request_seconds_count{route="/predict"}'] == 2
    assert sum(value for name, value in values.items() if "digitsum_predictions_total{" in name) == 2


def test_page_may_load_nothing_but_itself(client: TestClient) -> None:
    response = client.get("/")
    policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; img-src data: blob:; ")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert not re.search(r"<script(?! src=)|<style| style=| on\w+=", response.text)  # nothing inline
    assert re.findall(r"https?://[^']*", response.text) == ["http://www.w3.org/2000/svg"]


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
        ([10], "addends[0]: input should be less than or equal to 9"),
        ([1, -1], "addends[1]: input should be greater than or equal to 0"),
        (["9" * 10_000], "addends[0]: "),
        (["7.5"], "addends[0]: "),
        (["seven"], "addends[0]: input should be a valid integer"),
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


def test_pictures_that_are_none_or_too_many(client: TestClient, seven: bytes) -> None:
    missing = client.post("/predict", data={"addends": 1})
    assert_refused(missing, 422, "invalid", "pictures: field required")
    text = client.post("/predict", data={"pictures": "text", "addends": 1})
    assert_refused(text, 422, "invalid", "pictures[0]: input should be a file, as curl sends it with ")
    many = client.post("/predict", files=files(*[seven] * 51), data={"addends": 1})
    assert_refused(many, 422, "invalid", "pictures: list should have at most 50 items")


def test_three_full_requests_at_a_time_are_answered_in_half_their_time(
    client: TestClient, images: Images
) -> None:
    """At a tenth of the size, in CPU time: the other half is for slower machines and noisier pictures."""
    chance, share = np.random.default_rng(0), 10
    pages = []
    for image in images[: bounds.MAX_PICTURES // share]:
        page = np.pad(np.kron(255 - image, np.ones((10, 10))), 60, constant_values=255)  # of 400 x 400
        pages.append(png((page + chance.normal(0, 20, page.shape)).clip(0, 255).astype(np.uint8)))
    assert share * sum(map(len, pages)) < 0.9 * bounds.MAX_BODY
    start = time.process_time()
    with ThreadPoolExecutor(3) as pool:
        asked = [
            pool.submit(client.post, "/predict", files=files(*pages), data={"addends": 5}) for _ in range(3)
        ]
        assert [each.result().status_code for each in asked] == [200] * 3
    assert share * (time.process_time() - start) < bounds.MAX_SECONDS / 2


def test_a_body_over_the_bound_is_refused(client: TestClient, seven: bytes) -> None:
    large = seven + bytes(bounds.MAX_BODY)
    response = client.post("/predict", files=files(large), data={"addends": 1})
    assert_refused(response, 413, "too_large", "the request has more than 10000000 bytes")


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
    assert bounds.MAX_BODY < sent <= bounds.MAX_BODY + 100_000


def test_requests_over_the_bound_are_refused(
    client: TestClient, seven: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, go_on = threading.Event(), threading.Event()
    read_picture = service.read_picture

    def wait(picture: bytes) -> Images:
        reading.set()
        assert go_on.wait(10)
        return read_picture(picture)

    monkeypatch.setattr(service, "read_picture", wait)
    monkeypatch.setattr(bounds, "MAX_REQUESTS", 1)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(client.post, "/predict", files=files(seven), data={"addends": 1})
        assert reading.wait(10)
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
    monkeypatch.setattr(service, "read_picture", lambda _: go_on.wait(10))
    monkeypatch.setattr(bounds, "MAX_SECONDS", 0.05)
    response = client.post("/predict", files=files(seven), data={"addends": 1})
    go_on.set()
    assert_refused(response, 504, "timeout", "no answer in 0.05 seconds")


def test_an_upload_that_stalls_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_SECONDS", 0.05)

    async def receive() -> Message:
        await asyncio.sleep(10)
        raise AssertionError

    status, body = post_from(receive)
    assert (status, body["error"]["code"]) == (408, "slow_upload")


def test_a_failure_of_the_service_has_the_same_shape(seven: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    app = service.create_app()
    with TestClient(app, raise_server_exceptions=False) as client:
        monkeypatch.setattr(app.state.predictor, "probabilities", None)
        response = client.post("/predict", files=files(seven), data={"addends": 1})
        assert 'status="500"} 1.0' in client.get("/metrics").text
    assert_refused(response, 500, "failed", "the service failed; its log says why")


# Hostile clients


def hostile(seed: int, picture: bytes) -> dict[str, Any]:
    """One of many ways to ask wrongly."""
    rng = np.random.default_rng(seed)
    noise = rng.bytes(int(rng.integers(1, 2000)))
    damaged = bytearray(picture)
    for place in rng.integers(0, len(picture), 4):
        damaged[place] = rng.integers(256)
    form = (
        b'--x\r\nContent-Disposition: form-data; name="pictures"; filename="a"\r\n\r\n'
        + picture
        + b"\r\n--x--\r\n"
    )
    cut = int(rng.integers(len(form)))
    broken = form[:cut] + noise[:20] + form[cut + int(rng.integers(20)) :]
    sides = [int(side) for side in rng.integers(0, 2**31, 2)]
    numbers = ["1" * 5000, "-0", "1e400", "NaN", "\x00", "९", "", str(2**64), "[7]", "0x7"]
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    ways: list[dict[str, Any]] = [
        {"files": files(picture[:cut]), "data": {"addends": 1}},
        {"files": files(bytes(damaged)), "data": {"addends": 1}},
        {"files": files(noise), "data": {"addends": 1}},
        {"files": files(bomb(*sides)), "data": {"addends": 1}},
        {"files": files(bomb(300, 300)), "data": {"addends": 1}},
        {"files": files(picture), "data": {"addends": numbers[seed // 12 % len(numbers)]}},
        {"files": [("addends", ("a", noise))], "data": {"pictures": "7"}},
        {"files": [("pictures", ('\ud7ff\n"../' * 50, picture))], "data": {"addends": 1, "more": "x" * 5000}},
        {"content": broken, "headers": kind},
        {"content": noise, "headers": kind},
        {"content": noise, "headers": {"Content-Type": "multipart/form-data"}},
        {"json": {"pictures": [1], "addends": 10**30}},
    ]
    return ways[seed % len(ways)]


# starlette leaves the file of a part that never ends to the garbage collector
@pytest.mark.filterwarnings("ignore:Unclosed file <tempfile:ResourceWarning")
@pytest.mark.parametrize("path", ["/predict", "/numbers"])
def test_nothing_that_a_client_sends_is_a_failure_of_the_service(
    client: TestClient, seven: bytes, path: str
) -> None:
    statuses = set()
    for seed in range(360):
        response = client.post(path, **hostile(seed, seven))
        statuses.add(response.status_code)
        if response.status_code != 200:  # some damage doesn't show
            assert response.json()["error"].keys() == {"code", "message"}, seed
    assert statuses <= {200, 400, 422}


def test_answers_are_as_the_schema_says() -> None:
    import schemathesis  # here, as each process of the tests would take a second to import it
    from hypothesis import given, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

    checks = [not_a_server_error, response_schema_conformance, status_code_conformance]
    schema = schemathesis.openapi.from_asgi("/openapi.json", service.create_app())
    operations = [operation.ok() for operation in schema.get_all_operations()]
    assert {operation.path for operation in operations} == {
        "/predict",
        "/numbers",
        "/health",
        "/model",
        "/metrics",
    }
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(max_examples=40, derandomize=True, deadline=None, database=None)
        def check(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=checks)

        check()


@pytest.mark.parametrize(("path", "fields"), [("/predict", "Answer"), ("/numbers", "Number")])
def test_an_answer_is_as_the_schema_says(client: TestClient, seven: bytes, path: str, fields: str) -> None:
    document = client.get("/openapi.json").json()
    operation = document["paths"][path]["post"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    answers = client.post(path, files=files(seven, seven), data={"addends": 5}).json()
    jsonschema_rs.validate({**schema, "components": document["components"]}, answers)
    names = document["components"]["schemas"][fields]["properties"].keys()
    assert [answer.keys() for answer in answers["predictions"]] == [names] * 2


def test_examples_of_the_schema_are_valid(client: TestClient, seven: bytes) -> None:
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    checked = 0
    for component in schemas.values():
        for part in component.get("properties", {}).values():
            for example in part.get("examples", []):
                jsonschema_rs.validate(part, example)
                checked += 1
    # of an answer, a digit, a number, a problem, the model, the health, the addends of both
    assert checked == 8 + 4 + 6 + 2 + 4 + 1 + 2
    for path in ("/predict", "/numbers"):
        properties = schemas[f"Body_{path[1:]}"]["properties"]
        example = properties["addends"]["examples"][0]
        assert client.post(path, files=files(seven), data={"addends": example}).status_code == 200
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
    with Server() as server:
        url = server.wait_for(r"running on (http://\S+) ")
        asked = subprocess.run(
            [sys.executable, "-c", ASK_WITH_THE_CLIENT, url], cwd=tmp_path, check=True, capture_output=True
        )
    assert asked.stdout == b"7 12 7 1207\n"


ASK_WITH_THE_CLIENT = """
import sys
from digitsum_client import Client
from digitsum_client.api.default import numbers, predict
from digitsum_client.models import BodyNumbers, BodyPredict
from digitsum_client.types import File
with Client(base_url=sys.argv[1]) as client, open("seven.png", "rb") as file:
    body = BodyPredict(pictures=[File(file, "seven.png", "image/png")], addends=[5])
    (prediction,) = predict.sync(client=client, body=body).predictions
    file.seek(0)
    body = BodyNumbers(pictures=[File(file, "seven.png", "image/png")], addends=["1200"])
    (number,) = numbers.sync(client=client, body=body).predictions
print(prediction.digit, prediction.sum_, number.number, number.sum_)
"""


# The process


class Server:
    """`digitsum serve` on a free port."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-m", "digitsum", "serve", "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.communicate(timeout=30)

    def wait_for(self, pattern: str) -> str:
        """Read what it says until the pattern is there, and give the pattern's group."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(pattern, line):
                return found[1]
        raise AssertionError(f"the server ended without saying {pattern}")

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=30)


def test_serve_finishes_accepted_requests_when_terminated(seven: bytes) -> None:
    with Server() as server:
        port = int(server.wait_for(r"running on http://127\.0\.0\.1:(\d+) "))
        url = f"http://127.0.0.1:{port}/predict"
        request = httpx2.Request("POST", url, files=files(seven), data={"addends": "5"})
        body = request.read()
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(f"{head}Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode())
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
        assert b'"digit":7,"sum":12' in answer
        assert server.process.wait(timeout=30) == 0  # a second signal may meet Python while it ends


def test_serve_with_workers_counts_for_all_of_them(seven: bytes) -> None:
    with Server("--workers", "2") as server:
        url = server.wait_for(r"running on (http://\S+) ")
        server.wait_for("(startup complete)")
        for _ in range(6):
            answer = httpx2.post(url + "/predict", files=files(seven), data={"addends": "5"}, timeout=30)
            assert answer.status_code == 200
        assert 'route="/predict",status="200"} 6.0' in httpx2.get(url + "/metrics").text
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=30) == 0


def test_serve_refuses_what_is_no_request_and_writes_nothing_of_it_to_its_log() -> None:
    with Server() as server:
        port = int(server.wait_for(r"running on http://127\.0\.0\.1:(\d+) "))
        long = b"GET / HTTP/1.1\r\n" + (bounds.MAX_LINES + 1) * b"X: y\r\n" + b"\r\n"
        websocket = b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        for request, status in ((b"hello\r\n\r\n", b"400"), (long, b"400"), (websocket, b"200")):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                connection.sendall(request)
                assert connection.recv(10_000).startswith(b"HTTP/1.1 " + status)
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
        service.serve(host="192.0.2.1", port=0)


@pytest.mark.parametrize("origin", ["example.org", "https://example.org/", "file:///page.html", "null", ""])
def test_serve_refuses_what_is_no_origin(origin: str) -> None:
    with pytest.raises(
        ValueError, match=r"^an origin is like https://example\.org, without a path, or \*, not"
    ):
        service.serve(port=0, allow_origins=["https://example.org", origin])


def test_serve_lets_pages_of_the_named_origins_ask() -> None:
    origins = ["https://example.org", "http://localhost:3000"]
    with Server(*(f"--allow-origin={origin}" for origin in origins)) as server:
        url = server.wait_for(r"running on (http://\S+) ")
        for origin in origins:
            answer = httpx2.get(url + "/health", headers={"Origin": origin})
            assert answer.headers["Access-Control-Allow-Origin"] == origin


def test_serve_without_a_model_exits_with_2(run: Run) -> None:
    code, _, errors = run("serve", "--model", "nowhere")
    assert code == 2
    assert errors.startswith("digitsum: there is no model 'nowhere': name exact")


def test_serve_without_its_libraries_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("digitsum.service")
    monkeypatch.delitem(sys.modules, "digitsum.service")
    monkeypatch.setitem(sys.modules, "fastapi", None)
    code, _, errors = run("serve")
    assert code == 1
    assert errors.endswith(": pip install 'digitsum[serve]'\n")
