"""Normalisation against numpy; augmentation against a slow, obvious reference, image by image."""

import json
from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reslab.data.images import suited_augment
from reslab.data.sources import load
from reslab.data.spec import Augment, Colour, Normalization
from reslab.data.transforms import GREY, PCA_VALUES, PCA_VECTORS, Normalizer, augment, coloured

Floats = npt.NDArray[np.float64]


def pictures(n: int, channels: int = 3, size: tuple[int, int] = (6, 7), seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, channels, *size), dtype=torch.uint8, generator=draw)


def shifted(image: Floats, border: Floats, dy: int, dx: int, pad: int, flip: bool) -> Floats:
    """Pads (C, H, W) with a colour (C,), crops the original size at (dy, dx), mirrors the crop."""
    channels, height, width = image.shape
    canvas = np.empty((channels, height + 2 * pad, width + 2 * pad))
    for channel in range(channels):
        canvas[channel, :, :] = border[channel]
    canvas[:, pad : pad + height, pad : pad + width] = image
    crop = canvas[:, dy : dy + height, dx : dx + width]
    return crop[:, :, ::-1] if flip else crop


def found_as(
    out: Floats, image: Floats, border: Floats, pad: int, flips: tuple[bool, ...]
) -> tuple[int, int, bool] | None:
    """Which shift and flip of the image this is."""
    for dy in range(2 * pad + 1):
        for dx in range(2 * pad + 1):
            for flip in flips:
                if np.allclose(out, shifted(image, border, dy, dx, pad, flip), atol=1e-6):
                    return dy, dx, flip
    return None


def run(
    images: torch.Tensor, spec: Augment, normalizer: Normalizer, *, seed: int = 0, epoch: int = 0, first: int = 0
) -> torch.Tensor:
    index = torch.arange(len(images)) + first
    epochs = torch.full_like(index, epoch)
    return augment(images, index, normalizer=normalizer, spec=spec, seed=seed, epoch=epochs)


@pytest.mark.parametrize("kind", ["per-pixel-mean", "per-channel", "none"])
@pytest.mark.parametrize("border", ["mean", "black"])
@pytest.mark.parametrize(("pad", "flip"), [(0, True), (1, False), (2, True), (4, True), (9, False)])
def test_augmentation_against_the_reference(kind: Normalization, border: str, pad: int, flip: bool) -> None:
    images = pictures(12)
    normalizer = Normalizer.of(kind, pictures(40, seed=1))
    out = run(images, Augment.model_validate({"pad": pad, "flip": flip, "border": border}), normalizer)
    assert out.shape == images.shape
    assert out.dtype == torch.float32
    assert out.is_contiguous(memory_format=torch.channels_last)
    mean, std = normalizer.mean.double().numpy(), normalizer.std.double().numpy()
    ready = (images.numpy() / 255 - mean) / std
    colour = np.zeros(3) if border == "mean" else (-mean.mean((1, 2), keepdims=True) / std)[:, 0, 0]
    for one, image in zip(out.double().numpy(), ready, strict=True):
        assert found_as(one, image, colour, pad, (False, True) if flip else (False,)) is not None


def test_black_is_what_a_black_pixel_becomes() -> None:
    normalizer = Normalizer.of("per-channel", pictures(20))
    black = run(torch.zeros(30, 3, 6, 7, dtype=torch.uint8), Augment(pad=3, border="black"), normalizer)
    torch.testing.assert_close(black, normalizer(torch.zeros(30, 3, 6, 7, dtype=torch.uint8)))
    mean = run(torch.zeros(30, 3, 6, 7, dtype=torch.uint8), Augment(pad=3, border="mean"), normalizer)
    assert (mean == 0).any()


def test_all_shifts_and_flips_occur_equally_often() -> None:
    image, none = pictures(1, 1), Normalizer.of("none", pictures(1, 1))
    spec = Augment(pad=1, flip=True)
    ready = image[0].double().numpy() / 255
    kinds = Counter(
        found_as(out.double().numpy(), ready, np.zeros(1), 1, (False, True))
        for epoch in range(3)
        for out in run(image.expand(300, -1, -1, -1), spec, none, epoch=epoch)
    )
    assert len(kinds) == 18
    assert None not in kinds
    expected = 900 / 18
    assert sum((count - expected) ** 2 / expected for count in kinds.values()) < 17 + 4 * 34**0.5


