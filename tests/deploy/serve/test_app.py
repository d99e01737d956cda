"""Addresses and answers, by a client in this process."""

import base64
import io
import json
import logging
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from PIL import Image
from starlette.testclient import TestClient

from reslab.deploy.serve.decoding import Pixels
from reslab.deploy.serve.logs import REQUESTS, AsJson
from reslab.deploy.serve.model import Probabilities

from .pictures import animation, bomb
from .sample import SMALL, Colours, client, picture


@pytest.fixture(scope="module")
def app() -> Iterator[TestClient]:
    with client() as found:
        yield found


def upload(*files: bytes, names: tuple[str, ...] = ()) -> list[tuple[str, tuple[str, bytes]]]:
    return [("image", (names[i] if names else f"{i}.png", data)) for i, data in enumerate(files)]


def based(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_one_image(app: TestClient) -> None:
    answer = app.post("/v1/predict", files=upload(picture("green"), names=("leaf.png",)))
    assert answer.status_code == 200
    said = answer.json()
    assert said["model"] == "colours"
    [one] = said["predictions"]
    assert (one["name"], one["error"]) == ("leaf.png", None)
    assert one["top"][0] == {"output": 1, "class": "green", "probability": pytest.approx(129 / 131)}
    assert [each["output"] for each in one["top"]] == [1, 0, 2]
    assert said["milliseconds"] > 0


def test_many_images_in_their_order(app: TestClient) -> None:
    colours = ("blue", "red", "lime", "red")
    said = app.post("/v1/predict?top=1", files=upload(*map(picture, colours))).json()["predictions"]
    assert [each["top"][0]["output"] for each in said] == [2, 0, 1, 0]
    assert [len(each["top"]) for each in said] == [1] * 4


def test_base64(app: TestClient) -> None:
    one = app.post("/v1/predict", json={"image": based(picture("red"))}).json()["predictions"]
    url = f"data:image/png;base64,{based(picture('blue'))}"
    two = app.post("/v1/predict", json={"images": [based(picture("lime")), url]}).json()["predictions"]
    assert [each["top"][0]["output"] for each in (*one, *two)] == [0, 1, 2]


def test_of_several_a_bad_one_has_its_error_in_its_place(app: TestClient) -> None:
    answer = app.post("/v1/predict", files=upload(picture("red"), b"nothing", picture("blue")))
    assert answer.status_code == 200
    said = answer.json()["predictions"]
    assert [each["error"] for each in said] == [None, "expected an image: JPEG, PNG, WEBP, GIF", None]
    assert [len(each["top"]) for each in said] == [3, 0, 3]


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"nothing", 415), (picture()[:50], 422), (bomb(4000, 4000), 413), (picture(size=(60_000, 1)), 413)],
)
def test_where_none_can_be_read_the_answer_is_its_status(app: TestClient, data: bytes, status: int) -> None:
    answer = app.post("/v1/predict", files=upload(data))
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "request"}


def test_decoding_pauses_while_too_many_pixels_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reslab.deploy.serve.service.MOST_HELD", 1)
    model = Colours()
    with client(model) as app:
        warm = len(model.batches)
        answer = app.post("/v1/predict?top=1", files=upload(*map(picture, ("red", "blue", "lime", "red"))))
        assert [each["top"][0]["output"] for each in answer.json()["predictions"]] == [0, 2, 1, 0]
        assert model.batches[warm:] == [1, 1, 1, 1]


def test_too_many_images(app: TestClient) -> None:
    answer = app.post("/v1/predict", files=upload(*[picture()] * 5))
    assert (answer.status_code, answer.json()["error"]) == (413, "a request may have 4 images, and this one has 5")


def test_an_animation_of_ten_thousand_pictures(app: TestClient) -> None:
    with client(limits=SMALL.model_copy(update={"bytes": 2_000_000, "bytes_at_a_time": 2_000_000})) as wide:
        answer = wide.post("/v1/predict", files=upload(animation(10_000)))
    assert answer.json()["predictions"][0]["top"][0]["class"] == "red"


def test_where_it_was_seen(app: TestClient) -> None:
    answer = app.post("/v1/explain", files=upload(picture("blue")))
    assert answer.status_code == 200
    said = answer.json()
    assert said["explained"]["output"] == 2
    assert Image.open(io.BytesIO(base64.b64decode(said["picture"]))).getpixel((0, 0)) == 255
    other = app.post("/v1/explain?output=0", json={"image": based(picture("blue"))}).json()
    assert other["explained"]["class"] == "red"
    assert other["top"][0]["output"] == 2


