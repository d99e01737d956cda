"""Scores by each protocol against a slow, obvious way: crops counted out by hand, one window at a time."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from reslab.data.decode.whole import Encoded, Fit
from reslab.data.images import ImageSet
from reslab.data.loader import Eval
from reslab.data.stream import Listing, in_memory, listing
from reslab.data.transforms import Normalizer
from reslab.data.views import Views
from reslab.errors import InputError
from reslab.evaluate.metrics import evaluate
from reslab.evaluate.protocols import MultiScale, OneCrop, Single, TenCrop, TestTime
from reslab.evaluate.scores import how_shown, log_scores, trained_window
from reslab.nets import build
from reslab.nets.catalog import resolve, resolve_any
from reslab.nets.network import Network
from reslab.weights.preprocessing import Preprocessing

SAMPLES = Path(
    os.environ.get("RESLAB_IMAGENET_SAMPLES", Path(__file__).parents[3] / "shared" / "data" / "imagenet-samples")
)
CPU = torch.device("cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CARRIED = Preprocessing(mean=MEAN, std=STD, crop=(16, 16), resize=20)
NORMALIZER = Normalizer.from_values(MEAN, STD)


def network(classes: int = 7, *, seed: int = 1) -> Network:
    net = build("cifar_resnet(depth=8, width=4)", seed=seed, num_classes=classes, size=(16, 16)).eval()
    with torch.no_grad():
        net.fc.weight.mul_(8)  # random networks say much the same to every image
    return net


def pictures(count: int = 5) -> list[Image.Image]:
    """Of several shapes."""
    draw = np.random.default_rng(5)
    sizes = [(24, 31), (31, 24), (20, 20), (64, 21), (23, 50)]
    return [Image.fromarray(draw.integers(0, 256, (*sizes[i % len(sizes)], 3), dtype=np.uint8)) for i in range(count)]


def listed(images: Sequence[Image.Image]) -> Listing:
    chunk = [Encoded(f"image {i}", np.asarray(image)) for i, image in enumerate(images)]
    labels = torch.arange(len(images)) % 7
    return Listing("made", "made", tuple("abcdefg"), labels, lambda: iter([chunk]), tuple(map(str, range(len(images)))))


def scores(net: nn.Module, images: Listing, protocol: Single, *, batch: int = 3, **more: object) -> Tensor:
    views = Views(images, how_shown(protocol, CARRIED), batch=batch, unit=(16, 16))
    return log_scores(net, views, NORMALIZER, protocol, device=CPU, **more).logs  # type: ignore[arg-type]


# --- the slow ways -----------------------------------------------------------------------------------------------


def tensor_of(pixels: npt.NDArray[np.uint8]) -> Tensor:
    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    return (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


def softmax(logits: Tensor) -> Tensor:
    return logits.double().softmax(-1)


@torch.no_grad()
def slow_ten_crop(net: nn.Module, image: Image.Image, resize: int, crop: int) -> Tensor:
    pixels = np.asarray(transforms.Resize(resize)(image))
    height, width = pixels.shape[:2]
    middle = (round((height - crop) / 2), round((width - crop) / 2))
    total = torch.zeros(7, dtype=torch.float64)
    count = 0
    for top, left in ((0, 0), (0, width - crop), (height - crop, 0), (height - crop, width - crop), middle):
        part = pixels[top : top + crop, left : left + crop]
        for seen in (part, part[:, ::-1]):
            total += softmax(net(tensor_of(seen))[0])
            count += 1
    assert count == 10
    return total / count


@torch.no_grad()
def slow_multi_scale(
    net: Network, image: Image.Image, scales: Sequence[int], window: tuple[int, int], flip: bool = True
) -> Tensor:
    every = []
    for scale in scales:
        pixels = np.asarray(transforms.Resize(scale)(image))
        for seen in (pixels, pixels[:, ::-1]) if flip else (pixels,):
            maps: list[Tensor] = []
            hook = net.avgpool.register_forward_hook(lambda module, given, out, maps=maps: maps.append(given[0]))
            net(tensor_of(seen))
            hook.remove()
            [whole] = maps
            height, width = min(window[0], whole.shape[2]), min(window[1], whole.shape[3])
            positions = []
            for top in range(whole.shape[2] - height + 1):
                for left in range(whole.shape[3] - width + 1):
                    pooled = whole[0, :, top : top + height, left : left + width].mean((1, 2))
                    positions.append(softmax(net.fc(pooled)))
            every.append(torch.stack(positions).mean(0))
    return torch.stack(every).mean(0)


def same(found: Tensor, slow: Sequence[Tensor]) -> None:
    torch.testing.assert_close(found.double().exp(), torch.stack(list(slow)), rtol=1e-4, atol=1e-6)


# --- one crop ----------------------------------------------------------------------------------------------------


def test_one_crop_is_torchvisions() -> None:
    net, images = network(), pictures()
    ready = transforms.Compose([transforms.Resize(20), transforms.CenterCrop(16)])
    with torch.no_grad():
        slow = [softmax(net(tensor_of(np.asarray(ready(image))))[0]) for image in images]
    same(scores(net, listed(images), OneCrop(crop=(16, 16), resize=20)), slow)


@pytest.mark.parametrize("test_time", ["none", "flip", "flip-shift"])
def test_one_crop_comes_to_what_training_says(test_time: TestTime) -> None:
    """From images in memory, and from the same ones listed."""
    pixels = torch.randint(0, 256, (10, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    labels = torch.arange(10) % 7
    net = network()
    said = evaluate(net, Eval(ImageSet(pixels, labels), NORMALIZER, batch=4, device=CPU), test_time=test_time)
    protocol = OneCrop(crop=(16, 16), test_time=test_time)
    images = Eval(ImageSet(pixels, labels), NORMALIZER, batch=3, device=CPU)
    found = log_scores(net, images, NORMALIZER, protocol, device=CPU)
    assert bool(found.whole.all())
    assert -found.logs.gather(1, labels[:, None]).mean().item() == pytest.approx(said.loss, rel=1e-5)
    assert 100 * (found.logs.argmax(1) != labels).float().mean().item() == pytest.approx(said.top1_error)
    shown = in_memory(pixels, labels, name="m", source="m", classes=tuple("abcdefg"), content="x")
    torch.testing.assert_close(scores(net, shown, protocol), found.logs, rtol=1e-5, atol=1e-5)


# --- ten crops ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("resize", "crop"), [(20, 16), (16, 16), (19, 13)])
def test_ten_crops_counted_out_by_hand(resize: int, crop: int) -> None:
    net, images = network(), pictures()
    found = scores(net, listed(images), TenCrop(crop=(crop, crop), resize=resize))
    same(found, [slow_ten_crop(net, image, resize, crop) for image in images])


def test_ten_crops_average_softmax_scores_and_not_logits() -> None:
    net, [image] = network(), pictures(1)
    found = scores(net, listed([image]), TenCrop(crop=(16, 16), resize=20))[0].double().exp()
    five = transforms.FiveCrop(16)(transforms.Resize(20)(image))
    seen = [tensor_of(np.asarray(part)) for part in five]
    with torch.no_grad():
        logits = torch.cat([net(x) for part in seen for x in (part, part.flip(3))])
    torch.testing.assert_close(found, softmax(logits).mean(0), rtol=1e-4, atol=1e-6)
    assert (found - softmax(logits.mean(0))).abs().max() > 1e-3


def test_a_mean_image_stays_where_it_is_when_an_image_is_mirrored() -> None:
    """Pixels are normalised as in training, and what comes of it is mirrored."""
    mean = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(1))
    normalizer = Normalizer(mean, torch.ones(3, 1, 1))
    net, [image] = network(), pictures(1)
    protocol = TenCrop(crop=(16, 16), resize=16)
    views = Views(listed([image]), how_shown(protocol, CARRIED), batch=3, unit=(16, 16))
    found = log_scores(net, views, normalizer, protocol, device=CPU).logs[0]
    parts = transforms.FiveCrop(16)(transforms.Resize(16)(image))
    with torch.no_grad():
        inputs = [normalizer(torch.from_numpy(np.asarray(part).copy()).permute(2, 0, 1)[None]) for part in parts]
        slow = torch.cat([softmax(net(y)) for x in inputs for y in (x, x.flip(3))]).mean(0)
    torch.testing.assert_close(found.double().exp(), slow, rtol=1e-4, atol=1e-6)


# --- several scales ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [(4, 4), (1, 1), (3, 5), (99, 99)])
@pytest.mark.parametrize("flip", [True, False])
def test_several_scales_a_window_at_a_time(window: tuple[int, int], flip: bool) -> None:
    net, images = network(), pictures()
    protocol = MultiScale(scales=(16, 18, 27), window=window, flip=flip)
    found = scores(net, listed(images), protocol)
    same(found, [slow_multi_scale(net, image, protocol.scales, window, flip) for image in images])


def test_each_scale_counts_the_same_and_not_each_position() -> None:
    net, [image] = network(), pictures(1)
    one = [scores(net, listed([image]), MultiScale(scales=(s,), window=(4, 4))).double().exp() for s in (16, 48)]
    both = scores(net, listed([image]), MultiScale(scales=(16, 48), window=(4, 4))).double().exp()
    torch.testing.assert_close(both, (one[0] + one[1]) / 2, rtol=1e-4, atol=1e-7)
    assert (one[0] - one[1]).abs().max() > 1e-4


def test_at_the_size_of_the_training_it_is_the_network_itself() -> None:
    pixels = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    shown = in_memory(pixels, torch.arange(4), name="m", source="m", classes=tuple("abcdefg"), content="x")
    net = network()
    window = trained_window(net.spec, (16, 16))
    assert window == (4, 4)
    found = scores(net, shown, MultiScale(scales=(16,), window=window, flip=False))
    torch.testing.assert_close(found, scores(net, shown, OneCrop(crop=(16, 16))), rtol=1e-5, atol=1e-5)


def test_the_window_of_the_training() -> None:
    assert trained_window(resolve("resnet50"), (224, 224)) == (7, 7)
    assert trained_window(resolve("resnet18"), (288, 224)) == (9, 7)
    assert trained_window(resolve("resnet20"), (32, 32)) == (8, 8)
    with pytest.raises(InputError, match="'vgg16' is not in our grammar; take --protocol ten-crop"):
        trained_window(resolve_any("vgg16"), (224, 224))


def test_images_that_a_network_would_shrink_to_nothing() -> None:
    with pytest.raises(InputError, match="images need at least 4 pixels a side, got 3x3"):
        scores(network(), listed(pictures()), MultiScale(scales=(3, 16), window=(4, 4)))


# --- whatever the protocol ---------------------------------------------------------------------------------------

EACH: list[Single] = [
    OneCrop(crop=(16, 16), resize=20),
    TenCrop(crop=(16, 16), resize=20),
    MultiScale(scales=(16, 27), window=(4, 4)),
]


@pytest.mark.parametrize("protocol", EACH, ids=lambda protocol: protocol.name)
def test_batches_change_nothing(protocol: Single) -> None:
    net, images = network(), listed(pictures(11))
    whole = scores(net, images, protocol, batch=100)
    assert whole.shape == (11, 7)
    torch.testing.assert_close(whole.double().exp().sum(1), torch.ones(11, dtype=torch.float64), rtol=1e-5, atol=1e-5)
    for batch in (1, 4):
        torch.testing.assert_close(scores(net, images, protocol, batch=batch), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("protocol", EACH, ids=lambda protocol: protocol.name)
def test_the_network_is_left_as_it_was_and_progress_is_told(protocol: Single) -> None:
    net = network().train()
    net.stages[1].eval()
    modes = {name: module.training for name, module in net.named_modules()}
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    told: list[int] = []
    scores(net, listed(pictures()), protocol, seen=told.append)
    assert {name: module.training for name, module in net.named_modules()} == modes
    torch.testing.assert_close(net.state_dict(), state, rtol=0, atol=0)
    assert sum(told) == 5 * (len(protocol.scales) if isinstance(protocol, MultiScale) else 1)


@pytest.mark.parametrize("protocol", EACH, ids=lambda protocol: protocol.name)
def test_bf16_is_near(protocol: Single) -> None:
    net, images = network(), listed(pictures())
    rough = scores(net, images, protocol, precision="bf16")
    assert rough.dtype == torch.float32
    exact = scores(net, images, protocol)
    assert not torch.equal(rough, exact)
    assert (rough.exp() - exact.exp()).abs().max() < 0.1


class Sure(nn.Module):
    """Logits 1,000 apart: softmax scores of all classes but one are 0 in fp32."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.arange(7.0).mul(-1000).expand(len(x), 7)


