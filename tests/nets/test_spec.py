"""A specification is plain data that refuses what cannot be built."""

import math
from typing import Any

import pytest
from pydantic import ValidationError

from reslab.errors import InputError
from reslab.nets.cifar import cifar_plain, cifar_resnet
from reslab.nets.spec import (
    Block,
    Conv,
    ConvStem,
    ExclusiveGate,
    Identity,
    MaxPool,
    NetSpec,
    NoShortcut,
    Projection,
    Scale,
    Shortcut,
    ShortcutGate,
    Stack,
    ZeroPad,
    branch_layers,
)


def net(*stages: tuple[Block, ...], width: int = 4) -> NetSpec:
    return NetSpec(name="test", stem=ConvStem(width=width), stages=stages)


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        (Block(width=8, shortcut=Identity()), r"layer1\.0: .*identity.* 4 channels to 8 with stride 1"),
        (Block(width=4, stride=2, shortcut=Identity()), r"layer1\.0: .*identity.* 4 channels to 4 with stride 2"),
        (Block(width=3, shortcut=ZeroPad()), r"layer1\.0: zero-pad cannot go from 4 channels down to 3"),
    ],
)
def test_a_shortcut_that_does_not_fit_is_refused(block: Block, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        net((block,))


def test_the_complaint_names_the_block() -> None:
    good, bad = Block(width=4, shortcut=Identity()), Block(width=8, shortcut=Identity())
    with pytest.raises(ValidationError, match=r"layer2\.1"):
        net((good,), (good, bad))


POOL = MaxPool()
BEHIND_BN: dict[str, Any] = {"order": "full-preactivation", "preactivated_shortcut": True}


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"branch": Stack(layers=(POOL,)), "stride": 2}, "beside a shortcut needs a layer with weights"),
        ({"branch": Stack(layers=(POOL, Conv(width=4))), "stride": 2, **BEHIND_BN}, "so no pool can precede them"),
    ],
)
def test_a_branch_that_does_not_fit_its_shortcut_is_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Block(width=4, shortcut=ZeroPad(), **fields)
    Block(width=4, shortcut=NoShortcut(), **fields)


@pytest.mark.parametrize("shortcut", [ZeroPad(), Projection(), Projection(pool=True)])
def test_the_two_ways_to_an_addition_end_in_one_size(shortcut: Shortcut) -> None:
    """A pool rounds an odd size down, a shortcut up; behind the last weights it works on the sum."""
    before, behind = (POOL, Conv(width=4)), (Conv(width=4), POOL)
    for size, layers, order, fits in (
        (8, before, "original", True),
        (9, before, "original", False),
        (8, behind, "original", False),
        (8, behind, "bn-after-addition", False),
        (8, behind, "relu-before-addition", True),
        (9, behind, "relu-before-addition", False),
        (8, behind, "full-preactivation", True),
    ):
        block = Block(
            branch=Stack(layers=layers), width=4, stride=2, shortcut=shortcut, order=order, preactivated_shortcut=False
        )
        fields: dict[str, Any] = {"name": "test", "stem": ConvStem(width=4), "stages": ((block,),), "size": (8, size)}
        if fits:
            assert NetSpec(**fields).size == (8, size)
        else:
            with pytest.raises(ValidationError, match=r"layer1\.0: at the addition the branch has .* the shortcut 4x"):
                NetSpec(**fields)


def test_a_pool_needs_pixels() -> None:
    pools = Block(branch=Stack(layers=(POOL, POOL)), width=4, stride=4, shortcut=NoShortcut())
    assert net((pools, pools)).size == (32, 32)
    with pytest.raises(ValidationError, match=r"layer1\.2: 2x2 pixels are left for a 3x3 max pool"):
        net((pools, pools, Block(branch=Stack(layers=(MaxPool(kernel=3),)), width=4, stride=2, shortcut=NoShortcut())))


@pytest.mark.parametrize("make", [Conv, ConvStem, ExclusiveGate, ShortcutGate])
def test_even_kernels_are_refused(make: Any) -> None:
    """No padding that is the same on both sides keeps the size, so that sums and costs would be of other sizes."""
    fields = {"width": 4} if make in (Conv, ConvStem) else {}
    with pytest.raises(ValidationError, match=r"the kernel size has to be odd, .* try 3 or 5"):
        make(kernel=4, **fields)
    assert make(kernel=5, **fields).kernel == 5


def test_numbers_that_json_cannot_hold_are_refused() -> None:
    for value in (math.inf, math.nan):
        with pytest.raises(ValidationError, match="finite number"):
            Scale(shortcut=value)


@pytest.mark.parametrize("shortcut", [NoShortcut(), Projection()])
def test_only_shortcuts_that_can_narrow_do(shortcut: Shortcut) -> None:
    assert net((Block(width=3, stride=2, shortcut=shortcut),)).blocks[0].width == 3


@pytest.mark.parametrize("stages", [(), ((),), ((Block(width=4, shortcut=Identity()),), ())])
def test_an_empty_network_or_stage_is_refused(stages: tuple[tuple[Block, ...], ...]) -> None:
    with pytest.raises(ValidationError, match="at least one"):
        net(*stages)


def test_no_size_below_one_pixel() -> None:
    with pytest.raises(InputError, match="size"):
        cifar_resnet(20, size=(32, 0))


def test_it_is_frozen_and_knows_its_fields() -> None:
    spec = cifar_resnet(8)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(spec, "name", "other")  # noqa: B010 - the type checker refuses the plain form too
    with pytest.raises(ValidationError, match="dropuot"):
        NetSpec.model_validate({**spec.model_dump(), "dropuot": 0.5})


def test_the_kind_of_a_shortcut_is_kept_in_json() -> None:
    for spec in (cifar_resnet(8, zeros="end"), cifar_resnet(8, shortcut="C"), cifar_plain(8, activation="tanh")):
        assert NetSpec.model_validate_json(spec.model_dump_json()) == spec
    with pytest.raises(ValidationError, match="kind"):
        NetSpec.model_validate_json(cifar_resnet(8).model_dump_json().replace('"identity"', '"highway"', 1))


def test_depth_counts_as_the_paper() -> None:
    for depth in (8, 20, 110):
        assert cifar_resnet(depth, shortcut="C").depth == cifar_plain(depth).depth == depth
    assert cifar_resnet(8).is_residual
    assert not cifar_plain(8).is_residual
    assert len(cifar_resnet(20).blocks) == 9


def test_the_stride_is_in_the_first_convolution() -> None:
    layers = branch_layers(Block(width=8, stride=2, shortcut=NoShortcut()))
    assert layers == (Conv(width=8, kernel=3, stride=2), Conv(width=8, kernel=3, stride=1))
