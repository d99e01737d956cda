"""Images as people really have them: small images and photographs make the same pixels of each, and lose none."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from reslab.data.crops import Box
from reslab.data.decode.part import decoded_crop
from reslab.data.decode.whole import Encoded, Fit, decode
from reslab.data.formats import Unused, is_image, is_nobodys, readable
from reslab.data.sources import load, load_photographs

from .sample import picture, write_images

Reslab = Callable[..., tuple[int, str, str]]
SIZE = (40, 40)


def ramp() -> "np.typing.NDArray[np.uint16]":
    return np.linspace(0, 65535, 1600).reshape(40, 40).astype(np.uint16)


def smooth() -> Image.Image:
    return picture(5, (8, 8)).resize(SIZE, Image.Resampling.BICUBIC)


def see_through() -> Image.Image:
    image = smooth().convert("RGBA")
    image.putalpha(100)
    return image


def turned(tag: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = tag
    return exif


KINDS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "CMYK": ("a.jpg", lambda file: smooth().convert("CMYK").save(file)),
    "grey": ("a.png", lambda file: smooth().convert("L").save(file)),
    "GIF": ("a.gif", lambda file: smooth().convert("P").save(file)),
    "WebP": ("a.webp", lambda file: smooth().save(file, lossless=True)),
    "RGBA": ("a.png", lambda file: see_through().save(file)),
    "16 bits": ("a.png", lambda file: Image.fromarray(ramp()).save(file)),
    "16 bits, TIFF": ("a.tif", lambda file: Image.fromarray(ramp()).save(file)),
    "float": ("a.tiff", lambda file: Image.fromarray((ramp() / 65535).astype(np.float32)).save(file)),
    "TIFF": ("a.TIFF", lambda file: smooth().save(file)),
    "BMP": ("a.bmp", lambda file: smooth().save(file)),
    "JFIF": ("a.jfif", lambda file: smooth().save(file, "JPEG")),
    "palette, transparent": ("a.png", lambda file: smooth().convert("P").save(file, transparency=0)),
    "animated": (
        "a.gif", lambda file: smooth().save(file, save_all=True, append_images=[smooth().rotate(90) for _ in range(3)])
    ),
    "newline": ("new\nline.jpg", lambda file: smooth().save(file)),
    "turned": ("a.jpg", lambda file: smooth().save(file, exif=turned(6))),
    "turned, PNG": ("a.png", lambda file: smooth().save(file, exif=turned(3))),
}  # fmt: skip


def by_both_ways(file: Path, *, oriented: bool) -> tuple[Tensor, Tensor]:
    """The whole of an image (C, H, W), decoded as small images are and as photographs are."""
    item = Encoded(str(file), file, oriented)
    small = decode(lambda: iter([[item]]), 1, channels=3, fit=Fit(SIZE), what="")[0]
    all_of_it = decoded_crop(file.read_bytes(), lambda height, width: Box(0, 0, height, width), SIZE, oriented=oriented)
    return small, torch.from_numpy(all_of_it).permute(2, 0, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_small_images_and_photographs_make_the_same_of_it(kind: str, tmp_path: Path) -> None:
    name, save = KINDS[kind]
    save(tmp_path / name)
    small, photograph = by_both_ways(tmp_path / name, oriented=True)
    assert torch.equal(small, photograph)
    assert small.float().std() > 10, "neither white nor black"


@pytest.mark.parametrize("kind", ["16 bits", "16 bits, TIFF", "float"])
def test_more_bits_are_scaled_and_not_clipped(kind: str, tmp_path: Path) -> None:
    name, save = KINDS[kind]
    save(tmp_path / name)
    small, _ = by_both_ways(tmp_path / name, oriented=True)
    assert torch.equal(small[0], torch.from_numpy(np.rint(ramp() / 257).astype(np.uint8)))
    assert (small[0] == small[2]).all()


@pytest.mark.parametrize("tag", range(1, 9))
def test_a_camera_s_orientation(tag: int, tmp_path: Path) -> None:
    """What is seen is the scene, whichever way the camera was held; the tags as EXIF 2.3 defines them."""
    scene = smooth()
    turn = {
        1: [], 2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM], 5: [Image.Transpose.TRANSPOSE], 6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE], 8: [Image.Transpose.ROTATE_270],
    }[tag]  # fmt: skip
    stored = scene
    for step in turn:
        stored = stored.transpose(step)
    stored.save(tmp_path / "a.png", exif=turned(tag))
    right = torch.from_numpy(np.array(scene)).permute(2, 0, 1)
    as_stored = torch.from_numpy(np.array(stored)).permute(2, 0, 1)
    for seen in by_both_ways(tmp_path / "a.png", oriented=True):
        assert torch.equal(seen, right)
    for seen in by_both_ways(tmp_path / "a.png", oriented=False):
        assert torch.equal(seen, as_stored)


def test_a_size_is_that_of_the_image_as_it_is_seen(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        picture(1, (20, 12)).save(root / name / "1.png")
        picture(2, (12, 20)).save(root / name / "2.png", exif=turned(6))
    assert load(str(root), cache_dir=tmp_path / "cache").info.size == (12, 20)
    assert load(str(root), cache_dir=tmp_path / "cache", oriented=False).info.size == (32, 32), "of many sizes"


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """Three classes; images below a class, and what is no image among them."""
    root = tmp_path / "pets"
    for first, name in enumerate(("red apple", "grün", "_x")):
        write_images(root / "train" / name, 4, first=10 * first)
        write_images(root / "val" / name, 2, first=100 + 10 * first)
    more = root / "train" / "grün" / "more" / "still more"
    write_images(more, 2, first=50)
    for name in ("notes.txt", "IMG_1.HEIC", "._000.png", "Thumbs.db", ".DS_Store"):
        (root / "train" / "grün" / name).write_bytes(b"no image")
    write_images(root / "train" / ".ipynb_checkpoints", 1)
    write_images(root / "train" / "__MACOSX" / "grün", 1)
    (root / "train" / "loose.png").write_bytes((root / "train" / "_x" / "020.png").read_bytes())
    return root


def test_all_images_are_used_and_the_rest_is_said(
    house: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "reslab"):
        small = load(str(house), cache_dir=tmp_path / "cache")
        large = load_photographs(house, (8, 8), cache_dir=tmp_path / "cache")
    assert small.info.classes == large.info.classes == ("_x", "grün", "red apple")
    assert small.info.n_train == large.info.n_train == 14
    assert torch.equal(small.train.labels, large.train.labels)
    assert "3 files are not used: " in small.info.unused
    assert small.info.unused == large.info.unused
    for part in ("1 .txt, such as 'grün/notes.txt'", "1 .heic (images that Pillow cannot read here)", "'loose.png'"):
        assert part in small.info.unused
    assert [record.message.count("3 files are not used") for record in caplog.records] == [1, 1]


def test_class_folders_alone_hold_out_the_same_fifth_for_all(tmp_path: Path) -> None:
    for first, name in enumerate("abc"):
        write_images(tmp_path / "data" / name, 10, first=20 * first)
    small = load(str(tmp_path / "data"), cache_dir=tmp_path / "cache")
    large = load_photographs(tmp_path / "data", (8, 8))
    assert (large.info.n_train, large.info.n_test) == (small.info.n_train, small.info.n_test) == (24, 6)
    assert "a fixed fifth of each class held out" in large.info.source
    for split in ("train", "test"):
        stored, memory = getattr(large, split), getattr(small, split)
        for i in range(len(memory)):
            item = Encoded("", stored.read(i))
            pixels = decode(lambda item=item: iter([[item]]), 1, channels=3, fit=Fit((8, 8)), what="")  # type: ignore[misc]
            assert torch.equal(pixels[0], memory.images[i])


def test_names() -> None:
    assert {".jpg", ".tif", ".tiff", ".gif", ".jfif", ".png"} <= set(readable())
    assert [is_image(name) for name in ("a.JPG", "._a.jpg", "a.txt", "a.heic")] == [True, False, False, False]
    assert [is_nobodys(name) for name in (".DS_Store", "__MACOSX", "Thumbs.db", "_x", "a.png")] == [True] * 3 + [
        False
    ] * 2
    assert not Unused()
    assert Unused().said() == ""
    assert Unused().add(["x/README"]).said() == "1 file is not used: 1 without an ending, such as 'x/README'"


def test_an_image_edited_in_place_is_scored_anew(reslab: Reslab, house: Path, tmp_path: Path) -> None:
    """Its name and its length are what they were."""
    run = tmp_path / "run"
    data = ("--data", house, "--size", 8)
    code, _, err = reslab(
        "train",
        "he2015_cifar",
        "--net",
        "cifar_resnet(depth=8, width=4)",
        *data,
        "--out",
        run,
        "--iterations",
        2,
        "-b",
        4,
    )
    assert code == 0, err
    for name in ("a.bmp", "b.bmp"):  # of which no two of a size differ in length
        picture(200, (8, 8)).save(house / "val" / "grün" / name)
    first = json.loads(reslab("eval", run, "--data", house, "--json")[1])
    assert json.loads(reslab("eval", run, "--data", house, "--json")[1])["loss"] == first["loss"]
    picture(201, (8, 8)).save(house / "val" / "grün" / "a.bmp")
    assert json.loads(reslab("eval", run, "--data", house, "--json")[1])["loss"] != first["loss"]
