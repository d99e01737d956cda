"""Batches that are decoded as they are needed: the same ones, whoever makes them."""

import errno
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reslab.data.layouts.class_folders import files_in_classes
from reslab.data.layouts.found import Asked
from reslab.data.photographs import Made, PhotographBatches, PhotographEval
from reslab.data.spec import ResizedCrop, ScaleCrop
from reslab.data.stored import Files
from reslab.data.transforms import Normalizer
from reslab.errors import InputError

SIZE = (16, 16)
N = 30


@pytest.fixture
def images(tmp_path: Path) -> Files:
    """Thirty small photographs of three classes, each of a colour of its own."""
    for i in range(N):
        folder = tmp_path / "train" / "abc"[i % 3]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.full((24 + i, 40 - i % 7, 3), 8 * i, np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    return files_in_classes(tmp_path / "train", Asked(cache_dir=tmp_path / "cache"))[0]


def batches(images: Files, **more: object) -> PhotographBatches:
    options: dict[str, object] = {"size": SIZE, "batch": 8, "seed": 5, "workers": 0} | more
    return PhotographBatches(images, ScaleCrop(short=(18, 24)), **options)  # type: ignore[arg-type]


def same(one: Made, other: Made) -> bool:
    return torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)


def test_an_epoch_has_each_image_once(images: Files) -> None:
    stream = batches(images)
    found = [stream(i) for i in range(15)]  # four epochs
    grey = torch.cat([made.images[:, 0, 8, 8] for made in found]).view(4, N) // 8
    assert all(sorted(epoch.tolist()) == list(range(N)) for epoch in grey)
    assert len({tuple(epoch.tolist()) for epoch in grey}) == 4
    labels = torch.cat([made.labels for made in found]).view(4, N)
    assert torch.equal(labels, grey.long() % 3)
    assert found[0].images.shape == (8, 3, *SIZE)
    assert found[0].images.dtype == torch.uint8
    assert found[0].images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(images: Files, workers: int) -> None:
    alone, helped = batches(images), batches(images, workers=workers)
    assert all(same(alone(i), helped(i)) for i in range(6))


def test_a_resumed_run_goes_on_where_it_was(images: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = batches(images)
    expected = [straight(i) for i in range(8)]
    read: list[int] = []
    original = Files.read

    def watched(self: Files, index: int) -> bytes:
        read.append(index)
        return original(self, index)

    monkeypatch.setattr(Files, "read", watched)
    later = batches(images)
    assert same(later(5), expected[5])
    assert len(read) == 8  # and nothing of what came before
    assert same(later(6), expected[6])


def test_ranks_share_out_the_batches(images: Files) -> None:
    whole = batches(images)
    shares = [batches(images, share=(rank, 2)) for rank in range(2)]
    for i in range(5):
        made, parts = whole(i), [share(i) for share in shares]
        assert torch.equal(torch.cat([part.images for part in parts]), made.images)
        assert torch.equal(torch.cat([part.labels for part in parts]), made.labels)


def test_another_augmentation(images: Files) -> None:
    stream = PhotographBatches(images, ResizedCrop(), size=SIZE, batch=8, seed=0, workers=0)
    assert stream(0).images.shape == (8, 3, *SIZE)


def test_damaged_images_are_replaced_counted_and_named(images: Files) -> None:
    broken = Path(images.called(4))
    broken.write_bytes(broken.read_bytes()[:60])
    Path(images.called(20)).unlink()
    stream = batches(images, most_damaged=2)
    made = [stream(i) for i in range(4)]
    assert all(len(one.labels) == 8 for one in made)
    assert sorted(stream.damage.found) == [4, 20]
    assert str(broken) in stream.damage.found[4]
    again = batches(images, most_damaged=2, workers=2)
    assert all(same(one, again(i)) for i, one in enumerate(made))


def test_too_many_damaged_images_end_the_run(images: Files) -> None:
    for i in (1, 4, 20):
        Path(images.called(i)).write_bytes(b"no image")
    stream = batches(images, most_damaged=2)
    with pytest.raises(InputError, match=r"3 images cannot be decoded; at most 2 may be damaged"):
        list(map(stream, range(8)))


def test_a_folder_of_nothing_but_damage(images: Files) -> None:
    for i in range(N):
        Path(images.called(i)).write_bytes(b"no image")
    with pytest.raises(InputError, match=r"20 images tried in place of .* cannot be decoded either"):
        batches(images, most_damaged=100)(0)


def test_damage_that_lies_together_is_passed_over(images: Files) -> None:
    """A class whose files were all cut short does not end a run whose limit it keeps to."""
    for i in range(20):
        Path(images.called(i)).write_bytes(b"no image")
    stream = batches(images, most_damaged=20)
    grey = torch.cat([stream(i).images[:, 0, 8, 8] for i in range(4)]) // 8
    assert len(grey.unique()) == 10
    assert sorted(stream.damage.found) == list(range(20))
    again = batches(images, most_damaged=20, workers=2)
    assert all(same(batches(images, most_damaged=20)(i), again(i)) for i in range(4))


def test_a_fault_of_the_machine_is_no_damage(images: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: Files, index: int) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Files, "read", read)
    with pytest.raises(InputError, match=r"cannot be read: Too many open files"):
        batches(images, most_damaged=100)(0)