def test_half_of_the_images_are_flipped_and_over_the_epochs_each_is() -> None:
    images, none = pictures(1, 1).expand(500, -1, -1, -1), Normalizer.of("none", pictures(1, 1))
    straight = none(images[:1])
    flipped = torch.stack(
        [(run(images, Augment(flip=True), none, epoch=epoch) != straight).flatten(1).any(1) for epoch in range(40)]
    ).float()
    assert float(flipped.mean()) == pytest.approx(0.5, abs=0.015)
    assert flipped.mean(1).sub(0.5).abs().max() < 0.1  # of each epoch
    assert flipped.mean(0).sub(0.5).abs().max() < 0.35  # of each image


def test_digits_are_shifted_by_a_pixel_and_never_flipped() -> None:
    spec = load("digits").info.augment
    assert spec == Augment(pad=1, flip=False)
    images, none = pictures(1, 1, (8, 8)).expand(200, -1, -1, -1), Normalizer.of("none", pictures(1, 1))
    ready = images[0].double().numpy() / 255
    kinds = {found_as(out.double().numpy(), ready, np.zeros(1), 1, (False,)) for out in run(images, spec, none)}
    assert kinds == {(dy, dx, False) for dy in range(3) for dx in range(3)}
    assert suited_augment(1, (28, 28)).flip is False
    assert suited_augment(3, (32, 32)) == Augment(pad=4, flip=True)


def test_a_draw_is_a_function_of_seed_epoch_and_index() -> None:
    images, none = pictures(64), Normalizer.of("none", pictures(1))
    spec = Augment(pad=2, flip=True)
    base = run(images, spec, none)
    assert torch.equal(base, run(images, spec, none))
    # Whichever other images are in the batch, and in whichever order.
    index = torch.tensor([40, 3, 17])
    some = augment(images[index], index, normalizer=none, spec=spec, seed=0, epoch=torch.zeros(3, dtype=torch.int64))
    assert torch.equal(some, base[index])
    for other in (
        run(images, spec, none, seed=1),
        run(images, spec, none, epoch=1),
        run(images, spec, none, first=64),
    ):
        same = (base == other).flatten(1).all(1)
        assert int(same.sum()) < 8  # 64 images, 50 outcomes


def test_an_epoch_for_each_image() -> None:
    images, none = pictures(8), Normalizer.of("none", pictures(1))
    spec = Augment(pad=2, flip=True)
    epochs = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    mixed = augment(images, torch.arange(8), normalizer=none, spec=spec, seed=0, epoch=epochs)
    assert torch.equal(mixed[:4], run(images, spec, none, epoch=0)[:4])
    assert torch.equal(mixed[4:], run(images, spec, none, epoch=1)[4:])


def test_without_augmentation_it_only_normalises() -> None:
    images, normalizer = pictures(5), Normalizer.of("per-pixel-mean", pictures(20))
    out = run(images, Augment(), normalizer)
    assert torch.equal(out, normalizer(images))
    assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [1, 3])
