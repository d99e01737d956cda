"""Copying: residual stacks can from the start, plain ones worse the deeper."""

import pytest
import torch

from reslab.errors import InputError
from reslab.probes.identity import fit_identity, stack


def test_residual_stacks_copy_at_any_depth_and_plain_ones_do_not() -> None:
    found = fit_identity(blocks=(1, 4), width=16, steps=150, seeds=2)
    assert list(found.depth) == [2, 8]
    assert found.residual.max() < 0.05
    assert found.plain[1] > 3 * found.residual[1]
    assert found.plain[1] > found.plain[0]
    assert (found.plain_low <= found.plain).all()
    assert (found.plain <= found.plain_high).all()


@torch.no_grad()
def test_an_empty_branch_is_the_solution() -> None:
    net = stack(3, 5, residual=True, seed=0)
    x = torch.randn(4, 5).abs()
    for block in net.blocks:
        for parameter in block.last_layer.parameters():
            parameter.zero_()
    y = x
    for block in net.blocks:
        y = block(y)
    assert torch.equal(y, x)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="1 block, step and seed or more, got 0, 1 and 1"):
        fit_identity(blocks=(0,), steps=1, seeds=1)
