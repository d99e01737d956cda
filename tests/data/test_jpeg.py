"""A part of a JPEG by itself is the part of the whole, and what is no whole JPEG is left to Pillow."""

import io
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reslab.data.crops import Box, Pixels
from reslab.data.decode import jpeg
from reslab.data.decode.modes import ORIENTATION, pixels_of
from reslab.data.decode.part import decoded_crop, fitted
from reslab.data.decode.whole import Encoded, Fit, fitted_image, whole
from reslab.data.photographs import DAMAGED
from reslab.errors import InputError

WAYS = ("part", "whole", "Pillow")
KINDS: dict[str, dict[str, object]] = {
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "4:2:0": {"subsampling": 2},
    "4:4:4 progressive": {"subsampling": 0, "progressive": True},
    "4:2:0 progressive": {"subsampling": 2, "progressive": True},
    "4:2:2 restarts": {"subsampling": 1, "restart_marker_blocks": 3},
    "4:2:0 restarts": {"subsampling": 2, "restart_marker_blocks": 2},
    "RGB": {"subsampling": 0, "keep_rgb": True},
    "grey": {"mode": "L"},
}
CXX = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of our own, and a compiler that finds no libjpeg."""
    folder = tmp_path_factory.mktemp("jpeg")
    script = folder / "without-libjpeg"
    script.write_text(f'#!/bin/sh\ncase "$*" in *-ljpeg*) exit 1;; esac\nexec {CXX} "$@"\n')
    script.chmod(0o755)
    return folder


def forget() -> None:
    jpeg.part.cache_clear()
    jpeg.whole.cache_clear()


def take(way: str, places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes this machine one that has no more than a way needs."""
    monkeypatch.setenv("RESLAB_CACHE", str(places))
    if way == "whole":
        monkeypatch.setenv("CXX", str(places / "without-libjpeg"))
    elif way == "Pillow":
        monkeypatch.setenv("CXX", str(places / "no compiler"))
    forget()
    if (way == "part" and jpeg.part() is None) or (way == "whole" and jpeg.whole() is None):
        pytest.skip("no C++ compiler, or no libjpeg-turbo")


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, places: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    take(request.param, places, monkeypatch)
    yield request.param
    forget()


