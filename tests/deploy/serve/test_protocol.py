"""The Open Inference Protocol, by hand and by a client that is not ours."""

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from reslab.data.decode.whole import Fit, fitted_image
from reslab.deploy.serve.protocol import BINARY_HEADER

from .listening import listening
from .sample import Colours, client, picture

INFER = "/v2/models/colours/infer"


@pytest.fixture(scope="module")
def app() -> Iterator[TestClient]:
    with client() as found:
        yield found


def pixels(*colours: tuple[int, int, int], side: int = 16) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.stack([np.full((side, side, 3), colour, np.uint8) for colour in colours])


def asked(array: np.ndarray[Any, np.dtype[np.uint8]], **more: Any) -> dict[str, Any]:
    given = {"name": "images", "shape": array.shape, "datatype": "UINT8", "data": array.ravel().tolist()}
    return {"inputs": [given | more]}


def test_what_there_is(app: TestClient) -> None:
    assert app.get("/v2").json()["name"] == "reslab"
    assert app.get("/v2/health/live").status_code == app.get("/v2/health/ready").status_code == 200
    for address in ("/v2/models/colours", "/v2/models/colours/versions/1"):
        assert app.get(address).json()["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
        assert app.get(address + "/ready").json() == {"name": "colours", "ready": True}
    for address in ("/v2/models/other", "/v2/models/colours/versions/2", "/v2/models/..%2fcolours"):
        assert app.get(address).status_code == 404
        assert app.post(address + "/infer", json=asked(pixels((0, 0, 0)))).status_code == 404


def test_pixels_as_numbers(app: TestClient) -> None:
    answer = app.post(INFER, json={"id": "seven"} | asked(pixels((255, 0, 0), (0, 0, 255))))
    assert answer.status_code == 200
    said = answer.json()
    assert (said["id"], said["model_name"], said["model_version"]) == ("seven", "colours", "1")
    [output] = said["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("probabilities", "FP32", [2, 3])
    assert np.argmax(np.reshape(output["data"], (2, 3)), 1).tolist() == [0, 2]


def test_lists_within_lists_are_the_same(app: TestClient) -> None:
    array = pixels((9, 200, 3))
    flat, deep = (app.post(INFER, json=asked(array, data=data)) for data in (array.ravel().tolist(), array.tolist()))
    assert flat.json() == deep.json()


def test_pixels_of_another_size_are_fitted_as_files_are(app: TestClient) -> None:
    from PIL import Image

    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    whole = app.post(INFER, json=asked(image[None])).json()
    fitted = np.asarray(fitted_image(Image.fromarray(image), Fit((16, 16))))
    assert whole == app.post(INFER, json=asked(fitted[None])).json()


def test_encoded_files(app: TestClient) -> None:
    data = [base64.b64encode(picture(colour)).decode() for colour in ("lime", "red")]
    given = {"name": "images", "shape": [2], "datatype": "BYTES", "data": data}
    [output] = app.post(INFER, json={"inputs": [given]}).json()["outputs"]
    assert np.argmax(np.reshape(output["data"], (2, 3)), 1).tolist() == [1, 0]


def binary(head: dict[str, Any], *tail: bytes) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(head).encode()
    return text + b"".join(tail), {BINARY_HEADER: str(len(text)), "content-type": "application/octet-stream"}


def test_binary_both_ways(app: TestClient) -> None:
    raw = pixels((0, 0, 255)).tobytes()
    given = {
        "name": "images",
        "shape": [1, 16, 16, 3],
        "datatype": "UINT8",
        "parameters": {"binary_data_size": len(raw)},
    }
    content, headers = binary({"inputs": [given], "parameters": {"binary_data_output": True}}, raw)
    answer = app.post(INFER, content=content, headers=headers)
    assert answer.status_code == 200
    length = int(answer.headers[BINARY_HEADER])
    assert json.loads(answer.content[:length])["outputs"][0]["parameters"] == {"binary_data_size": 12}
    assert np.frombuffer(answer.content[length:], "<f4").argmax() == 2


def test_the_likeliest_by_name(app: TestClient) -> None:
    wanted = [{"name": "probabilities", "parameters": {"classification": 2}}]
    [output] = app.post(INFER, json=asked(pixels((0, 0, 255))) | {"outputs": wanted}).json()["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [1, 2])
    assert output["data"][0].endswith(":2:blue & <b>bold</b>")
    assert float(output["data"][0].partition(":")[0]) > 0.9


ONE = pixels((1, 2, 3))


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, 400),
        ({"inputs": []}, 400),
        (asked(ONE, name="other"), 400),
        (asked(ONE, datatype="FP32"), 400),
        (asked(ONE, shape=[1, 16, 16]), 400),
        (asked(ONE, shape=[1, 16, 16, 1]), 400),
        (asked(ONE, shape=[2, 16, 16, 3]), 400),
        (asked(ONE, shape=[0, 16, 16, 3]), 400),
        (asked(ONE, shape=[-1, 16, 16, 3]), 400),
        (asked(ONE, shape=[1, -16, -16, 3]), 400),
        (asked(ONE, shape=[5, 16, 16, 3]), 413),
        (asked(ONE, shape=[10**30, 16, 16, 3]), 413),
        (asked(ONE, shape=[1, 10**6, 10**6, 3]), 413),
        (asked(ONE, shape=[1, 1, 256, 3]), 200),
        (asked(ONE, data=[256] * 768), 400),
        (asked(ONE, data=[-1] * 768), 400),
        (asked(ONE, data=[0.5] * 768), 400),
        (asked(ONE, data=["a"] * 768), 400),
        (asked(ONE, data=[[1], [2, 3]]), 400),
        (asked(ONE, data=[10**40] * 768), 400),
        (asked(ONE, data=[None]), 400),
        (asked(ONE, data=None), 400),
        (asked(ONE, parameters={"binary_data_size": 768}), 400),
        (asked(ONE) | {"outputs": [{"name": "other"}]}, 400),
        (asked(ONE) | {"id": "x" * 300}, 400),
        ({"inputs": [{"name": "images", "shape": [1], "datatype": "BYTES", "data": ["http://x"]}]}, 400),
        ({"inputs": [{"name": "images", "shape": [1], "datatype": "BYTES", "data": ["YQ=="]}]}, 415),
        ({"inputs": [{"name": "images", "shape": [1, 1], "datatype": "BYTES", "data": ["YQ=="]}]}, 400),
        ({"inputs": [{"name": "images", "shape": [2], "datatype": "BYTES", "data": ["YQ=="]}]}, 400),
        ({"inputs": [{"name": "images", "shape": [], "datatype": "BYTES", "data": []}]}, 400),
    ],
)  # fmt: skip
def test_what_is_not_taken(app: TestClient, given: dict[str, Any], status: int) -> None:
    answer = app.post(INFER, json=given)
    assert answer.status_code == status
    assert (status == 200) == ("error" not in answer.json())


