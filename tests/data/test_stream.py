"""Images too many for memory, decoded as they are needed: the same images, labels and errors."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from reslab.data import stream
from reslab.data.decode import Fit
from reslab.data.sources import load
from reslab.data.stream import Streamed, listing
from reslab.data.transforms import Normalizer
from reslab.nets import build
from reslab.nets.weights.files import to_bytes
from reslab.nets.weights.load import header_of
from reslab.nets.weights.preprocessing import Preprocessing

from .sample import png, write_images, write_parquet

Reslab = Callable[..., tuple[int, str, str]]
FIT = Fit((6, 6), 8)
PLAIN = Normalizer(torch.zeros(3, 1, 1), torch.ones(3, 1, 1))


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
    monkeypatch.setattr("reslab.data.folder.CHUNK", 4)
    monkeypatch.setattr("reslab.data.parquet.CHUNK", 4)
    root = make(tmp_path / "data", with_test)
    data = load(str(root), size=FIT, whole=split == "all", cache_dir=tmp_path / "cache")
    memory = data.train if split == "train" else data.test
    listed = listing(str(root), split)
    assert listed is not None
    assert (listed.classes, listed.name) == (data.info.classes, data.info.name)
    assert torch.equal(listed.labels, memory.labels)
    batches = list(Streamed(listed, listed.labels, FIT, PLAIN, batch=3, device=torch.device("cpu")))
    assert max(len(x) for x, _ in batches) <= 3
    assert torch.equal(torch.cat([x for x, _ in batches]), PLAIN(memory.images))
    assert torch.equal(torch.cat([y for _, y in batches]), memory.labels)


def test_other_sources_are_not_listed() -> None:
    assert listing("digits", "test") is None
    assert listing("no/such/folder", "test") is None


def test_eval_of_more_than_memory_holds(reslab: Reslab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = build("cifar_resnet(depth=8, width=4, num_classes=3)", size=(6, 6), seed=1)
    carried = Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3, crop=(6, 6), resize=8)
    weights = tmp_path / "net.safetensors"
    weights.write_bytes(to_bytes(net.state_dict(), header_of(net.spec, carried, ("c", "a", "b"))))
    words = ("eval", weights, "--data", folder(tmp_path / "data", True), "--json")
    found = []
    for most in (4_000_000_000, 100):
        monkeypatch.setattr(stream, "MOST_BYTES", most)
        code, out, err = reslab(*words)
        assert code == 0, err
        found.append(json.loads(out))
    for key in ("top1_error", "n_images", "data", "outputs"):
        assert found[0][key] == found[1][key]
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-5)
    monkeypatch.setattr("reslab.data.decode.MOST_BYTES", 100)
    assert reslab(*words)[0] == 0, "nothing is held in memory on the way"
    (tmp_path / "data" / "val" / "a" / "100.png").write_bytes(b"no image")
    code, _, err = reslab(*words)
    assert code == 2
    assert "100.png: expected a whole image" in err