def test_an_evaluation_leaves_out_what_is_damaged_up_to_a_limit(images: Files) -> None:
    broken = [3, 11, 25]
    for i in broken:
        Path(images.called(i)).write_bytes(b"no image")
    normalizer = Normalizer.of("none", torch.empty(0, 3, 1, 1, dtype=torch.uint8))

    def evaluation(most: int, workers: int = 0) -> PhotographEval:
        return PhotographEval(
            images, normalizer, size=SIZE, resize=18, batch=7, device=torch.device("cpu"), workers=workers,
            most_damaged=most,
        )  # fmt: skip

    for workers in (0, 2):
        found = evaluation(3, workers)
        labels = torch.cat([labels for _, labels in found])
        assert torch.equal(labels, images.labels[[i for i in range(N) if i not in broken]])
        assert sorted(found.damage.found) == broken
    with pytest.raises(InputError, match="3 images cannot be decoded; at most 2 may be damaged"):
        list(evaluation(2))


def test_a_jpeg_that_is_cut_short(images: Files) -> None:
    handle = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8)).save(handle, "JPEG")
    Path(images.called(7)).write_bytes(handle.getvalue()[: len(handle.getvalue()) // 2])
    stream = batches(images, most_damaged=1)
    for i in range(4):
        stream(i)
    assert list(stream.damage.found) == [7]


@pytest.mark.parametrize("workers", [1, 2])
def test_jpegs_are_the_same_whoever_decodes_them(images: Files, workers: int) -> None:
    for i in range(N):
        path = Path(images.called(i))
        Image.open(path).save(path, "JPEG")
    alone, helped = batches(images), batches(images, workers=workers)
    assert all(same(alone(i), helped(i)) for i in range(4))


def test_what_is_let_go_of_takes_its_processes_along(images: Files) -> None:
    """At once, and not when circles of objects are looked for."""
    import gc
    import weakref

    gc.disable()
    try:
        stream = batches(images, workers=2)
        stream(0)
        running, seen = stream._running, weakref.ref(stream)
        processes = list(running._workers)  # type: ignore[union-attr]
        del running, stream
        assert seen() is None
        assert not any(process.is_alive() for process in processes)
    finally:
        gc.enable()


def test_an_evaluation_that_is_repeated_decodes_once(images: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Normalizer.of("none", torch.empty(0, 3, 1, 1, dtype=torch.uint8))
    made = PhotographEval(
        images, plain, size=SIZE, resize=18, batch=7, device=torch.device("cpu"), workers=0, keep=True
    )
    first = [(x.clone(), labels.clone()) for x, labels in made]
    monkeypatch.setattr(Files, "read", None)
    again = list(made)
    assert all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(first, again, strict=True))
