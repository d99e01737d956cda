"""Whatever is sent is answered: a few hundred of the requests of `benchmarks/serve_hostile.py`, and hypothesis's."""

import json
from collections.abc import Iterator
from itertools import islice

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from .listening import listening
from .pictures import drawn, hostile, photograph
from .sample import SMALL, client, picture

SOME = settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
LIMITS = SMALL.model_copy(
    update={"bytes": 500_000, "bytes_at_a_time": 5_000_000, "places": 64, "receive_seconds": 20.0}
)
ALLOWED = (200, 400, 404, 405, 413, 415, 422)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with listening(limits=LIMITS) as found:
        yield found


@pytest.fixture(scope="module")
def app() -> Iterator[TestClient]:
    with client(limits=LIMITS) as found:
        yield found


# What is slow is that each costs a decoder its life; the benchmark sends those too.
@pytest.mark.parametrize("seed", range(4))
def test_every_request_is_answered(port: int, seed: int) -> None:
    maker = hostile.Hostile([drawn(), Image.new("RGB", (9, 17), "lime")], seed)
    cases = (case for case in maker if case.kind not in ("parts", "comments", "large"))
    tally = hostile.attacked(port, islice(cases, 60), 60, at_a_time=2)
    assert tally.wrong == []
    assert sum(tally.statuses.values()) == 60
    assert tally.kinds.keys() >= {"mutated JPEG", "mutated PNG", "mutated WEBP", "mutated GIF"}
    assert hostile.send(port, maker.good()).status == 200


def test_the_rules_can_be_broken() -> None:
    tally, case = hostile.Tally(), hostile.Case("mutated PNG", ())
    for status, body in ((500, b'{"error": ""}'), (0, b""), (422, b"")):
        tally.add(case, hostile.Answer(status, 0.1, body))
    tally.add(hostile.Case("good", (), fine=True), hostile.Answer(422, 0.1, b'{"error": ""}'))
    assert [fault.partition(":")[0] for fault in tally.wrong] == ["5xx", "no answer", "no reason", "a good one refused"]


def answered(app: TestClient, body: bytes, kind: str, address: str = "/v1/predict") -> None:
    answer = app.post(address, content=body, headers={"content-type": kind})
    assert answer.status_code in ALLOWED
    assert answer.status_code == 200 or answer.json()["error"].isprintable()


IMAGES = [photograph(kind=kind) for kind in hostile.KINDS]
EDITS = st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 40), st.binary(max_size=8)), max_size=4)


@SOME
@given(which=st.integers(0, len(IMAGES) - 1), edits=EDITS)
def test_images_that_were_edited(app: TestClient, which: int, edits: list[tuple[int, int, bytes]]) -> None:
    data = IMAGES[which]
    for at, length, put in edits:
        data = data[:at] + put + data[at + length :]
    answer = app.post("/v1/predict", files={"image": ("x", data)})
    assert answer.status_code in ALLOWED
    if not edits:
        assert answer.status_code == 200


VALUES = st.recursive(st.none() | st.booleans() | st.floats() | st.text() | st.integers(), st.lists, max_leaves=4)


@SOME
@given(body=st.dictionaries(st.sampled_from(["image", "images", "x"]), VALUES | st.dictionaries(st.text(), VALUES)))
def test_json_of_any_form(app: TestClient, body: dict[str, object]) -> None:
    answered(app, json.dumps(body).encode(), "application/json")


@SOME
@given(body=st.binary(max_size=300), kind=st.sampled_from(["application/json", "multipart/form-data; boundary=a"]))
def test_bytes_of_any_kind(app: TestClient, body: bytes, kind: str) -> None:
    answered(app, body, kind)
    answered(app, body, "application/octet-stream", "/v2/models/colours/infer")


@SOME
@given(
    st.fixed_dictionaries({
        "name": st.sampled_from(["images", "x"]), "datatype": st.sampled_from(["UINT8", "BYTES", "FP32"]),
        "shape": st.lists(st.integers(-(2**70), 2**70) | st.integers(0, 4), max_size=5), "data": VALUES,
    })
)  # fmt: skip
def test_tensors_of_any_shape(app: TestClient, given_: dict[str, object]) -> None:
    answered(app, json.dumps({"inputs": [given_]}).encode(), "application/json", "/v2/models/colours/infer")


def test_a_good_one_is_answered_after_all_that(app: TestClient) -> None:
    assert app.post("/v1/predict", files={"image": ("x", picture())}).status_code == 200
