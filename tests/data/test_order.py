"""The order of an epoch."""

import pytest
import torch

from reslab.data.order import AHEAD, WINDOW, Positions, epoch_order

BLOCKS = [7, 1, 30, 12, 12, 5, 40, 3] * 8


@pytest.mark.parametrize("blocks", [None, BLOCKS])
def test_each_image_once(blocks: list[int] | None) -> None:
    n = sum(BLOCKS)
    order = epoch_order(n, 3, 2, 11, blocks)
    assert torch.equal(order.sort().values, torch.arange(n))
    assert torch.equal(order, epoch_order(n, 3, 2, 11, blocks))


@pytest.mark.parametrize("blocks", [None, BLOCKS])
def test_other_epochs_and_seeds_have_other_orders(blocks: list[int] | None) -> None:
    n = sum(BLOCKS)
    orders = [epoch_order(n, seed, epoch, 11, blocks) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    for i, one in enumerate(orders):
        for other in orders[:i]:
            assert (one == other).float().mean() < 0.05


def test_a_reader_that_keeps_a_window_reads_each_block_once() -> None:
    lengths = torch.tensor(BLOCKS)
    of_image = torch.repeat_interleave(torch.arange(len(BLOCKS)), lengths)
    visited = of_image[epoch_order(sum(BLOCKS), 0, 0, 11, BLOCKS)].tolist()
    spans = {block: (visited.index(block), len(visited) - 1 - visited[::-1].index(block)) for block in set(visited)}
    most = max(sum(first <= at <= last for first, last in spans.values()) for at in range(len(visited)))
    assert most <= WINDOW
    assert most > WINDOW // 2  # and they are mixed


def test_blocks_come_in_another_order_each_epoch() -> None:
    lengths = torch.tensor(BLOCKS)
    of_image = torch.repeat_interleave(torch.arange(len(BLOCKS)), lengths)
    windows = [frozenset(of_image[epoch_order(sum(BLOCKS), 0, epoch, 11, BLOCKS)][:40].tolist()) for epoch in range(5)]
    assert len(set(windows)) == 5


def test_the_next_epoch_is_made_beside_the_training() -> None:
    """With many images: each order is made once, before it is asked for, and a jump asks for what it needs."""
    made: list[int] = []

    def order(epoch: int) -> torch.Tensor:
        made.append(epoch)
        return epoch_order(AHEAD, 1, epoch, 2)

    positions = Positions(AHEAD, AHEAD // 2, order)
    plain = [epoch_order(AHEAD, 1, epoch, 2) for epoch in range(3)]
    for iteration in range(6):
        index, epoch = positions(iteration)
        half = slice(0, AHEAD // 2) if iteration % 2 == 0 else slice(AHEAD // 2, AHEAD)
        assert torch.equal(index, plain[iteration // 2][half])
        assert epoch.unique().tolist() == [iteration // 2]
    assert sorted(made)[:3] == [0, 1, 2]
    assert len(made) == len(set(made))
    assert torch.equal(positions(20)[0], epoch_order(AHEAD, 1, 10, 2)[: AHEAD // 2])
