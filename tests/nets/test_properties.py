"""Laws that hold for every network of the grammar: specifications are drawn directly, not through the makers."""

import copy
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from reslab.errors import InputError
from reslab.kernels import conv, pool
from reslab.kernels.build import has, library
from reslab.nets.cifar import cifar_plain, cifar_resnet
from reslab.nets.cost import Cost, cost
from reslab.nets.layers import BatchNorm2d
from reslab.nets.network import Network, build
from reslab.nets.spec import (
    Activation,
    Basic,
    Block,
    Bottleneck,
    Branch,
    Conv,
    Conv1x1,
    ConvStem,
    Dense,
    DenseStem,
    Drop,
    Dropout,
    ExclusiveGate,
    Identity,
    Init,
    Layer,
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
    Stem,
    WhiteningStem,
    ZeroPad,
    branch_layers,
)
from reslab.train.optim import trained

Size = tuple[int, int]
BATCH = 4


def law(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """So many networks, the same ones each time."""
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None)


# --- any network of the grammar --------------------------------------------------------------------------------------

# Half of the networks are as wide as the CIFAR networks' first stage, for which there are kernels of our own.
WIDTHS = st.shared(st.sampled_from(((1, 3, 4, 6, 8, 12), (16, 16, 16, 8)))).flatmap(st.sampled_from)
DILATIONS = st.sampled_from((1, 1, 2))
RATES = st.sampled_from((0.0, 0.0, 0.2, 0.5))
FACTORS = st.floats(-2, 2, allow_nan=False)
ODD = st.sampled_from((1, 3, 5))
FOR_VECTORS = ("none", "identity", "scale", "dropout")
FOR_ANY_SHAPE = ("projection", "zero-pad", "projection", "none")
FOR_ONE_SHAPE = ("identity", "scale", "exclusive-gate", "shortcut-gate", "conv1x1", "dropout")


@st.composite
def shortcuts(draw: st.DrawFn, kind: str) -> Shortcut:
    match kind:
        case "none":
            return NoShortcut()
        case "identity":
            return Identity()
        case "zero-pad":
            return ZeroPad(zeros=draw(st.sampled_from(("both", "end"))))
        case "projection":
            return Projection(norm=draw(st.booleans()), pool=draw(st.booleans()))
        case "scale":
            return Scale(shortcut=draw(FACTORS), residual=draw(FACTORS))
        case "exclusive-gate":
            return ExclusiveGate(bias=draw(FACTORS), kernel=draw(ODD))
        case "shortcut-gate":
            return ShortcutGate(bias=draw(FACTORS), kernel=draw(ODD))
        case "conv1x1":
            return Conv1x1()
    return Dropout(rate=draw(RATES))


@dataclass(frozen=True)
class Place:
    """What a branch has to fit: the shapes around it, and what becomes of its output."""

    before: int
    after: int
    stride: int
    size: Size
    joins: bool
    order: Order
    preactivated: bool

    @property
    def sums_early(self) -> bool:
        """Whether the addition follows the last layer with weights, so that layers behind it work on the sum."""
        return self.joins and self.order in ("original", "bn-after-addition")


def pooled(size: Size, kernel: int, stride: int) -> Size:
    return (size[0] - kernel) // stride + 1, (size[1] - kernel) // stride + 1


