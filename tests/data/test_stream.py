"""Images too many for memory, decoded as they are needed: the same images, labels and errors."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from reslab.data.decode.whole import Fit
from reslab.data.sources import load
from reslab.data.stream import listing
from reslab.data.views import Views
from reslab.errors import InputError
from reslab.nets import build
from reslab.weights.files import to_bytes
from reslab.weights.load import header_of
from reslab.weights.preprocessing import Preprocessing

from .sample import png, write_images, write_parquet

Reslab = Callable[..., tuple[int, str, str]]
FIT = Fit((6, 6), 8)


def folder(root: Path, with_test: bool) -> Path:
    for number, name in enumerate("abc"):
        write_images(root / ("train" if with_test else "") / name, 5, size=(9, 12), first=10 * number)
        if with_test:
            write_images(root / "val" / name, 2, size=(10, 8), first=100 + 10 * number)
    return root


def parquet(root: Path, with_test: bool) -> Path:
    images = [png(i, (9, 12)) for i in range(15)]
    write_parquet(root / "train-00000-of-00001.parquet", images, [i % 3 for i in range(15)], names="abc")
    if with_test:
        write_parquet(root / "test-00000-of-00001.parquet", images[:4], [0, 1, 2, 0], names="abc")
    return root


@pytest.mark.parametrize("split", ["test", "train", "all"])
@pytest.mark.parametrize("with_test", [True, False])
@pytest.mark.parametrize("make", [folder, parquet])
def test_the_same_as_in_memory(
    make: Callable[[Path, bool], Path], with_test: bool, split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reslab.data.stored.CHUNK", 4)
    root = make(tmp_path / "data", with_test)
    data = load(str(root), size=FIT, whole=split == "all", cache_dir=tmp_path / "cache")
    memory = data.train if split == "train" else data.test
    listed = listing(str(root), split)
    assert listed is not None
    assert (listed.classes, listed.name) == (data.info.classes, data.info.name)
    assert torch.equal(listed.labels, memory.labels)
    views = list(Views(listed, FIT, batch=3, unit=FIT.crop))
    assert max(len(view.index) for view in views) <= 3
    assert torch.equal(torch.cat([view.parts[0] for view in views]), memory.images)
    assert torch.cat([view.index for view in views]).tolist() == list(range(len(memory)))
    assert len(set(listed.keys)) == len(memory), "a key for each image"


@pytest.mark.parametrize("make", [folder, parquet])
def test_the_fingerprint_is_of_images_classes_and_order(make: Callable[[Path, bool], Path], tmp_path: Path) -> None:
    root = make(tmp_path / "data", True)

    def printed(split: str, where: Path = root) -> str:
        found = listing(str(where), split)
        assert found is not None
        return found.fingerprint()

    assert len({printed(split) for split in ("test", "train", "all")}) == 3
    shutil.copytree(root, tmp_path / "elsewhere" / "data")
    assert printed("test", tmp_path / "elsewhere" / "data") == printed("test"), "wherever it lies"
    listed = listing(str(root), "test")
    assert listed is not None
    n = len(listed.labels)
    assert listed.only([True] * n).fingerprint() == listed.fingerprint()
    assert listed.only([i > 0 for i in range(n)]).fingerprint() != listed.fingerprint()
    assert replace(listed, classes=listed.classes[::-1]).fingerprint() != listed.fingerprint()
    assert replace(listed, labels=listed.labels.flip(0)).fingerprint() != listed.fingerprint()
    assert replace(listed, keys=listed.keys[::-1]).fingerprint() != listed.fingerprint()


def test_other_sources_are_not_listed() -> None:
    assert listing("digits", "test") is None
    assert listing("no/such/folder", "test") is None


def test_validation_images_alone_say_what_to_give(tmp_path: Path) -> None:
    write_images(tmp_path / "data" / "val" / "a", 2)
    with pytest.raises(InputError, match=r"found val/ and no train/ beside it; .* give .*data/val with --split all"):
        listing(str(tmp_path / "data"), "test")


def test_eval_of_photographs_holds_none_of_them_in_memory(
    reslab: Reslab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = build("cifar_resnet(depth=8, width=4, num_classes=3)", size=(6, 6), seed=1)
    carried = Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3, crop=(6, 6), resize=8)
    weights = tmp_path / "net.safetensors"
    weights.write_bytes(to_bytes(net.state_dict(), header_of(net.spec, carried, ("c", "a", "b"))))
    root = folder(tmp_path / "data", True)
    words = ("eval", weights, "--data", root, "--json")
    monkeypatch.setattr("reslab.data.decode.whole.MOST_BYTES", 100)
    monkeypatch.setattr("reslab.data.stream.MOST_BYTES", 100)
    code, out, err = reslab(*words)
    assert code == 0, err
    found = json.loads(out)
    monkeypatch.undo()
    memory = load(str(root), size=FIT, cache_dir=tmp_path / "cache")
    with torch.no_grad():
        logits = net.eval()((memory.test.images / 255 - 0.5) / 0.25)
    labels = torch.tensor([1, 2, 0])[memory.test.labels]
    assert found["loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits, labels)), rel=1e-5)
    assert (found["n_images"], found["outputs"]) == (6, "by the class names in the weights")
    (root / "val" / "a" / "100.png").write_bytes(b"no image")
    code, _, err = reslab(*words[:-1])
    assert code == 2
    assert "100.png: expected a whole image" in err
    assert "--damaged" in err
    code, out, err = reslab(*words, "--damaged", 0.2)
    assert code == 0, err
    found = json.loads(out)
    assert found["n_images"] == 5
    assert len(found["left_out"]) == 1
    assert "100.png" in found["left_out"][0]
    assert "1 images could not be decoded and were left out: " in reslab(*words[:-1], "--damaged", 0.2)[1]
    assert reslab(*words, "--damaged", 2)[0] == 2
