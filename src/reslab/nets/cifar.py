"""The papers' networks for images of 32 pixels."""

from typing import Any, Literal, Unpack

from reslab.errors import InputError
from reslab.nets.families import (
    FINAL,
    Common,
    Place,
    ShortcutOption,
    blocks_per_stage,
    network,
    stack_stages,
    three_widths,
    with_drop_path,
)
from reslab.nets.spec import (
    Basic,
    Block,
    Bottleneck,
    Branch,
    Conv1x1,
    ConvStem,
    Dropout,
    ExclusiveGate,
    Identity,
    NetSpec,
    NoShortcut,
    Order,
    Projection,
    Scale,
    Shortcut,
    ShortcutGate,
    ZeroPad,
)

HE2015 = "He, Zhang, Ren, Sun 2015, arXiv 1512.03385, section 4.2"
HE2016 = "He, Zhang, Ren, Sun 2016, arXiv 1603.05027"
XIE2016 = "Xie, Girshick, Dollar, Tu, He 2016, arXiv 1611.05431, section 5.3"
ZAGORUYKO2016 = "Zagoruyko, Komodakis 2016, arXiv 1605.07146"

Skip = Literal["identity", "constant-scaling", "exclusive-gating", "shortcut-only-gating", "conv1x1", "dropout"]


def _same_shape(skip: Skip, gate_bias: float, scales: tuple[float, float], rate: float) -> Shortcut:
    """The shortcut that replaces the identity (He 2016, Table 1). ``scales``: of shortcut and branch."""
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
    """ResNeXt-depth, cardinality x base_width d, of 9n+2 layers (Xie 2016, section 5.3)."""
    n = blocks_per_stage(depth, 9, 2, "a CIFAR ResNeXt (Xie 2016, section 5.3)")

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