def test_scores_that_round_to_0_keep_their_order() -> None:
    found = scores(Sure(), listed(pictures(1)), TenCrop(crop=(16, 16), resize=20))
    assert found.argsort(1, descending=True).tolist() == [[0, 1, 2, 3, 4, 5, 6]]
    assert found[0, 6].item() == pytest.approx(-6000)
    assert found.exp()[0, 1] == 0


def test_damaged_images_are_left_out_where_that_is_borne() -> None:
    images = pictures(6)
    whole = listed(images)
    chunk = [*next(iter(whole.chunks()))]
    chunk[2] = Encoded("bad.jpg", b"\xff\xd8 no image")
    damaged = Listing("made", "made", whole.classes, whole.labels, lambda: iter([chunk]), whole.keys)
    protocol = MultiScale(scales=(16, 27), window=(4, 4))
    how, net = how_shown(protocol, CARRIED), network()
    with pytest.raises(InputError, match=r"bad\.jpg: expected a whole image.* or leave such images out by --damaged"):
        log_scores(net, Views(damaged, how, batch=3, unit=(16, 16)), NORMALIZER, protocol, device=CPU)
    views = Views(damaged, how, batch=3, unit=(16, 16), most_damaged=1)
    found = log_scores(net, views, NORMALIZER, protocol, device=CPU)
    assert found.whole.tolist() == [True, True, False, True, True, True]
    assert list(views.damage.found) == [2]
    expected = scores(net, whole, protocol)[found.whole]
    torch.testing.assert_close(found.logs, expected, rtol=1e-4, atol=1e-5)
    chunk[4] = chunk[2]
    with pytest.raises(InputError, match="2 images cannot be decoded; at most 1"):
        log_scores(net, Views(damaged, how, batch=3, unit=(16, 16), most_damaged=1), NORMALIZER, protocol, device=CPU)
    every = Listing("made", "made", ("a",), torch.zeros(1).long(), lambda: iter([[chunk[2]]]), ("x",))
    with pytest.raises(InputError, match="no image could be decoded"):
        log_scores(net, Views(every, how, batch=3, unit=(16, 16), most_damaged=1), NORMALIZER, protocol, device=CPU)


