"""What is shown of images: as torchvision cuts them, in batches of one shape, each image once in each size."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torchvision import transforms

from reslab.data import views
from reslab.data.decode.whole import Encoded, Fit, in_threads
from reslab.data.stream import Listing, in_memory
from reslab.data.views import FiveCrops, How, Sides, Views, seen

MODES = {"bilinear": transforms.InterpolationMode.BILINEAR, "bicubic": transforms.InterpolationMode.BICUBIC}


def pictures(sizes: Sequence[tuple[int, int]]) -> list[Image.Image]:
    """Of given widths and heights."""
    draw = np.random.default_rng(1)
    return [Image.fromarray(draw.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]


def listed(images: Sequence[Image.Image], *, lot: int = 5) -> Listing:
    def chunks() -> Iterator[Sequence[Encoded]]:
        for start in range(0, len(images), lot):
            yield [
                Encoded(f"image {start + i}", np.asarray(image)) for i, image in enumerate(images[start : start + lot])
            ]

    labels = torch.arange(len(images))
    return Listing("made", "made", ("a",), labels, chunks, tuple(map(str, range(len(images)))))


def array(image: Image.Image) -> npt.NDArray[np.uint8]:
    return np.asarray(image)


def tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(array(image).copy()).permute(2, 0, 1)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(40, 30), (30, 41), (30, 30), (12, 90)])
def test_as_torchvision_cuts_them(size: tuple[int, int], interpolation: str) -> None:
    [image] = pictures([size])
    resized = transforms.Resize(20, MODES[interpolation])(image)
    [[one]] = seen(image, Fit((16, 13), 20, interpolation))  # type: ignore[arg-type]
    assert np.array_equal(array(one), array(transforms.CenterCrop((16, 13))(resized)))
    [five] = seen(image, FiveCrops((16, 13), 20, interpolation))  # type: ignore[arg-type]
    expected = transforms.FiveCrop((16, 13))(resized)
    assert all(np.array_equal(array(a), array(b)) for a, b in zip(five, expected, strict=True))
    groups = seen(image, Sides((20, 33, 9), interpolation))  # type: ignore[arg-type]
    for [whole], side in zip(groups, (20, 33, 9), strict=True):
        assert np.array_equal(array(whole), array(transforms.Resize(side, MODES[interpolation])(image)))


SIZES = [(40, 30), (30, 40), (40, 30), (31, 30), (40, 30), (30, 40), (50, 30), (40, 30)]
HOWS: list[How] = [Fit((16, 16), 20), FiveCrops((16, 16), 20), Sides((16, 24, 40))]


@pytest.mark.parametrize("how", HOWS, ids=lambda how: type(how).__name__)
@pytest.mark.parametrize("batch", [1, 3, 100])
def test_each_image_once_in_each_size(how: How, batch: int) -> None:
    images = pictures(SIZES)
    shown = Views(listed(images), how, batch=batch, unit=(16, 16))
    found: dict[int, list[tuple[torch.Tensor, ...]]] = {}
    for view in shown:
        for part in view.parts:
            assert part.dtype == torch.uint8
            assert part.shape[:2] == (len(view.index), 3)
            assert part.is_contiguous(memory_format=torch.channels_last)
            assert part.shape[0] == 1 or part[0].numel() * part.shape[0] <= batch * 3 * 16 * 16
        for row, index in enumerate(view.index.tolist()):
            found.setdefault(index, []).append(tuple(part[row] for part in view.parts))
    assert sorted(found) == list(range(len(images)))
    for index, groups in found.items():
        expected = [
            [torch.from_numpy(array(part).copy()).permute(2, 0, 1) for part in group]
            for group in seen(images[index], how)
        ]
        assert len(groups) == len(expected) == shown.passes
        for group, own in zip(sorted(groups, key=lambda g: g[0].numel()), expected, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(group, own, strict=True))


def test_images_of_one_shape_come_in_their_order_in_full_batches() -> None:
    shown = list(Views(listed(pictures(SIZES * 3)), HOWS[1], batch=5, unit=(16, 16)))
    assert [len(view.index) for view in shown] == [5, 5, 5, 5, 4]
    assert torch.cat([view.index for view in shown]).tolist() == list(range(24))


def test_of_larger_images_there_are_fewer_at_a_time() -> None:
    images = pictures([(20, 20)] * 20)
    shown = Views(listed(images), Sides((10, 20, 100)), batch=8, unit=(10, 10))
    largest = {view.parts[0].shape[2]: len(view.index) for view in reversed(list(shown))}
    assert largest == {10: 8, 20: 2, 100: 1}


def test_images_that_wait_for_others_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "MOST_WAITING", 3 * 20 * 20 * 3)
    images = pictures([(20, 20 + i) for i in range(12)])  # each of a shape of its own
    taken: list[int] = []
    handed = 0

    def counting(work: object, items: Iterator[object], **how: bool) -> Iterator[object]:
        nonlocal handed
        for each in in_threads(work, items, **how):  # type: ignore[arg-type,var-annotated]
            handed += len(each)
            yield each

    monkeypatch.setattr(views, "in_threads", counting)
    monkeypatch.setattr(views, "SOME", 1)
    waiting = []
    for view in Views(listed(images), Sides((20,)), batch=100, unit=(20, 20)):
        taken += view.index.tolist()
        waiting.append(handed - len(taken))
    assert sorted(taken) == list(range(12))
    assert max(waiting) <= 3


def test_images_in_memory_are_listed() -> None:
    for channels in (1, 3):
        pixels = torch.randint(0, 256, (300, channels, 5, 6), dtype=torch.uint8)
        images = in_memory(pixels, torch.arange(300), name="m", source="here", classes=("a",), content="x")
        assert images.channels == channels
        shown = list(Views(images, Fit((5, 6)), batch=128, unit=(5, 6)))
        assert torch.equal(torch.cat([view.parts[0] for view in shown]), pixels)
        other = in_memory(pixels, torch.arange(300), name="m", source="here", classes=("a",), content="y")
        assert images.fingerprint() != other.fingerprint()
