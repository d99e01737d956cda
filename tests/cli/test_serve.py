"""``reslab serve``: each option does what it says."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from PIL import Image
from rich.console import Console

from reslab.cli import app
from reslab.weights.preprocessing import Preprocessing

from .sample import TINY, Reslab, ours

pytest.importorskip("fastapi", reason="no FastAPI: pip install 'reslab[serve]'")
from starlette.testclient import TestClient

from reslab.commands.serve import Prepared, prepare

HOW = Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), crop=(32, 32))
NAMES = tuple(f"kind {i}" for i in range(10))


def prepared(*words: object) -> Prepared:
    given = ["serve", *map(str, words), "--port", "0"]
    command, bound, _ = app.parse_args(given, exit_on_error=False, print_error=False)
    found = prepare(command(*bound.args, **bound.kwargs), Console(stderr=True))
    assert found.address.startswith("http://")
    found.listening.close()
    return found


def picture(size: tuple[int, int] = (32, 32), **saved: Any) -> bytes:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (size[1], size[0], 3), dtype=torch.uint8, generator=draw)
    Image.fromarray(pixels.numpy()).save("x.png", **saved)
    return Path("x.png").read_bytes()


def shown(server: Prepared, data: bytes) -> list[dict[str, Any]]:
    """What is said of a picture."""
    with TestClient(server.app) as client:
        answer = client.post("/v1/predict?top=10", files={"image": ("x.png", data)})
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["predictions"][0]["top"]
        return found


def test_what_a_picture_shows(reslab: Reslab) -> None:
    ours("w.safetensors", preprocessing=HOW, classes=NAMES)
    data = picture()
    _, out, _ = reslab("predict", "w.safetensors", "x.png", "--json", "--top", 10)
    server = prepared("w.safetensors", "--batch-size", 2, "--threads", 1, "--host", "127.0.0.1", "--net", TINY)
    assert (server.service.batch, torch.get_num_threads()) == (2, 1)
    said = shown(server, data)
    expected = json.loads(out)["top"]
    assert [each["class"] for each in said] == [each["class"] for each in expected]
    assert [each["probability"] for each in said] == pytest.approx([each["probability"] for each in expected], abs=1e-5)


def test_where_it_was_seen() -> None:
    ours("w.safetensors", preprocessing=HOW, classes=NAMES)
    with TestClient(prepared("w.safetensors", "-b", 2, "--model", TINY).app) as client:
        said = client.post("/v1/explain?output=3", files={"image": ("x.png", picture())}).json()
        assert said["explained"]["class"] == "kind 3"
        assert len(said["picture"]) > 100
        again = client.post("/v1/predict?top=5", files={"image": ("x.png", picture())}).json()
        assert again["predictions"][0]["top"] == said["top"]


def test_a_token(capsys: pytest.CaptureFixture[str]) -> None:
    ours("w.safetensors", preprocessing=HOW, classes=NAMES)
    Path("token").write_text("abc\n")
    with TestClient(prepared("w.safetensors", "--token-file", "token").app) as client:
        assert client.get("/v1/model").status_code == 401
        assert client.get("/v1/model", headers={"authorization": "Bearer abc"}).status_code == 200
    prepared("w.safetensors", "--token-file", "token", "--host", "0.0.0.0")
    assert capsys.readouterr().err == ""
    prepared("w.safetensors", "--host", "0.0.0.0")
    assert "anyone who can reach 0.0.0.0 can use this server" in capsys.readouterr().err


def test_limits() -> None:
    ours("w.safetensors", preprocessing=HOW, classes=NAMES)
    server = prepared(
        "w.safetensors", "--deadline", 2.5, "--queue", 7, "--max-bytes", 20_000, "--max-images", 3,
        "--max-pixels", 2000, "--decode-seconds", 0.5, "--decoders", 2, "--linger", 4,
    )  # fmt: skip
    service, limits = server.service, server.service.limits
    assert (limits.patience, limits.places, limits.decode_seconds) == (2.5, 7, 0.5)
    assert (service.decoders.count, service.decoders.how.seconds, service.linger) == (2, 0.5, 0.004)
    with TestClient(server.app) as client:
        small, large = picture((30, 30)), picture((50, 50))
        assert client.post("/v1/predict", files=[("image", ("x", small))] * 3).status_code == 200
        assert client.post("/v1/predict", files=[("image", ("x", small))] * 4).status_code == 413
        assert (
            client.post("/v1/predict", files={"image": ("x", large)})
            .json()["error"]
            .startswith("an image may have 2,000")
        )
        assert client.post("/v1/predict", files={"image": ("x", b"x" * 20_001)}).status_code == 413


def test_options_of_what_the_weights_do_not_say(capsys: pytest.CaptureFixture[str]) -> None:
    ours("w.safetensors")
    Path("names.txt").write_text("\n".join(f"sort {i}" for i in range(10)))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = picture((40, 30), exif=exif)
    usual = ("w.safetensors", "--mean", 0.5, 0.5, 0.5, "--std", 0.2, 0.2, 0.2)
    first = shown(prepared(*usual), data)
    assert first[0]["class"].isdigit()
    assert "--outputs FILE names them" in capsys.readouterr().err
    assert shown(prepared(*usual, "--outputs", "names.txt", "--device", "cpu"), data)[0]["class"].startswith("sort ")
    others = (
        ("--resize", 36, "--crop", 32), ("--crop", 24), ("--interpolation", "bicubic"), ("--no-orient",),
        ("--precision", "bf16"),
    )  # fmt: skip
    for other in others:
        assert [each["probability"] for each in shown(prepared(*usual, *other), data)] != [
            each["probability"] for each in first
        ], other
    assert shown(prepared(*usual, "--orient"), data) == first
    assert shown(prepared(*usual, "--which", "raw"), data) == first


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--queue", 0), "--queue takes 1 or more, got 0"),
        (("--decoders", 0), "--decoders takes 1 or more"),
        (("--deadline", 0), "--deadline takes seconds above 0"),
        (("--linger", -1), "--linger takes 0 milliseconds or more"),
        (("--port", 70_000), "--port takes 0 to 65535"),
        (("--host", "no.such.host.invalid"), "cannot listen at no.such.host.invalid"),
        (("--token-file", "absent"), "--token-file absent cannot be read"),
        (("--token-file", "empty"), "expected a token without spaces, found none"),
        (("--token-file", "spaced"), "expected a token without spaces, found one with"),
    ],
)
def test_a_mistake_is_said_in_a_line(reslab: Reslab, words: tuple[object, ...], why: str) -> None:
    ours("w.safetensors", preprocessing=HOW, classes=NAMES)
    Path("empty").write_text("\n")
    Path("spaced").write_text("a b")
    code, out, err = reslab("serve", "w.safetensors", *words)
    assert (code, out) == (2, "")
    assert why in err
    assert reslab("serve", "w.safetensors", *words, "--json")[1].startswith('{"error": ')


def test_the_command_itself() -> None:
    ours("w.safetensors", preprocessing=HOW, classes=NAMES)
    command = [sys.executable, "-m", "reslab", "serve", "w.safetensors", "--port", "0"]
    with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        address = json.loads(server.stdout.readline())["address"]
        assert address.startswith("http://127.0.0.1:")
        assert httpx2.post(f"{address}/v1/predict", files={"image": ("x.png", picture())}).status_code == 200
        server.send_signal(signal.SIGTERM)
        rest = server.stderr.read()
        assert server.wait(20) == 0
    assert [json.loads(line)["status"] for line in rest.splitlines()] == [200]
