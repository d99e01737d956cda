"""What a detector is, as plain data."""

from typing import Literal, Self

from pydantic import Field, model_validator

from reslab.nets.spec import AnyNet, NetSpec, Spec

PAPER = (128.0, 256.0, 512.0)
"""Sides of anchors of Faster R-CNN, in pixels of a picture whose short side is 600 (Ren et al. 2015, section 3.1.1)."""
PYRAMID = (32.0, 64.0, 128.0, 256.0, 512.0)
"""Sides of anchors of FPN, one a level (Lin et al. 2017, section 4.1)."""
OBJECTS = (0.25, 0.5, 1.0)
"""Sides of anchors of a localiser, as shares of the short side: its objects are what the image shows."""
LOCALISER = 8
"""Anchors of an image that a localiser learns from (He et al. 2015, appendix C)."""


class DetectorSpec(Spec):
    """A detector on a network of the catalogue.

    ``c4``: Faster R-CNN as He et al. 2015 (arXiv 1512.03385, appendix A) have it: all stages but the last are shared
    by the whole picture, and the last works on each region. On VGG-16 that is conv1 to conv5_3, then fc6 and fc7 (Ren
    et al. 2015, arXiv 1506.01497). ``fpn``: a pyramid over all stages (Lin et al. 2017, arXiv 1612.03144).
    ``localise``: what the image shows and where, one box a class (He et al. 2015, appendix C).
    """

    net: AnyNet
    classes: tuple[str, ...] = Field(min_length=1, description="without background, which is class 0 of the outputs")
    kind: Literal["c4", "fpn", "localise"] = "fpn"
    masks: bool = Field(False, description="with a head for masks (Mask R-CNN, He et al. 2017, arXiv 1703.06870)")
    norm: Literal["frozen", "batch", "group"] = Field(
        "frozen",
        description="'frozen': BN is a fixed scale and shift, as in the paper, for weights that come from elsewhere; "
        "'batch': BN is trained, for weights that are drawn, and so are the first stages of VGG; "
        "'group': GroupNorm stands in its place",
    )
    frozen_stages: int = Field(0, ge=0, description="stages that are not trained, the stem with the first of them")
    short: int = Field(800, ge=1, description="pixels of a picture's short side, once resized")
    long: int = Field(1333, ge=1, description="pixels that its long side has at most")
    anchors: tuple[float, ...] = Field((), description="sides of anchors in pixels of the resized picture; () as usual")
    proposals: int = Field(300, ge=1, description="regions of a picture that are looked at, in testing")
    regions: int = Field(512, ge=1, description="regions of a picture that are learnt from; of a localiser, anchors")
    pooling: Literal["align", "max"] = Field(
        "align", description="how a region's features are taken: RoIAlign, or RoI max pooling as in the paper (c4)"
    )
    context: bool = Field(
        False, description="each region is judged beside the whole picture (He et al. 2015, appendix B)"
    )
    channels: int = Field(256, ge=1, description="width of the pyramid")
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kind != "fpn" and self.masks:
            raise ValueError("masks are for kind 'fpn': Mask R-CNN here is on a pyramid")
        if self.kind == "fpn" and self.pooling == "max":
            raise ValueError("pooling 'max' is for kind 'c4': on a pyramid regions are aligned")
        if self.kind == "localise" and (self.pooling == "max" or self.context):
            raise ValueError("kind 'localise' pools no regions: leave out the pooling 'max' and the context")
        if self.kind != "c4" and not isinstance(self.net, NetSpec):
            raise ValueError(
                f"kind '{self.kind}' takes a network of Reslab's own, whose stages it sees; not {self.net.name}"
            )
        if self.kind == "c4" and not isinstance(self.net, NetSpec) and not self.net.model.startswith("vgg"):
            raise ValueError(f"kind 'c4' takes a network of Reslab's own or a VGG, not {self.net.name}")
        if self.net.in_channels != 3:
            raise ValueError(f"detectors take pictures of 3 channels, not {self.net.in_channels}")
        if self.kind == "fpn" and isinstance(self.net, NetSpec) and self.anchors:
            levels = len(self.net.stages) + 1
            if len(self.anchors) != levels:
                raise ValueError(f"expected {levels} sides of anchors, one a level of the pyramid, got {self.anchors}")
        if self.short > self.long:
            raise ValueError(f"the short side ({self.short}) is longer than the long side may be ({self.long})")
        return self

    @property
    def sides(self) -> tuple[float, ...]:
        """Sides of the anchors."""
        if self.kind == "localise":
            return self.anchors or tuple(share * self.short for share in OBJECTS)
        if self.anchors or not isinstance(self.net, NetSpec):
            return self.anchors or PAPER
        return PYRAMID[: len(self.net.stages) + 1] if self.kind == "fpn" else PAPER
