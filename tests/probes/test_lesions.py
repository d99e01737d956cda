"""Lesions: known where a branch is silent, and equal to networks that were cut by hand."""

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reslab.errors import InputError
from reslab.nets import build, edit
from reslab.nets.network import Network
from reslab.probes.chain import Variant, chain_of, evaluate_variants
from reslab.probes.lesions import effective_depth, lesions, permutations, random_deletions
from reslab.probes.seam import Sample, bypassed, opened

from .tiny import PLAIN, PREACTIVATION, RESIDUAL, chain, logits, network, sample, silence, vectors

ORDERS = ("original", "bn-after-addition", "relu-before-addition", "relu-only-preactivation", "full-preactivation")


def loss_of(net: nn.Module, data: Sample) -> float:
    return float(F.cross_entropy(logits(net, data), data.labels))


def error_of(net: nn.Module, data: Sample) -> float:
    return 100 * float((logits(net, data).argmax(1) != data.labels).double().mean())


@pytest.mark.parametrize("option", ["A", "B"])
@pytest.mark.parametrize("order", ORDERS)
@torch.no_grad()
def test_a_block_without_its_branch(order: str, option: str) -> None:
    """As one whose branch is silent by its weights, in every order, also where the shortcut changes the shape."""
    net = network(f"cifar_resnet(depth=14, width=4, order='{order}', shortcut='{option}')")
    silent = network(f"cifar_resnet(depth=14, width=4, order='{order}', shortcut='{option}')")
    for name, x in (("layer1.1", torch.randn(2, 4, 8, 8)), ("layer2.0", torch.randn(2, 4, 8, 8))):
        silence(silent, name)
        block = net.named_blocks[name]
        expected = silent.named_blocks[name](x)
        assert not torch.allclose(block(x), expected)
        with bypassed(block):
            torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("skip", ["constant-scaling", "exclusive-gating", "shortcut-only-gating", "conv1x1"])
@torch.no_grad()
def test_what_a_shortcut_does_stays(skip: str) -> None:
    net = network(f"cifar_resnet(depth=8, width=4, skip='{skip}', gate_bias=-1.0)")
    block, x = net.named_blocks["layer1.0"], torch.randn(2, 4, 8, 8).relu()
    with bypassed(block):
        y = block(x)
    if skip == "constant-scaling":
        expected = 0.5 * x
    elif skip == "conv1x1":
        way: Tensor = block.get_submodule("downsample")(x)
        expected = way.relu()
    else:
        assert block.gate is not None
        expected = (1 - block.gate(x)) * x
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("name", [RESIDUAL, PREACTIVATION])
def test_deleting_a_silent_block_changes_nothing(name: str) -> None:
    net, data = network(name), sample()
    silence(net, "layer1.1", "layer2.0")
    found = lesions(net, data)
    silent = [found.block.index(block) for block in ("layer1.1", "layer2.0")]
    assert found.loss[silent] == pytest.approx(found.whole_loss, rel=1e-5)
    assert list(found.error[silent]) == [found.whole_error] * 2
    others = np.setdiff1d(np.arange(len(found.block)), silent)
    assert (abs(found.loss[others] - found.whole_loss) > 1e-5).all()
    assert list(found.changes_shape) == [name in ("layer2.0", "layer3.0") for name in found.block]
    assert found.chance == pytest.approx(90)


def test_lesions_are_the_networks_cut_by_hand() -> None:
    for name in (RESIDUAL, PLAIN):
        net, data = network(name), sample(31, batch=9)
        found = lesions(net, data)
        assert found.whole_loss == pytest.approx(loss_of(net, data), rel=1e-5)
        assert found.whole_error == pytest.approx(error_of(net, data))
        for block in ("layer1.0", "layer1.1", "layer3.1"):
            cut = edit.without(net, block)
            at = found.block.index(block)
            assert found.loss[at] == pytest.approx(loss_of(cut, data), rel=1e-5)
            assert found.error[at] == pytest.approx(error_of(cut, data))


def test_plain_blocks_that_change_the_shape_stay() -> None:
    found = lesions(network(PLAIN), sample())
    assert [name for name, error in zip(found.block, found.error, strict=True) if np.isnan(error)] == [
        "layer2.0",
        "layer3.0",
    ]
    vgg = build("vgg16-cifar", seed=1).eval()
    wide = Sample(torch.randn(6, 3, 32, 32), torch.arange(6), batch=6)
    at = lesions(vgg, wide)
    assert int(np.isnan(at.error).sum()) == 4
    assert len(at.block) == 12