def rounded_up(size: Size, stride: int) -> Size:
    """As convolutions and shortcuts have it."""
    return -(-size[0] // stride), -(-size[1] // stride)


@st.composite
def stacks(draw: st.DrawFn, at: Place) -> Stack:
    """Convolutions, pools and dropout in any order that a block takes."""
    convs = draw(st.integers(0 if not at.joins and at.before == at.after else 1, 3))
    others = draw(st.lists(st.sampled_from(("pool", "pool", "drop")), min_size=0 if convs else 1, max_size=3))
    kinds = draw(st.permutations(["conv"] * convs + others))
    if at.joins and at.preactivated:  # a pool before the fork would be the shortcut's too
        first = kinds.index("conv")
        kinds = [kind for i, kind in enumerate(kinds) if kind != "pool" or i > first]
    last = max((i for i, kind in enumerate(kinds) if kind == "conv"), default=-1)
    on_sum = [at.sums_early and i > last for i in range(len(kinds))]
    can_stride = [i for i, kind in enumerate(kinds) if kind == "conv" or (kind == "pool" and not on_sum[i])]
    if not can_stride:
        kinds, can_stride, on_sum = ["pool"], [0], [False]
    strided = draw(st.sampled_from(can_stride))
    layers: list[Layer] = []
    width, size = at.before, at.size
    for i, kind in enumerate(kinds):
        stride = at.stride if i == strided else 1
        if kind == "conv":
            after = at.after if i == last else draw(WIDTHS)
            groups = [1, 1, *(g for g in range(1, 9) if width % g == after % g == 0)]
            # The stride is the convolution's own or its pool's, which rounds sizes down.
            fits = min(size) >= stride and (not at.joins or all(side % stride == 0 for side in size))
            pool = stride if fits and draw(st.sampled_from((True, True, False))) else 1
            layers.append(
                Conv(
                    width=after, kernel=draw(ODD), stride=stride // pool, groups=draw(st.sampled_from(groups)),
                    dilation=draw(DILATIONS), pool=pool,
                )
            )  # fmt: skip
            width, size = after, pooled(size, pool, pool) if pool > 1 else rounded_up(size, stride)
        elif kind == "pool":
            # A pool rounds sizes down; where the branch is added to the shortcut, only one that need not round.
            free = on_sum[i] or not at.joins
            kernels = [k for k in (3, 2, 1) if k <= min(size)]
            kernels = [k for k in kernels if free or pooled(size, k, stride) == rounded_up(size, stride)]
            layers.append(MaxPool(kernel=(kernel := draw(st.sampled_from(kernels))), stride=stride))
            size = pooled(size, kernel, stride)
        else:
            layers.append(Drop(rate=draw(RATES)))
    return Stack(layers=tuple(layers))


@st.composite
def branches(draw: st.DrawFn, at: Place) -> Branch:
    kind = draw(st.sampled_from(("basic", "bottleneck", "stack", "stack")))
    if kind == "basic":
        return Basic(dilation=draw(DILATIONS), dropout=draw(RATES))
    if kind == "bottleneck":
        groups = draw(st.integers(1, 3))
        return Bottleneck(
            inner=groups * draw(st.integers(1, 4)), groups=groups, dilation=draw(DILATIONS),
            stride_on=draw(st.sampled_from(("first", "middle"))),
        )  # fmt: skip
    return draw(stacks(at))


@st.composite
def dense_stacks(draw: st.DrawFn, at: Place) -> Stack:
    least = 0 if not at.joins and at.before == at.after else 1
    widths = [draw(WIDTHS) for _ in range(draw(st.integers(least, 3)))]
    layers: list[Layer] = [Dense(width=width) for width in [*widths[:-1], at.after][: len(widths)]]
    if not layers or draw(st.booleans()):
        layers.insert(draw(st.integers(0, len(layers))), Drop(rate=draw(RATES)))
    return Stack(layers=tuple(layers))


@st.composite
def blocks(draw: st.DrawFn, before: int, size: Size, *, dense: bool, may_stride: bool) -> Block:
    stride = draw(st.sampled_from((2, 2, 3, 1))) if may_stride else 1
    kinds: tuple[str, ...] = FOR_VECTORS
    if not dense:
        kinds = FOR_ANY_SHAPE if stride > 1 or draw(st.booleans()) else FOR_ONE_SHAPE
    kind = draw(st.sampled_from(kinds))
    width = before if kind in FOR_ONE_SHAPE else draw(WIDTHS)
    if kind == "zero-pad":  # which cannot narrow
        width = before + draw(st.sampled_from((0, 1, width)))
    order = draw(st.sampled_from(get_args(Order)))
    preactivated = order.endswith("preactivation") and draw(st.booleans())
    at = Place(before, width, stride, size, joins=kind != "none", order=order, preactivated=preactivated)
    return Block(
        branch=draw(dense_stacks(at) if dense else branches(at)),
        width=width,
        stride=at.stride,
        shortcut=draw(shortcuts(kind)),
        order=order,
        preactivated_shortcut=at.preactivated,
        drop_path=draw(RATES) if at.joins else 0.0,
    )


def pools_in(block: Block) -> bool:
    return any(
        isinstance(layer, MaxPool) or (isinstance(layer, Conv) and layer.pool > 1) for layer in branch_layers(block)
    )


def leaving(size: Size, block: Block) -> Size:
    """The size of what leaves a block."""
    if not isinstance(block.branch, Stack):
        return rounded_up(size, block.stride)
    for layer in block.branch.layers:
        if isinstance(layer, Conv):
            size = pooled(rounded_up(size, layer.stride), layer.pool, layer.pool)
        elif isinstance(layer, MaxPool):
            size = pooled(size, layer.kernel, layer.stride)
    return size


@st.composite
def specs(draw: st.DrawFn, *, dense: bool | None = None) -> NetSpec:
    dense = draw(st.integers(0, 5)) == 0 if dense is None else dense
    nominal = size = draw(st.tuples(st.integers(5, 17), st.integers(5, 17)))
    in_channels = draw(st.integers(1, 4))
    stem: Stem
    if dense:
        stem = DenseStem(width=draw(WIDTHS), norm=draw(st.booleans()))
        nominal = size = (1, 1)
    elif draw(st.integers(0, 3)) == 0:
        kernel = draw(st.integers(1, 4))
        stem = WhiteningStem(
            width=2 * draw(st.integers(1, min(8, in_channels * kernel**2))), kernel=kernel,
            stride=draw(st.integers(1, 2)), padding=draw(st.integers(0, 1)),
        )  # fmt: skip
        size = pooled((size[0] + 2 * stem.padding, size[1] + 2 * stem.padding), kernel, stem.stride)
    else:
        stem = ConvStem(
            width=draw(WIDTHS), kernel=draw(ODD), stride=draw(st.integers(1, 2)), norm=draw(st.booleans()),
            before=tuple(draw(st.lists(WIDTHS, max_size=2))), dropout=draw(RATES), pool=draw(st.booleans()),
        )  # fmt: skip
        size = rounded_up(size, stem.stride * (2 if stem.pool else 1))
    width, halved, stages = stem.width, 1, []
    for blocks_of_stage in draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)):
        stage = []
        for _ in range(blocks_of_stage):
            # As `build` asks: pixels to halve each time that a block strides.
            block = draw(blocks(width, size, dense=dense, may_stride=2 * halved <= min(nominal)))
            width, size, halved = block.width, leaving(size, block), halved * (2 if block.stride > 1 else 1)
            stage.append(block)
        stages.append(tuple(stage))
    zero_gamma = draw(st.booleans())
    norm = Norm(
        eps=draw(st.sampled_from((1e-5, 1e-3))), momentum=draw(st.sampled_from((0.01, 0.1, 1.0))),
        scale=zero_gamma or draw(st.booleans()),
    )  # fmt: skip
    return NetSpec(
        name="drawn",
        in_channels=in_channels,
        size=nominal,
        num_classes=draw(st.integers(1, 12)),
        stem=stem,
        stages=tuple(stages),
        final=draw(st.sampled_from(("none", "activation", "norm-activation"))),
        pool=draw(st.sampled_from(("average", "max"))),
        dropout=draw(RATES),
        logit_scale=draw(st.sampled_from((1.0, 0.125))),
        activation=draw(st.sampled_from(get_args(Activation))),
        norm=draw(st.sampled_from((None, norm, norm, norm))),
        init=Init(fan=draw(st.sampled_from(("in", "out"))), zero_gamma=zero_gamma),
    )


