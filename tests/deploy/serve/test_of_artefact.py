"""An artefact behind the server: the same probabilities as from the network it was made of, without torch."""

import base64
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from starlette.testclient import TestClient

from deploy.conftest import CLASSES, HOW, Exported
from reslab.cli import app
from reslab.commands.serve import prepare
from reslab.data.transforms import Normalizer
from reslab.deploy.artefact import Input, RuntimeName
from reslab.deploy.serve.decoding import How, decoded
from reslab.probes.attribution import grad_cam
from reslab.probes.overlay import heat
from reslab.probes.seam import Sample

from .pictures import photograph

Get = Callable[..., Exported]
FITTED = How(channels=3, crop=HOW.crop, resize=HOW.resize)


def served(folder: Path, *words: object) -> TestClient:
    given = ["serve", str(folder), "--port", "0", *map(str, words)]
    command, bound, _ = app.parse_args(given, exit_on_error=False, print_error=False)
    made = prepare(command(*bound.args, **bound.kwargs), Console(stderr=True))
    made.listening.close()
    return TestClient(made.app)


@pytest.mark.parametrize("kind", get_args(Input))
@pytest.mark.parametrize("runtime", get_args(RuntimeName))
def test_probabilities_are_those_of_the_network(exported: Get, kind: Input, runtime: RuntimeName) -> None:
    made = exported(kind)
    files = [photograph(*size) for size in ((60, 40), (44, 50), (60, 40), (36, 70))]
    x = torch.from_numpy(np.stack([decoded(data, FITTED) for data in files])).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = made.net(Normalizer.from_values(HOW.mean, HOW.std)(x)).softmax(1).numpy()
    with served(made.artefact.folder, "--runtime", runtime, "--threads", 1, "-b", 4) as client:
        assert client.get("/v1/model").json()["explains"] is False
        assert client.get("/v1/model").json()["classes"] == list(CLASSES)
        said = client.post("/v1/predict?top=10", files=[("image", ("x", data)) for data in files]).json()
    for one, row in zip(said["predictions"], expected, strict=True):
        for each in one["top"]:
            assert each["probability"] == pytest.approx(row[each["output"]], abs=0.01)


SCRIPT = """
import sys
from rich.console import Console
from starlette.testclient import TestClient
from reslab.cli import app
from reslab.commands.serve import prepare
command, bound, _ = app.parse_args(["serve", sys.argv[1], "--port", "0", "--runtime", sys.argv[2]])
with TestClient(prepare(command(*bound.args, **bound.kwargs), Console(stderr=True)).app) as client:
    answer = client.post("/v1/predict", files={"image": ("x", open(sys.argv[3], "rb"))})
    assert answer.status_code == 200, answer.text
    answer = client.post("/v1/explain", files={"image": ("x", open(sys.argv[3], "rb"))})
    assert answer.status_code == 200, answer.text
print("torch" in sys.modules)
"""


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_torch_is_not_imported(exported: Get, tmp_path: Path, runtime: str) -> None:
    (tmp_path / "x.png").write_bytes(photograph())
    words = (exported("crops", maps=True).artefact.folder, runtime, tmp_path / "x.png")
    done = subprocess.run([sys.executable, "-c", SCRIPT, *map(str, words)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


@pytest.mark.parametrize("kind", get_args(Input))
@pytest.mark.parametrize("runtime", get_args(RuntimeName))
def test_where_a_class_was_seen_is_what_grad_cam_says_of_the_network(
    exported: Get, kind: Input, runtime: RuntimeName
) -> None:
    made = exported(kind, maps=True)
    data = photograph(60, 40)
    pixels = decoded(data, FITTED)
    x = Normalizer.from_values(HOW.mean, HOW.std)(torch.from_numpy(pixels[None].copy()).permute(0, 3, 1, 2))
    with served(made.artefact.folder, "--runtime", runtime, "--threads", 1) as client:
        assert client.get("/v1/model").json()["explains"] is True
        pictures = []
        for output in range(len(CLASSES)):
            answer = client.post(f"/v1/explain?output={output}", files={"image": ("x", data)}).json()
            assert answer["explained"]["output"] == output
            found = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["picture"]))), np.float32)
            maps = grad_cam(made.net, Sample(x, torch.tensor([output])), classes=torch.tensor([output])).maps
            expected = np.asarray(heat(pixels, maps[0]), np.float32)
            assert found.shape == expected.shape
            assert np.abs(found - expected).mean() < 2
            pictures.append(found)
        likeliest = client.post("/v1/explain", files={"image": ("x", data)}).json()
        assert likeliest["explained"] == likeliest["top"][0]
    assert max(np.abs(each - pictures[0]).mean() for each in pictures[1:]) > 4  # other classes were seen elsewhere