@pytest.fixture
def by_part(places: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    take("part", places, monkeypatch)
    yield
    forget()


def picture(kind: str, height: int, width: int, seed: int = 0) -> bytes:
    """Slopes with noise on them: every block has something in it."""
    options = dict(KINDS[kind])
    y, x = np.mgrid[:height, :width]
    slopes = np.stack([x * 200 // width, y * 200 // height, (x + y) % 200], -1).astype(np.uint8)
    pixels = slopes + np.random.default_rng(seed).integers(0, 50, slopes.shape, dtype=np.uint8)
    handle = io.BytesIO()
    Image.fromarray(pixels).convert(str(options.pop("mode", "RGB"))).save(handle, "JPEG", quality=80, **options)
    return handle.getvalue()


def boxes(count: int, seed: int) -> Iterator[tuple[float, float, float, float, bool]]:
    """Left, top, width and height as shares of the image; whether mirrored."""
    draw = np.random.default_rng(seed)
    for _ in range(count):
        wide, tall = draw.uniform(0.02, 1, 2)
        yield draw.uniform(0, 1 - wide), draw.uniform(0, 1 - tall), wide, tall, bool(draw.random() < 0.5)


def by_pillow(data: bytes, box: Box, size: tuple[int, int], scale: int = 1) -> Pixels:
    encoded = Image.open(io.BytesIO(data))
    width, height = encoded.size
    encoded.draft("RGB", (width // scale, height // scale))
    image = encoded.convert("RGB")
    x, y = image.width / width, image.height / height
    right, bottom = min((box.left + box.width) * x, image.width), min((box.top + box.height) * y, image.height)
    bilinear = Image.Resampling.BILINEAR
    image = image.resize((size[1], image.height), bilinear, box=(box.left * x, 0, right, image.height))
    out = np.asarray(image.resize((size[1], size[0]), bilinear, box=(0, box.top * y, size[1], bottom)))
    return out[:, ::-1] if box.flip else out


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_of_the_resized_image_is_cut_out_of_it(kind: str, way: str) -> None:
    """Bit for bit, of images of any shape, enlarged too; of a very tall one, Pillow resizes down before across."""
    for height, width in ((47, 61), (131, 93), (90, 400), (400, 90), (17, 16), (1, 1)):
        encoded = Encoded("it", picture(kind, height, width))
        for fit in (Fit((20, 24), 32), Fit((20, 20), 20), Fit((3, 90), 90)):
            expected = pixels_of(fitted_image(whole(encoded, 3), fit))
            np.testing.assert_array_equal(fitted(encoded, 3, fit), expected, f"{way} {height} x {width} {fit}")


def test_other_files_are_fitted_too(by_part: None) -> None:
    """Of other formats, in grey, turned by the camera, by another interpolation; a damaged one is named."""
    data, pixels = picture("4:2:0", 60, 90), np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    turned, png = io.BytesIO(), io.BytesIO()
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(pixels).save(turned, "JPEG", exif=exif)
    Image.fromarray(pixels).save(png, "PNG")
    for item, channels, fit in (
        (Encoded("png", png.getvalue()), 3, Fit((20, 24), 32)),
        (Encoded("array", pixels), 3, Fit((20, 24), 32)),
        (Encoded("turned", turned.getvalue(), oriented=True), 3, Fit((20, 24), 32)),
        (Encoded("grey", data), 1, Fit((20, 24), 32)),
        (Encoded("cubic", data), 3, Fit((20, 24), 32, "bicubic")),
        (Encoded("as small as covers it", data), 3, Fit((20, 24))),
    ):
        made = fitted(item, channels, fit)
        assert made.shape == (20, 24, channels)
        np.testing.assert_array_equal(made, pixels_of(fitted_image(whole(item, channels), fit)), item.name)
    with pytest.raises(InputError, match=r"half\.jpg: expected a whole image, found a damaged one"):
        fitted(Encoded("half.jpg", data[: len(data) // 2]), 3, Fit((20, 24), 32))


@pytest.mark.parametrize("kind", KINDS)
def test_each_way_makes_pillows_pixels(kind: str, way: str) -> None:
    """Of large and small parts of odd images, enlarged and made smaller by up to ten."""
    for height, width in ((47, 61), (131, 93), (8, 200), (1, 1), (17, 16)):
        data = picture(kind, height, width)
        for size in ((24, 20), (13, 70), (1, 1)):
            for left, top, wide, tall, flip in boxes(8, seed=height + size[0]):
                box = Box(top * height, left * width, tall * height, wide * width, flip)
                factor = min(box.height / size[0], box.width / size[1])
                scale = next((scale for scale in (8, 4, 2) if factor >= scale), 1)
                out = decoded_crop(data, lambda h, w, box=box: box, size)  # type: ignore[misc]
                np.testing.assert_array_equal(out, by_pillow(data, box, size, scale), f"{way} {box} {size}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1, 2, 4, 8])
@pytest.mark.usefixtures("by_part")
def test_a_part_is_cut_out_of_the_whole(kind: str, scale: int) -> None:
    """By the same library: neither what lies beside the part nor where it begins can be seen in it."""
    height, width = 203, 157
    data = picture(kind, height, width)
    tall, wide = -(-height // scale), -(-width // scale)
    whole = np.empty((tall, wide, 3), np.uint8)
    assert jpeg.cropped(data, (width, height), scale, (0, 0, wide, tall), False, whole)
    for left, top, share, other, _ in boxes(40, seed=scale):
        x, y = int(left * wide), int(top * tall)
        part = np.empty((max(1, int(other * tall)), max(1, int(share * wide)), 3), np.uint8)
        right, bottom = x + part.shape[1], y + part.shape[0]
        assert jpeg.cropped(data, (width, height), scale, (x, y, right, bottom), False, part)
        np.testing.assert_array_equal(part, whole[y:bottom, x:right])


def verdict(data: bytes, box: Box) -> Pixels | None:
    try:
        return decoded_crop(data, lambda h, w: Box(box.top * h, box.left * w, box.height * h, box.width * w), (12, 10))
    except DAMAGED:
        return None


def agree(damaged: list[bytes], way: str, places: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many of some files are refused; a way and Pillow alone agree which, and on the pixels of the others."""
    chosen = [Box(top, left, tall, wide) for left, top, wide, tall, _ in boxes(len(damaged), seed=3)]
    with monkeypatch.context() as here:
        take(way, places, here)
        ours = [verdict(*each) for each in zip(damaged, chosen, strict=True)]
    with monkeypatch.context() as here:
        take("Pillow", places, here)
        theirs = [verdict(*each) for each in zip(damaged, chosen, strict=True)]
    forget()
    for i, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        assert (one is None) == (other is None), i
        if one is not None and other is not None:
            np.testing.assert_array_equal(one, other, str(i))
    return sum(one is None for one in ours)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["part", "whole"])
def test_a_file_cut_anywhere_is_refused(kind: str, way: str, places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = picture(kind, 21, 27)
    cut = [data[:end] for end in range(len(data))]
    assert agree(cut, way, places, monkeypatch) >= len(cut) - 2  # Pillow takes one without a byte of its end mark


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # of headers that were hit
@pytest.mark.parametrize("kind", KINDS)
def test_changed_bytes_are_judged_as_pillow_does(kind: str, places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    data, hit = picture(kind, 45, 61), []
    for _ in range(200):
        some = bytearray(data)
        for _ in range(draw.integers(1, 4)):
            some[draw.integers(2, len(some))] = 0xFF if draw.random() < 0.5 else draw.integers(256)
        if draw.random() < 0.2:
            at = int(draw.integers(2, len(some)))
            del some[at : at + int(draw.integers(1, 9))]
        hit.append(bytes(some))
    refused = agree(hit, "part", places, monkeypatch)
    assert 0 < refused < len(hit)


def test_pillows_limit_of_pixels_holds(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = picture("4:2:0", 47, 61)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 47 * 61 // 2 - 1)
    with pytest.raises(Image.DecompressionBombError):
        decoded_crop(data, lambda h, w: Box(0, 0, 8, 8), (8, 8))


@pytest.mark.parametrize(("height", "width"), [(0, 61), (47, 0), (65500, 65500), (48, 61), (47, 62), (200, 61)])
def test_a_header_that_lies(height: int, width: int, way: str) -> None:
    """No size, a huge one, and one that the data does not fill: an image exactly where Pillow has one."""
    data = bytearray(picture("4:4:4", 47, 61))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    try:
        expected = by_pillow(bytes(data), Box(2, 3, 40, 50), (32, 32))
    except DAMAGED:
        with pytest.raises(DAMAGED):
            decoded_crop(bytes(data), lambda h, w: Box(2, 3, 40, 50), (32, 32))
        return
    out = decoded_crop(bytes(data), lambda h, w: Box(2, 3, 40, 50), (32, 32))
    if way == "whole" and (expected != out).any():
        pytest.skip("torchvision's libjpeg fills what is missing in another way")
    np.testing.assert_array_equal(out, expected)


@pytest.mark.usefixtures("by_part")
def test_what_is_unusual_is_left_to_pillow() -> None:
    out = np.empty((8, 8, 3), np.uint8)
    image, handle = Image.new("CMYK", (30, 30), (10, 200, 30, 40)), io.BytesIO()
    image.save(handle, "JPEG")
    assert not jpeg.cropped(handle.getvalue(), (30, 30), 1, (0, 0, 30, 30), False, out)
    good = picture("4:4:4", 30, 30)
    assert jpeg.cropped(good, (30, 30), 1, (0, 0, 30, 30), False, out)
    assert not jpeg.cropped(good, (31, 30), 1, (0, 0, 30, 30), False, out)  # another size than Pillow has read
    for corners in ((-1, 0, 9, 9), (0, 0, 31, 9), (5, 0, 5, 9), (0, 9, 9, 3), (0, 0, float("nan"), 9)):
        assert not jpeg.cropped(good, (30, 30), 1, corners, False, out)
    assert not jpeg.cropped(b"", (30, 30), 1, (0, 0, 30, 30), False, out)
    assert not jpeg.cropped(b"no image", (30, 30), 1, (0, 0, 30, 30), False, out)


def test_a_machine_without_libjpeg_says_so_to_who_asks(
    places: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="reslab")
    monkeypatch.setenv("RESLAB_CACHE", str(places))
    monkeypatch.setenv("CXX", str(places / "no compiler"))
    forget()
    for _ in range(3):
        jpeg.prepare()
    assert [record.levelname for record in caplog.records] == ["DEBUG", "DEBUG"]
    assert "could not be built" in caplog.records[0].message
    forget()