SEEDS = st.integers(0, 2**32 - 1)


def inputs(spec: NetSpec, seed: int = 0, size: Size | None = None) -> Tensor:
    shape = (BATCH, spec.in_channels, *(() if isinstance(spec.stem, DenseStem) else size or spec.size))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def trained_once(net: Network, x: Tensor, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits and gradients of a step in training mode, with the same dropout for the same seed."""
    torch.manual_seed(seed)
    logits = net.train()(x)
    towards = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1)).to(logits.dtype)
    learned = trained(net)
    gradients = torch.autograd.grad(logits, list(learned.values()), towards)
    return logits.detach(), dict(zip(learned, gradients, strict=True))


# --- the laws --------------------------------------------------------------------------------------------------------


@law(60)
@given(spec=specs(), seed=SEEDS)
def test_it_builds_and_trains(spec: NetSpec, seed: int) -> None:
    net = build(spec, seed=seed)
    assert len(net.blocks) == len(spec.blocks)
    logits, gradients = trained_once(net, inputs(spec, seed))  # which fails for a parameter without a gradient
    assert logits.shape == (BATCH, spec.num_classes)
    for name, tensor in (("logits", logits), *gradients.items(), *net.eval().features(inputs(spec, seed)).items()):
        assert tensor.isfinite().all(), name


def test_it_survives_json() -> None:
    """Here too: that what is drawn has everything that the grammar has."""
    seen: set[Any] = set()

    @law(80)
    @given(spec=specs())
    def holds(spec: NetSpec) -> None:
        assert NetSpec.model_validate_json(spec.model_dump_json()) == spec
        assert NetSpec.model_validate(spec.model_dump()) == spec
        seen.update((spec.stem.kind, spec.pool, spec.final, spec.activation, spec.norm is None, spec.init.fan))
        for block in spec.blocks:
            seen.update((block.shortcut.kind, block.order, block.branch.kind, f"stride {block.stride}"))
            seen.update(layer.kind for layer in branch_layers(block))
            seen.update("pooled conv" for layer in branch_layers(block) if isinstance(layer, Conv) and layer.pool > 1)
            if isinstance(block.shortcut, Projection) and block.shortcut.pool and block.stride > 1:
                seen.add("pooled shortcut")
            if block.preactivated_shortcut and block.shortcut.kind != "none":
                seen.add("pre-activated shortcut")

    holds()
    everything = {*FOR_ANY_SHAPE, *FOR_ONE_SHAPE, *get_args(Order), *get_args(Activation), "pooled shortcut"}
    everything |= {"none", "activation", "norm-activation", True, False, "in", "out", "pre-activated shortcut"}
    everything |= {"basic", "bottleneck", "stack", "conv", "dense", "max-pool", "drop", "stride 2", "stride 3"}
    everything |= {"whitening", "pooled conv", "average", "max"}
    assert everything <= seen, everything - seen


def counted(net: Network, x: Tensor) -> tuple[tuple[Cost, ...], tuple[Cost, ...]]:
    """Parts and blocks as a forward pass finds them: what modules were called, with what parameters and outputs."""
    parts = ("stem", *net.stage_names, "head")
    totals: dict[str, Counter[str]] = {name: Counter() for name in (*parts, *net.named_blocks)}
    shapes: dict[str, tuple[int, ...]] = {}

    def watch(name: str, module: nn.Module, *counting: str) -> None:
        def hook(_module: nn.Module, _given: Any, out: Tensor) -> None:
            shapes[name] = tuple(out.shape)
            own = module.parameters(recurse=False)
            found = Counter(params=sum(parameter.numel() for parameter in own if parameter.requires_grad))
            if isinstance(module, nn.Conv2d | nn.Linear):
                found["activations"] = out[0].numel()
                # A number put out takes a multiply-add for each weight that it is made of.
                found["macs"] = out[0].numel() * module.weight[0].numel()
                found["layers"] = int("downsample" not in name and "gate" not in name)
            for part in counting:
                totals[part].update(found)

        module.register_forward_hook(hook)

    for name, module in net.named_modules():
        block = ".".join(name.split(".")[:2])
        if name in totals:
            watch(name, module)
        elif block in totals:
            watch(name, module, block, block.partition(".")[0])
        elif name:
            watch(name, module, "head" if name in ("fc", "bn_last") else "stem")
    shapes["stem"] = tuple(net.features(x)["stem"].shape)
    shapes["head"] = shapes["fc"]

    def costs(*names: str) -> tuple[Cost, ...]:
        found = []
        for name in names:
            _, channels, height, width = (*shapes[name], 1, 1)[:4]
            total = totals[name]
            numbers = (total["params"], total["macs"], total["activations"])
            found.append(Cost(name, total["layers"], channels, (height, width), *numbers))
        return tuple(found)

    return costs(*parts), costs(*net.named_blocks)


@law(60)
@given(spec=specs(), larger=st.integers(0, 9))
def test_it_costs_what_a_forward_pass_counts(spec: NetSpec, larger: int) -> None:
    pools = any(pools_in(block) for block in spec.blocks)
    size = spec.size if pools or spec.size == (1, 1) else (spec.size[0] + larger, spec.size[1])
    with torch.device("meta"):
        net = Network(spec).eval()
    expected = cost(spec, size)
    assert counted(net, inputs(spec, size=size).to("meta")) == (expected.parts, expected.blocks)
    assert expected.params == sum(parameter.numel() for parameter in trained(net).values())
    assert sum(part.layers for part in expected.parts) == spec.depth


@law(60)
@given(spec=specs(), seed=SEEDS)
def test_features_are_the_stages_by_name(spec: NetSpec, seed: int) -> None:
    net, x = build(spec, seed=seed).eval(), inputs(spec, seed)
    features = net.features(x)
    stages = [f"layer{i}" for i in range(1, len(spec.stages) + 1)]
    assert list(features) == ["stem", *stages, "pool", "logits"]
    for part in cost(spec).parts[:-1]:
        pixels = () if isinstance(spec.stem, DenseStem) else part.out_size
        assert features[part.name].shape == (BATCH, part.out_channels, *pixels)
    assert features["pool"].shape == (BATCH, spec.blocks[-1].width)
    assert torch.equal(features["logits"], net(x))
    y = features["stem"]  # each stage is its blocks, one after the other
    for name, module in net.named_blocks.items():
        y = module(y)
        if name == f"{name.split('.')[0]}.{len(getattr(net, name.split('.')[0])) - 1}":
            assert torch.equal(y, features[name.split(".")[0]])


@law(60)
@given(spec=specs(), seed=SEEDS)
def test_checkpointing_changes_nothing(spec: NetSpec, seed: int) -> None:
    plain, kept = build(spec, seed=seed), build(spec, seed=seed).checkpoint_activations()
    x = inputs(spec, seed)
    torch.testing.assert_close(trained_once(kept, x, seed), trained_once(plain, x, seed), rtol=0, atol=0)
    torch.testing.assert_close(kept.state_dict(), plain.state_dict(), rtol=0, atol=0)


def runs(net: Network, x: Tensor, seed: int) -> dict[str, Tensor]:
    """A step in training and a pass in evaluation behind it."""
    logits, gradients = trained_once(net, x, seed)
    with torch.no_grad():
        calm = net.eval()(x)
    found = {"logits": logits, "in evaluation": calm}
    found["gradients"] = torch.cat([gradient.flatten() for gradient in gradients.values()])
    found["statistics"] = torch.cat([buffer.double().flatten() for buffer in (*net.buffers(), torch.zeros(1))])
    return found


def is_smooth(spec: NetSpec) -> bool:
    """Whether a rounding changes the gradient by a rounding: at the kink of a ReLU, or where two pixels are largest
    in a pool, it may change all of it."""
    pools = any(pools_in(block) for block in spec.blocks) or spec.pool == "max"
    pools = pools or (isinstance(spec.stem, ConvStem) and spec.stem.pool)
    return not pools and "relu" not in spec.activation


@pytest.mark.skipif(library() is None, reason="no C++ compiler: there is no fused mode")
def test_the_fused_mode_equals_the_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fused mode is not farther from fp64 than the modules are, by more than a factor."""
    calls: Counter[str] = Counter()

    def count(where: Any, name: str) -> None:
        original = getattr(where, name)

        def counting(*given: Any, **more: Any) -> Any:
            y = original(*given, **more)
            calls[name] += y is not None
            return y

        monkeypatch.setattr(where, name, counting)

    count(BatchNorm2d, "forward_fused")
    count(conv, "conv3x3")
    monkeypatch.setattr(conv, "FEWEST_TILES", 1)
    count(pool, "max_pool")

    @law(60)
    @given(spec=specs(dense=False), seed=SEEDS)
    def holds(spec: NetSpec, seed: int) -> None:
        net = build(spec, seed=seed).to(memory_format=torch.channels_last)
        quick, exact = copy.deepcopy(net).fuse(), copy.deepcopy(net).double()
        x = inputs(spec, seed)
        results = [runs(net, x, seed), runs(quick, x, seed)]
        for what, expected in runs(exact, x.double(), seed).items():
            length = float(torch.linalg.vector_norm(expected)) + 1e-6
            slow, fast = (float(torch.linalg.vector_norm(found[what] - expected)) / length for found in results)
            kinks = 1e-2 if what == "gradients" and not is_smooth(spec) else 0
            assert fast <= 10 * slow + 1e-5 + kinks, (what, slow, fast)

    holds()
    assert calls["forward_fused"] > 100, calls
    assert calls["max_pool"], calls
    assert calls["conv3x3"] or not (has("conv16", torch.float32) or has("winograd", torch.float32)), calls


@law(40)
@given(
    n=st.integers(1, 4),
    width=st.integers(1, 6) | st.lists(st.integers(1, 9), min_size=3, max_size=3).map(sorted),
    size=st.tuples(st.integers(4, 40), st.integers(4, 40)),
    zeros=st.sampled_from(("both", "end")),
    seed=SEEDS,
)
def test_a_plain_network_costs_as_much_as_its_twin(
    n: int, width: int | list[int], size: Size, zeros: Literal["both", "end"], seed: int
) -> None:
    """He 2015, 4.2: option A adds neither parameters nor multiply-adds, so that the comparison is fair."""
    common: dict[str, Any] = {"width": width if isinstance(width, int) else tuple(width), "size": size}
    plain = cifar_plain(6 * n + 2, **common)
    twin = cifar_resnet(6 * n + 2, zeros=zeros, **common)
    assert not plain.is_residual
    assert twin.is_residual
    assert cost(plain) == cost(twin)
    weights = [build(spec, seed=seed).state_dict() for spec in (plain, twin)]
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)