def test_what_cannot_be_explained(app: TestClient) -> None:
    assert app.post("/v1/explain?output=3", files=upload(picture())).status_code == 422
    assert app.post("/v1/explain", files=upload(picture(), picture())).status_code == 422
    with client(Colours()) as plain:
        answer = plain.post("/v1/explain", files=upload(picture()))
        assert (answer.status_code, "reslab export --explain" in answer.json()["error"]) == (404, True)
        assert "/openapi.json lists" in plain.get("/v1/predictions").json()["error"]
        assert plain.get("/v1/model").json()["explains"] is False


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        ({}, 422, "expected either 'image' or 'images'"),
        ({"image": based(picture()), "images": []}, 422, "either"),
        ({"images": []}, 422, "at least one image"),
        ({"images": ["x"] * 5}, 422, "expected a file in base64"),
        ({"images": [based(picture())] * 5}, 413, "may have 4 images, and this one has 5"),
        ({"image": "http://127.0.0.1/x.png"}, 422, "never fetched"),
        ({"image": "/etc/passwd"}, 422, "never fetched"),
        ({"image": "../../etc/passwd"}, 422, "never fetched"),
        ({"image": 3}, 422, "image: Input should be a valid string"),
        ({"image": based(picture()), "url": "http://x"}, 422, "url: Extra inputs are not permitted"),
        ([], 422, "Input should be"),
        ("text", 422, "Input should be"),
    ],
)
def test_json_that_is_not_taken(app: TestClient, body: object, status: int, why: str) -> None:
    answer = app.post("/v1/predict", json=body)
    assert answer.status_code == status
    assert why in answer.json()["error"]


