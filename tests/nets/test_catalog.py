"""The papers' networks by name, and what `resolve` makes of what a user types."""

import re
from pathlib import Path
from typing import Any

import pytest

from reslab.errors import InputError
from reslab.nets.catalog import CATALOG, resolve
from reslab.nets.cifar import cifar_plain, cifar_resnet
from reslab.nets.spec import Identity, NoShortcut, Projection, Shortcut, ZeroPad


def kinds(name: str) -> list[type[Shortcut]]:
    return [type(block.shortcut) for block in resolve(name).blocks]


def test_the_papers_depths_are_there() -> None:
    for depth in (20, 32, 44, 56, 110):
        assert resolve(f"plain{depth}").depth == resolve(f"resnet{depth}").depth == depth
    for depth in (18, 34):
        assert resolve(f"plain{depth}").depth == resolve(f"resnet{depth}").depth == depth
    for depth in (50, 101, 152):
        assert resolve(f"resnet{depth}").depth == resolve(f"preresnet{depth}").depth == depth
    for name, depth in (("resnet1202", 1202), ("preresnet164", 164), ("preresnet1001", 1001), ("highway19", 19)):
        assert resolve(name).depth == depth


def test_every_row_says_what_it_is() -> None:
    for name, entry in CATALOG.items():
        assert re.search(r"arXiv \d{4}\.\d{4,5}", entry.cite)
        assert entry.cite
        assert resolve(name).name == name


def test_the_papers_stages() -> None:
    """He 2015, section 4.2: 6n layers, n blocks at 32, 16 and 8 pixels, of 16, 32 and 64 filters."""
    for name in ("plain20", "resnet20"):
        stages = resolve(name).stages
        assert [[block.width for block in stage] for stage in stages] == [[16] * 3, [32] * 3, [64] * 3]
        assert [[block.stride for block in stage] for stage in stages] == [[1] * 3, [2, 1, 1], [2, 1, 1]]
        assert resolve(name).stem.width == 16


def test_shortcut_options() -> None:
    """He 2015, section 3.3: A pads where the shape changes, B projects there, C projects everywhere."""
    assert kinds("cifar_plain(depth=8)") == [NoShortcut] * 3
    assert kinds("cifar_resnet(depth=8)") == [Identity, ZeroPad, ZeroPad]
    assert kinds("cifar_resnet(depth=8, shortcut='B')") == [Identity, Projection, Projection]
    assert kinds("cifar_resnet(depth=8, shortcut='C')") == [Projection] * 3
    for zeros in ("both", "end"):
        padding = resolve(f"cifar_resnet(depth=8, zeros='{zeros}')").blocks[1].shortcut
        assert isinstance(padding, ZeroPad)
        assert padding.zeros == zeros
    default = resolve("resnet20").blocks[3].shortcut
    assert isinstance(default, ZeroPad)
    assert default.zeros == "both"


@pytest.mark.parametrize("depth", [0, -4, 7, 9, 19, 21, 1201])
def test_a_depth_that_is_not_6n_plus_2(depth: int) -> None:
    with pytest.raises(InputError, match=rf"6n\+2.* got depth {depth}; try \d+ or \d+") as caught:
        cifar_resnet(depth)
    for suggestion in str(caught.value).rpartition("try ")[2].split(" or "):
        assert resolve(f"cifar_plain(depth={suggestion})").depth == int(suggestion)


def test_arguments_in_a_name() -> None:
    spec = resolve(" cifar_resnet(depth=38, shortcut='B', width=(8, 12, 20), num_classes=7, activation='tanh') ")
    assert (spec.depth, spec.num_classes, spec.activation) == (38, 7, "tanh")
    assert [stage[0].width for stage in spec.stages] == [8, 12, 20]
    assert spec.name == "cifar_resnet(depth=38, shortcut='B', width=(8, 12, 20), num_classes=7, activation='tanh')"
    assert resolve("resnet20(width=4)").stages[2][0].width == 16
    assert resolve("cifar_resnet(depth=38)") == cifar_resnet(38)
    assert resolve("cifar_plain(depth=38)") == cifar_plain(38)
    assert resolve("resnet20()").blocks == resolve("resnet20").blocks


