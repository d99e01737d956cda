"""The parts of a network as plain data: shortcuts, layers, branches, blocks and stems.

A `NetSpec` is made of them; whoever reads networks finds all of it in `reslab.nets.spec`.
"""

import math
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Activation = Literal["relu", "tanh", "elu", "gelu", "silu", "leaky-relu", "identity"]

Order = Literal[
    "original",
    "bn-after-addition",
    "relu-before-addition",
    "relu-only-preactivation",
    "full-preactivation",
]
"""The activation orderings of He 2016, Fig. 4 (a) to (e)."""


Pixels = Annotated[int, Field(ge=1)]
Size = tuple[int, int]
"""Height and width."""


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError(
            f"the kernel size has to be odd, so that padding can keep the size: try {kernel - 1} or {kernel + 1}"
        )
    return kernel


Kernel = Annotated[int, Field(ge=1), AfterValidator(_odd)]
"""Pixels a side of a convolution."""


class Spec(BaseModel):
    """Frozen, and strict about unknown fields and numbers that JSON cannot hold."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# --- shortcuts ---------------------------------------------------------------------------------------------------


class NoShortcut(Spec):
    """A plain network's block: the branch alone."""

    kind: Literal["none"] = "none"


class Identity(Spec):
    """y = F(x) + x (He 2015, eq. 1). Needs equal shapes."""

    kind: Literal["identity"] = "identity"


class ZeroPad(Spec):
    """Option A: x is subsampled by the stride and padded with zero channels; no parameters (He 2015, 3.3)."""

    kind: Literal["zero-pad"] = "zero-pad"
    zeros: Literal["both", "end"] = Field(
        "both",
        description="where the zero channels go: half on each side (popular CIFAR code) or appended",
    )


class Projection(Spec):
    """y = F(x) + BN(W x) with a strided 1x1 convolution (He 2015, eq. 2; options B and C)."""

    kind: Literal["projection"] = "projection"
    norm: bool = Field(True, description="BN after the convolution; pre-activation networks have none there")
    pool: bool = Field(
        False,
        description="average 2x2 before it instead of skipping three quarters (ResNet-D, He (Tong) 2018, Fig. 2c)",
    )


class Scale(Spec):
    """y = residual * F(x) + shortcut * x with constant factors (He 2016, section 3.1, constant scaling)."""

    kind: Literal["scale"] = "scale"
    shortcut: float = 0.5
    residual: float = 1.0


class ExclusiveGate(Spec):
    """y = g F(x) + (1 - g) x with g = sigmoid(conv(x)) (He 2016, Fig. 2c; Highway networks, Srivastava 2015)."""

    kind: Literal["exclusive-gate"] = "exclusive-gate"
    bias: float = Field(-6.0, description="initial bias of the gate's convolution: the lower, the more is passed on")
    kernel: Kernel = 1


class ShortcutGate(Spec):
    """y = F(x) + (1 - g) x with g = sigmoid(conv(x)) (He 2016, Fig. 2d, shortcut-only gating)."""

    kind: Literal["shortcut-gate"] = "shortcut-gate"
    bias: float = -6.0
    kernel: Kernel = 1


class Conv1x1(Spec):
    """y = F(x) + W x with a 1x1 convolution and neither stride nor BN (He 2016, Fig. 2e)."""

    kind: Literal["conv1x1"] = "conv1x1"


class Dropout(Spec):
    """y = F(x) + dropout(x) (He 2016, Fig. 2f)."""

    kind: Literal["dropout"] = "dropout"
    rate: float = Field(0.5, ge=0, lt=1)


Shortcut = Annotated[
    NoShortcut | Identity | ZeroPad | Projection | Scale | ExclusiveGate | ShortcutGate | Conv1x1 | Dropout,
    Field(discriminator="kind"),
]

SAME_SHAPE = (Identity, Scale, ExclusiveGate, ShortcutGate, Conv1x1, Dropout)
"""Shortcuts that need the branch to keep the shape of its input."""


# --- branches ----------------------------------------------------------------------------------------------------


