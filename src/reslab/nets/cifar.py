"""The papers' networks for images of 32 pixels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Unpack

from reslab.errors import InputError
from reslab.nets.families import Common, network
from reslab.nets.spec import (
    Basic,
    Block,
    Bottleneck,
    Branch,
    Conv,
    Conv1x1,
    ConvStem,
    Drop,
    Dropout,
    ExclusiveGate,
    Identity,
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
    WhiteningStem,
    ZeroPad,
)

HE2015 = "He, Zhang, Ren, Sun 2015, arXiv 1512.03385, section 4.2"
HE2016 = "He, Zhang, Ren, Sun 2016, arXiv 1603.05027"
XIE2016 = "Xie, Girshick, Dollar, Tu, He 2016, arXiv 1611.05431, section 4.4"
ZAGORUYKO2016 = "Zagoruyko, Komodakis 2016, arXiv 1605.07146"
SRIVASTAVA2015 = "Srivastava, Greff, Schmidhuber 2015, arXiv 1507.06228"
JORDAN2024 = "Jordan 2024, arXiv 2404.00498, with shortcuts"
SIMONYAN2014 = "Simonyan, Zisserman 2014, arXiv 1409.1556, configuration D, with BN, for CIFAR"

ShortcutOption = Literal["A", "B", "C"]
Skip = Literal["identity", "constant-scaling", "exclusive-gating", "shortcut-only-gating", "conv1x1", "dropout"]


def blocks_per_stage(depth: Any, layers: int, rest: int, what: str) -> int:
    """n of a depth of ``layers * n + rest``; any other depth is an `InputError` that names the nearest."""
    if type(depth) is not int:
        raise InputError(f"a depth is a whole number of layers, got {depth!r}")
    least = layers + rest
    if depth < least or (depth - rest) % layers:
        low = max(least, layers * ((depth - rest) // layers) + rest)
        raise InputError(f"{what} has depth {layers}n+{rest}, got depth {depth}; try {low} or {low + layers}")
    return int(depth - rest) // layers


def three_widths(width: Any) -> tuple[int, int, int]:
    """Widths of the three stages: given, or doubling from the first."""
    if isinstance(width, int):
        return (width, 2 * width, 4 * width)
    if not isinstance(width, tuple | list) or len(width) != 3:
        raise InputError(f"width is one number, or three for the three stages, got {width!r}")
    return (width[0], width[1], width[2])


@dataclass(frozen=True)
class Place:
    """Where in a network a block stands, as far as its maker must know."""

    before: int
    """channels that come in"""
    after: int
    """channels that leave"""
    stride: int
    first: bool
    """whether it is the network's first block"""

    @property
    def changes(self) -> bool:
        """Whether the shape that leaves is not the one that came in."""
        return self.before != self.after or self.stride != 1


def stack_stages(
    widths: Sequence[int], n: int, stem: int, make: Callable[[Place], Block]
) -> tuple[tuple[Block, ...], ...]:
    """Stages of n blocks each, the first block of every stage but the first with stride 2."""
    stages = []
    before = stem
    for stage, after in enumerate(widths):
        blocks = []
        for i in range(n):
            place = Place(before, after, stride=2 if stage > 0 and i == 0 else 1, first=stage == i == 0)
            blocks.append(make(place))
            before = after
        stages.append(tuple(blocks))
    return tuple(stages)


def with_drop_path(stages: tuple[tuple[Block, ...], ...], rate: float) -> tuple[tuple[Block, ...], ...]:
    """Stochastic depth that grows linearly to ``rate`` at the last block (Huang et al. 2016, eq. 4)."""
    if not rate:
        return stages
    total = sum(len(stage) for stage in stages)
    numbers = iter(range(1, total + 1))
    return tuple(
        tuple(block.model_copy(update={"drop_path": rate * next(numbers) / total}) for block in stage)
        for stage in stages
    )


def _same_shape(skip: Skip, gate_bias: float, scales: tuple[float, float], rate: float) -> Shortcut:
    """What stands where the identity stood (He 2016, Table 1). ``scales``: of shortcut and residual."""
    match skip:
        case "identity":
            return Identity()
        case "constant-scaling":
            return Scale(shortcut=scales[0], residual=scales[1])
        case "exclusive-gating":
            return ExclusiveGate(bias=gate_bias)
        case "shortcut-only-gating":
            return ShortcutGate(bias=gate_bias)
        case "conv1x1":
            return Conv1x1()
        case "dropout":
            return Dropout(rate=rate)
    raise InputError(f"skip is one of identity, constant-scaling, exclusive-gating, ..., got {skip!r}")


