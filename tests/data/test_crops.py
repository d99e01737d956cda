"""From an encoded photograph to a crop: where it is taken, and what is decoded for it."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from reslab.data.crops import Box, Draws, centre_crop, resized_crop, scale_crop
from reslab.data.decode.part import decoded_crop
from reslab.data.spec import ResizedCrop, ScaleCrop

SIZE = (64, 64)


def ramp(height: int, width: int) -> Image.Image:
    """Red grows to the right, green downwards: a pixel says where it came from."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)[None, :]
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str = "PNG", **more: int) -> bytes:
    handle = io.BytesIO()
    image.save(handle, kind, **more)
    return handle.getvalue()


def draws(n: int = 400, seed: int = 0, epoch: int = 0) -> Draws:
    return Draws(torch.arange(n), seed, torch.full((n,), epoch))


def test_the_scale_is_the_papers() -> None:
    """Short side between 256 and 480, both possible; a crop of 224 anywhere in it, mirrored half the time."""
    spec, table = ScaleCrop(short=(256, 480)), draws(20_000)
    boxes = [scale_crop(spec, (224, 224), table.of(row))(500, 375) for row in range(20_000)]
    shorts = [round(224 * 375 / box.width) for box in boxes]
    assert (min(shorts), max(shorts)) == (256, 480)
    assert np.mean(shorts) == pytest.approx(368, abs=2)
    assert np.mean([box.flip for box in boxes]) == pytest.approx(0.5, abs=0.02)
    for box in boxes:
        assert box.height == pytest.approx(box.width, rel=0.01)
        assert box.top >= 0
        assert box.left >= 0
        assert box.top + box.height <= 500 + 1e-6
        assert box.left + box.width <= 375 + 1e-6
    low = [box.top / (500 - box.height) for box in boxes]
    assert np.mean(low) == pytest.approx(0.5, abs=0.02)
    assert min(low) == 0
    assert max(low) == pytest.approx(1)


def test_area_and_shape_are_those_of_torchvision() -> None:
    """The same distribution as RandomResizedCrop, told by its moments."""
    spec, table, n = ResizedCrop(), draws(20_000), 20_000
    ours = np.array(
        [(b.top, b.left, b.height, b.width) for b in (resized_crop(spec, table.of(i))(375, 500) for i in range(n))]
    )
    torch.manual_seed(0)
    image = torch.empty(3, 375, 500)
    theirs = np.array(
        [transforms.RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(n)], dtype=float
    )
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), rtol=0.03)
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.03)


def test_a_shape_that_never_fits_takes_the_centre() -> None:
    box = resized_crop(ResizedCrop(area=(1, 1)), draws().of(0))(10, 1000)
    assert (box.top, box.height, box.width) == (0, 10, 13)
    assert box.left == (1000 - 13) // 2


def test_the_draws_are_a_function_of_seed_epoch_and_index() -> None:
    spec = ResizedCrop()

    def box(seed: int, epoch: int, index: int) -> Box:
        return resized_crop(spec, Draws(torch.tensor([7, index]), seed, torch.tensor([9, epoch])).of(1))(375, 500)

    assert box(1, 2, 3) == resized_crop(spec, Draws(torch.tensor([3]), 1, torch.tensor([2])).of(0))(375, 500)
    assert len({box(1, 2, 3), box(0, 2, 3), box(1, 0, 3), box(1, 2, 0)}) == 4


@pytest.mark.parametrize("flip", [False, True])
def test_the_part_that_was_chosen_comes_out(flip: bool) -> None:
    image = ramp(200, 300)
    out = decoded_crop(encoded(image), lambda h, w: Box(50, 30, 100, 150, flip), SIZE)
    assert out.shape == (64, 64, 3)
    columns, rows = out[32, :, 0].astype(int), out[:, 32, 1].astype(int)
    columns = columns[::-1] if flip else columns
    assert columns[0] == pytest.approx(255 * 31 / 300, abs=3)
    assert columns[-1] == pytest.approx(255 * 179 / 300, abs=3)
    assert rows[0] == pytest.approx(255 * 51 / 200, abs=3)
    assert rows[-1] == pytest.approx(255 * 149 / 200, abs=3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("size", [(300, 400), (400, 300), (224, 224), (1000, 1500), (900, 260), (31, 40)])
def test_the_centre_is_torchvisions(size: tuple[int, int], kind: str) -> None:
    """Of a large JPEG too, which an evaluation does not decode smaller."""
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    data = encoded(Image.blend(ramp(*size), Image.fromarray(noise), 0.5), kind)
    ours = decoded_crop(data, centre_crop(256, (224, 224)), (224, 224))
    usual = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    np.testing.assert_array_equal(ours, np.asarray(usual(Image.open(io.BytesIO(data)))))


def test_a_large_jpeg_is_decoded_smaller() -> None:
    """Just as Pillow's draft does it."""
    image = ramp(1600, 2400)
    data = encoded(image, "JPEG", quality=95)
    whole = decoded_crop(data, lambda h, w: Box(0, 0, 1600, 2400), SIZE)
    part = decoded_crop(data, lambda h, w: Box(400, 600, 100, 100), SIZE)
    expected = np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(whole.astype(int) - expected)[2:-2, 2:-2, :2].max() <= 4
    assert part[32, 32, 0] == pytest.approx(255 * 650 / 2400, abs=3)
    smaller = Image.open(io.BytesIO(data))
    smaller.draft("RGB", (300, 200))
    across = smaller.resize((64, 200), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(whole, np.asarray(across.resize((64, 64), Image.Resampling.BILINEAR)))


def test_it_is_written_where_it_is_wanted() -> None:
    batch = np.zeros((3, 64, 64, 3), np.uint8)
    for data in (encoded(ramp(80, 90)), encoded(ramp(80, 90), "JPEG")):
        batch[:] = 0
        assert np.shares_memory(decoded_crop(data, lambda h, w: Box(0, 0, h, w), SIZE, batch[1]), batch)
        assert batch[1].any()
        assert not batch[[0, 2]].any()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_other_colours_become_rgb(mode: str) -> None:
    kind = "JPEG" if mode == "CMYK" else "PNG"
    out = decoded_crop(encoded(ramp(80, 90).convert(mode), kind), lambda h, w: Box(0, 0, h, w), SIZE)
    assert out.shape == (64, 64, 3)
