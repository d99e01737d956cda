"""BN folded into layers: the same function, with fewer steps."""

import pytest
import torch
from torch import Tensor, nn

from deploy.networks import images, of_catalogue, trained
from reslab.deploy.fold import Shift, fold
from reslab.nets import build

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def norms(net: nn.Module) -> int:
    return sum(isinstance(module, NORMS) for module in net.modules())


@torch.no_grad()
def apart(net: nn.Module, x: Tensor) -> float:
    """The largest difference that folding makes, against the largest logit."""
    before, after = net(x), fold(net).net(x)
    return float((before - after).abs().max() / before.abs().max())


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("resnet20", 0), ("plain20", 0), ("resnet50d", 0), ("vgg16-cifar", 0),
        ("cifar_resnext(depth=29, cardinality=2, base_width=8)", 0),
        ("resnet110-relu-before-addition", 0), ("resnet110-relu-only-preactivation", 0),
        ("resnet110-exclusive-gating", 0), ("resnet110-bn-after-addition", 6), ("preresnet20", 6),
        ("fast-resnet8", 0), ("highway19", 0),
    ],
)  # fmt: skip
def test_it_computes_the_same_with_less(name: str, left: int) -> None:
    net = of_catalogue(name)
    found = fold(net)
    assert norms(found.net) == len(found.left) == left
    assert len(found.folded) == norms(net) - left
    assert apart(net, images()) <= 1e-5
    assert apart(net.double(), images().double()) <= 1e-12


def test_vectors() -> None:
    net = trained(build("mlp(depth=6, width=8, layers=2)", in_channels=5, num_classes=3))
    found = fold(net)
    assert found.folded
    assert norms(found.net) == len(found.left)
    assert apart(net, torch.randn(4, 5)) <= 1e-5


def test_the_network_itself_stays_as_it_was() -> None:
    net = of_catalogue("resnet20").train()
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    fold(net)
    assert net.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())


def drawn(kind: type[nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return trained(kind())


class Odd(nn.Module):
    """A convolution that is read twice; a pool before BN; a layer that is called twice; BN that does more."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.conv2, self.pool2, self.bn2 = nn.Conv2d(4, 4, 1), nn.MaxPool2d(2), nn.BatchNorm2d(4)
        self.conv3, self.bn3 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.conv4, self.bn4 = nn.Conv2d(4, 4, 1), Clipped(4)

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv1(x)
        y = self.bn2(self.pool2(self.conv2(self.bn1(first) + first)))
        y = self.bn3(self.conv3(self.conv3(y)))
        return (self.bn4(self.conv4(y)) + y).flatten(1)  # type: ignore[no-any-return]


class Clipped(nn.BatchNorm2d):
    """As BN with an activation inside, which other libraries have."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


def test_what_cannot_be_folded_says_why() -> None:
    net = drawn(Odd)
    found = fold(net)
    assert {name: why.split(",")[0] for name, why in found.left.items()} == {
        "bn1": "what comes before it is used elsewhere",
        "bn2": "a pool lies between",
        "bn3": "what comes before it is used elsewhere",
        "bn4": "it does more than BN with running statistics",
    }
    assert not found.folded
    assert torch.equal(net(images()), found.net(images()))


def test_a_pool_between_with_scales_above_zero() -> None:
    net = drawn(Odd)
    scale = net.get_submodule("bn2").weight
    assert isinstance(scale, nn.Parameter)
    scale.data.abs_()
    found = fold(net)
    assert found.folded == ("bn2",)
    assert isinstance(found.net.get_submodule("bn2"), Shift)
    assert found.net.get_submodule("conv2").bias is None
    assert apart(net.double(), images().double()) <= 1e-12


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x if x.mean() > 0 else -x)).mean((2, 3))  # type: ignore[no-any-return]


def test_a_flow_that_depends_on_numbers_is_left_as_it_is() -> None:
    net = drawn(Branching)
    found = fold(net)
    assert "cannot be followed" in found.left["bn"]
    assert apart(net, images()) == 0