class Layers(nn.Module):
    """Another library's chain, in the manner of torchvision's VGG."""

    def __init__(self, extra: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True),
            nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d(2)
        self.classifier = nn.Sequential(nn.Linear(32, 12), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(12, 10))
        self.extra = extra

    def forward(self, x: Tensor) -> Tensor:
        y = self.classifier(self.avgpool(self.features(x)).flatten(1))
        return y + 1 if self.extra else y  # type: ignore[no-any-return]


def test_a_chain_of_another_library() -> None:
    net, data = Layers().eval(), sample(20, batch=20)
    found = lesions(net, data)
    assert found.block == ("features.0", "features.3", "features.6", "features.7")
    assert list(np.isnan(found.error)) == [True, False, True, True]
    short = nn.Sequential(*list(net.features[:3]), *list(net.features[6:]))
    with torch.no_grad():
        y = net.classifier(net.avgpool(short(data.x)).flatten(1))
    assert found.loss[1] == pytest.approx(float(F.cross_entropy(y, data.labels)), rel=1e-5)
    with pytest.raises(InputError, match="Layers is not a chain of its layers"):
        lesions(Layers(extra=True).eval(), data)


@pytest.mark.parametrize("blocks", [4, 12])
def test_what_lesions_cost(blocks: int) -> None:
    """Of a chain of n equal blocks and nothing else (n + 3) / (2 (n + 1)); the ends add a little."""
    found = lesions(chain(blocks, 0.1, width=64), vectors())
    assert found.cost == pytest.approx((blocks + 3) / (2 * (blocks + 1)), abs=0.03)


def test_lesions_of_resnet56_cost_at_most_three_fifths() -> None:
    net = build("cifar_resnet(depth=56, width=4)", size=(8, 8)).eval()
    found = lesions(net, sample(4, batch=4))
    assert len(found.block) == 27
    assert 0.5 < found.cost < 0.6


def test_shared_beginnings_change_nothing() -> None:
    """Against each variant by itself, whatever begins like another, ends early or is there twice."""
    net, data = network(), sample(20, batch=8)
    links = chain_of(net)
    variants: list[Variant] = [
        links.without([]), links.without([1, 3]), links.without([1]), links.without([0, 5]), links.without([]),
        tuple((i, "whole") for i in (1, 0, 2, 3, 4, 5)), tuple((i, "whole") for i in (0, 0, 1, 2, 3, 4, 5)),
    ]  # fmt: skip
    together = evaluate_variants(net, data, variants)
    for i, variant in enumerate(variants):
        alone = evaluate_variants(net, data, [variant])
        assert together.loss[i] == pytest.approx(alone.loss[0], rel=1e-6)
        assert together.error[i] == alone.error[0]
        assert alone.cost == pytest.approx(1)
    assert together.cost < 0.8


