"""Detectors: torchvision's RPN, heads and box coder on networks of the catalogue."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.onnx.operators import shape_as_tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNPredictor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNN
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes
from torchvision.ops import MultiScaleRoIAlign, RoIPool
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool
from torchvision.ops.poolers import initLevelMapper

from reslab.detect.context import ContextHead, PooledWithContext
from reslab.detect.localiser import Localiser
from reslab.detect.spec import DetectorSpec
from reslab.errors import InputError
from reslab.nets.network import Network, build_any
from reslab.nets.sizes import stem_size
from reslab.nets.spec import NetSpec
from reslab.train.optim import NORMS

RATIOS = (0.5, 1.0, 2.0)
"""Heights of anchors over their widths."""
FIXED_VGG = 2
"""Stages of VGG that Ren et al. do not train: conv1_1 to conv2_2. Each ends in a pooling."""
WIDTH_VGG = 512


class Pyramid(nn.Module):
    """The stages of a network, and FPN's maps on top of them; named as torchvision's ``BackboneWithFPN``."""

    def __init__(self, body: Network, channels: int) -> None:
        super().__init__()
        self.body = body
        self.out_channels = channels
        widths = [stage[-1].width for stage in body.spec.stages]
        self.fpn = FeaturePyramidNetwork(widths, channels, LastLevelMaxPool())

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Pictures (N, 3, H, W) -> maps (N, channels, H / stride, W / stride) by level: 0, 1, ..., pool."""
        maps = {str(level): y for level, y in enumerate(self.body.stage_maps(x))}
        return dict(self.fpn(maps))