def _zero_pad(option: Any, zeros: Any) -> ZeroPad:
    """The padding of option A, once option and zeros are known to agree."""
    if option not in ("A", "B", "C"):
        raise InputError(f"shortcut options are A, B and C (He 2015, section 3.3), got {option!r}")
    pad = ZeroPad(zeros=zeros)
    if zeros != "both" and option != "A":
        raise InputError(f"zeros are padded by option A alone; with shortcut {option!r} leave out zeros={zeros!r}")
    return pad


def _residual_block(
    place: Place,
    *,
    branch: Branch,
    option: ShortcutOption = "B",
    pad: ZeroPad | None = None,
    same: Shortcut | None = None,
    order: Order = "original",
    preactivate_first: bool = False,
) -> Block:
    """A block with the shortcut that its shapes and its order ask for; ``same`` where the shape stays."""
    pre = order.endswith("preactivation")
    projection = Projection(norm=not pre)
    shortcut: Shortcut
    if option == "C":
        shortcut = projection
    elif not place.changes:
        shortcut = same or Identity()
    else:
        shortcut = pad if option == "A" and pad is not None else projection
    return Block(
        branch=branch,
        width=place.after,
        stride=place.stride,
        shortcut=shortcut,
        order=order,
        preactivated_shortcut=pre and (place.changes or (place.first and preactivate_first)),
    )


FINAL: dict[str, Literal["none", "activation", "norm-activation"]] = {
    "relu-only-preactivation": "activation",
    "full-preactivation": "norm-activation",
}
"""What stands behind the last block, by order; nothing for the others."""


def cifar_resnet(
    depth: int,
    *,
    shortcut: ShortcutOption = "A",
    zeros: Literal["both", "end"] = "both",
    order: Order = "original",
    skip: Skip = "identity",
    gate_bias: float = -6.0,
    scales: tuple[float, float] = (0.5, 0.5),
    dropout: float = 0.5,
    drop_path: float = 0.0,
    width: int | tuple[int, int, int] = 16,
    **common: Unpack[Common],
) -> NetSpec:
    """The residual network of 6n+2 layers for 32-pixel images (He 2015, section 4.2).

    ``shortcut``: A pads zeros where the shape changes (the paper's choice on CIFAR), B projects there,
    C projects everywhere. ``order``: of the activations (He 2016, Fig. 4). ``skip``: what replaces the
    identity (He 2016, Table 1), with ``gate_bias``, ``scales`` (of shortcut and residual) and ``dropout``
    for the kinds that have them. ``drop_path``: stochastic depth at the last block, growing linearly.
    ``width``: channels of the first stage (doubled at each next), or of all three.
    """
    pad = _zero_pad(shortcut, zeros)
    n = blocks_per_stage(depth, 6, 2, "a CIFAR network of basic blocks (He 2015, section 4.2)")
    widths = three_widths(width)
    same = _same_shape(skip, gate_bias, scales, dropout)

    def make(place: Place) -> Block:
        return _residual_block(
            place, branch=Basic(), option=shortcut, pad=pad, same=same, order=order, preactivate_first=True
        )

    return network(
        f"cifar_resnet(depth={depth})",
        common,
        stem=ConvStem(width=widths[0], norm=not order.endswith("preactivation")),
        stages=with_drop_path(stack_stages(widths, n, widths[0], make), drop_path),
        final=FINAL.get(order, "none"),
        cite=HE2015 if order == "original" and skip == "identity" else HE2016,
    )


def cifar_plain(
    depth: int,
    *,
    width: int | tuple[int, int, int] = 16,
    **common: Unpack[Common],
) -> NetSpec:
    """The plain twin: the same layers without shortcuts, as many parameters as option A."""
    n = blocks_per_stage(depth, 6, 2, "a CIFAR network of basic blocks (He 2015, section 4.2)")
    widths = three_widths(width)
    return network(
        f"cifar_plain(depth={depth})",
        common,
        stem=ConvStem(width=widths[0]),
        stages=stack_stages(
            widths, n, widths[0], lambda at: Block(width=at.after, stride=at.stride, shortcut=NoShortcut())
        ),
        cite=HE2015,
    )