# --- what is no network ----------------------------------------------------------------------------------------------

JUNK: tuple[Any, ...] = (-1, 0, 1, 2, 3, 5, 0.5, math.inf, math.nan, True, None, "", "x", [], {})
SHORTCUTS: list[Any] = [{"kind": kind} for kind in (*FOR_ANY_SHAPE, *FOR_ONE_SHAPE)]
STEMS: list[Any] = [{"kind": "dense", "width": 4}, {"kind": "conv", "width": 4, "stride": 2, "pool": True}]
CHANGES: dict[str, Any] = {
    "kernel": (2, 3, 4),
    "stride": (1, 2, 3),
    "width": (1, 3, 4, 8),
    "groups": (2, 3),
    "order": get_args(Order),
    "shortcut": (math.inf, *SHORTCUTS),
    "branch": [{"kind": "basic"}, {"kind": "bottleneck", "inner": 6, "groups": 3}],
    "preactivated_shortcut": (False, True),
    "size": [[1, 9], [3, 3], [4, 8]],
    "stem": STEMS,
    "bias": (math.nan,),
}
"""What else a field might be, if it were another network."""
BARE: list[Any] = [[], [{"kind": "drop", "rate": 0.1}], [{"kind": "max-pool", "kernel": 1, "stride": 1}]]


