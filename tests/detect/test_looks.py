"""Box refinement, several scales, and the vote over what they find."""

import pytest
import torch
from torch import Tensor

from reslab.detect.looks import Looks, look, voted
from reslab.detect.networks import Detector, build_detector
from reslab.detect.spec import DetectorSpec
from reslab.nets.catalog import resolve_any


@pytest.fixture
def detector() -> Detector:
    return build_detector(
        DetectorSpec(
            net=resolve_any("cifar_resnet(depth=8)"), classes=("a", "b"), short=40, long=60, anchors=(8, 16, 32, 64),
            channels=16, proposals=20, norm="batch",
        )
    ).eval()  # fmt: skip


def picture() -> Tensor:
    return torch.rand(3, 30, 50, generator=torch.Generator().manual_seed(1))


def boxes(*rows: tuple[float, ...]) -> dict[str, Tensor]:
    table = torch.tensor(rows)
    return {"boxes": table[:, 2:], "scores": table[:, 0], "labels": table[:, 1].long()}


def test_a_box_goes_to_the_mean_of_those_at_its_place() -> None:
    found = voted(
        boxes((0.9, 1, 0, 0, 10, 10), (0.3, 1, 0, 0, 10, 14), (0.8, 2, 0, 0, 10, 10), (0.5, 1, 30, 30, 40, 40))
    )
    assert found["scores"].tolist() == pytest.approx([0.9, 0.8, 0.5])
    assert found["labels"].tolist() == [1, 2, 1]
    assert found["boxes"].flatten().tolist() == pytest.approx([0, 0, 10, 11, 0, 0, 10, 10, 30, 30, 40, 40])


def test_nothing_can_be_voted_over() -> None:
    assert voted({"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.long)})[
        "boxes"
    ].shape == (0, 4)


@torch.no_grad()
def test_one_scale_is_the_single_look_voted_over(detector: Detector) -> None:
    single = look(detector, picture(), Looks())
    assert len(single["boxes"]) > 5
    same = look(detector, picture(), Looks(scales=(40,)))
    wanted = voted(single)
    for name in wanted:
        torch.testing.assert_close(same[name], wanted[name])


@torch.no_grad()
def test_several_scales_and_refinement_look_again(detector: Detector) -> None:
    given: list[list[Tensor]] = []
    sizes: list[tuple[int, int]] = []

    def seen(_module: object, inputs: tuple[object, list[Tensor], list[tuple[int, int]]]) -> None:
        given.append(inputs[1])
        sizes.extend(inputs[2])

    detector.model.roi_heads.register_forward_pre_hook(seen)
    found = look(detector, picture(), Looks(refine=True, scales=(32, 40)))
    assert sizes == [(28, 48), (28, 48), (36, 60), (36, 60)]
    assert detector.model.transform.min_size == (40,)
    assert (found["boxes"][:, 2] <= 50.01).all()
    assert given[1][0].shape != given[0][0].shape or not torch.equal(given[1][0], given[0][0])