def cifar_bottleneck(
    depth: int,
    *,
    order: Order = "original",
    width: int | tuple[int, int, int] = 16,
    drop_path: float = 0.0,
    **common: Unpack[Common],
) -> NetSpec:
    """The bottleneck network of 9n+2 layers (He 2016, ResNet-164 and ResNet-1001). ``width``: of the 3x3 layers."""
    n = blocks_per_stage(depth, 9, 2, "a CIFAR network of bottlenecks (He 2016)")
    inner = three_widths(width)

    def make(place: Place) -> Block:
        # As in the authors' code, the first 1x1 strides.
        branch = Bottleneck(inner=place.after // 4, stride_on="first")
        return _residual_block(place, branch=branch, order=order, preactivate_first=True)

    return network(
        f"cifar_bottleneck(depth={depth})",
        common,
        stem=ConvStem(width=inner[0], norm=not order.endswith("preactivation")),
        stages=with_drop_path(stack_stages([4 * w for w in inner], n, inner[0], make), drop_path),
        final=FINAL.get(order, "none"),
        cite=HE2016,
    )


def cifar_wide(
    depth: int,
    factor: int,
    *,
    dropout: float = 0.0,
    **common: Unpack[Common],
) -> NetSpec:
    """The wide residual network WRN-depth-factor of 6n+4 layers (Zagoruyko 2016, Table 1)."""
    n = blocks_per_stage(depth, 6, 4, "a wide residual network (Zagoruyko 2016)")

    def make(place: Place) -> Block:
        return _residual_block(place, branch=Basic(dropout=dropout), order="full-preactivation")

    return network(
        f"cifar_wide(depth={depth}, factor={factor})",
        common,
        stem=ConvStem(width=16, norm=False),
        stages=stack_stages([16 * factor, 32 * factor, 64 * factor], n, 16, make),
        final="norm-activation",
        cite=ZAGORUYKO2016,
    )


def cifar_resnext(
    depth: int,
    cardinality: int,
    base_width: int,
    **common: Unpack[Common],
) -> NetSpec:
    """ResNeXt-depth, cardinality x base_width d, of 9n+2 layers (Xie 2016, section 4.4)."""
    n = blocks_per_stage(depth, 9, 2, "a CIFAR ResNeXt (Xie 2016, section 4.4)")

    def make(place: Place) -> Block:
        branch = Bottleneck(inner=cardinality * base_width * place.after // 256, groups=cardinality)
        return _residual_block(place, branch=branch)

    return network(
        f"cifar_resnext(depth={depth}, cardinality={cardinality}, base_width={base_width})",
        common,
        stem=ConvStem(width=64),
        stages=stack_stages([256, 512, 1024], n, 64, make),
        cite=XIE2016,
    )


def cifar_vgg(**common: Unpack[Common]) -> NetSpec:
    """VGG-16 with BN for 32-pixel images: 13 convolutions, then one last layer; the non-residual network of lesions.

    Each convolution is a block, so that it can be removed by itself.
    """
    stages = []
    for stage, (width, convs) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        blocks = []
        for i in range(convs):
            pool: tuple[Layer, ...] = (MaxPool(),) if stage > 0 and i == 0 else ()
            if stage == 0 and i == 0:
                continue  # the stem
            branch = Stack(layers=(*pool, Conv(width=width)))
            blocks.append(Block(branch=branch, width=width, stride=2 if pool else 1, shortcut=NoShortcut()))
        stages.append(tuple(blocks))
    return network(
        "cifar_vgg()",
        common,
        stem=ConvStem(width=64),
        stages=tuple(stages),
        cite=SIMONYAN2014,
    )


def cifar_highway(
    widths: tuple[int, int, int] = (32, 80, 128),
    gated: tuple[int, int, int] = (4, 5, 5),
    *,
    gate_bias: float = -2.0,
    dropout: float = 0.2,
    gates: bool = True,
    **common: Unpack[Common],
) -> NetSpec:
    """A Highway network: in each stage a plain convolution, then ``gated`` layers y = H g + x (1 - g).

    Without ``gates`` the same layers one after the other, y = H: what the paper compares with.

    Widths, the gates' bias and dropout of the 19-layer network are those of the authors' own definition for
    Caffe (Srivastava 2015). The paper gives 1.25 million parameters for its 32 layers but not their widths:
    ``highway32`` has the 19-layer network's in the same proportions, 1.26 million. No BN.
    """

    def highway(width: int) -> Block:
        if not gates:
            return Block(branch=Stack(layers=(Conv(width=width),)), width=width, shortcut=NoShortcut())
        return Block(
            branch=Stack(layers=(Conv(width=width),)),
            width=width,
            shortcut=ExclusiveGate(bias=gate_bias, kernel=3),
            order="relu-before-addition",
        )

    stages = []
    for stage, (width, count) in enumerate(zip(widths, gated, strict=True)):
        blocks = [highway(width) for _ in range(count)]
        if stage > 0:
            layers: tuple[Layer, ...] = (MaxPool(), Drop(rate=dropout), Conv(width=width))
            enter = Block(branch=Stack(layers=layers), width=width, stride=2, shortcut=NoShortcut())
            blocks.insert(0, enter)
        stages.append(tuple(blocks))
    num_classes = common.get("num_classes", 10)
    leave = Block(branch=Stack(layers=(Conv(width=num_classes, kernel=1),)), width=num_classes, shortcut=NoShortcut())
    stages[-1] = (*stages[-1], leave)
    return network(
        f"cifar_highway(widths={widths}, gated={gated})",
        common,
        stem=ConvStem(width=widths[0], dropout=dropout),
        stages=tuple(stages),
        dropout=dropout,
        norm=None,
        cite=SRIVASTAVA2015,
    )


STEMS: dict[str, WhiteningStem] = {
    "2x2": WhiteningStem(width=24, kernel=2),
    "4x4": WhiteningStem(width=64, kernel=4, stride=2, padding=1),
}
"""Patches that the whitening stem of `cifar_fast` sees: every pixel's, or every other pixel's."""


def cifar_fast(
    widths: tuple[int, ...] = (64, 128, 256),
    blocks: tuple[int, ...] = (1, 1, 1),
    *,
    convs: int = 1,
    stem: Literal["2x2", "4x4"] = "2x2",
    shortcut: Literal["identity", "none"] = "identity",
    logit_scale: float = 1 / 64,
    **common: Unpack[Common],
) -> NetSpec:
    """A shallow, wide residual network for training in minutes, after the record holders on CIFAR-10.

    Each stage is a convolution that widens, with a max pool behind it, and residual blocks of ``convs``
    convolutions. Whitening stem, pools before BN, BN without scale and the scaled logits are those of airbench94
    (Jordan 2024, arXiv 2404.00498), which is not residual; the order of pools and shortcuts is that of ResNet-9
    (Page 2018, "How to train your ResNet"). With patches of 4x4 the stem halves the size, and the first stage not.
    """
    if len(widths) != len(blocks):
        raise InputError(f"cifar_fast takes as many widths as numbers of blocks, got {len(widths)} and {len(blocks)}")
    if convs < 1 or any(count < 0 for count in blocks):
        raise InputError(f"cifar_fast takes one or more convs and no negative blocks, got convs={convs}, {blocks=}")
    if stem not in STEMS:
        raise InputError(f"stem is one of {', '.join(STEMS)}, got {stem!r}")
    if shortcut not in ("identity", "none"):
        raise InputError(f"shortcut is identity or none, got {shortcut!r}")
    stages = []
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        pool = 1 if stage == 0 and STEMS[stem].stride > 1 else 2
        enter = Block(
            branch=Stack(layers=(Conv(width=width, pool=pool),)), width=width, stride=pool, shortcut=NoShortcut()
        )
        residual = Block(
            branch=Stack(layers=(Conv(width=width),) * convs),
            width=width,
            shortcut=Identity() if shortcut == "identity" else NoShortcut(),
        )
        stages.append((enter, *(residual,) * count))
    return network(
        f"cifar_fast(widths={widths}, blocks={blocks})",
        common,
        stem=STEMS[stem],
        stages=tuple(stages),
        pool="max",
        norm=Norm(scale=False, momentum=0.4),
        logit_scale=logit_scale,
        activation="gelu",
        cite=JORDAN2024,
    )