def test_constants_against_numpy(channels: int) -> None:
    train = pictures(50, channels)
    values = train.numpy().astype(np.float64) / 255
    pixel = Normalizer.of("per-pixel-mean", train)
    assert pixel.mean.shape == (channels, 6, 7)
    np.testing.assert_allclose(pixel.mean.numpy(), values.mean(0), rtol=1e-6)
    assert (pixel.std == 1).all()
    channel = Normalizer.of("per-channel", train)
    assert channel.mean.shape == channel.std.shape == (channels, 1, 1)
    np.testing.assert_allclose(channel.mean.numpy()[:, 0, 0], values.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(channel.std.numpy()[:, 0, 0], values.std((0, 2, 3)), rtol=1e-6)
    ready = channel(train)
    torch.testing.assert_close(ready.mean((0, 2, 3)), torch.zeros(channels), atol=1e-5, rtol=0)
    torch.testing.assert_close(ready.std((0, 2, 3), correction=0), torch.ones(channels), atol=1e-5, rtol=0)
    torch.testing.assert_close(pixel(train).mean(0), torch.zeros(channels, 6, 7), atol=1e-6, rtol=0)
    torch.testing.assert_close(Normalizer.of("none", train)(train), torch.from_numpy(values).float())


def test_the_imagenet_constants() -> None:
    ready = Normalizer.of("imagenet", pictures(1))(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8))
    expected = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    torch.testing.assert_close(ready.flatten(), torch.tensor(expected))
    with pytest.raises(ValueError, match="3 channels, got images of 1"):
        Normalizer.of("imagenet", pictures(1, 1))


def test_constants_do_not_depend_on_the_order_of_the_images() -> None:
    train = pictures(5000, 1, (3, 3))  # more than one chunk
    kinds: tuple[Normalization, ...] = ("per-pixel-mean", "per-channel")
    for kind in kinds:
        one, other = (Normalizer.of(kind, images) for images in (train, train.flip(0)))
        assert torch.equal(one.mean, other.mean)
        assert torch.equal(one.std, other.std)
    expected = train.double().div(255).mean(0).float()
    assert torch.equal(Normalizer.of("per-pixel-mean", train).mean, expected)


def test_a_constant_channel_is_not_divided_by_zero() -> None:
    train = pictures(10)
    train[:, 1] = 77
    ready = Normalizer.of("per-channel", train)(train)
    assert ready.isfinite().all()
    assert ready[:, 1].abs().max() < 0.1


@pytest.mark.parametrize("kind", ["per-pixel-mean", "per-channel", "none", "imagenet"])
def test_constants_as_plain_values_and_back(kind: Normalization) -> None:
    normalizer = Normalizer.of(kind, pictures(30))
    mean, std = normalizer.mean_values(), normalizer.std_values()
    again = Normalizer.from_values(*json.loads(json.dumps([mean, std])))
    assert torch.equal(again.mean, normalizer.mean)
    assert torch.equal(again.std, normalizer.std)
    assert len(std) == len(mean) == 3
    assert isinstance(mean[0], tuple) == (kind == "per-pixel-mean")
    images = pictures(4)
    assert torch.equal(again(images), normalizer(images))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.floats(-1000, 1000, width=32))
def test_the_shortest_decimals_give_the_same_numbers_back(value: float) -> None:
    normalizer = Normalizer(torch.tensor([[[value]]]), torch.ones(1, 1, 1))
    text = json.dumps(normalizer.mean_values())
    assert torch.equal(Normalizer.from_values(tuple(json.loads(text)), (1.0,)).mean, normalizer.mean)
    assert len(text) <= 17  # nine digits, a sign, a point, an exponent; of the double there would be seventeen


def test_whole_numbers_are_numbers_too() -> None:
    ready = Normalizer.from_values((0, 0, 0), (1, 1, 1))(pictures(2))
    assert ready.dtype == torch.float32
    assert Normalizer.from_values((0, 0, 0), (1, 1, 1)).std.dtype == torch.float32


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("kind", ["per-pixel-mean", "per-channel", "none"])
def test_the_memory_format_is_kept(n: int, kind: Normalization) -> None:
    normalizer = Normalizer.of(kind, pictures(9))
    for memory_format in (torch.contiguous_format, torch.channels_last):
        images = pictures(n).contiguous(memory_format=memory_format)
        assert normalizer(images).is_contiguous(memory_format=memory_format)
        assert images.dtype == torch.uint8


def prepared(n: int, spec: Augment, epoch: int, size: tuple[int, int] = (6, 7)) -> tuple[Floats, Floats]:
    """The images as they are, and augmented in an epoch, both without normalisation."""
    images = pictures(n, size=size)
    plain = Normalizer.of("none", images)
    index, epochs = torch.arange(n), torch.full((n,), epoch)
    out = augment(images, index, normalizer=plain, spec=spec, seed=3, epoch=epochs)
    return plain(images).double().numpy(), out.double().numpy()