@pytest.mark.parametrize("text", ["", "{", "\x00", "[" * 50_000, '{"image":' * 5000, "NaN", '{"image": "\\ud800"}'])
def test_text_that_is_no_json(app: TestClient, text: str) -> None:
    answer = app.post("/v1/predict", content=text.encode(), headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["error"].isascii()


FIELD = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n'


@pytest.mark.parametrize(
    ("kind", "content", "status"),
    [
        ("multipart/form-data", b"x", 400),
        ("multipart/form-data; boundary=", b"x", 400),
        ("multipart/form-data; boundary=x", b"--x\r\nnothing", 422),
        ("multipart/form-data; boundary=x", b"", 422),
        ("multipart/form-data; boundary=x", FIELD, 422),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n", 400),
        ("text/plain", b"x", 415),
        ("image/png", picture(), 415),
        ("", b"", 415),
    ],
)  # fmt: skip
def test_bodies_of_another_kind(app: TestClient, kind: str, content: bytes, status: int) -> None:
    assert app.post("/v1/predict", content=content, headers={"content-type": kind}).status_code == status


def test_a_compressed_body_is_not_unpacked(app: TestClient) -> None:
    answer = app.post("/v1/predict", files=upload(picture()), headers={"content-encoding": "gzip"})
    assert (answer.status_code, "not compressed" in answer.text) == (415, True)


def test_too_many_bytes_are_refused_whether_or_not_they_are_announced(app: TestClient) -> None:
    assert app.post("/v1/predict", files=upload(b"x" * 100_001)).status_code == 413
    pieces = (b"x" * 10_000 for _ in range(11))
    answer = app.post("/v1/predict", content=pieces, headers={"content-type": "application/json"})
    assert (answer.status_code, "100,000 bytes" in answer.text) == (413, True)


NAMES = (
    "../../etc/passwd",
    "a\\..\\b.png",
    "x" * 1000,
    "<img src=x onerror=alert(1)>.png",
    "ünïcödé ☃.png",
    'q"uo.png',
)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_repeated_and_nothing_else(app: TestClient, name: str) -> None:
    answer = app.post("/v1/predict", files=upload(picture(), names=(name,)))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    said = answer.json()["predictions"][0]["name"]
    assert said == name[:255] or "%22" in said


@pytest.mark.parametrize("given", ["?top=0", "?top=1001", "?top=x", "?top=1e3", "?top=" + "9" * 5000])
def test_numbers_out_of_range(app: TestClient, given: str) -> None:
    answer = app.post(f"/v1/predict{given}", files=upload(picture()))
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("top: ")


def test_the_token_is_asked_for(app: TestClient) -> None:
    with client(token="s3cret") as closed:
        for address in ("/v1/model", "/metrics", "/v2", "/v2/models/colours", "/nothing"):
            for given in (
                {},
                {"authorization": "Bearer wrong"},
                {"authorization": "s3cret"},
                {"authorization": "Bearer"},
            ):
                answer = closed.get(address, headers=given)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert closed.get(address, headers={"authorization": "Bearer s3cret"}).status_code in (200, 404)
        assert closed.post("/v1/predict", files=upload(picture())).status_code == 401
        assert closed.get("/v1/model", headers={"authorization": "bearer s3cret"}).status_code == 200
        for address in ("/", "/page.js", "/healthz", "/readyz", "/v2/health/ready", "/openapi.json"):
            assert closed.get(address).status_code == 200


def test_health_model_and_openapi(app: TestClient) -> None:
    assert app.get("/healthz").json() == {"alive": True}
    assert app.get("/readyz").json() == {"ready": True}
    about = app.get("/v1/model").json()
    assert about["classes"] == list(Colours.classes)
    assert (about["explains"], about["size"], about["most_bytes"]) == (True, [16, 16], 100_000)
    described = app.get("/openapi.json").json()
    assert {"/v1/predict", "/v1/explain", "/v2/models/{model}/infer"} < set(described["paths"])
    assert "429" in described["paths"]["/v1/predict"]["post"]["responses"]


def test_figures(app: TestClient) -> None:
    app.post("/v1/predict", files=upload(picture()))
    app.get("/an/address/of/theirs")
    text = app.get("/metrics").text
    assert 'reslab_requests_total{method="POST",route="/v1/predict",status="200"}' in text
    assert 'route="other",status="404"' in text
    assert "theirs" not in text
    assert "reslab_batch_images_bucket" in text
    assert "reslab_inside_images 0.0" in text


def test_a_name_for_a_request_is_taken_over_if_it_is_one(app: TestClient) -> None:
    assert app.get("/healthz", headers={"x-request-id": "abc-1.2_3"}).headers["x-request-id"] == "abc-1.2_3"
    for bad in ("a b", "x" * 65, "é", "a;b", ""):
        given = app.get("/healthz", headers={"x-request-id": bad.encode()}).headers["x-request-id"]
        assert len(given) == 16
        assert given != bad


def test_browsers_are_told_to_load_nothing_from_elsewhere(app: TestClient) -> None:
    headers = app.get("/").headers
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert headers["x-content-type-options"] == "nosniff"


def test_the_log_says_what_it_cost_and_not_what_was_in_it(app: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, REQUESTS):
        app.post("/v1/predict", files=upload(picture(), names=("secret-name.png",)))
        app.get("/no%0asuch%22place?x=secret")
    lines = [AsJson().format(record) for record in caplog.records if record.name == REQUESTS]
    assert len(lines) == 2
    first, second = map(json.loads, lines)
    assert (first["route"], first["status"], first["images"]) == ("/v1/predict", 200, 1)
    assert (second["route"], second["status"]) == ("other", 404)
    assert "secret" not in "".join(lines)
    assert "\n" not in "".join(lines)


class Broken(Colours):
    fails = False

    def probabilities(self, images: Sequence[Pixels]) -> Sequence[Probabilities]:
        if self.fails:
            raise RuntimeError("secret")
        return super().probabilities(images)


def test_what_fails_here_is_a_500_that_tells_nothing() -> None:
    broken = Broken()
    with client(broken) as app:
        broken.fails = True
        answer = app.post("/v1/predict", files=upload(picture()))
        assert answer.status_code == 500
        assert "secret" not in answer.text
        broken.fails = False
        assert app.post("/v1/predict", files=upload(picture())).status_code == 200


def test_more_than_there_are_places_for_is_told_when_to_come_again() -> None:
    model = Colours()
    with client(model, limits=SMALL.model_copy(update={"places": 2})) as app:
        model.goes_on.clear()
        found: list[int] = []
        waiting = [
            threading.Thread(target=lambda: found.append(app.post("/v1/predict", files=upload(picture())).status_code))
            for _ in range(2)
        ]
        for each in waiting:
            each.start()
        while "reslab_inside_images 2.0" not in app.get("/metrics").text:
            time.sleep(0.01)
        answer = app.post("/v1/predict", files=upload(picture()))
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert app.get("/healthz").status_code == 200
        model.goes_on.set()
        for each in waiting:
            each.join()
        assert found == [200, 200]
        assert app.post("/v1/predict", files=upload(picture())).status_code == 200


def test_what_is_not_answered_in_time_is_told_so() -> None:
    model = Colours()
    with client(model, limits=SMALL.model_copy(update={"patience": 0.05})) as app:
        model.goes_on.clear()
        answer = app.post("/v1/predict", files=upload(picture()))
        model.goes_on.set()
        assert answer.status_code == 429
        assert "too busy to answer in time" in answer.json()["error"]
        assert "reslab_inside_images 0.0" in app.get("/metrics").text
