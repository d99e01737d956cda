"""A network in words: the steps are those that the modules take, the brackets those of the papers' tables."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from reslab.nets import layers as modules
from reslab.nets.catalog import CATALOG, resolve
from reslab.nets.cost import cost
from reslab.nets.describe import Kind, describe, ten_to_the, where
from reslab.nets.flow import Step, Steps, flow, layers
from reslab.nets.network import Network
from reslab.nets.spec import (
    Basic,
    Block,
    Bottleneck,
    Conv,
    Conv1x1,
    ConvStem,
    Dense,
    DenseStem,
    Drop,
    Dropout,
    ExclusiveGate,
    Identity,
    MaxPool,
    NetSpec,
    Norm,
    NoShortcut,
    Order,
    Projection,
    Scale,
    Shortcut,
    ShortcutGate,
    Stack,
    ZeroPad,
)

ORDERS: tuple[Order, ...] = (
    "original",
    "bn-after-addition",
    "relu-before-addition",
    "relu-only-preactivation",
    "full-preactivation",
)

# --- the steps against the modules ---------------------------------------------------------------------------------

CALLED: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.Conv2d, "conv"),
    (nn.Linear, "fc"),
    (nn.BatchNorm1d, "norm"),
    (nn.BatchNorm2d, "norm"),
    (nn.ReLU, "act"),
    (nn.MaxPool2d, "pool"),
    (nn.AvgPool2d, "pool"),
    (nn.Dropout, "drop"),
    (modules.DropPath, "drop"),
    (nn.Sigmoid, "sigmoid"),
    (modules.Pad, "pad"),
    (modules.Add, "+"),
)


def called(spec: NetSpec) -> dict[str, list[str]]:
    """What the first block of a network calls, in its order: on the main path, on the shortcut, in the gate."""
    net = Network(spec).train()
    block = net.blocks[0]
    seen: dict[str, list[str]] = {"main": [], "shortcut": [], "gate": []}
    for name, module in block.named_modules():
        where_to = {"downsample": "shortcut", "gate": "gate"}.get(name.partition(".")[0], "main")
        kind = next((kind for of, kind in CALLED if isinstance(module, of)), None)
        if kind is not None:
            module.register_forward_hook(lambda *_, k=kind, w=where_to: seen[w].append(k))
    net(torch.randn(4, spec.in_channels, *spec.size))
    return seen


def kinds_of(steps: Steps | None) -> list[str]:
    return [step.kind for step in steps or () if step.kind != "times"]  # a product has no module


def network(block: Block, stem: int, **more: Any) -> NetSpec:
    return NetSpec(name="one", stem=ConvStem(width=stem), stages=((block,),), size=(8, 8), **more)


SHORTCUTS: dict[str, Shortcut] = {
    "none": NoShortcut(),
    "identity": Identity(),
    "scale": Scale(shortcut=0.5, residual=0.7),
    "exclusive": ExclusiveGate(kernel=3),
    "shortcut-only": ShortcutGate(),
    "conv1x1": Conv1x1(),
    "dropout": Dropout(),
    "projection": Projection(),
    "bare": Projection(norm=False),
    "pooled": Projection(pool=True),
    "pad": ZeroPad(),
}
BRANCHES: dict[str, Callable[[int, int], Basic | Bottleneck | Stack]] = {
    "basic": lambda width, stride: Basic(dropout=0.1),
    "bottleneck": lambda width, stride: Bottleneck(inner=4, groups=2),
    "stack": lambda width, stride: Stack(
        layers=(
            Drop(rate=0.1),
            Conv(width=6),
            *((MaxPool(),) if stride > 1 else ()),
            Conv(width=width, kernel=1),
            Drop(rate=0.2),
        )
    ),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_the_steps_are_those_of_the_module(order: Order, branch: str, shortcut: str) -> None:
    changes = shortcut in ("projection", "bare", "pooled", "pad")
    width, stride = (8, 2) if changes else (4, 1)
    for preactivated in (False, True) if order.endswith("preactivation") else (False,):
        for norm in (Norm(), None):
            block = Block(
                branch=BRANCHES[branch](width, stride), width=width, stride=stride, shortcut=SHORTCUTS[shortcut],
                order=order, preactivated_shortcut=preactivated, drop_path=0.0 if shortcut == "none" else 0.1,
            )  # fmt: skip
            spec = network(block, 4, norm=norm)
            found, way = called(spec), flow(block, 4, spec)
            addition = ["+"] if way.shortcut is not None else []
            steps = [*kinds_of(way.fork), *kinds_of(way.branch), *addition, *kinds_of(way.after)]
            assert steps == found["main"]
            if shortcut == "pad":
                assert kinds_of(way.shortcut) == ["pad", "pad"]  # subsampling and zeros, one module
            else:
                assert kinds_of(way.shortcut) == found["shortcut"]
            assert kinds_of(way.gate) == found["gate"]
            assert bool(way.fork) == (preactivated and shortcut != "none")


def test_the_steps_of_vectors_and_of_other_activations() -> None:
    block = Block(branch=Stack(layers=(Dense(width=5), Dense(width=7))), width=7, shortcut=Identity())
    spec = NetSpec(name="v", in_channels=3, size=(1, 1), stem=DenseStem(width=7), stages=((block,),))
    way = flow(block, 7, spec)
    assert [step.text for step in way.branch] == ["fc, 5", "BN", "ReLU", "fc, 7", "BN"]
    assert [step.text for step in flow(block, 7, spec.model_copy(update={"activation": "tanh"})).after] == ["tanh"]
    assert flow(block, 7, spec.model_copy(update={"activation": "identity"})).after == ()


def test_what_a_step_says() -> None:
    block = Block(branch=Bottleneck(inner=8, groups=4, dilation=2), width=16, stride=2, shortcut=Projection(pool=True))
    assert [step.text for step in layers(block)] == [
        "1x1 conv, 8",
        "3x3 conv, 8, 4 groups, dilation 2, stride 2",
        "1x1 conv, 16",
    ]
    assert layers(block)[1].row == "3x3, 8, C=4, dilation 2, stride 2"
    assert layers(block)[1].strides
    assert not layers(block)[0].strides
    assert not Step("pool", "3x3 max pool", None, ("stride 1",)).strides
    way = flow(block, 8, network(block, 8))
    assert [step.text for step in way.shortcut or ()] == ["2x2 average pool, stride 2", "1x1 conv, 16", "BN"]


def test_factors_and_gates() -> None:
    def way(shortcut: Shortcut) -> tuple[list[str], list[str], list[str]]:
        block = Block(width=4, shortcut=shortcut)
        found = flow(block, 4, network(block, 4))
        shown = ([step.text for step in steps or ()] for steps in (found.branch, found.shortcut, found.gate))
        branch, side, gate = shown
        return branch[-1:], side, gate

    assert way(Scale(shortcut=0.5, residual=0.7)) == (["× 0.7"], ["× 0.5"], [])
    assert way(Scale(shortcut=0.5)) == (["BN"], ["× 0.5"], [])
    assert way(ExclusiveGate(kernel=3)) == (["× g"], ["× (1 - g)"], ["3x3 conv, 4, bias -6", "sigmoid"])
    assert way(ShortcutGate(bias=0)) == (["BN"], ["× (1 - g)"], ["1x1 conv, 4, bias 0", "sigmoid"])
    assert way(Dropout(rate=0.25)) == (["BN"], ["dropout, p = 0.25"], [])


# --- the network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*CATALOG, "mlp(depth=8)", "mlp(depth=8, residual=False)"])
def test_every_network_is_described(name: str) -> None:
    spec = resolve(name)
    told = describe(spec)
    assert told.cost == cost(spec)
    assert len(told.stages) == len(spec.stages)
    for stage, members, part in zip(told.stages, spec.stages, told.cost.parts[1:], strict=False):
        assert sum(run.count for run in stage.runs) == sum(count for _, count in stage.brackets) == len(members)
        assert (stage.leaving.channels, stage.leaving.size) == (part.out_channels, part.out_size)
        assert stage.cost == part
    assert len({kind.letter for kind in told.kinds}) == len(told.kinds) <= 4
    assert len({kind.title for kind in told.kinds}) == len(told.kinds)
    assert sum(len(names) for _, names in told.shortcuts) == len(spec.blocks)
    # Widths alone make no kind: all blocks of a kind take the same steps.
    used = [run.kind for stage in told.stages for run in stage.runs]
    assert set(map(id, used)) == set(map(id, told.kinds))
    assert told.stages[0].entering == told.kinds[0].entering
    strided = sum(block.stride > 1 for block in spec.blocks)
    assert sum(len(names) for _, names in told.strides) == strided


def test_the_columns_of_table_1() -> None:
    """He 2015, Table 1: output sizes, brackets, how often."""
    told = describe(resolve("resnet50-v1"))
    assert (told.stem_paper, told.stem_rows, told.stem_leaving.pixels) == ("conv1", ("7x7, 64, stride 2",), "112x112")
    first = told.stages[0]
    assert [step.row for step in first.before] == ["3x3 max pool, stride 2"]
    assert [(stage.paper, stage.name, stage.leaving.pixels) for stage in told.stages] == [
        ("conv2_x", "layer1", "56x56"),
        ("conv3_x", "layer2", "28x28"),
        ("conv4_x", "layer3", "14x14"),
        ("conv5_x", "layer4", "7x7"),
    ]
    assert [stage.brackets for stage in told.stages] == [
        ((("1x1, 64", "3x3, 64", "1x1, 256"), 3),),
        ((("1x1, 128", "3x3, 128", "1x1, 512"), 4),),
        ((("1x1, 256", "3x3, 256", "1x1, 1024"), 6),),
        ((("1x1, 512", "3x3, 512", "1x1, 2048"), 3),),
    ]
    assert told.head_rows == ("average pool", "1000-d fc", "softmax")
    thirty_four = describe(resolve("resnet34"))
    assert thirty_four.stages[3].brackets == ((("3x3, 512", "3x3, 512"), 3),)


@pytest.mark.parametrize(
    ("name", "stride", "downsampling"),
    [
        ("resnet50-v1", "first 1x1 conv", "1x1 conv stride 2, BN"),
        ("resnet50", "3x3 conv", "1x1 conv stride 2, BN"),
        ("resnet50d", "3x3 conv", "2x2 average pool stride 2, 1x1 conv, BN"),
        ("resnet34-A", "first 3x3 conv", "subsampling stride 2, zero padding at the end"),
        ("preresnet50", "3x3 conv", "1x1 conv stride 2"),
        ("vgg16-cifar", "2x2 max pool", None),
        ("plain34", "first 3x3 conv", None),
    ],
)
def test_where_a_network_strides(name: str, stride: str, downsampling: str | None) -> None:
    told = describe(resolve(name))
    assert [what for what, _ in told.strides] == [stride]
    assert [what for what, _ in told.downsampling] == ([] if downsampling is None else [downsampling])
    assert told.strides[0][1][0] == "layer2.0"


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("resnet20", ("original (He 2016, Fig. 4a)", "3x3 BN ReLU 3x3 BN + ReLU")),
        ("resnet110-bn-after-addition", ("bn-after-addition (He 2016, Fig. 4b)", "3x3 BN ReLU 3x3 + BN ReLU")),
        ("resnet110-relu-before-addition", ("relu-before-addition (He 2016, Fig. 4c)", "3x3 BN ReLU 3x3 BN ReLU +")),
        (
            "resnet110-relu-only-preactivation",
            ("relu-only-preactivation (He 2016, Fig. 4d)", "ReLU 3x3 BN ReLU 3x3 BN +"),
        ),
        ("preresnet20", ("full-preactivation (He 2016, Fig. 4e)", "BN ReLU 3x3 BN ReLU 3x3 +")),
        ("plain20", ("plain", "3x3 BN ReLU 3x3 BN ReLU")),
        ("highway19", ("relu-before-addition (He 2016, Fig. 4c)", "3x3 ReLU × g +")),
    ],
)  # fmt: skip
def test_the_order_of_activations(name: str, order: tuple[str, str]) -> None:
    assert describe(resolve(name)).orders == (order,)


def kinds(name: str) -> list[tuple[str, str, str]]:
    told = describe(resolve(name))

    def row(kind: Kind) -> tuple[str, str, str]:
        return kind.title, kind.formula, told.places(kind)

    return [row(kind) for kind in told.kinds]


def test_the_kinds_of_block() -> None:
    assert kinds("resnet50d") == [
        ("bottleneck, projection", "F(x) + BN(W x)", "1 in layer1"),
        ("bottleneck, identity", "F(x) + x", "2 in layer1, 3 in layer2, 5 in layer3, 2 in layer4"),
        ("bottleneck, pooled projection, stride 2", "F(x) + BN(W pool(x))", "1 in layer2, 1 in layer3, 1 in layer4"),
    ]
    assert kinds("resnet1202")[0] == (
        "basic block, identity",
        "F(x) + x",
        "200 in layer1, 199 in layer2, 199 in layer3",
    )
    assert kinds("preresnet20")[0] == ("basic block, identity, pre-activated", "F(x) + a(x)", "1 in layer1")
    assert kinds("highway19")[1:] == [
        ("2x2 max pool + dropout + 3x3 conv without shortcut, stride 2", "F(x)", "1 in layer2, 1 in layer3"),
        ("1x1 conv without shortcut", "F(x)", "1 in layer3"),
    ]
    assert kinds("resnet110-constant-scaling")[0][1] == "0.5 F(x) + 0.5 x"
    assert kinds("resnet110-dropout")[0][1] == "F(x) + dropout(x)"
    assert kinds("resnet110-conv1x1")[0][1] == "F(x) + W x"
    assert kinds("resnet110-shortcut-only-gating")[0][1] == "F(x) + (1 - g) x"
    # Option C projects everywhere; where the shape stays, that is another kind.
    assert [title for title, _, _ in kinds("resnet18-C")] == [
        "basic block, projection",
        "basic block, projection, stride 2",
    ]


def test_what_few_networks_have() -> None:
    assert describe(resolve("highway19")).remarks == (
        "no BN; the layers have biases instead",
        "g = sigmoid(3x3 conv of x), initial bias -2",
    )
    assert describe(resolve("preresnet20")).remarks == (
        "a(x): x after the first BN and ReLU, where these shortcuts start",
    )
    told = describe(resolve("cifar_resnet(depth=8, drop_path=0.6)"))
    assert told.remarks == ("stochastic depth: training drops a branch with p = 0.2 to 0.6",)
    assert told.kinds[0].flow.branch[-1].what == "drop path"
    assert describe(resolve("resnet20")).remarks == ()
    assert describe(resolve("preresnet20")).head_rows[0] == "BN, ReLU"
    assert describe(resolve("wrn28-10")).stages[0].brackets == ((("3x3, 160", "3x3, 160"), 4),)
    dropped = describe(resolve("cifar_wide(depth=10, factor=2, dropout=0.3)"))
    assert dropped.stages[0].brackets[0][0] == ("3x3, 32", "dropout, p = 0.3", "3x3, 32")
    assert describe(resolve("resnext29-8x64d")).stages[0].brackets[0][0][1] == "3x3, 512, C=8"


def test_the_size_of_the_images() -> None:
    told = describe(resolve("resnet50"), (64, 96))
    assert str(told.entering) == "3x64x96"
    assert str(told.stem_leaving) == "64x32x48"
    assert str(told.stages[0].entering) == "64x16x24"
    assert str(told.stages[3].leaving) == "2048x2x3"
    assert told.cost == cost(resolve("resnet50"), (64, 96))
    assert str(describe(resolve("mlp(depth=4)")).entering) == "64"


def test_words() -> None:
    assert where(("layer1.0", "layer2.0"), 9) == "2 blocks (layer1.0, layer2.0)"
    assert where(("layer2.0",), 9) == "1 block (layer2.0)"
    assert where(tuple("abcde"), 9) == "5 blocks"
    assert where(("layer1.0", "layer1.1"), 2) == "all blocks"
    assert [ten_to_the(count) for count in (3_857_973_248, 11_281_000_000, 40_551_040, 37_504)] == [
        "3.86 x 10^9",
        "11.3 x 10^9",
        "40.6 x 10^6",
        "37.5 x 10^3",
    ]