# --- real photographs --------------------------------------------------------------------------------------------


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no photographs at ../shared/data or $RESLAB_IMAGENET_SAMPLES")
@pytest.mark.parametrize("protocol", EACH, ids=lambda protocol: protocol.name)
def test_on_photographs(protocol: Single) -> None:
    """All are decoded once; a few are worked out the slow way."""
    net = network()
    images = listing(str(SAMPLES), "all")
    assert images is not None
    found = scores(net, images, protocol, batch=20)
    assert found.shape == (len(images.labels), 7)
    assert bool(found.isfinite().all())
    files = sorted(path for path in SAMPLES.rglob("*") if path.is_file() and path.parent != SAMPLES)
    chosen = list(range(0, len(files), max(1, len(files) // 6)))
    opened = [Image.open(files[i]).convert("RGB") for i in chosen]
    match protocol:
        case OneCrop():
            ready = transforms.Compose([transforms.Resize(20), transforms.CenterCrop(16)])
            with torch.no_grad():
                slow = [softmax(net(tensor_of(np.asarray(ready(image))))[0]) for image in opened]
        case TenCrop():
            slow = [slow_ten_crop(net, image, 20, 16) for image in opened]
        case MultiScale():
            slow = [slow_multi_scale(net, image, protocol.scales, protocol.window) for image in opened]
    same(found[chosen], slow)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no photographs at ../shared/data or $RESLAB_IMAGENET_SAMPLES")
def test_the_papers_scales_on_photographs() -> None:
    net = network()
    images = listing(str(SAMPLES), "all")
    assert images is not None
    chosen = [i in (3, 77) for i in range(len(images.labels))]
    protocol = MultiScale(window=trained_window(net.spec, (224, 224)))
    assert protocol.window == (56, 56)
    found = scores(net, images.only(chosen), protocol)
    files = sorted(path for path in SAMPLES.rglob("*") if path.is_file() and path.parent != SAMPLES)
    for row, index in zip(found, (3, 77), strict=True):
        image = Image.open(files[index]).convert("RGB")
        # A window at a time takes long at 640 pixels; the dense head is compared with that above and in nets.
        slow = torch.zeros(7, dtype=torch.float64)
        for scale in protocol.scales:
            x = tensor_of(np.asarray(transforms.Resize(scale)(image)))
            with torch.no_grad():
                for seen in (x, x.flip(3)):
                    dense = net.dense_logits(net.feature_map(seen), (56, 56))[0]
                    slow += dense.double().softmax(0).mean((1, 2)) / 10
        torch.testing.assert_close(row.double().exp(), slow, rtol=1e-4, atol=1e-6)


def test_the_logarithm_of_what_is_averaged() -> None:
    """Ten views that say the same are one view."""
    gray = Image.new("RGB", (24, 24), (128, 128, 128))

    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([[math.log(0.7), math.log(0.3)]]).expand(len(x), 2)

    for protocol in EACH[:2]:
        found = scores(Constant(), listed([gray]), protocol)
        torch.testing.assert_close(found.exp(), torch.tensor([[0.7, 0.3]]), rtol=1e-5, atol=1e-6)


def test_how_an_image_is_shown() -> None:
    assert how_shown(EACH[0], CARRIED) == Fit((16, 16), 20, "bilinear")
    bicubic = CARRIED.model_copy(update={"interpolation": "bicubic"})
    assert [how_shown(each, bicubic).interpolation for each in EACH] == ["bicubic"] * 3