class Conv(Spec):
    """A convolution, padded so that stride 1 keeps the size."""

    kind: Literal["conv"] = "conv"
    width: int = Field(ge=1)
    kernel: Kernel = 3
    stride: int = Field(1, ge=1)
    groups: int = Field(1, ge=1)
    dilation: int = Field(1, ge=1)
    pool: int = Field(
        1, ge=1, description="size and stride of a max pool directly after it, before BN and activation; 1: none"
    )

    @property
    def padding(self) -> int:
        """Pixels on each side."""
        return self.dilation * (self.kernel // 2)


class Dense(Spec):
    """A fully connected layer, for vectors."""

    kind: Literal["dense"] = "dense"
    width: int = Field(ge=1)


class MaxPool(Spec):
    """Max pooling, without weights."""

    kind: Literal["max-pool"] = "max-pool"
    kernel: int = Field(2, ge=1)
    stride: int = Field(2, ge=1)


class Drop(Spec):
    """Dropout between layers."""

    kind: Literal["drop"] = "drop"
    rate: float = Field(ge=0, lt=1)


Layer = Annotated[Conv | Dense | MaxPool | Drop, Field(discriminator="kind")]
WEIGHTED = (Conv, Dense)
"""Layers with weights, which BN and the activation go with."""


class Basic(Spec):
    """Two 3x3 convolutions, the stride in the first (He 2015, Fig. 5 left)."""

    kind: Literal["basic"] = "basic"
    dilation: int = Field(1, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1, description="between the convolutions (Zagoruyko 2016, section 2.4)")


class Bottleneck(Spec):
    """1x1, 3x3, 1x1 convolutions (He 2015, Fig. 5 right; grouped: Xie 2016, Fig. 3c)."""

    kind: Literal["bottleneck"] = "bottleneck"
    inner: int = Field(ge=1, description="channels of the 3x3 convolution")
    groups: int = Field(1, ge=1, description="of the 3x3 convolution: ResNeXt's cardinality")
    dilation: int = Field(1, ge=1, description="of the 3x3 convolution")
    stride_on: Literal["first", "middle"] = Field(
        "middle", description="'first': the paper's 1x1 ('v1'); 'middle': the 3x3 ('v1.5', torchvision's, ResNet-B)"
    )


class Stack(Spec):
    """Any layers, one after the other."""

    kind: Literal["stack"] = "stack"
    layers: tuple[Layer, ...] = Field(min_length=1)


Branch = Annotated[Basic | Bottleneck | Stack, Field(discriminator="kind")]


class Block(Spec):
    """One residual (or plain) block: branch and shortcut, added, with the activations in one of five orders."""

    branch: Branch = Basic()
    width: int = Field(ge=1, description="output channels of the block")
    stride: int = Field(1, ge=1)
    shortcut: Shortcut
    order: Order = "original"
    preactivated_shortcut: bool = Field(
        False,
        description="the shortcut too starts after the first BN and ReLU (He 2016: where a pre-activation block "
        "changes the shape, and at the first block)",
    )
    drop_path: float = Field(
        0.0, ge=0, lt=1, description="probability that training skips the branch for an image (Huang 2016)"
    )

    @model_validator(mode="after")
    def _layers_fit(self) -> Self:
        layers = branch_layers(self)
        widths = [layer.width for layer in layers if isinstance(layer, WEIGHTED)]
        stride = math.prod(stride_of(layer) for layer in layers)
        if widths and widths[-1] != self.width:
            raise ValueError(f"the branch ends in {widths[-1]} channels, but the block's width is {self.width}")
        if stride != self.stride:
            raise ValueError(f"the branch has stride {stride}, but the block's stride is {self.stride}")
        if self.preactivated_shortcut and not self.order.endswith("preactivation"):
            raise ValueError(f"a pre-activated shortcut needs a pre-activation order, got '{self.order}'")
        if isinstance(self.shortcut, NoShortcut):
            if self.drop_path:
                raise ValueError("stochastic depth skips the branch, so a block without a shortcut cannot have it")
        elif not widths:
            raise ValueError("a branch beside a shortcut needs a layer with weights, got pools and dropout alone")
        elif self.preactivated_shortcut and isinstance(next(x for x in layers if not isinstance(x, Drop)), MaxPool):
            raise ValueError("a pre-activated shortcut starts after the first BN and ReLU, so no pool can precede them")
        return self


def stride_of(layer: Layer) -> int:
    """How many times fewer pixels a side leave a layer than enter it."""
    match layer:
        case Conv(stride=stride, pool=pool):
            return stride * pool
        case MaxPool(stride=stride):
            return stride
        case _:
            return 1


def branch_layers(block: Block) -> tuple[Conv | Dense | MaxPool | Drop, ...]:
    """The layers of a block's branch, first to last."""
    match block.branch:
        case Basic(dilation=dilation):
            return (
                Conv(width=block.width, stride=block.stride, dilation=dilation),
                Conv(width=block.width, dilation=dilation),
            )
        case Bottleneck() as b:
            first = b.stride_on == "first"
            return (
                Conv(width=b.inner, kernel=1, stride=block.stride if first else 1),
                Conv(width=b.inner, stride=1 if first else block.stride, groups=b.groups, dilation=b.dilation),
                Conv(width=block.width, kernel=1),
            )
        case Stack(layers=layers):
            return layers


# --- stems ---


class ConvStem(Spec):
    """The layers before the first stage: convolutions with BN and activation, then perhaps a max pool."""

    kind: Literal["conv"] = "conv"
    width: int = Field(ge=1)
    kernel: Kernel = 3
    stride: int = Field(1, ge=1)
    before: tuple[int, ...] = Field(
        (), description="widths of convolutions before the last one; the stride moves to the first (ResNet-C: 32, 32)"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="of the input")
    norm: bool = Field(True, description="BN and activation after the last convolution")
    pool: bool = Field(False, description="then a 3x3 max pool of stride 2 (He 2015, Table 1)")


class WhiteningStem(Spec):
    """A convolution whose filters decorrelate the patches of the training images, then the activation.

    Its filters are the leading principal components of the patches, divided by their standard deviation, and the
    same ones negated (Page 2019, "How to train your ResNet 8"; Jordan 2024, arXiv 2404.00498, section 3.2). They
    are taken from the images before training (`Network.whiten`) and not trained; the bias is.
    """

    kind: Literal["whitening"] = "whitening"
    width: int = Field(24, ge=2, multiple_of=2)
    kernel: int = Field(2, ge=1)
    stride: int = Field(1, ge=1)
    padding: int = Field(0, ge=0)


class DenseStem(Spec):
    """A stem for vectors: a fully connected layer with BN and activation."""

    kind: Literal["dense"] = "dense"
    width: int = Field(ge=1)
    norm: bool = True


Stem = Annotated[ConvStem | WhiteningStem | DenseStem, Field(discriminator="kind")]
