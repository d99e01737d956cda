"""A specification is plain data that refuses what cannot be built."""

import pytest
from pydantic import ValidationError

from reslab.nets.cifar import cifar_plain, cifar_resnet
from reslab.nets.spec import (
    Block,
    Conv,
    ConvStem,
    Identity,
    NetSpec,
    NoShortcut,
    Projection,
    Shortcut,
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


@pytest.mark.parametrize("shortcut", [NoShortcut(), Projection()])
def test_only_shortcuts_that_can_narrow_do(shortcut: Shortcut) -> None:
    assert net((Block(width=3, stride=2, shortcut=shortcut),)).blocks[0].width == 3


@pytest.mark.parametrize("stages", [(), ((),), ((Block(width=4, shortcut=Identity()),), ())])
def test_an_empty_network_or_stage_is_refused(stages: tuple[tuple[Block, ...], ...]) -> None:
    with pytest.raises(ValidationError, match="at least one"):
        net(*stages)


def test_no_size_below_one_pixel() -> None:
    with pytest.raises(ValidationError, match="size"):
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