class Shared(nn.Module):
    """All of a network but its last stage."""

    def __init__(self, body: Network) -> None:
        super().__init__()
        self.body = body
        self.out_channels = body.spec.stages[-2][-1].width

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Pictures (N, 3, H, W) -> the map (N, C, H / 16, W / 16) of an ImageNet network, as level 0."""
        y = self.body.enter(x)
        for name in self.body.stage_names[:-1]:
            y = getattr(self.body, name)(y)
        return {"0": y}


class LastStage(nn.Module):
    """The last stage on each region, averaged (He et al. 2015, appendix A). Shares its modules with the whole network.

    Parameters are the whole network's (``layer4``, and what stands behind it).
    """

    def __init__(self, body: Network) -> None:
        super().__init__()
        name = body.stage_names[-1]
        self.add_module(name, getattr(body, name))
        delattr(body, name)
        self.name, self.out_channels = name, body.spec.stages[-1][-1].width
        if body.spec.final != "none":
            self.bn_last, self.relu_last = body.bn_last, body.relu_last
            del body.bn_last, body.relu_last

    def forward(self, x: Tensor) -> Tensor:
        """Regions (R, C, 14, 14) -> (R, C')."""
        y = getattr(self, self.name)(x)
        if hasattr(self, "bn_last"):
            y = self.relu_last(self.bn_last(y))
        return y.mean((2, 3))  # type: ignore[no-any-return]


class Flat(nn.Module):
    """VGG's fc6 and fc7 on each region."""

    def __init__(self, classifier: nn.Sequential) -> None:
        super().__init__()
        self.layers = classifier[:-1]  # without the last, which names ImageNet's classes

    def forward(self, x: Tensor) -> Tensor:
        """Regions (R, 512, 7, 7) -> (R, 4096)."""
        return self.layers(x.flatten(1))  # type: ignore[no-any-return]


class MaxPooledRegions(nn.Module):
    """RoI max pooling of one map (Girshick 2015, arXiv 1504.08083, section 2.1), called as torchvision's RoIAlign."""

    def __init__(self, size: int, stride: int) -> None:
        super().__init__()
        self.size, self.stride = size, stride

    def forward(self, maps: dict[str, Tensor], boxes: list[Tensor], shapes: list[tuple[int, int]]) -> Tensor:
        """Maps, boxes of each picture (R_i, 4) in its pixels -> (R, C, size, size)."""
        y = maps["0"]
        # torchvision's takes maps and boxes of one type; in bf16 the boxes would be a pixel off.
        return RoIPool(self.size, 1 / self.stride)(y.float(), boxes).to(y.dtype)  # type: ignore[no-any-return]


class Resizing(GeneralizedRCNNTransform):  # type: ignore[misc]
    """torchvision's, which leaves at least a pixel of a picture's short side, however long and narrow it is."""

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """A picture (3, H, W), and its boxes where there are some, at the detector's size."""
        if torch._C._get_tracing_state():
            return self._traced(image), target
        height, width = image.shape[-2:]
        if min(height, width) * self.max_size >= 2 * max(height, width):
            return super().resize(image, target)  # type: ignore[no-any-return]
        size = (1, self.max_size) if height < width else (self.max_size, 1)
        resized = nn.functional.interpolate(image[None], size=size, mode="bilinear")[0]
        if target is not None:
            target = target | {"boxes": resize_boxes(target["boxes"], [height, width], list(size))}
        return resized, target

    def _traced(self, image: Tensor) -> Tensor:
        """The same in an exported file. torchvision's takes scales in fp32, by which runtimes make other sizes."""
        sides = shape_as_tensor(image)[-2:].double()
        # Tensors of one number in fp64: of numbers and of tensors without a dimension the exporter makes fp32.
        short, long = (torch.tensor([float(side)], dtype=torch.float64) for side in (self.min_size[-1], self.max_size))
        scale = torch.minimum(short / torch.minimum(sides[:1], sides[1:]), long / torch.maximum(sides[:1], sides[1:]))
        height, width = (sides * scale).floor().clamp_min(1).long()
        return nn.functional.interpolate(image[None], size=(height, width), mode="bilinear")[0]


class Detector(nn.Module):
    """A detector with what it is. ``model`` is torchvision's, under torchvision's names, or a localiser."""

    def __init__(self, spec: DetectorSpec, model: GeneralizedRCNN | Localiser) -> None:
        super().__init__()
        self.spec = spec
        self.model: Any = model
        self._freeze()

    def _freeze(self) -> None:
        body = getattr(self.model.backbone, "body", None)
        if isinstance(body, Network):
            for name, parameter in body.named_parameters():
                stage = int(name[5]) if name.startswith("layer") else 0
                if self.spec.frozen_stages and stage <= self.spec.frozen_stages:
                    parameter.requires_grad = False
        if self.spec.norm == "frozen":
            for module in self._norms():
                for parameter in module.parameters():
                    parameter.requires_grad = False

    def _norms(self) -> list[nn.Module]:
        return [module for module in self.modules() if isinstance(module, NORMS)]

    def train(self, mode: bool = True) -> Self:
        """As usual, but that frozen BN keeps to its running statistics."""
        super().train(mode)
        if self.spec.norm == "frozen":
            for module in self._norms():
                module.eval()
        return self

    def forward(
        self, pictures: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Pictures (3, H, W) in 0 to 1, of any sizes -> losses by name in training; else boxes, labels and scores.

        Labels are counted from 1: 0 is background. Boxes (n, 4) are in pixels of the picture.
        """
        return self.model(pictures, targets)  # type: ignore[no-any-return]


def build_detector(spec: DetectorSpec, *, seed: int = 0) -> Detector:
    """Builds a detector and draws its weights."""
    net = build_any(spec.net, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if spec.norm == "group":
            _group_norms(net)
        model: Any
        if spec.kind == "localise":
            assert isinstance(net, Network), "checked by the spec"
            model = Localiser(_headless(net), len(spec.classes), spec.sides, RATIOS, spec.regions)
        elif isinstance(net, Network):
            model = _on_pyramid(spec, net) if spec.kind == "fpn" else _on_last_stage(spec, net)
        else:
            model = _on_vgg(spec, net)
        if spec.context:
            heads = model.roi_heads
            heads.box_roi_pool, heads.box_head = PooledWithContext(heads.box_roi_pool), ContextHead(heads.box_head)
            width = 2 * heads.box_predictor.cls_score.in_features
            heads.box_predictor = FastRCNNPredictor(width, len(spec.classes) + 1)
    model.transform = Resizing(spec.short, spec.long, list(spec.mean), list(spec.std))
    if isinstance(model, GeneralizedRCNN):
        # torchvision decodes boxes in the type that the regression comes in: bf16 would round them to pixels.
        model.rpn.head.register_forward_hook(_in_fp32)
        model.roi_heads.box_predictor.register_forward_hook(_in_fp32)
    return Detector(spec, model)


GROUPS = 32
"""Of GroupNorm (Wu and He 2018, arXiv 1803.08494), or as many as divide the channels."""


def _group_norms(net: nn.Module) -> None:
    """Puts GroupNorm in the place of each BN, under its name: few pictures in a step say little of a batch."""
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.GroupNorm(math.gcd(GROUPS, child.num_features), child.num_features))


def _in_fp32(_module: nn.Module, _given: object, out: tuple[Any, Any]) -> tuple[Any, Any]:
    """Scores and regression, each a tensor or one for each level."""
    first, second = ([y.float() for y in each] if isinstance(each, list) else each.float() for each in out)
    return first, second


def _headless(net: Network) -> Network:
    del net.fc, net.avgpool, net.dropout
    return net


def _common(spec: DetectorSpec) -> dict[str, object]:
    return {
        "min_size": spec.short, "max_size": spec.long, "image_mean": list(spec.mean), "image_std": list(spec.std),
        "rpn_post_nms_top_n_test": spec.proposals, "box_batch_size_per_image": spec.regions,
    }  # fmt: skip


_SIDE = 1024


def strides(net: NetSpec) -> tuple[int, ...]:
    """Pixels of the picture between two places of each stage's map."""
    assert net.stem.kind != "dense", "checked by the spec"
    side, found = stem_size((_SIDE, _SIDE), net.stem)[0], []
    for stage in net.stages:
        for block in stage:
            side = math.ceil(side / block.stride)
        found.append(2 ** round(math.log2(_SIDE / side)))  # a stem without padding leaves a little less
    return tuple(found)


def _aligned(size: int, strides: Sequence[int]) -> MultiScaleRoIAlign:
    """RoIAlign on maps of these strides, with two samples a side.

    torchvision infers them from the first picture that it sees, wrongly if that is small or narrow, and keeps them.
    """
    pool = MultiScaleRoIAlign([str(level) for level in range(len(strides))], size, 2)
    pool.scales = [1 / stride for stride in strides]
    lowest, highest = (int(math.log2(stride)) for stride in (strides[0], strides[-1]))
    pool.map_levels = initLevelMapper(
        lowest, highest, canonical_scale=pool.canonical_scale, canonical_level=pool.canonical_level
    )
    return pool


def _on_pyramid(spec: DetectorSpec, net: Network) -> GeneralizedRCNN:
    places = strides(net.spec)
    make = MaskRCNN if spec.masks else FasterRCNN
    masks = {"mask_roi_pool": _aligned(14, places)} if spec.masks else {}
    return make(
        Pyramid(_headless(net), spec.channels), len(spec.classes) + 1,
        rpn_anchor_generator=AnchorGenerator(tuple((side,) for side in spec.sides), (RATIOS,) * len(spec.sides)),
        box_roi_pool=_aligned(7, places), **masks, **_common(spec),
    )  # fmt: skip


def _on_last_stage(spec: DetectorSpec, net: Network) -> GeneralizedRCNN:
    if len(net.spec.stages) < 2:
        raise InputError(f"a detector of kind 'c4' needs a network of two stages or more, '{net.spec.name}' has one")
    shared = Shared(_headless(net))
    head = LastStage(net)
    return _on_one_map(spec, shared, head, head.out_channels, size=14, stride=strides(net.spec)[-2])


def _on_vgg(spec: DetectorSpec, net: nn.Module) -> GeneralizedRCNN:
    features, classifier = net.features, net.classifier
    assert isinstance(features, nn.Sequential)
    assert isinstance(classifier, nn.Sequential)
    shared = features[:-1]  # conv5_3 and its ReLU, without the pooling behind it
    poolings = [place for place, layer in enumerate(shared) if isinstance(layer, nn.MaxPool2d)]
    if spec.norm == "frozen":  # weights that are drawn have to be trained, all of them
        for parameter in shared[: poolings[FIXED_VGG - 1]].parameters():
            parameter.requires_grad = False
    shared.out_channels = WIDTH_VGG  # type: ignore[assignment]  # where torchvision looks for it
    return _on_one_map(spec, shared, Flat(classifier), 4096, size=7, stride=2 ** len(poolings))


def _on_one_map(
    spec: DetectorSpec, shared: nn.Module, head: nn.Module, width: int, *, size: int, stride: int
) -> GeneralizedRCNN:
    model = FasterRCNN(
        shared, rpn_anchor_generator=AnchorGenerator((spec.sides,), (RATIOS,)),
        box_roi_pool=_aligned(size, [stride]), box_head=head,
        box_predictor=FastRCNNPredictor(width, len(spec.classes) + 1),
        rpn_pre_nms_top_n_train=12000, rpn_pre_nms_top_n_test=6000, **_common(spec),
    )  # fmt: skip
    if spec.pooling == "max":
        model.roi_heads.box_roi_pool = MaxPooledRegions(size, stride)
    return model


def load_torchvision(detector: Detector, state: Mapping[str, Tensor]) -> None:
    """Loads a state dict of torchvision's detection models, of the same backbone and number of classes.

    Released ones were trained with frozen BN, whose epsilon is 0 in the first versions: `set_epsilon`.

    Raises:
        InputError: names or shapes differ.
    """
    own = detector.model.state_dict()
    counters = {name: tensor for name, tensor in own.items() if name.endswith("num_batches_tracked")}
    try:
        detector.model.load_state_dict({**counters, **state})
    except RuntimeError as error:
        first = " ".join(str(error).split())[:300]
        raise InputError(
            f"expected weights of a detector of kind '{detector.spec.kind}' on {detector.spec.net.name} with "
            f"{len(detector.spec.classes)} classes and background, got others: {first}"
        ) from None


def set_epsilon(detector: Detector, epsilon: float) -> None:
    """Sets what BN adds to the variance: 0 in ``COCO_V1`` of torchvision's Faster and Mask R-CNN on ResNet-50-FPN."""
    for module in detector.modules():
        if isinstance(module, NORMS):
            module.eps = epsilon


def load_backbone(detector: Detector, tensors: Mapping[str, Tensor]) -> None:
    """Loads weights of a classifier of the same network, as `reslab.weights.load` gives them; its last layer is left.

    Raises:
        InputError: a tensor that the detector has is not there, or of another shape.
    """
    wanted = dict(_named_as_classifier(detector))
    for name, place in wanted.items():
        given = tensors.get(name)
        if given is None or given.shape != place.shape:
            got = "there is none" if given is None else f"it is {tuple(given.shape)}"
            raise InputError(f"expected '{name}' of shape {tuple(place.shape)} among the weights, but {got}")
    with torch.no_grad():
        for name, place in wanted.items():
            place.copy_(tensors[name])


def _named_as_classifier(detector: Detector) -> list[tuple[str, Tensor]]:
    """The tensors that a classifier of the same network has too, under its names."""
    model = detector.model
    if isinstance(model, Localiser):
        return list(model.backbone.body.state_dict().items())
    head = _head(model)
    on_regions = list(head.state_dict().items())
    if isinstance(detector.spec.net, NetSpec):
        found = list(model.backbone.body.state_dict().items())
        return found + (on_regions if isinstance(head, LastStage) else [])
    shared = [(f"features.{name}", tensor) for name, tensor in model.backbone.state_dict().items()]
    return shared + [(name.replace("layers.", "classifier."), tensor) for name, tensor in on_regions]


def _head(model: GeneralizedRCNN) -> nn.Module:
    """The layers on each region."""
    head: nn.Module = model.roi_heads.box_head
    return head.head if isinstance(head, ContextHead) else head
