"""One picture in several files is found, and two pictures are not taken for one."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFilter

from reslab.transfer.duplicates import ROWS, SIDE, Thumbnails, across, thumbnail, twins


def picture(seed: int, width: int = 120, height: int = 90) -> Image.Image:
    """Blobs of colour, different for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def thumbnails(images: list[Image.Image]) -> Thumbnails:
    return np.stack([thumbnail(image) for image in images])


def as_jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=40)
    return Image.open(file)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "the same": lambda image: image.copy(),
    "as JPEG": as_jpeg,
    "smaller": lambda image: image.resize((50, 40)),
    "larger": lambda image: image.resize((300, 200)),
    "brighter": lambda image: image.point(lambda value: min(255, int(value * 1.1 + 5))),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "transparent": lambda image: image.convert("RGBA"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_copy_is_found(change: Callable[[Image.Image], Image.Image]) -> None:
    originals = [picture(seed) for seed in range(20)]
    found = twins(thumbnails([*originals, *(change(image) for image in originals)]))
    assert found == [(i, i + 20) for i in range(20)]


def test_other_pictures_are_not_taken_for_one() -> None:
    assert twins(thumbnails([picture(seed) for seed in range(300)])) == []


def test_a_mirror_image_is_another_picture() -> None:
    image = picture(0)
    assert twins(thumbnails([image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])) == []


def test_of_flat_images_nothing_is_said() -> None:
    flat = [Image.new("RGB", (40, 40), (grey, grey, grey)) for grey in (0, 0, 128, 255)]
    assert twins(thumbnails(flat)) == []


def test_several_copies_are_one_group_wherever_they_stand() -> None:
    rng = np.random.default_rng(0)
    many = rng.integers(0, 256, (2 * ROWS + 100, SIDE, SIDE), dtype=np.uint8)
    for copy in (700, ROWS + 3, 2 * ROWS + 50):
        many[copy] = np.clip(many[5].astype(int) + 3, 0, 255)
    assert twins(many) == [(5, 700, ROWS + 3, 2 * ROWS + 50)]


def test_none_and_one() -> None:
    assert twins(np.zeros((0, SIDE, SIDE), np.uint8)) == []
    assert twins(thumbnails([picture(0)])) == []


def test_across_parts() -> None:
    parts = ["train", "train", "test", "test", "train"]
    assert across([(0, 1), (2, 4), (0, 2, 3)], parts) == [(2, 4), (0, 2, 3)]
