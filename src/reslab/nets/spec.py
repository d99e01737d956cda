"""A network as plain data: typed, validated, saved as JSON, importable without torch.

A `NetSpec` lists every block explicitly, so that a variant, a lesion or a deeper network is a change
of data and no network has code of its own.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Activation = Literal["relu", "tanh", "elu", "gelu", "silu", "leaky-relu", "identity"]


Pixels = Annotated[int, Field(ge=1)]


class Spec(BaseModel):
    """Frozen, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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


Shortcut = Annotated[NoShortcut | Identity | ZeroPad | Projection, Field(discriminator="kind")]


class Basic(Spec):
    """Two 3x3 convolutions, the stride in the first (He 2015, Fig. 5 left)."""

    kind: Literal["basic"] = "basic"


class Block(Spec):
    """One residual (or plain) block: branch and shortcut, added, then the activation."""

    branch: Basic = Basic()
    width: int = Field(ge=1, description="channels that leave the block")
    stride: int = Field(1, ge=1)
    shortcut: Shortcut


class ConvStem(Spec):
    """The layers before the first stage: a convolution, BN and the activation."""

    width: int = Field(ge=1)
    kernel: int = Field(3, ge=1)
    stride: int = Field(1, ge=1)


class Norm(Spec):
    """Batch normalisation's constants. ``momentum`` is the weight of the newest batch in the running statistics."""

    eps: float = Field(1e-5, gt=0)
    momentum: float = Field(0.1, gt=0, le=1)


class Init(Spec):
    """How weights are drawn: zero-mean normal with variance gain/fan (He et al. 2015, arXiv 1502.01852, eq. 10, 14)."""

    fan: Literal["in", "out"] = Field(
        "in",
        description="'in' keeps the variance of the signal (eq. 10), 'out' that of the gradient (eq. 14)",
    )
    zero_gamma: bool = Field(False, description="start the last BN scale of each residual branch at zero")


class NetSpec(Spec):
    """A whole network for images of ``in_channels`` channels and, nominally, ``size`` pixels."""

    name: str
    in_channels: int = Field(3, ge=1)
    size: tuple[Pixels, Pixels] = Field((32, 32), description="nominal input height and width, in pixels")
    num_classes: int = Field(10, ge=1)
    stem: ConvStem
    stages: tuple[tuple[Block, ...], ...]
    activation: Activation = "relu"
    norm: Norm = Norm()
    init: Init = Init()
    cite: str = ""

    @model_validator(mode="after")
    def _shapes_agree(self) -> Self:
        if not self.stages or any(not stage for stage in self.stages):
            raise ValueError("a network needs at least one stage, and each stage at least one block")
        width = self.stem.width
        for s, stage in enumerate(self.stages, 1):
            for b, block in enumerate(stage):
                where = f"layer{s}.{b}"
                changes = block.stride != 1 or block.width != width
                if isinstance(block.shortcut, Identity) and changes:
                    raise ValueError(
                        f"{where}: an identity shortcut needs equal shapes, but the block maps {width} channels "
                        f"to {block.width} with stride {block.stride}; use zero-pad or projection"
                    )
                if isinstance(block.shortcut, ZeroPad) and block.width < width:
                    raise ValueError(f"{where}: zero-pad cannot go from {width} channels down to {block.width}")
                width = block.width
        return self

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks, in the order of the signal."""
        return tuple(block for stage in self.stages for block in stage)

    @property
    def is_residual(self) -> bool:
        """Whether any block has a shortcut."""
        return any(not isinstance(block.shortcut, NoShortcut) for block in self.blocks)

    @property
    def depth(self) -> int:
        """Weighted layers as the papers count them: convolutions on the main path and the last layer."""
        return 2 + sum(len(branch_convs(block)) for block in self.blocks)


class Conv(Spec):
    """One convolution of a branch, as the builder and the cost model need it."""

    width: int
    kernel: int
    stride: int


def branch_convs(block: Block) -> tuple[Conv, ...]:
    """The convolutions of a block's branch, first to last."""
    return (
        Conv(width=block.width, kernel=3, stride=block.stride),
        Conv(width=block.width, kernel=3, stride=1),
    )