def fields(data: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each field of each part of a specification, with the part."""
    if isinstance(data, dict):
        yield from ((key, data) for key in data)
    for value in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        yield from fields(value)


@st.composite
def broken(draw: st.DrawFn) -> dict[str, Any]:
    """The data of a network with a block moved, pooled or laid bare, and fields changed or left out."""
    data: dict[str, Any] = json.loads(draw(specs()).model_dump_json())
    how = draw(st.sampled_from(("as it is", "moved", "pooled", "pooled", "bare")))
    stage = draw(st.sampled_from(data["stages"]))
    block = draw(st.sampled_from(stage))
    if how == "moved":
        stage.remove(block)
        draw(st.sampled_from(data["stages"])).append(block)
    elif how != "as it is":
        layers = draw(st.sampled_from(BARE))
        block["stride"] = 1
        if how == "pooled":
            block["stride"] = draw(st.sampled_from((2, 1, 2, 3)))
            pool = {"kind": "max-pool", "kernel": draw(st.integers(1, 4)), "stride": block["stride"]}
            conv = {"kind": "conv", "width": block["width"]}
            layers = draw(st.permutations((pool, conv)))
        block["branch"] = {"kind": "stack", "layers": layers}
        if draw(st.booleans()):
            block["shortcut"] = draw(st.sampled_from(SHORTCUTS))
    for _ in range(draw(st.sampled_from((1, 1, 2) if how == "as it is" else (0, 0, 0, 1)))):
        parts: dict[str, list[dict[str, Any]]] = {}
        for key, part in fields(data):
            parts.setdefault(key, []).append(part)
        key = draw(st.sampled_from(sorted(parts)))
        part = draw(st.sampled_from(parts[key]))
        part[key] = copy.deepcopy(draw(st.sampled_from([*CHANGES.get(key, JUNK)] if draw(st.booleans()) else JUNK)))
        if draw(st.integers(0, 9)) == 0:
            del part[key]
    return data


@law(150)
@given(data=broken())
def test_what_cannot_be_built_is_refused_and_the_rest_runs(data: dict[str, Any]) -> None:
    try:
        spec = NetSpec.model_validate(data)
        net = build(spec)
    except (ValidationError, InputError) as error:
        event(f"refused by {type(error).__name__}")
        return
    event("runs")
    assert NetSpec.model_validate_json(spec.model_dump_json()) == spec
    x = inputs(spec)
    logits, _ = trained_once(net, x)
    assert logits.shape == (BATCH, spec.num_classes)
    expected = cost(spec)
    with torch.device("meta"):
        network = Network(spec).eval()
    assert counted(network, x.to("meta")) == (expected.parts, expected.blocks)
