"""Gates whose openness is known from their bias."""

import pytest
import torch

from reslab.errors import InputError
from reslab.nets import build
from reslab.probes.gates import gates
from reslab.probes.seam import Sample

from .tiny import network, sample

HIGHWAY = "cifar_highway(widths=(4, 4, 4), gated=(1, 2, 1))"


def test_gates_of_bias_alone() -> None:
    net = build(HIGHWAY, size=(8, 8), seed=1).eval()
    biases = (-3.0, 0.0, 1.0, 3.0)
    gated = [block for block in net.blocks if block.gate is not None]
    with torch.no_grad():
        for block, bias in zip(gated, biases, strict=True):
            assert block.gate is not None
            block.gate.conv.weight.zero_()
            assert block.gate.conv.bias is not None
            block.gate.conv.bias.fill_(bias)
    found = gates(net, sample())
    assert found.bias == pytest.approx(biases)
    assert found.mean == pytest.approx(torch.tensor(biases).sigmoid().numpy(), rel=1e-5)
    assert found.across == pytest.approx(0, abs=1e-6)
    assert list(found.open) == [0, 0, 0, 1]
    assert list(found.shut) == [1, 0, 0, 0]
    assert found.block == tuple(name for name, block in net.named_blocks.items() if block.gate is not None)


def test_gates_that_depend_on_the_image() -> None:
    net, data = build(HIGHWAY, size=(8, 8), seed=1).eval(), sample()
    found = gates(net, data)
    assert (found.across > 0).all()
    assert (found.mean < 0.5).all()  # the initial bias is -2
    same = Sample(data.x[:1].expand(8, -1, -1, -1), data.labels[:8])
    assert gates(net, same).across == pytest.approx(0, abs=1e-6)


def test_a_network_without_gates() -> None:
    with pytest.raises(InputError, match=r"needs gated blocks, and .* has none"):
        gates(network(), sample())
