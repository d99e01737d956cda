"""The papers' networks for ImageNet."""

from typing import Literal, Unpack

from reslab.errors import InputError
from reslab.nets.families import FINAL, Common, ShortcutOption, network, with_drop_path
from reslab.nets.spec import (
    Basic,
    Block,
    Bottleneck,
    Branch,
    ConvStem,
    Identity,
    Init,
    NetSpec,
    NoShortcut,
    Order,
    Projection,
    Shortcut,
    ZeroPad,
)

HE2015 = "He, Zhang, Ren, Sun 2015, arXiv 1512.03385, Table 1"
HE2016 = "He, Zhang, Ren, Sun 2016, arXiv 1603.05027, section 5"
XIE2016 = "Xie, Girshick, Dollar, Tu, He 2016, arXiv 1611.05431, Table 1"
ZAGORUYKO2016 = "Zagoruyko, Komodakis 2016, arXiv 1605.07146, Table 8"
TONG_HE2018 = "He, Zhang, Zhang, Zhang, Xie, Li 2018, arXiv 1812.01187, Fig. 2"

STAGES = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
"""Blocks of the four stages (He 2015, Table 1; 200: He 2016, section 5); bottlenecks from 50 on."""


def imagenet_resnet(
    depth: int,
    *,
    shortcut: ShortcutOption | Literal["none"] = "B",
    stride_on: Literal["first", "middle"] = "middle",
    stem: Literal["7x7", "deep"] = "7x7",
    downsample: Literal["stride", "pool"] = "stride",
    order: Order = "original",
    groups: int = 1,
    width_per_group: int = 64,
    drop_path: float = 0.0,
    cite: str = HE2015,
    **common: Unpack[Common],
) -> NetSpec:
    """The network of 18, 34, 50, 101, 152 or 200 layers for ImageNet (He 2015, Table 1).

    ``shortcut``: none (plain), A, B or C. ``stride_on``: first (the paper's 1x1, "v1") or middle (the 3x3,
    "v1.5", ResNet-B). ``stem``: deep is ResNet-C's three 3x3. ``downsample``: pool is ResNet-D's average
    before the projection. ``groups`` and ``width_per_group``: ResNeXt and wide networks.
    """
    if depth not in STAGES:
        raise InputError(f"an ImageNet network has depth {', '.join(map(str, STAGES))}, got {depth}")
    if shortcut not in ("none", "A", "B", "C"):
        raise InputError(f"shortcut options are A, B, C (He 2015, section 3.3) or none, got {shortcut!r}")
    expansion = 1 if depth < 50 else 4
    pre = order.endswith("preactivation")
    stages = []
    before = 64
    for stage, count in enumerate(STAGES[depth]):
        planes = 64 * 2**stage
        after = planes * expansion
        blocks = []
        for i in range(count):
            stride = 2 if stage > 0 and i == 0 else 1
            changes = stride != 1 or before != after
            branch: Branch = Basic()
            if expansion == 4:
                inner = planes * width_per_group // 64 * groups
                branch = Bottleneck(inner=inner, groups=groups, stride_on=stride_on)
            blocks.append(
                Block(
                    branch=branch,
                    width=after,
                    stride=stride,
                    shortcut=_shortcut(shortcut, changes, pool=downsample == "pool", norm=not pre),
                    order=order,
                    preactivated_shortcut=pre and changes and shortcut != "none",
                )
            )
            before = after
        stages.append(tuple(blocks))
    return network(
        f"imagenet_resnet(depth={depth})",
        common,
        size=(224, 224),
        num_classes=1000,
        stem=_stem(stem, norm=not pre),
        stages=with_drop_path(tuple(stages), drop_path),
        final=FINAL.get(order, "none"),
        init=Init(fan="out"),
        cite=cite,
    )


def _shortcut(option: str, changes: bool, *, pool: bool, norm: bool) -> Shortcut:
    if option == "none":
        return NoShortcut()
    if option != "C" and not changes:
        return Identity()
    return ZeroPad(zeros="end") if option == "A" else Projection(norm=norm, pool=pool)


def _stem(kind: str, *, norm: bool) -> ConvStem:
    if kind == "deep":
        return ConvStem(width=64, kernel=3, stride=2, before=(32, 32), norm=norm, pool=True)
    return ConvStem(width=64, kernel=7, stride=2, norm=norm, pool=True)
