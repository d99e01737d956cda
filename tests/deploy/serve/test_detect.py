"""A detector behind the same addresses: boxes in place of probabilities, and the same refusals."""

import base64
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from .pictures import bomb
from .sample import Patches, client, patch, picture
from .test_app import upload


@pytest.fixture(scope="module")
def app() -> Iterator[TestClient]:
    with client(Patches()) as found:
        yield found


def test_boxes_of_several_images_in_their_order(app: TestClient) -> None:
    files = (patch((60, 40), (10, 5, 30, 25)), picture("blue", (7, 9)), patch((30, 30), (0, 0, 4, 30)))
    answer = app.post("/v1/detect", files=upload(*files, names=("a.png", "b.png", "c.png")))
    assert answer.status_code == 200
    said = answer.json()
    assert said["model"] == "patches"
    assert said["milliseconds"] > 0
    first, second, third = said["detections"]
    assert first == {
        "name": "a.png", "width": 60, "height": 40, "error": None,
        "boxes": [{"output": 0, "class": "red <i>", "score": 0.9, "box": [10.0, 5.0, 30.0, 25.0]}],
    }  # fmt: skip
    assert (second["width"], second["height"], second["boxes"]) == (7, 9, [])
    assert third["boxes"][0]["box"] == [0.0, 0.0, 4.0, 30.0]


def test_a_lower_score_shows_more(app: TestClient) -> None:
    sent = base64.b64encode(patch((60, 40), (10, 5, 30, 25))).decode()

    def classes(score: str) -> list[str]:
        [one] = app.post(f"/v1/detect{score}", json={"image": sent}).json()["detections"]
        return [each["class"] for each in one["boxes"]]

    assert classes("?score=0.3") == ["red <i>", "half"]
    assert classes("") == ["red <i>"]
    assert classes("?score=1") == []


@pytest.mark.parametrize("score", ["-0.1", "1.5", "nan", "many"])
def test_scores_that_are_none(app: TestClient, score: str) -> None:
    answer = app.post(f"/v1/detect?score={score}", files=upload(picture()))
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("score: ")


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"nothing", 415), (picture()[:50], 422), (bomb(4000, 4000), 413), (b"x" * 100_001, 413)],
)
def test_what_cannot_be_read(app: TestClient, data: bytes, status: int) -> None:
    answer = app.post("/v1/detect", files=upload(data))
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "request"}


def test_of_several_a_bad_one_has_its_error_in_its_place(app: TestClient) -> None:
    said = app.post("/v1/detect", files=upload(b"nothing", patch((9, 9), (0, 0, 9, 9)))).json()["detections"]
    assert said[0]["error"] == "expected an image: JPEG, PNG, WEBP, GIF"
    assert (said[0]["boxes"], said[0]["width"]) == ([], None)
    assert said[1]["boxes"][0]["box"] == [0.0, 0.0, 9.0, 9.0]


def test_what_is_there_is_said(app: TestClient) -> None:
    about = app.get("/v1/model").json()
    assert (about["detects"], about["explains"], about["size"]) == (True, False, None)
    paths = app.get("/openapi.json").json()["paths"]
    assert "/v1/detect" in paths
    assert not [path for path in paths if path.startswith(("/v2", "/v1/predict", "/v1/explain"))]
    for path in ("/v1/predict", "/v1/explain", "/v2/models/patches/infer"):
        answer = app.post(path, files=upload(picture()))
        assert answer.status_code == 404
        assert "is a detector: it answers at /v1/detect" in answer.json()["error"]


def test_a_classifier_has_no_boxes() -> None:
    with client() as app:
        assert app.get("/v1/model").json()["detects"] is False
        answer = app.post("/v1/detect", files=upload(picture()))
        assert answer.status_code == 404
        assert "is a classifier: it answers at /v1/predict" in answer.json()["error"]
