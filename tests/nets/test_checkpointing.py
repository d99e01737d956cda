"""Activation checkpointing changes the memory that training takes, and nothing else."""

import pytest
import torch
from torch.nn import functional as F

from reslab.nets import build
from reslab.nets.checkpointing import segment_length
from reslab.nets.layers import Conv2d
from reslab.nets.network import Network


def network(name: str, fused: bool = False, group: int | None = 4) -> Network:
    net = build(name, seed=2).to(memory_format=torch.channels_last)
    assert isinstance(net, Network)
    return net.group_norm_statistics(group).fuse(fused)


def train(net: Network, steps: int = 2) -> list[torch.Tensor]:
    size = net.spec.size
    draw = torch.Generator().manual_seed(4)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    losses = []
    for step in range(steps):
        torch.manual_seed(step)  # dropout and stochastic depth
        shape = (8, net.spec.in_channels, *(size if size != (1, 1) else ()))
        loss = F.cross_entropy(net(torch.randn(shape, generator=draw)), torch.arange(8))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses


@pytest.mark.parametrize(("fused", "group"), [(False, None), (False, 4), (True, 4)])
@pytest.mark.parametrize(
    "name",
    [
        "cifar_resnet(depth=38, width=4, size=(8, 8))",
        "cifar_plain(depth=38, width=4, size=(8, 8))",
        "cifar_resnet(depth=38, width=4, size=(8, 8), order='full-preactivation', drop_path=0.5)",
        "cifar_resnet(depth=38, width=4, size=(8, 8), skip='dropout')",
        "mlp(depth=14, width=8)",
    ],
)
def test_training_is_the_same_bit_for_bit(name: str, fused: bool, group: int | None) -> None:
    plain, kept = network(name, fused, group), network(name, fused, group).checkpoint_activations()
    for module in plain.modules():
        if isinstance(module, Conv2d):
            module.direct = False  # a checkpointed network keeps to PyTorch's kernel
    assert [stage.segment for stage in kept.stages] == [segment_length(len(stage)) for stage in kept.stages]
    torch.testing.assert_close(train(kept), train(plain), rtol=0, atol=0)
    torch.testing.assert_close(kept.state_dict(), plain.state_dict(), rtol=0, atol=0)


def test_blocks_run_again_in_the_backward_pass() -> None:
    net = network("cifar_resnet(depth=38, width=4, size=(8, 8))").checkpoint_activations()
    calls = []
    net.blocks[1].register_forward_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    y = net(torch.randn(4, 3, 8, 8))
    assert len(calls) == 1
    y.sum().backward()
    assert len(calls) == 2
    with torch.no_grad():
        net(torch.randn(4, 3, 8, 8))
    net.eval()(torch.randn(4, 3, 8, 8)).sum().backward()
    assert len(calls) == 4, "no second pass in evaluation"
    assert net.checkpoint_activations(False).stages[0].segment is None


def test_fewer_activations_are_kept() -> None:
    """What autograd holds on to between forward and backward, in bytes."""
    kept = {}
    for on in (False, True):
        net = network("cifar_resnet(depth=110, width=4, size=(8, 8))").checkpoint_activations(on)
        held: dict[int, int] = {}

        def pack(tensor: torch.Tensor, held: dict[int, int] = held) -> torch.Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            net(torch.randn(8, 3, 8, 8))
        kept[on] = sum(held.values())
    assert kept[True] < 0.5 * kept[False], kept


@pytest.mark.parametrize(("blocks", "length"), [(1, 1), (3, 1), (18, 2), (72, 4), (200, 7)])
def test_the_length_of_a_segment(blocks: int, length: int) -> None:
    assert segment_length(blocks) == length
    # No other length has a lower peak in the model: entries of segments, and one segment in full.
    peak = {k: blocks / k + 4 * k for k in range(1, blocks + 1)}
    assert peak[length] <= 1.05 * min(peak.values())
