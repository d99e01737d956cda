"""The localiser of He et al. 2015 (arXiv 1512.03385, appendix C): what an image shows, and where."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import box_iou, clip_boxes_to_image

from reslab.nets.network import Network

HIT, MISS = 0.7, 0.3
"""Overlaps from which on an anchor is of the object, and below which it is of none (Ren et al. 2015, section 3.1.2)."""


class Whole(nn.Module):
    """All stages of a network."""

    def __init__(self, body: Network) -> None:
        super().__init__()
        self.body = body
        self.out_channels = body.spec.stages[-1][-1].width

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> the last map (N, C, H / 32, W / 32) of an ImageNet network."""
        return self.body.stage_maps(x)[-1]


class ClassRPN(nn.Module):
    """An RPN whose two outputs, objectness and regression, are there once for each class."""

    def __init__(self, channels: int, anchors: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.cls_logits = nn.Conv2d(channels, anchors * classes, 1)
        self.bbox_pred = nn.Conv2d(channels, anchors * classes * 4, 1)
        for layer in (self.conv, self.cls_logits, self.bbox_pred):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        self.classes = classes

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The last map (N, C, H, W) -> logits (N, H W A, K) and regression (N, H W A, K, 4)."""
        y = F.relu(self.conv(x))
        logits = self.cls_logits(y).permute(0, 2, 3, 1)
        regression = self.bbox_pred(y).permute(0, 2, 3, 1)
        return (
            logits.reshape(len(x), -1, self.classes).float(),
            regression.reshape(len(x), -1, self.classes, 4).float(),
        )


class Localiser(nn.Module):
    """A classifier of the whole image, and beside it a `ClassRPN` that places an object of each class.

    In training the RPN learns the image's class alone: of its anchors ``sampled`` are drawn, at most half of them of
    the object. In testing a class is at the box of its best anchor. The image's class is that of its largest box;
    images without boxes teach nothing.
    """

    transform: nn.Module  # set as that of a detector

    def __init__(self, body: Network, classes: int, sides: tuple[float, ...], ratios: tuple[float, ...], sampled: int):
        super().__init__()
        self.backbone = Whole(body)
        width = self.backbone.out_channels
        self.classifier = nn.Linear(width, classes)
        self.anchors = AnchorGenerator((sides,), (ratios,))
        self.rpn = ClassRPN(width, len(sides) * len(ratios), classes)
        self.matcher = Matcher(HIT, MISS, allow_low_quality_matches=True)
        self.sampler = BalancedPositiveNegativeSampler(sampled, 0.5)
        self.coder = BoxCoder((1.0, 1.0, 1.0, 1.0))

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        """As a detector: losses by name, or boxes, labels (from 1) and scores: one box a class, likeliest first."""
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        resized, targets = self.transform(images, targets)
        maps = self.backbone(resized.tensors)
        scores = self.classifier(maps.mean((2, 3))).float()  # (N, K)
        logits, regression = self.rpn(maps)
        anchors = self.anchors(resized, [maps])
        if self.training:
            assert targets is not None, "training needs boxes"
            return self._losses(scores, logits, regression, anchors, targets)
        found = [
            self._placed(scores[i], logits[i], regression[i], anchors[i], size)
            for i, size in enumerate(resized.image_sizes)
        ]
        return self.transform.postprocess(found, resized.image_sizes, sizes)  # type: ignore[operator]

    def _placed(
        self, scores: Tensor, logits: Tensor, regression: Tensor, anchors: Tensor, size: tuple[int, int]
    ) -> dict[str, Tensor]:
        probabilities, order = scores.softmax(0).sort(descending=True)
        best = logits.argmax(0)[order]  # (K,), the anchor of each class
        boxes = self.coder.decode_single(regression[best, order], anchors[best])
        return {"boxes": clip_boxes_to_image(boxes, size), "labels": order + 1, "scores": probabilities}

    def _losses(
        self, scores: Tensor, logits: Tensor, regression: Tensor, anchors: list[Tensor],
        targets: list[dict[str, Tensor]],
    ) -> dict[str, Tensor]:  # fmt: skip
        none = 0 * (scores.sum() + logits.sum() + regression.sum())
        classified, objectness, placed = [none], [none], [none]
        for i, target in enumerate(targets):
            if not len(target["boxes"]):
                continue
            label, boxes = shown(target)
            matches = self.matcher(box_iou(boxes, anchors[i]))
            # of each anchor: 1 of the object, 0 of none, -1 between the two
            kinds = torch.where(matches >= 0, 1.0, torch.where(matches == Matcher.BELOW_LOW_THRESHOLD, 0.0, -1.0))
            [hits], [misses] = self.sampler([kinds])
            hit, drawn = hits.nonzero()[:, 0], (hits | misses).nonzero()[:, 0]
            wanted = self.coder.encode_single(boxes[matches[hit]], anchors[i][hit])
            classified.append(F.cross_entropy(scores[i], label))
            objectness.append(F.binary_cross_entropy_with_logits(logits[i, drawn, label], kinds[drawn]))
            placed.append(F.smooth_l1_loss(regression[i, hit, label], wanted, beta=1 / 9, reduction="sum") / len(drawn))
        n = max(1, len(classified) - 1)
        return {
            "loss_class": torch.stack(classified).sum() / n,
            "loss_objectness": torch.stack(objectness).sum() / n,
            "loss_rpn_box_reg": torch.stack(placed).sum() / n,
        }


def shown(target: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The class of the largest box, counted from 0, and the boxes of this class."""
    boxes, labels = target["boxes"], target["labels"]
    sides = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    label = labels[sides.argmax()]
    return label - 1, boxes[labels == label]
