"""Resizing and cropping, pixel for pixel as torchvision's; and data of which nothing is held out."""

import io
import os
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from reslab.data.decode.whole import Encoded, Fit, decode, fitted
from reslab.data.images import Dataset
from reslab.data.sources import load
from reslab.errors import InputError

from .sample import picture, png, write_images, write_parquet

SAMPLES = Path(
    os.environ.get("RESLAB_IMAGENET_SAMPLES", Path(__file__).parents[3] / "shared" / "data" / "imagenet-samples")
)
Interpolation = Literal["bilinear", "bicubic"]
MODES = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


def chw(image: Image.Image) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(image))
    return pixels.permute(2, 0, 1) if pixels.dim() == 3 else pixels.unsqueeze(0)


def torchvisions(image: Image.Image, fit: Fit) -> torch.Tensor:
    assert fit.resize is not None
    resized = Resize(fit.resize, MODES[fit.interpolation], antialias=True)
    return chw(Compose([resized, CenterCrop(list(fit.crop))])(image))


def decoded_as(image: Image.Image, fit: Fit, channels: int = 3) -> torch.Tensor:
    """As a file is decoded."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    chunks = [[Encoded("picture", buffer.getvalue())]]
    return decode(lambda: iter(chunks), 1, channels=channels, fit=fit, what="")[0]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("resize", "crop"), [(256, 224), (232, 224), (224, 224), (235, 224)])
@pytest.mark.parametrize(
    "size", [(500, 375), (375, 500), (333, 501), (501, 333), (224, 224), (256, 256), (100, 97), (257, 256), (640, 96)]
)
def test_pixel_for_pixel_as_torchvision(
    size: tuple[int, int], resize: int, crop: int, interpolation: Interpolation
) -> None:
    fit = Fit((crop, crop), resize, interpolation)
    image = picture(1, size)
    assert torch.equal(decoded_as(image, fit), torchvisions(image, fit))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    crop=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    more=st.integers(0, 9),
    bicubic=st.booleans(),
)
def test_of_any_size_and_any_crop(size: tuple[int, int], crop: tuple[int, int], more: int, bicubic: bool) -> None:
    fit = Fit(crop, max(crop) + more, "bicubic" if bicubic else "bilinear")
    image = picture(2, size)
    expected = torchvisions(image, fit)
    assert torch.equal(decoded_as(image, fit), expected)
    assert torch.equal(fitted(chw(image)[None], fit)[0], expected)
    grey = image.convert("L")
    assert torch.equal(fitted(chw(grey)[None], fit)[0], torchvisions(grey, fit))


def test_modes_are_changed_before_the_size_is(tmp_path: Path) -> None:
    """As ImageFolder does it: a palette is not interpolated."""
    fit = Fit((24, 24), 30, "bicubic")
    palette = picture(3, (50, 40)).quantize(16)
    assert torch.equal(decoded_as(palette, fit), torchvisions(palette.convert("RGB"), fit))
    grey = picture(3, (50, 40), "L")
    assert torch.equal(decoded_as(grey, fit), torchvisions(grey.convert("RGB"), fit))
    assert torch.equal(decoded_as(picture(3, (50, 40)), fit, 1), torchvisions(picture(3, (50, 40)).convert("L"), fit))


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no photographs at ../shared/data or $RESLAB_IMAGENET_SAMPLES")
def test_photographs_as_torchvision_has_them() -> None:
    files = sorted(SAMPLES.rglob("*.[jJ]*"))[:: 200 // 5][:5]
    assert files
    for fit in (Fit((224, 224), 256), Fit((224, 224), 232, "bicubic")):
        chunks = [[Encoded(str(file), file) for file in files]]
        images = decode(lambda chunks=chunks: iter(chunks), len(files), channels=3, fit=fit, what="")  # type: ignore[misc]
        for found, file in zip(images, files, strict=True):
            assert torch.equal(found, torchvisions(Image.open(file).convert("RGB"), fit)), file


def test_without_a_shorter_side_the_crop_is_just_covered() -> None:
    for size in ((40, 20), (20, 40), (33, 17), (8, 8)):
        for crop in ((16, 16), (8, 24), (20, 10)):
            assert decoded_as(picture(4, size), Fit(crop)).shape == (3, *crop)
    image = picture(4, (20, 10))
    assert torch.equal(decoded_as(image, Fit((10, 20))), chw(image)), "the right size already: nothing is done"
    wide = Image.new("RGB", (300, 100), (255, 0, 0))
    wide.paste((0, 0, 255), (100, 0, 200, 100))
    middle = decoded_as(wide, Fit((50, 50)))
    assert bool((middle[2, :, 2:-2] == 255).all())
    assert bool((middle[0, :, 2:-2] == 0).all())


@pytest.mark.parametrize(
    ("crop", "resize", "said"),
    [
        ((0, 8), None, "a size of at least 1 pixel, found 0"),
        ((8, -3), None, "a size of at least 1 pixel, found -3"),
        ((8, 9), 8, "a shorter side of at least the crop's 9 pixels, found 8"),
    ],
)
def test_fits_that_make_no_sense(crop: tuple[int, int], resize: int | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Fit(crop, resize)


def test_the_cache_tells_fits_apart(folder: Path, cache: Path) -> None:
    fits = (None, Fit((6, 6)), Fit((6, 6), 7), Fit((6, 6), 7, "bicubic"), Fit((6, 5), 7))
    prints = [load(str(folder), cache_dir=cache, size=fit).info.fingerprint for fit in fits]
    assert len(set(prints)) == len(list(cache.glob("*.safetensors"))) == 5
    again = [load(str(folder), cache_dir=cache, size=fit).info.fingerprint for fit in fits]
    assert again == prints
    assert len(list(cache.glob("*.safetensors"))) == 5


def test_parquet_of_many_sizes_is_fitted(tmp_path: Path, cache: Path) -> None:
    for split in ("train", "test"):
        images: list[bytes | None] = [png(i, (8 + i, 9)) for i in range(4)]
        write_parquet(tmp_path / "p" / f"{split}.parquet", images, [0, 1, 0, 1])
    fit = Fit((6, 6), 8, "bicubic")
    found = load(str(tmp_path / "p"), cache_dir=cache, size=fit)
    for i in range(4):
        assert torch.equal(found.train.images[i], torchvisions(picture(i, (8 + i, 9)), fit))


def test_known_data_are_fitted_too(cache: Path) -> None:
    fit = Fit((12, 12), 14)
    plain, found = load("digits"), load("digits", size=fit)
    assert found.info.size == (12, 12)
    assert found.info.classes == plain.info.classes
    assert torch.equal(found.test.labels, plain.test.labels)
    for i in (0, 99):
        digit = Image.fromarray(plain.test.images[i, 0].numpy())
        assert torch.equal(found.test.images[i], torchvisions(digit, fit))
    with pytest.raises(InputError, match="leave out the size"):
        load("digits", size=12)
    with pytest.raises(InputError, match="digits: expected at most 4 GB"):
        load("digits", size=Fit((3000, 3000)))


# --- nothing held out ---


def everything(data: Dataset) -> bool:
    return (
        data.info.n_train == data.info.n_test == len(data.train) == len(data.test)
        and torch.equal(data.train.images, data.test.images)
        and torch.equal(data.train.labels, data.test.labels)
    )


def test_the_whole_of_a_folder(folder: Path, cache: Path) -> None:
    split, whole = load(str(folder), cache_dir=cache), load(str(folder), cache_dir=cache, whole=True)
    assert everything(whole)
    assert len(whole.test) == len(split.train) + len(split.test) == 13
    assert torch.equal(whole.test.images, torch.cat((split.train.images, split.test.images)))
    assert torch.equal(whole.test.labels, torch.cat((split.train.labels, split.test.labels)))
    assert "all images" in whole.info.source
    assert whole.info.classes == split.info.classes
    again = load(str(folder), cache_dir=cache, whole=True)  # from the cache, where the images lie once
    assert again.info == whole.info
    assert everything(again)
    assert load(str(folder), cache_dir=cache).info == split.info


def test_the_whole_of_class_folders(folder: Path, cache: Path) -> None:
    whole = load(str(folder / "train"), cache_dir=cache, whole=True)
    assert everything(whole)
    assert whole.test.labels.tolist() == [0] * 6 + [1] * 4
    assert load(str(folder / "train"), cache_dir=cache).info.n_test == 2


def test_one_image_of_each_class(tmp_path: Path, cache: Path) -> None:
    for i, name in enumerate("abc"):
        write_images(tmp_path / "few" / name, 1, first=i)
    with pytest.raises(InputError, match="found one each"):
        load(str(tmp_path / "few"), cache_dir=cache)
    whole = load(str(tmp_path / "few"), cache_dir=cache, whole=True)
    assert whole.test.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("held_out", [True, False])
def test_the_whole_of_parquet(held_out: bool, parquet: Path, cache: Path) -> None:
    if held_out:
        (parquet / "test-00000-of-00001.parquet").unlink()
    count = 12 if held_out else 16
    for _ in range(2):
        whole = load(str(parquet), cache_dir=cache, whole=True)
        assert everything(whole)
        assert len(whole.test) == count
        for i in range(count):
            assert torch.equal(whole.test.images[i], chw(picture(i)))
        assert whole.test.labels.tolist() == [i % 2 for i in range(count)]
        assert "all images" in whole.info.source
    assert load(str(parquet), cache_dir=cache).info.n_train < count


def test_the_whole_of_known_data() -> None:
    split, whole = load("digits"), load("digits", whole=True)
    assert everything(whole)
    assert len(whole.test) == 1797
    assert torch.equal(whole.test.images, torch.cat((split.train.images, split.test.images)))
    fit = load("digits", whole=True, size=Fit((9, 9)))
    assert everything(fit)
    assert fit.info.size == (9, 9)


def test_an_entry_of_the_whole_holds_the_images_once(folder: Path, cache: Path) -> None:
    load(str(folder), cache_dir=cache, whole=True)
    [entry] = cache.glob("*.safetensors")
    images = 13 * 3 * 8 * 8
    assert images < entry.stat().st_size < 2 * images