def test_overrides_win_over_the_name() -> None:
    spec = resolve("resnet20(num_classes=7, in_channels=2)", num_classes=5, size=(8, 9), activation="elu")
    assert (spec.num_classes, spec.in_channels, spec.size, spec.activation) == (5, 2, (8, 9), "elu")
    assert spec.depth == 20


def test_overrides_of_a_specification() -> None:
    spec = cifar_resnet(8)
    assert resolve(spec) is spec
    changed = resolve(spec, num_classes=3, init={"zero_gamma": True})
    assert (changed.num_classes, changed.init.zero_gamma, changed.stages) == (3, True, spec.stages)
    with pytest.raises(InputError, match="shortcut"):
        resolve(spec, shortcut="B")
    with pytest.raises(InputError, match=r"num_classes: .* got 0"):
        resolve(spec, num_classes=0)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("resnet57", "unknown network 'resnet57'; did you mean 'resnet5"),
        ("Plain20", "did you mean 'plain20'"),
        ("cifar_resnt(depth=20)", "did you mean 'cifar_resnet'"),
        ("resnet20(", r"expected a network such as resnet20 .* got 'resnet20\('"),
        ("", "expected a network such as resnet20 .* got ''"),
        ("qqqq", r"known: cifar_bottleneck, .* in all\)"),
        ("resnet20(shortcuts='B')", "no argument 'shortcuts'; did you mean 'shortcut'"),
        ("cifar_plain(depth=20, shortcut='B')", "no argument 'shortcut'"),
        ("cifar_resnet", "needs depth, such as cifar_resnet"),
        ("cifar_resnet(depth='38')", "whole number of layers, got '38'"),
        ("cifar_resnet(depth=38.0)", "whole number of layers, got 38.0"),
        ("resnet20(shortcut='D')", "options are A, B and C .* got 'D'"),
        ("resnet20(width=0)", "width: .*got 0"),
        ("resnet20(width=(16, 32))", r"three for the three stages, got \(16, 32\)"),
        ("resnet20(width=1.5)", "width is one number, .* got 1.5"),
        ("resnet20(width=(64, 32, 16))", r"': layer2\.0: zero-pad cannot go from 64 channels down to 32"),
        ("resnet20(activation='swish')", "activation: .*'relu', .* got 'swish'"),
        ("resnet20(zeros='middle')", "zeros: .* got 'middle'"),
        ("resnet20(num_classes='ten')", "num_classes: .* got 'ten'"),
        ("resnet20(size=8)", "size: .* got 8"),
    ],
)
def test_what_is_wrong_is_said(name: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        resolve(name)
    assert "\n" not in str(caught.value)


def test_a_name_keeps_the_depth_that_it_says() -> None:
    complaint = "'resnet20' has depth=20, got depth=56"
    with pytest.raises(InputError, match=complaint):
        resolve("resnet20(depth=56)")
    with pytest.raises(InputError, match=complaint):
        resolve("resnet20", depth=56)
    assert resolve("resnet20(depth=20)", depth=20).depth == 20


@pytest.mark.parametrize(
    "template",
    [
        "resnet20(width=open({!r}, 'w'))",
        "open({!r}, 'w')",
        "resnet20(**dict(name=open({!r}, 'w')))",
        "(lambda: open({!r}, 'w'))()",
        "resnet20(width=[open({!r}, 'w') for _ in 'a'])",
        "resnet20(open({!r}, 'w'))",
        "__import__('pathlib').Path({!r}).touch()",
        "resnet20(width={{[]: {!r}}})",
        "resnet20(**{{'width': {!r}}})",
    ],
)
def test_only_literals_are_read(template: str, tmp_path: Path) -> None:
    proof = tmp_path / "evaluated"
    with pytest.raises(InputError, match=r"expected a network such as resnet20|unknown network"):
        resolve(template.format(str(proof)))
    assert not proof.exists()


def test_a_maker_called_directly_checks_too() -> None:
    wrong: Any = "D"
    with pytest.raises(InputError, match="options are A, B and C"):
        cifar_resnet(20, shortcut=wrong)


def test_a_maker_called_by_itself_says_what_is_wrong() -> None:
    with pytest.raises(InputError, match=r"network 'cifar_resnet\(depth=20\)': activation: .*got 'rleu'"):
        cifar_resnet(20, activation="rleu")  # type: ignore[arg-type]
