"""Blocks removed, reordered, replaced and inserted, with their weights carried along."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reslab.errors import InputError
from reslab.nets import build, edit
from reslab.nets.network import Network
from reslab.nets.spec import Basic, Block, Identity, NoShortcut, Scale, Stack


def network(name: str = "cifar_resnet(depth=20, width=4)") -> Network:
    net = build(name, size=(8, 8), seed=3).eval()
    draw = torch.Generator().manual_seed(5)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2, generator=draw)
            module.running_var.uniform_(0.5, 1.5, generator=draw)
    return net


def images() -> Tensor:
    return torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def through(net: Network, blocks: list[str], x: Tensor) -> Tensor:
    """The obvious reference: the blocks of a network called one after the other."""
    y = F.relu(net.bn1(net.conv1(x)))
    for name in blocks:
        y = net.named_blocks[name](y)
    return net.fc(y.mean((2, 3)))  # type: ignore[no-any-return]


@torch.no_grad()
def test_removed_blocks_are_skipped() -> None:
    net = network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    cut = edit.without(net, "layer1.1", "layer3.2")
    kept = [name for name in net.named_blocks if name not in ("layer1.1", "layer3.2")]
    assert len(cut.blocks) == len(kept) == 7
    torch.testing.assert_close(cut(images()), through(net, kept, images()), rtol=0, atol=0)
    assert not torch.allclose(cut(images()), net(images()))
    torch.testing.assert_close(net.state_dict(), before, rtol=0, atol=0)


@torch.no_grad()
def test_reordered_blocks_keep_their_weights() -> None:
    net = network()
    mixed = edit.reordered(net, 2, [0, 2, 1])
    order = [*[f"layer1.{i}" for i in range(3)], "layer2.0", "layer2.2", "layer2.1", *[f"layer3.{i}" for i in range(3)]]
    torch.testing.assert_close(mixed(images()), through(net, order, images()), rtol=0, atol=0)
    back = edit.reordered(mixed, 2, [0, 2, 1])
    torch.testing.assert_close(back(images()), net(images()), rtol=0, atol=0)


@torch.no_grad()
def test_a_replaced_block_carries_what_fits() -> None:
    net = network()
    scaled = edit.replaced(net, "layer1.1", Block(width=4, shortcut=Scale(shortcut=0.5, residual=0.0)))
    block = scaled.get_submodule("layer1.1")
    assert torch.equal(block.conv2.weight, net.get_submodule("layer1.1").conv2.weight)  # type: ignore[union-attr, arg-type]
    x = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(block(x), F.relu(0.5 * x))
    plain = edit.replaced(net, "layer1.1", Block(width=4, shortcut=NoShortcut()))
    assert not plain.blocks[1].has_shortcut
    assert plain.state_dict().keys() == net.state_dict().keys()


@torch.no_grad()
def test_an_inserted_block_is_new() -> None:
    net = network()
    longer = edit.inserted(net, "layer2.1", Block(width=8, shortcut=Identity()), seed=11)
    assert [len(stage) for stage in longer.spec.stages] == [3, 4, 3]
    assert torch.equal(longer.get_submodule("layer2.3").conv1.weight, net.get_submodule("layer2.2").conv1.weight)  # type: ignore[union-attr, arg-type]
    new = longer.get_submodule("layer2.2")
    for parameter in new.parameters():
        parameter.zero_()
    torch.testing.assert_close(longer(images()), net(images()), rtol=0, atol=0)


def test_mode_type_and_stages_are_kept() -> None:
    net = network().train().to(torch.float64)
    cut = edit.without(net, "layer1.1")
    assert cut.training
    assert next(cut.parameters()).dtype == torch.float64
    assert cut.spec.name == net.spec.name + " (edited)"
    assert [block.spec for block in cut.blocks] == list(cut.spec.blocks)
    assert list(cut.named_blocks) == list(cut.spec.named_blocks)
    assert cut.named_blocks["layer2.0"] is cut.stages[1][0]


def test_what_cannot_be_edited() -> None:
    net = network()
    attempts: tuple[tuple[Callable[[], object], str], ...] = (
        (lambda: edit.without(net, "layer2.0"), "layer2.0: a shortcut of kind 'identity' needs equal shapes|zero-pad"),
        (lambda: edit.without(net, "layer4.0"), "has no block 'layer4.0'; did you mean"),
        (lambda: edit.without(net, *[f"layer1.{i}" for i in range(3)]), "each stage at least one block"),
        (lambda: edit.reordered(net, 2, [0, 1]), "layer2 has blocks 0 to 2; an order names each once"),
        (lambda: edit.reordered(net, 4, [0]), "has stages 1 to 3, got 4"),
        (lambda: edit.reordered(net, 2, [1, 0, 2]), "cannot be edited so"),
        (
            lambda: edit.replaced(net, "layer1.0", Block(branch=Basic(), width=8, shortcut=NoShortcut())),
            "cannot be edited so: layer1.1",
        ),
    )
    for wrong, said in attempts:
        with pytest.raises(InputError, match=said):
            wrong()


def test_vgg_blocks_can_be_removed_where_shapes_stay() -> None:
    net = build("vgg16-cifar", size=(32, 32)).eval()
    assert isinstance(net.spec.blocks[1].branch, Stack)
    cut = edit.without(net, "layer3.1")
    assert cut(torch.randn(1, 3, 32, 32)).shape == (1, 10)
    with pytest.raises(
        InputError, match=r"layer2.0.conv1.weight needs the shape .*, but layer2.1.conv1.weight has|not there"
    ):
        edit.reordered(net, 2, [1, 0])
