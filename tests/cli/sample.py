"""Weights, photographs and commands that tests of the command line share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from reslab.nets import build
from reslab.nets.network import Network
from reslab.weights.files import to_bytes
from reslab.weights.load import header_of
from reslab.weights.preprocessing import Preprocessing

Reslab = Callable[..., tuple[int, str, str]]

TINY = "cifar_resnet(depth=8, width=4)"
TRAIN = ("train", "he2015_cifar", "--data", "digits", "--iterations", 4, "-b", 32, "--threads", 1)


def ours(
    path: str,
    net: str = TINY,
    *,
    seed: int = 3,
    preprocessing: Preprocessing | None = None,
    classes: tuple[str, ...] | None = None,
    **overrides: Any,
) -> Network:
    """A file of ours with random weights, whose scores are well apart."""
    made = build(net, seed=seed, **overrides)
    made.fc.weight.data.mul_(5)
    Path(path).write_bytes(to_bytes(made.state_dict(), header_of(made.spec, preprocessing, classes)))
    return made.eval()


def photos(folder: str, *classes: str, count: int = 2, size: tuple[int, int] = (40, 30)) -> Path:
    """A folder of images of random colours, ``size`` being width and height; every other one is a pixel higher."""
    draw = torch.Generator().manual_seed(0)
    for name in classes:
        (Path(folder) / name).mkdir(parents=True)
        for i in range(count):
            pixels = torch.randint(0, 256, (size[1] + i % 2, size[0], 3), dtype=torch.uint8, generator=draw)
            Image.fromarray(pixels.numpy()).save(Path(folder) / name / f"{name}{i}.png")
    return Path(folder)


def refused(reslab: Reslab, *words: object) -> str:
    """Runs a command that is to be refused; returns the one line that says why."""
    before = sorted(Path().rglob("*"))
    code, out, err = reslab(*words)
    assert code == 2, (out, err)
    assert sorted(Path().rglob("*")) == before, "something was written"
    assert "Traceback" not in err
    if "--json" in words:
        said = json.loads(out)
        assert set(said) == {"error"}
        return str(said["error"])
    assert out == ""
    lines = err.splitlines()
    assert lines[-1].startswith("reslab: error: ")
    return lines[-1].removeprefix("reslab: error: ")


def said(reslab: Reslab, *words: object) -> Any:
    """What a command prints as JSON."""
    code, out, err = reslab(*words)
    assert code == 0, err
    return json.loads(out)
