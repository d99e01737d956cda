"""A training on photographs that is killed, its decoding processes orphaned, and gone on with at once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reslab.runs import RunDir, read_json
from reslab.weights.files import read_safetensors

N = 24
COMMON = ("modern_imagenet", "--net", "cifar_resnet(depth=8, width=4)", "--size", 16, "-b", 8, "--threads", 1)
LENGTH = ("--iterations", 18, "--precision", "fp32", "--damaged", 0.2, "--checkpoint-every", 3)
SETTINGS = ("--set", "log_every=2", "evaluate_every=6")
WORDS = (*COMMON, *LENGTH, *SETTINGS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of small photographs; one of each split is damaged."""
    root = tmp_path_factory.mktemp("data")
    for split, count in (("train", N), ("val", 9)):
        for i in range(count):
            kind = root / split / "abc"[i % 3]
            kind.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(i).integers(0, 60, (20 + i % 5, 24, 3))
            noise[..., i % 3] += 150
            Image.fromarray(noise.astype(np.uint8)).save(kind / f"{i:02d}.png")
    for split in ("train", "val"):
        (root / split / "b" / "04.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def straight(forge: Any, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight") / "run"
    code, text, _ = forge("train", *WORDS, "--data", folder, "--workers", 0, "--out", out)
    assert code == 0, text
    return out


def same(one: Path, other: Path) -> None:
    weights = [read_safetensors(run / "checkpoints" / "final.safetensors")[0] for run in (one, other)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    assert RunDir(one).metrics.read_bytes() == RunDir(other).metrics.read_bytes()
    results = [read_json(run / "result.json") for run in (one, other)]
    for key in ("damaged_images", "damaged", "test_error", "n_test_images"):
        assert results[0][key] == results[1][key]


def test_killed_with_processes_that_decode(forge: Any, folder: Path, straight: Path, tmp_path: Path) -> None:
    """The lock on the run goes with its own process, not with those that it leaves behind."""
    out = tmp_path / "run"
    stop = {"signal": "SIGKILL", "run": str(out), "lines": 4}
    code, text, _ = forge("train", *WORDS, "--data", folder, "--workers", 2, "--out", out, stop=stop)
    assert code == -9, text
    code, text, _ = forge("train", "--resume", out, "--workers", 1)
    assert code == 0, text
    same(straight, out)
    result = read_json(straight / "result.json")
    assert result["damaged_images"] == 2  # one of them met before the kill, and not counted anew


def test_ranks_share_the_images_and_their_damage(forge: Any, folder: Path, straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "two"
    group = ("bn_group=4",)
    for code, text in forge.ranks(*[("train", *WORDS, *group, "--data", folder, "--workers", 0, "--out", out)] * 2):
        assert code == 0, text
    code, text, _ = forge("train", *WORDS, *group, "--data", folder, "--workers", 0, "--out", tmp_path / "one")
    assert code == 0, text
    results = [read_json(run / "result.json") for run in (tmp_path / "one", out)]
    assert results[0]["damaged"] == results[1]["damaged"]
    assert len(results[0]["damaged"]) == 2
    assert results[0]["n_test_images"] == results[1]["n_test_images"] == 8  # each once, over both ranks
    weights = [read_safetensors(run / "checkpoints" / "final.safetensors")[0] for run in (tmp_path / "one", out)]
    assert all(torch.allclose(tensor, weights[1][name], atol=1e-3) for name, tensor in weights[0].items())