def test_fused_kernels_give_the_same() -> None:
    net, data = network(), sample()
    data = Sample(data.x.contiguous(memory_format=torch.channels_last), data.labels, data.batch)
    plain = lesions(net, data)
    fused = lesions(net.fuse(), data)
    assert fused.loss == pytest.approx(plain.loss, rel=1e-4)
    net = build("cifar_resnet(depth=14)", size=(32, 32)).to(memory_format=torch.channels_last).eval()
    wide = torch.randn(4, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    data = Sample(wide, torch.arange(4), batch=4)
    assert lesions(net.fuse(), data).cost == lesions(net.fuse(False), data).cost


def test_progress_is_told() -> None:
    told: list[float] = []
    lesions(network(), sample(30, batch=10), tick=told.append)
    assert told == pytest.approx([1 / 3, 2 / 3, 1])


def test_many_blocks_at_random() -> None:
    net, data = network(), sample()
    found = random_deletions(net, data, counts=(1, 2, 6), draws=4)
    assert list(found.deleted) == [0, 1, 2, 6]
    assert list(found.draws) == [1, 4, 4, 1]
    assert found.blocks == 6
    single = lesions(net, data)
    assert found.median[0] == single.whole_error
    assert set(single.error) >= {found.low[1]} or single.error.min() <= found.median[1] <= single.error.max()
    every = evaluate_variants(net, data, [chain_of(net).without(range(6))])
    assert found.median[3] == every.error[0]
    again = random_deletions(net, data, counts=(1, 2, 6), draws=4)
    assert list(again.median) == list(found.median)


def test_all_choices_where_there_are_few() -> None:
    net, data = network(), sample()
    found = random_deletions(net, data, counts=(2,), draws=100)
    links = chain_of(net)
    every = evaluate_variants(net, data, [links.without(gone) for gone in combinations(range(6), 2)])
    assert list(found.draws) == [1, math.comb(6, 2)]
    assert found.median[1] == pytest.approx(float(np.median(every.error)))
    assert found.low[1] == pytest.approx(float(np.quantile(every.error, 0.25)))


def test_silent_blocks_can_all_go() -> None:
    net, data = network(), sample()
    silence(net, *net.named_blocks)
    found = random_deletions(net, data, draws=3)
    assert list(found.deleted) == list(range(7))
    assert set(found.median) == {found.median[0]}


def test_which_counts_are_taken_of_many_blocks() -> None:
    found = random_deletions(chain(27, 0.01), vectors(), draws=1)
    assert found.deleted[0] == 0
    assert list(found.deleted[1:4]) == [1, 2, 3]
    assert found.deleted[-1] == 27
    assert 12 <= len(found.deleted) <= 16


def test_equal_blocks_can_stand_in_any_order() -> None:
    net = chain(6, 0.3)
    found = permutations(net, vectors(), draws=8)
    assert set(found.error) == {found.whole_error}
    assert (found.tau < 1).any()
    assert (found.swaps[0], found.swaps[-1]) == (1, 6)
    assert all(a <= b for a, b in pairwise(found.swaps))


def test_permuted_blocks_are_the_networks_reordered_by_hand() -> None:
    net, data = network("cifar_resnet(depth=14, width=4)"), sample()
    found = permutations(net, data, draws=5, seed=1)
    # Only the first stage has two blocks of one shape: an odd number of swaps turns them round.
    turned = edit.reordered(net, 1, [1, 0])
    for swaps, tau, error in zip(found.swaps, found.tau, found.error, strict=True):
        assert error == pytest.approx(error_of(turned if swaps % 2 else net, data))
        assert tau == pytest.approx(1 - 2 / math.comb(6, 2) if swaps % 2 else 1)


def test_effective_depth_counts_the_blocks_that_do_something() -> None:
    net, data = network("cifar_resnet(depth=20, width=4)"), sample()
    silent = [name for name in net.named_blocks if not name.endswith(".0")]
    silence(net, *silent)
    with torch.no_grad():  # sure of itself, and right: whatever else is missed costs something
        net.fc.weight.mul_(50)
    data = Sample(data.x, logits(net, data).argmax(1), data.batch)
    found = effective_depth(net, data, points=0)
    assert found.error[0] == 0
    assert set(found.block[1:7]) == set(silent)
    assert list(found.error[:7]) == [found.error[0]] * 7
    assert found.needed <= 3
    assert len(found.error) == 10
    single = lesions(net, data)
    assert effective_depth(net, data, points=100, found=single).needed == 0


def test_bad_input() -> None:
    net, data = network(), sample()
    with pytest.raises(InputError, match="has 6 blocks that can be deleted, got 7 to delete; give numbers from 1 to 6"):
        random_deletions(net, data, counts=(7,))
    with pytest.raises(InputError, match="1 draw or more, got 0"):
        random_deletions(net, data, draws=0)
    with pytest.raises(InputError, match="1 draw or more, got 0"):
        permutations(net, data, draws=0)
    with pytest.raises(InputError, match="no two blocks of one shape in a stage"):
        permutations(network("cifar_resnet(depth=8, width=4)"), data)
    shrinking = Network(build("cifar_plain(depth=8, width=4)", size=(8, 8)).spec)
    spec = shrinking.spec.model_copy(update={"stages": shrinking.spec.stages[1:]})
    only = build(spec.model_copy(update={"name": "short"})).eval()
    with pytest.raises(InputError, match="'short' has no block that can be deleted"):
        lesions(only, data)


def test_bf16_is_near_fp32() -> None:
    net = network()
    exact, rough = lesions(net, sample()), lesions(net, sample(precision="bf16"))
    assert rough.loss == pytest.approx(exact.loss, rel=0.05)
    with opened(net):
        assert net.conv1.weight.dtype == torch.float32