def test_alternating_flips() -> None:
    spec = Augment(flip="alternating")
    flipped = []
    for epoch in range(4):
        images, out = prepared(64, spec, epoch)
        same = (out == images).all((1, 2, 3))
        mirrored = (out == images[:, :, :, ::-1]).all((1, 2, 3))
        assert (same ^ mirrored).all()
        flipped.append(mirrored)
    assert 16 < flipped[0].sum() < 48, "at random in the first epoch"
    assert (flipped[0] != flipped[1]).all(), "then every image the other way"
    assert (flipped[0] == flipped[2]).all()
    assert (flipped[1] == flipped[3]).all()


@pytest.mark.parametrize("pad", [1, 2, 5])
def test_the_border_can_mirror_the_image(pad: int) -> None:
    images, out = prepared(40, Augment(pad=pad, border="reflect"), 0)
    seen = set()
    for image, shifted_image in zip(images, out, strict=True):
        canvas = np.pad(image, ((0, 0), (pad, pad), (pad, pad)), mode="reflect")
        places = [
            (dy, dx)
            for dy in range(2 * pad + 1)
            for dx in range(2 * pad + 1)
            if np.array_equal(canvas[:, dy : dy + 6, dx : dx + 7], shifted_image)
        ]
        assert places
        seen.add(places[0])
    assert len(seen) > pad


def colours(spec: Colour, n: int = 4000, seed: int = 3, epoch: int = 0) -> torch.Tensor:
    """What becomes of ``n`` images of one grey and one red pixel: (n, 3, 1, 2)."""
    pixel = torch.tensor([[0.5, 0.8], [0.5, 0.2], [0.5, 0.2]]).view(1, 3, 1, 2)
    index = torch.arange(n)
    return coloured(pixel.expand(n, 3, 1, 2), index, spec=spec, seed=seed, epoch=torch.full_like(index, epoch))


def test_colours_move_along_the_principal_components() -> None:
    shift = colours(Colour(pca=0.1)) - colours(Colour())
    assert torch.allclose(shift[..., 0], shift[..., 1], atol=1e-6)  # all pixels alike
    values, vectors = torch.tensor(PCA_VALUES), torch.tensor(PCA_VECTORS)
    expected = vectors @ torch.diag((0.1 * values) ** 2) @ vectors.T
    found = torch.cov(shift[:, :, 0, 0].T)
    assert torch.allclose(found, expected, atol=0.1 * float(expected.max()))
    assert float(shift.mean().abs()) < 1e-3


def test_jitter_by_its_parts() -> None:
    """A grey pixel keeps its colour under saturation, and brightness alone moves the mean of an image."""
    images = colours(Colour(jitter=0.4))
    assert not torch.equal(images, colours(Colour(jitter=0.4), epoch=1))
    assert torch.equal(images, colours(Colour(jitter=0.4)))
    assert torch.allclose(images[:, 0, 0, 0], images[:, 1, 0, 0], atol=1e-6)
    # Contrast and saturation leave the mean grey of an image where it is; brightness scales it, wherever it comes.
    grey = (images * torch.tensor(GREY).view(1, 3, 1, 1)).sum(1).mean((1, 2))
    before = (colours(Colour(), 1) * torch.tensor(GREY).view(1, 3, 1, 1)).sum(1).mean()
    factor = grey / before
    assert 0.6 <= float(factor.min()) < 0.62
    assert 1.38 < float(factor.max()) <= 1.4 + 1e-6
    assert float(factor.mean()) == pytest.approx(1, abs=0.02)
    # The distance of red from grey is what saturation, contrast and brightness have in common.
    spread = (images[:, 0, 0, 1] - images[:, 1, 0, 1]) / 0.6
    assert 0.6**3 <= float(spread.min()) < 0.3
    assert 2.3 < float(spread.max()) <= 1.4**3 + 1e-6


def test_colours_that_do_not_change() -> None:
    assert torch.equal(colours(Colour(), 3)[0], colours(Colour(), 3)[2])
