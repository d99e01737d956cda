"""The whitening stem: what its filters do to the images that they are taken from."""

import pytest
import torch
from torch import Tensor, nn

from reslab.data.images import ImageSet, dataset, decoded
from reslab.errors import InputError
from reslab.nets import build
from reslab.nets.network import Network
from reslab.nets.spec import WhiteningStem
from reslab.recipes.fast_cifar import fast_cifar
from reslab.train.device import Execution
from reslab.train.trainer import Trainer


def photographs(count: int = 200) -> Tensor:
    """Images whose neighbouring pixels are alike, channels too."""
    noise = torch.randn(count, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    smooth = nn.functional.avg_pool2d(noise, 5, 1)
    return smooth + smooth.mean(1, keepdim=True)


def stem_of(net: Network) -> nn.Conv2d:
    assert isinstance(net.conv1, nn.Conv2d)
    return net.conv1


@pytest.mark.parametrize(
    "stem",
    [WhiteningStem(), WhiteningStem(width=10, kernel=2), WhiteningStem(width=64, kernel=4, stride=2, padding=1)],
)
def test_filters_decorrelate(stem: WhiteningStem) -> None:
    spec = build("fast-resnet8").spec.model_copy(update={"stem": stem, "stages": build("fast-resnet8").spec.stages[:1]})
    net = build(spec.model_copy(update={"size": (16, 16)}))
    images = 100 * photographs()  # so that the constant beside the variances does not count
    out = stem_of(net.whiten(images))(images)
    half = stem.width // 2
    assert torch.equal(out[:, :half], -out[:, half:])
    flat = out[:, :half].transpose(0, 1).flatten(1)
    covariance = flat @ flat.T / flat.shape[1]
    torch.testing.assert_close(covariance, torch.eye(half), atol=1e-3, rtol=0)


def test_the_largest_components_come_first() -> None:
    few, all_ = (
        build("fast-resnet8", size=(16, 16)).spec.model_copy(update={"stem": WhiteningStem(width=width)})
        for width in (6, 24)
    )
    images = photographs()
    first, every = (stem_of(Network(spec).whiten(images)).weight for spec in (few, all_))
    torch.testing.assert_close(first[:3].abs(), every[:3].abs())
    assert every[0].norm() < every[11].norm()  # a small variance is divided by


def test_other_stems_stay_as_they_are() -> None:
    net = build("resnet20")
    before = net.state_dict()["conv1.weight"].clone()
    net.whiten(photographs())
    assert torch.equal(net.state_dict()["conv1.weight"], before)


@pytest.mark.parametrize(
    ("stem", "says"),
    [
        (
            WhiteningStem(width=26),
            "patches of 2x2 pixels and 3 channels have 12 components, so the whitening stem has at most 24 filters",
        ),
        (WhiteningStem(kernel=40, width=2), "32x32 pixels are too few for patches of 40x40"),
    ],
)
def test_patches_that_cannot_be(stem: WhiteningStem, says: str) -> None:
    with pytest.raises(InputError, match=says):
        build(build("fast-resnet8").spec, stem=stem.model_dump())


def test_training_takes_the_filters_from_its_own_images_and_leaves_them() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 3, 32, 32), dtype=torch.uint8, generator=generator)
    images[::2] = images[::2, :, :1, :1]  # half of them of one colour
    labels = torch.arange(60) % 10
    names = tuple("abcdefghij")
    shown = ImageSet(images, labels)
    data = dataset(decoded(shown, shown, names, where="here"), name="made", source="here")
    recipe = fast_cifar("cifar_fast(widths=(16,16,16))", data.info, holdout=20, batch=10, iterations=3)
    trainer = Trainer(recipe, data, Execution(torch.device("cpu")))
    assert isinstance(trainer.net, Network)
    filters = stem_of(trainer.net).weight.detach().clone()
    bias = stem_of(trainer.net).bias
    assert bias is not None
    out = nn.functional.conv2d(trainer.feed.some(40), filters)  # the 40 that are trained on
    flat = out[:, :12].transpose(0, 1).flatten(1)
    torch.testing.assert_close((flat @ flat.T / flat.shape[1]).diagonal(), torch.ones(12), atol=0.02, rtol=0)
    trainer.net.train()
    for _ in range(3):
        trainer.step()
    assert torch.equal(stem_of(trainer.net).weight, filters)
    assert bias.detach().abs().sum() > 0
