"""Whatever a probe does, the network is afterwards what it was."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from reslab.errors import InputError
from reslab.nets.layers import BatchNorm2d
from reslab.nets.network import Network, build
from reslab.probes.attribution import class_activation, features, grad_cam
from reslab.probes.chain import chain_of
from reslab.probes.coverage import downsampling
from reslab.probes.gradients import at_initialisation, gradients
from reslab.probes.identity import fit_identity
from reslab.probes.lesions import effective_depth, lesions, permutations, random_deletions
from reslab.probes.paths import paths
from reslab.probes.perturbations import amplification, translation
from reslab.probes.prune import Images, prune
from reslab.probes.responses import responses, signal
from reslab.probes.seam import Sample, bypassed, opened, residual_blocks, watched
from reslab.probes.shares import residual_share
from reslab.probes.shattering import along_images, shattering

from .tiny import PLAIN, PREACTIVATION, RESIDUAL, logits, network, sample

PROBES: dict[str, Callable[[Network, Sample], Any]] = {
    "responses": responses,
    "signal": signal,
    "shares": residual_share,
    "lesions": lesions,
    "deletions": lambda net, data: random_deletions(net, data, counts=(2,), draws=2),
    "permutations": lambda net, data: permutations(net, data, draws=2),
    "depth": effective_depth,
    "paths": lambda net, data: paths(net, data, per_length=1),
    "gradients": gradients,
    "downsampling": lambda net, _: downsampling(net),
    "amplification": amplification,
    "translation": lambda net, data: translation(net, data, shifts=(0, 1)),
    "class activation": class_activation,
    "grad-cam": grad_cam,
    "features": lambda net, data: features(net, data, ("layer1", "pool")),
    "initial": lambda net, data: at_initialisation(net.spec, data, seeds=1),
    "along images": lambda net, data: along_images(net.spec, data.some(4), points=4, lags=2, seeds=1),
    "shattering": lambda _net, _data: shattering(depths=(2,), points=16, lags=3, seeds=1),
    "identity": lambda _net, _data: fit_identity(blocks=(1,), seeds=1, steps=2),
    "prune": lambda net, data: prune(net, Images.of(data, data, calibrate=False), drop=1, rounds=1),
}


def found(net: nn.Module) -> dict[str, Any]:
    """All that a probe could have changed."""
    return {
        "weights": {name: value.clone() for name, value in net.state_dict().items()},
        "modes": [module.training for module in net.modules()],
        "trained": [parameter.requires_grad for parameter in net.parameters()],
        "gradients": [parameter.grad for parameter in net.parameters()],
        "kernels": [getattr(module, "fused", None) for module in net.modules()],
        "groups": [getattr(module, "group", None) for module in net.modules()],
        "segments": [getattr(module, "segment", None) for module in net.modules()],
        "momenta": [getattr(module, "momentum", None) for module in net.modules()],
        "hooks": [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in net.modules()],
        "random": torch.get_rng_state(),
    }


def same(before: dict[str, Any], after: dict[str, Any]) -> None:
    torch.testing.assert_close(after.pop("weights"), before.pop("weights"), rtol=0, atol=0)
    assert torch.equal(after.pop("random"), before.pop("random"))
    assert after == before


def unusual(name: str) -> Network:
    """In training, but for a frozen part; fused, checkpointed, BN in groups, some weights not trained."""
    net = network(name).train().fuse().checkpoint_activations().group_norm_statistics(4)
    net.stages[1].eval()
    net.fc.weight.requires_grad = False
    return net


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", [RESIDUAL, PREACTIVATION])
@pytest.mark.parametrize("probe", PROBES)
def test_the_network_is_left_as_it_was(probe: str, name: str, precision: str) -> None:
    net = unusual(name)
    before = found(net)
    result = PROBES[probe](net, sample(16, batch=9, precision=precision))
    same(before, found(net))
    assert result is not None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("probe", PROBES)
def test_on_a_gpu_too(probe: str, precision: str) -> None:
    net = unusual(RESIDUAL).to("cuda")
    data = sample(16, batch=9, precision=precision)
    data = Sample(data.x.to("cuda"), data.labels.to("cuda"), data.batch, precision)
    before, drawn = found(net), torch.cuda.get_rng_state()
    PROBES[probe](net, data)
    same(before, found(net))
    assert torch.equal(torch.cuda.get_rng_state(), drawn)


def test_also_when_something_fails() -> None:
    net = unusual(RESIDUAL)
    before = found(net)
    block = net.named_blocks["layer1.1"]

    def fails() -> None:
        with opened(net), watched(net), bypassed(block):
            assert not any(module.training for module in net.modules())
            torch.rand(3)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fails()
    same(before, found(net))


def test_statistics_of_the_batch_are_not_kept() -> None:
    net = network().train()
    before = found(net)
    data = sample(8)
    with opened(net, statistics="batch"), torch.no_grad():
        norms = [module for module in net.modules() if isinstance(module, BatchNorm2d)]
        assert all(module.training for module in norms)
        assert not net.training
        assert not torch.equal(net(data.x), net(data.x[:4]).repeat(2, 1)), "each batch has its own"
        mean = net.get_submodule("bn1").running_mean
        assert not torch.equal(mean, before["weights"]["bn1.running_mean"])  # type: ignore[arg-type]
    same(before, found(net))


def test_what_is_seen_at_a_block() -> None:
    net = network().eval()
    data = sample(4)
    with opened(net), watched(net) as seen, torch.no_grad():
        net(data.x)
    assert list(seen) == list(net.named_blocks)
    first, second = seen["layer1.0"], seen["layer1.1"]
    assert first.output is second.input
    assert second.shortcut is second.input
    assert second.branch is not None
    torch.testing.assert_close(second.output, (second.branch + second.input).relu())
    assert seen["layer2.0"].shortcut is not None
    assert seen["layer2.0"].shortcut.shape != seen["layer2.0"].input.shape
    plain = network(PLAIN)
    with opened(plain), watched(plain) as seen, torch.no_grad():
        plain(data.x)
    assert seen["layer1.1"].branch is None


def test_a_sample() -> None:
    data = sample(30, batch=13)
    assert [len(labels) for _, labels in data] == [13, 13, 4]
    assert len(data.some(7)) == 7
    assert data.some(100) is data
    assert torch.equal(data.some(4).x, data.x[[0, 10, 19, 29]]), "evenly spaced"
    with pytest.raises(InputError, match="takes 31 images or more, got 30"):
        data.need(31, "this")
    with pytest.raises(InputError, match="got 2 images and 1 labels"):
        Sample(data.x[:2], data.labels[:1])
    with pytest.raises(InputError, match="1 or more images at a time, got 0"):
        Sample(data.x, data.labels, batch=0)


@pytest.mark.parametrize("probe", ["shares", "paths"])
def test_what_needs_residual_blocks(probe: str) -> None:
    with pytest.raises(InputError, match=r"needs residual blocks, and .*cifar_plain.* has none"):
        PROBES[probe](network(PLAIN), sample())
    with pytest.raises(InputError, match="needs a network in Reslab's grammar, got Linear"):
        residual_blocks(nn.Linear(2, 2), "this")
    with pytest.raises(InputError, match="a chain of layers such as torchvision's VGG, got Linear"):
        chain_of(nn.Linear(2, 2))


def test_opened_networks_compute_the_same() -> None:
    data = sample(6)
    for name in (RESIDUAL, PREACTIVATION, PLAIN, "cifar_fast(widths=(8, 8), blocks=(1, 1))"):
        net = build(name, size=(8, 8)).eval()
        expected = logits(net, data)
        with opened(net):
            assert torch.equal(logits(net, data), expected)
        chain = chain_of(net)
        with torch.no_grad():
            y = chain.enter(data.x)
            for link in chain.links:
                y = link.module(y)
            assert torch.equal(chain.leave(y), expected)
