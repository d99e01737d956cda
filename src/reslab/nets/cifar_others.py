"""Networks for images of 32 pixels beside the residual family: VGG, Highway, and a shallow one that is quick."""

from typing import Literal, Unpack

from reslab.errors import InputError
from reslab.nets.families import Common, network
from reslab.nets.spec import (
    Block,
    Conv,
    ConvStem,
    Drop,
    ExclusiveGate,
    Identity,
    Layer,
    MaxPool,
    NetSpec,
    Norm,
    NoShortcut,
    Stack,
    WhiteningStem,
)

SRIVASTAVA2015 = "Srivastava, Greff, Schmidhuber 2015, arXiv 1507.06228"
JORDAN2024 = "Jordan 2024, arXiv 2404.00498, with shortcuts"
SIMONYAN2014 = "Simonyan, Zisserman 2014, arXiv 1409.1556, configuration D, with BN, for CIFAR"


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
    (Page 2018, "How to train your ResNet"). With patches of 4x4 the stem halves the size, and the first stage not. Of
    grey images the patches have fewer components, and the stem fewer filters.
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
    filters = STEMS[stem]
    most = 2 * filters.kernel**2 * common.get("in_channels", 3)  # both signs of each component of a patch
    return network(
        f"cifar_fast(widths={widths}, blocks={blocks})",
        common,
        stem=filters.model_copy(update={"width": min(filters.width, most)}),
        stages=tuple(stages),
        pool="max",
        norm=Norm(scale=False, momentum=0.4),
        logit_scale=logit_scale,
        activation="gelu",
        cite=JORDAN2024,
    )
