"""Weights that come with Reslab: each is what the index says, and what was altered is not used."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from reslab.errors import InputError
from reslab.nets.network import build
from reslab.weights import shipped
from reslab.weights.files import to_bytes
from reslab.weights.load import header_of, load
from reslab.weights.preprocessing import Preprocessing

ALL = sorted(shipped.index())


@pytest.mark.parametrize("name", ALL)
def test_it_is_what_the_index_says(name: str) -> None:
    entry, weights = shipped.index()[name], load(f"reslab:{name}")
    assert weights.spec.name == entry.net
    assert weights.certain
    assert weights.preprocessing is not None
    assert weights.classes is not None
    assert len(weights.classes) == weights.spec.num_classes
    logits = weights.module().eval()(torch.randn(2, weights.spec.in_channels, *weights.spec.size))
    assert logits.isfinite().all()
    card = shipped.card(name)
    assert card.startswith(f"# {name}\n")
    for said in (entry.net, entry.recipe, entry.dtype, f"{entry.test_error:.2f} %", "seed", "minutes"):
        assert said in card


def test_they_are_small() -> None:
    files = list(shipped.FOLDER.glob("*.safetensors"))
    assert {file.stem for file in files} == set(ALL)
    assert sum(file.stat().st_size for file in files) <= 8_000_000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One file of weights, with its line in the index."""
    net = build("cifar_resnet(depth=8, width=4)")
    preprocessing = Preprocessing(mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0), crop=(32, 32))
    half = {k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    content = to_bytes(half, header_of(net.spec, preprocessing, tuple("abcdefghij")))
    (tmp_path / "tiny.safetensors").write_bytes(content)
    entry: dict[str, Any] = {
        "net": net.spec.name, "data": "cifar10", "recipe": "he2015_cifar", "dtype": "fp16",
        "sha256": hashlib.sha256(content).hexdigest(), "test_error": 50.0, "test_error_flip_shift": 49.0,
    }  # fmt: skip
    (tmp_path / shipped.INDEX).write_text(json.dumps({"tiny": entry}))
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    shipped.index.cache_clear()
    yield tmp_path
    shipped.index.cache_clear()


def test_half_precision_is_stored_and_single_computed_with(folder: Path) -> None:
    weights = load("reslab:tiny")
    assert weights.tensors["conv1.weight"].dtype == torch.float16
    module = weights.module()
    assert all(p.dtype == torch.float32 for p in module.parameters())
    expected = build("cifar_resnet(depth=8, width=4)").state_dict()["conv1.weight"]
    torch.testing.assert_close(module.state_dict()["conv1.weight"], expected, rtol=1e-3, atol=1e-4)


def test_an_altered_file_is_not_used(folder: Path) -> None:
    path = folder / "tiny.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"is not the file that came with Reslab: its SHA-256 begins with \w{12}, exp"):
        load("reslab:tiny")


def test_a_file_that_is_gone(folder: Path) -> None:
    (folder / "tiny.safetensors").unlink()
    with pytest.raises(InputError, match="is missing; install Reslab again"):
        load("reslab:tiny")


@pytest.mark.parametrize("name", ["tyni", "", "../tiny"])
def test_a_name_that_is_not_there(folder: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"not among the weights that come with Reslab|does not name weights"):
        load(f"reslab:{name}")