@pytest.mark.parametrize("length", ["-1", "x", "10000000", "9" * 40, "1.5", ""])
def test_a_length_that_is_none(app: TestClient, length: str) -> None:
    assert app.post(INFER, content=b"{}", headers={BINARY_HEADER: length}).status_code == 400


@pytest.mark.parametrize(
    "tail", [b"", b"\x05", struct.pack("<I", 10) + b"abc", struct.pack("<I", 2**32 - 1), struct.pack("<I", 0) * 2]
)  # fmt: skip
def test_bytes_that_are_cut(app: TestClient, tail: bytes) -> None:
    given = {"name": "images", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(tail)}}
    content, headers = binary({"inputs": [given]}, tail)
    assert app.post(INFER, content=content, headers=headers).status_code == 400


def test_tritons_client() -> None:
    triton = pytest.importorskip("tritonclient.http", reason="no client: pip install 'tritonclient[http]'")
    with listening() as port:
        there = triton.InferenceServerClient(f"127.0.0.1:{port}")
        assert there.is_server_live()
        assert there.is_server_ready()
        assert there.is_model_ready("colours")
        assert there.is_model_ready("colours", "1")
        assert not there.is_model_ready("other")
        assert there.get_server_metadata()["extensions"]
        shape = there.get_model_metadata("colours")["outputs"][0]["shape"]
        assert shape == [-1, len(Colours.classes)]
        array = pixels((0, 255, 0), (255, 0, 0))
        for as_bytes in (True, False):
            given = triton.InferInput("images", list(array.shape), "UINT8")
            given.set_data_from_numpy(array, binary_data=as_bytes)
            wanted = triton.InferRequestedOutput("probabilities", binary_data=as_bytes)
            found = there.infer("colours", [given], outputs=[wanted], request_id="7").as_numpy("probabilities")
            assert found.argmax(1).tolist() == [1, 0]
        files = np.array([picture("blue")], object)
        given = triton.InferInput("images", [1], "BYTES")
        given.set_data_from_numpy(files)
        wanted = triton.InferRequestedOutput("probabilities", class_count=1)
        [[best]] = there.infer("colours", [given], outputs=[wanted]).as_numpy("probabilities")
        assert best.endswith(b":2:blue & <b>bold</b>")
        with pytest.raises(triton.InferenceServerException, match="there is one model, colours"):
            there.infer("other", [given])
        there.close()
