"""Detectors: as torchvision's, under its names; as the paper's; on networks of all families."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from reslab.detect.networks import (
    Detector,
    LastStage,
    MaxPooledRegions,
    build_detector,
    load_backbone,
    load_torchvision,
    set_epsilon,
)
from reslab.detect.spec import DetectorSpec
from reslab.errors import InputError
from reslab.nets import build
from reslab.nets.catalog import resolve_any
from reslab.nets.network import Network, build_any

SMALL: dict[str, Any] = {"short": 64, "long": 96, "classes": ("a", "b")}


def spec(net: str = "resnet18", **changed: Any) -> DetectorSpec:
    return DetectorSpec(net=resolve_any(net), **(SMALL | changed))


def pictures(n: int = 2) -> list[Tensor]:
    random = torch.Generator().manual_seed(3)
    return [torch.rand(3, 60 + 9 * i, 80, generator=random) for i in range(n)]


def targets(n: int = 2) -> list[dict[str, Tensor]]:
    box, label = torch.tensor([[8.0, 8, 40, 40]]), torch.tensor([1])
    return [{"boxes": box, "labels": label, "masks": torch.ones(1, 60 + 9 * i, 80).byte()} for i in range(n)]


def scrambled(model: nn.Module) -> None:
    """Weights and statistics with which nothing cancels and scores lie apart."""
    random = torch.Generator().manual_seed(5)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=random)
            if "running_var" in name or ("bn" in name and "weight" in name) or "downsample.1.weight" in name:
                tensor.copy_(0.5 + 0.1 * noise.abs())
            elif name.endswith("cls_score.weight"):
                tensor.copy_(0.2 * noise)
            else:
                tensor.add_(0.01 * noise)


def same_boxes(theirs: nn.Module, ours: Detector) -> None:
    with torch.no_grad():
        a, b = theirs.eval()(pictures()), ours.eval()(pictures())
    for one, other in zip(a, b, strict=True):
        assert isinstance(other, dict)
        assert len(one["boxes"]) > 3
        assert set(one) == set(other)
        for key in one:
            torch.testing.assert_close(one[key], other[key], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("frozen", [False, True], ids=["BN", "frozen BN"])
@pytest.mark.parametrize("masks", [False, True], ids=["boxes", "masks"])
def test_torchvision_weights_give_torchvision_boxes(frozen: bool, masks: bool) -> None:
    norm = {} if frozen else {"norm_layer": nn.BatchNorm2d}
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, **norm)
    make = detection.MaskRCNN if masks else detection.FasterRCNN
    sizes = {"min_size": 64, "max_size": 96, "rpn_post_nms_top_n_test": 300}
    theirs = make(backbone, 3, **sizes)
    scrambled(theirs)
    ours = build_detector(spec(masks=masks))
    load_torchvision(ours, theirs.state_dict())
    if frozen:
        epsilon = next(m.eps for m in theirs.modules() if type(m).__name__ == "FrozenBatchNorm2d")
        set_epsilon(ours, epsilon)
    same_boxes(theirs, ours)


def test_the_names_are_those_of_the_released_models() -> None:
    with torch.device("meta"):
        theirs = detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3)
        masks = detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3)
        ours = build_detector(spec("resnet50")), build_detector(spec("resnet50", masks=True))
    for model, own in zip((theirs, masks), ours, strict=True):
        shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
        assert {name: tensor.shape for name, tensor in own.model.state_dict().items()} == shapes


def test_other_weights_are_refused() -> None:
    detector = build_detector(spec())
    state = detector.model.state_dict()
    state.pop("rpn.head.cls_logits.weight")
    with pytest.raises(InputError, match=r"2 classes and background, got others: .*rpn.head.cls_logits.weight"):
        load_torchvision(detector, state)


@pytest.mark.parametrize(
    ("net", "changed"),
    [
        ("resnet18", {"kind": "c4"}),
        ("resnet18", {"kind": "c4", "pooling": "max"}),
        ("resnet50", {"kind": "c4"}),
        ("preresnet20", {"kind": "c4"}),
        ("resnet18", {"norm": "batch"}),
        ("resnet18", {"masks": True}),
        ("preresnet20", {}),
        ("resnet20", {"anchors": (8, 16, 32, 64), "channels": 32}),
        ("wrn16-8", {}),
    ],
    ids=str,
)
def test_detectors_learn_and_find(net: str, changed: dict[str, Any]) -> None:
    detector = build_detector(spec(net, **({"regions": 16, "proposals": 20} | changed)))
    torch.manual_seed(0)
    losses = detector.train()(pictures(), targets())
    assert isinstance(losses, dict)
    total = torch.stack(list(losses.values())).sum()
    assert total.isfinite()
    total.backward()
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
    with torch.no_grad():
        found = detector.eval()(pictures())
    assert isinstance(found, list)
    for each in found:
        assert each["boxes"].shape[1] == 4
        assert ((each["labels"] >= 1) & (each["labels"] <= 2)).all()


def test_vgg16_as_the_paper_has_it() -> None:
    with torch.device("meta"):
        detector = build_detector(spec("vgg16", kind="c4", pooling="max"))
        drawn = build_detector(spec("vgg16", kind="c4", pooling="max", norm="batch"))
    assert all(parameter.requires_grad for parameter in drawn.parameters())
    shapes = {name: tuple(p.shape) for name, p in detector.model.named_parameters()}
    assert shapes["roi_heads.box_head.layers.0.weight"] == (4096, 25088)
    assert shapes["backbone.28.weight"] == (512, 512, 3, 3)
    fixed = {name for name, p in detector.model.named_parameters() if not p.requires_grad}
    assert fixed == {f"backbone.{i}.{kind}" for i in (0, 2, 5, 7) for kind in ("weight", "bias")}


def test_conv4_is_shared_at_stride_16_and_conv5_is_the_head() -> None:
    model = build_detector(spec("resnet18", kind="c4")).model
    assert model.backbone(torch.zeros(1, 3, 64, 96))["0"].shape == (1, 256, 4, 6)
    assert isinstance(model.roi_heads.box_head, LastStage)
    assert set(model.roi_heads.box_head.state_dict()) == {
        name for name in build("resnet18").state_dict() if name.startswith("layer4.")
    }
    assert model.roi_heads.box_head(torch.zeros(5, 256, 14, 14)).shape == (5, 512)
    assert model.rpn.post_nms_top_n() == 2000


def test_frozen_bn_keeps_its_statistics() -> None:
    for norm in ("frozen", "batch"):
        detector = build_detector(spec(norm=norm)).train()
        body = detector.model.backbone.body
        before = body.bn1.running_mean.clone()
        detector(pictures(), targets())
        assert torch.equal(before, body.bn1.running_mean) == (norm == "frozen")
        assert body.bn1.weight.requires_grad == (norm == "batch")


def test_stages_that_are_not_trained() -> None:
    fixed = {
        name.split(".")[2] for name, p in build_detector(spec(norm="batch", frozen_stages=1)).model.named_parameters()
        if not p.requires_grad
    }  # fmt: skip
    assert fixed == {"conv1", "bn1", "layer1"}


@pytest.mark.parametrize("kind", ["c4", "fpn"])
def test_weights_of_a_classifier(kind: str) -> None:
    weights = build("resnet18", seed=7).state_dict()
    detector = build_detector(spec(kind=kind))
    load_backbone(detector, weights)
    own = detector.model.state_dict()
    assert torch.equal(own["backbone.body.conv1.weight"], weights["conv1.weight"])
    last = "roi_heads.box_head.layer4.1.conv2.weight" if kind == "c4" else "backbone.body.layer4.1.conv2.weight"
    assert torch.equal(own[last], weights["layer4.1.conv2.weight"])
    weights.pop("layer4.1.conv2.weight")
    with pytest.raises(InputError, match=r"'layer4.1.conv2.weight' of shape \(512, 512, 3, 3\)"):
        load_backbone(detector, weights)


def test_weights_of_vgg() -> None:
    with torch.device("meta"):
        detector, weights = (
            build_detector(spec("torchvision:vgg11", kind="c4")),
            build_any("torchvision:vgg11").state_dict(),
        )
    load_backbone(detector, weights)
    with pytest.raises(InputError, match=r"'features.0.weight'"):
        load_backbone(detector, {})


def test_the_maps_of_the_stages_are_those_of_features() -> None:
    for name in ("resnet20", "preresnet20"):
        net = build(name).eval()
        assert isinstance(net, Network)
        with torch.no_grad():
            maps, features = net.stage_maps(torch.ones(1, 3, 32, 32)), net.features(torch.ones(1, 3, 32, 32))
        assert torch.equal(maps[0], features["layer1"])
        assert torch.equal(maps[-1].mean((2, 3)), features["pool"])


def test_the_same_seed_draws_the_same_weights() -> None:
    a, b, c = (build_detector(spec("resnet20"), seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["model.rpn.head.cls_logits.weight"], c["model.rpn.head.cls_logits.weight"])


@pytest.mark.parametrize(
    ("net", "changed", "said"),
    [
        ("resnet18", {"kind": "c4", "masks": True}, "masks are for kind 'fpn'"),
        ("resnet18", {"pooling": "max"}, "pooling 'max' is for kind 'c4'"),
        ("vgg16", {}, "whose stages it sees"),
        ("vgg16", {"kind": "localise"}, "whose stages it sees"),
        ("resnet18", {"kind": "localise", "masks": True}, "masks are for kind 'fpn'"),
        ("resnet18", {"kind": "localise", "context": True}, "pools no regions"),
        ("resnet18", {"kind": "localise", "pooling": "max"}, "pools no regions"),
        ("torchvision:mobilenet_v2", {"kind": "c4"}, "or a VGG"),
        ("resnet18", {"anchors": (8,)}, "expected 5 sides of anchors"),
        ("resnet18", {"classes": ()}, "at least 1 item"),
        ("resnet18", {"short": 600}, "longer than the long side"),
    ],
)
def test_what_cannot_be_built(net: str, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        spec(net, **changed)


def test_channels() -> None:
    with pytest.raises(ValidationError, match="3 channels, not 1"):
        DetectorSpec(net=resolve_any("resnet18", in_channels=1), **SMALL)


def test_boxes_are_decoded_in_fp32_whatever_the_precision() -> None:
    """In bf16 numbers near 60 are 0.25 apart: proposals would lie on a grid, some without a size."""
    detector = build_detector(spec("resnet20", anchors=(8, 16, 32, 64), channels=16)).eval()
    taken: list[list[Tensor]] = []
    pool = detector.model.roi_heads.box_roi_pool
    pool.register_forward_pre_hook(lambda _module, given: taken.append(given[1]))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        detector(pictures())
    proposals = torch.cat(taken[0])
    assert proposals.dtype == torch.float32
    assert not torch.equal(proposals, proposals.bfloat16().float())


@pytest.mark.parametrize("size", [(1, 95), (1, 96), (1, 97), (1, 5000), (5000, 1), (2, 191), (3, 400)])
def test_a_picture_of_any_shape_is_looked_at_and_learnt_from(size: tuple[int, int]) -> None:
    detector = build_detector(spec("cifar_resnet(depth=8)", anchors=(8, 16, 32, 64), channels=16, norm="batch"))
    with torch.no_grad():
        found = detector.eval()([torch.rand(3, *size)])
    assert isinstance(found, list)
    edges = found[0]["boxes"]
    assert len(edges) > 0
    assert float(edges.max()) > max(size) / 2, "boxes are in pixels of the picture as it came"
    assert float(edges[:, 2].max()) <= size[1]
    assert float(edges[:, 3].max()) <= size[0]
    losses = detector.train()(
        [torch.rand(3, *size)], [{"boxes": torch.tensor([[0.0, 0, *size[::-1]]]), "labels": torch.tensor([1])}]
    )
    assert isinstance(losses, dict)
    assert all(bool(loss.isfinite()) for loss in losses.values())


@pytest.mark.parametrize(
    ("net", "kind"), [("resnet18", "fpn"), ("resnet18", "c4"), ("cifar_resnet(depth=8)", "fpn"), ("vgg16", "c4")]
)
@torch.no_grad()
def test_strides_are_those_of_the_maps(net: str, kind: str) -> None:
    detector = build_detector(spec(net, kind=kind, anchors=())).eval()
    maps = detector.model.backbone(torch.rand(1, 3, 128, 128))
    maps = maps if isinstance(maps, dict) else {"0": maps}
    expected = [maps[name].shape[-1] / 128 for name in sorted(maps) if name != "pool"]
    assert detector.model.roi_heads.box_roi_pool.scales == expected


def test_regions_are_pooled_in_bf16_at_the_places_of_fp32() -> None:
    maps = torch.rand(1, 4, 20, 20, generator=torch.Generator().manual_seed(0)).bfloat16()
    boxes = [torch.tensor([[7.9, 8.1, 135.9, 296.1], [0.0, 0.0, 310.0, 310.0]])]  # bf16 would make 136 of 135.9
    pool = MaxPooledRegions(7, 16)
    pooled = pool({"0": maps}, boxes, [(320, 320)])
    assert pooled.dtype == torch.bfloat16
    assert torch.equal(pooled.float(), pool({"0": maps.float()}, boxes, [(320, 320)]))


@pytest.mark.parametrize("pooling", ["align", "max"])
@torch.no_grad()
def test_what_is_found_does_not_depend_on_the_pictures_before(pooling: str) -> None:
    made = spec("resnet18", kind="c4", pooling=pooling, norm="batch")
    narrow, picture = torch.rand(3, 1, 500), pictures(1)[0]
    fresh, used = (build_detector(made).eval() for _ in range(2))
    used([narrow])
    [expected], [found] = fresh([picture]), used([picture])
    assert isinstance(expected, dict)
    assert isinstance(found, dict)
    torch.testing.assert_close(found["boxes"], expected["boxes"], atol=0, rtol=0)
    torch.testing.assert_close(found["scores"], expected["scores"], atol=0, rtol=0)


@pytest.mark.parametrize(
    ("net", "kind", "pooling"),
    [
        pytest.param("resnet18", "c4", "align", marks=pytest.mark.slow),
        pytest.param("resnet18", "c4", "max", marks=pytest.mark.slow),
        ("cifar_resnet(depth=8)", "fpn", "align"),
    ],
)
def test_each_region_is_judged_beside_its_own_picture(net: str, kind: str, pooling: str) -> None:
    sides = (8, 16, 32, 64) if kind == "fpn" else (16, 32)
    made = spec(net, kind=kind, pooling=pooling, context=True, anchors=sides, norm="batch")
    detector = build_detector(made, seed=3)
    again = build_detector(made, seed=3).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in detector.state_dict().items())
    losses = detector.train()(pictures(), targets())
    assert isinstance(losses, dict)
    torch.stack(list(losses.values())).sum().backward()
    heads = detector.model.roi_heads
    own, beside = heads.box_predictor.cls_score.weight.grad.abs().chunk(2, 1)
    assert own.sum() > 0
    assert beside.sum() > 0
    detector.eval()
    boxes = [torch.tensor([[4.0, 4, 30, 30], [10, 10, 50, 60]]), torch.tensor([[4.0, 4, 30, 30]])]
    with torch.no_grad():
        images, _ = detector.model.transform(pictures())
        maps = detector.model.backbone(images.tensors)
        features = heads.box_head(heads.box_roi_pool(maps, boxes, images.image_sizes))
        height, width = images.image_sizes[1]
        whole = heads.box_head.head(
            heads.box_roi_pool.pool(
                maps, [boxes[0][:0], torch.tensor([[0.0, 0, width, height]])], images.image_sizes
            )
        )  # fmt: skip
    half = features.shape[1] // 2
    assert torch.equal(features[0, half:], features[1, half:])
    torch.testing.assert_close(features[2, half:], whole[0], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(features[0, half:], features[2, half:])


def test_context_takes_weights_of_a_classifier() -> None:
    classifier = build("resnet18", seed=5).state_dict()
    detector = build_detector(spec("resnet18", kind="c4", context=True))
    load_backbone(detector, classifier)
    name = "layer4.0.conv1.weight"
    assert torch.equal(detector.model.roi_heads.box_head.head.state_dict()[name], classifier[name])


@pytest.mark.parametrize(("net", "kind"), [("resnet18", "fpn"), ("resnet50", "c4"), ("vgg16-bn", "c4")])
def test_group_norm_in_the_place_of_bn(net: str, kind: str) -> None:
    with torch.device("meta"):
        detector = build_detector(spec(net, kind=kind, norm="group"))
        theirs = build_detector(spec(net, kind=kind, norm="batch"))
    found = [module for module in detector.modules() if isinstance(module, nn.GroupNorm)]
    assert len(found) == len([module for module in theirs.modules() if isinstance(module, nn.BatchNorm2d)])
    assert {module.num_groups for module in found} == {32}
    assert not any(isinstance(module, nn.BatchNorm2d) for module in detector.modules())
    names = {name for name, _ in theirs.named_parameters()}
    assert {name for name, _ in detector.named_parameters()} == names
    assert all(parameter.requires_grad for parameter in detector.parameters())


def test_with_group_norm_pictures_of_a_step_do_not_meet() -> None:
    detector = build_detector(spec("cifar_resnet(depth=8)", anchors=(8, 16, 32, 64), channels=16, norm="group")).train()
    body, x = detector.model.backbone, torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        for name, together in body(x).items():
            torch.testing.assert_close(together[1:], body(x[1:])[name], atol=1e-4, rtol=1e-4)
