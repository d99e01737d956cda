"""What may go out: by how far answers differ, how often, and how quick they are."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from deploy.networks import trained
from deploy.test_preprocess import photograph
from reslab.commands.export_print import words
from reslab.data.decode.whole import Fit, fitted_image
from reslab.deploy.artefact import About, Accuracy, Checked, Input, Precision, RuntimeName, Speed
from reslab.deploy.feed import in_batches, logits_of, probabilities, row
from reslab.deploy.gate import BATCHES, Original, Sample, check, why_refused
from reslab.deploy.runtimes import Batch, Logits
from reslab.nets import build
from reslab.weights.preprocessing import Preprocessing

HOW = Preprocessing(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), crop=(16, 16), resize=20)


def about(kind: Input = "tensors") -> About:
    return About(
        net="tiny", num_classes=10, channels=3, input=kind, preprocessing=HOW, models={"torch": "model.pt2"},
        temperature=2.0,
    )  # fmt: skip


def seen(**given: Any) -> Checked:
    values: dict[str, Any] = {"largest_difference": {1: 0.001, 7: 0.002}, "agreement": 100, "images": 200}
    return Checked(runtime="onnxruntime", precision=given.pop("precision", "fp32"), **(values | given))


def labelled(precision: Precision, after: float) -> Checked:
    return seen(
        precision=precision, images=1000, agreement=98.5, accuracy=percent(after), accuracy_before=percent(92)
    )  # fmt: skip


def percent(value: float) -> Accuracy:
    return Accuracy(percent=value, low=value - 1, high=value + 1)


def speed(batch: int, low: float, median: float, high: float) -> Speed:
    return Speed(batch=batch, artefact=median, original=1, ratio=median, low=low, high=high)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (seen(), ""),
        (
            seen(largest_difference={1: 0.01, 7: 0.2}),
            "a probability differs by 0.200 at batch 7, at most 0.05 is allowed",
        ),
        (seen(precision="bf16", largest_difference={1: 0.2}), ""),
        (seen(agreement=98.5), "predicts the same class for 98.5 % of the images, 99 % are required"),
        (
            seen(precision="int8", agreement=98.5, accuracy=percent(92), accuracy_before=percent(92)),
            "predicts the same class for 98.5 %",
        ),
        (labelled("bf16", 91.8), ""),
        (labelled("bf16", 91.6), "predicts the same class for 98.5 %"),
        (labelled("fp32", 92), "predicts the same class for 98.5 %"),
        (seen(speed=(speed(1, 1.1, 1.2, 1.3), speed(7, 0.7, 0.8, 0.9))), "slower at batch 7: 0.80 times as fast"),
        (seen(speed=(speed(1, 0.7, 0.8, 1.1),)), ""),
    ],
)
def test_what_is_refused(found: Checked, why: str) -> None:
    assert why_refused(found).startswith(why)
    assert bool(why) == bool(why_refused(found))


def test_what_may_help_is_said_where_it_may() -> None:
    more = "(or, with labels and --images 1000, at most 0.3 points of accuracy lost)"
    assert why_refused(seen(precision="int8", agreement=98.5)).endswith(more)
    for each in (labelled("bf16", 91.6), seen(agreement=98.5)):
        assert more not in why_refused(each)


def test_a_reason_is_said_once() -> None:
    accuracy = {"accuracy": percent(91), "accuracy_before": percent(92)}
    found = seen(precision="int8", agreement=98.5, **accuracy)
    said = words(found.model_copy(update={"refused": why_refused(found)}))
    assert said.count("predicts the same class") == 1
    assert said.endswith("; accuracy 91.0 % (90.0 to 92.0), before 92.0 % (91.0 to 93.0)")
    assert words(seen(agreement=100)) == "passed; predicts the same class for 100.0 % of 200 images"


class Echo:
    """A runtime that computes with the network itself, or with what was done to its answers."""

    name: RuntimeName = "torch"
    precision: Precision = "fp32"

    def __init__(self, net: torch.nn.Module, change: float = 0) -> None:
        self.net, self.change, self.batches = net, change, set[int]()

    @torch.no_grad()
    def logits(self, batch: Batch) -> Logits:
        self.batches.add(len(batch))
        found: Logits = self.net(torch.from_numpy(batch)).numpy()
        return np.roll(found, 1, axis=1) if self.change else found


def a_network() -> torch.nn.Module:
    return trained(build("cifar_resnet(depth=8, width=4)", seed=2))


def images() -> list[Image.Image]:
    return [Image.fromarray(photograph(*size)) for size in ((20, 30), (25, 25), (20, 30), (40, 18))]


def test_the_same_network_passes() -> None:
    net = a_network()
    runtime = Echo(net)
    labels = np.array([0, 1, 2, 3])
    found = check(Original(net, about()), runtime, Sample(images(), labels), speed=False)
    assert found.passed
    assert max(found.largest_difference.values()) < 1e-4
    assert found.agreement == 100
    assert found.accuracy == found.accuracy_before
    assert runtime.batches == set(BATCHES)
    assert tuple(found.largest_difference) == BATCHES


def test_another_answer_does_not_pass() -> None:
    net = a_network()
    found = check(Original(net, about()), Echo(net, 1), Sample(images(), None), speed=False)
    assert not found.passed
    assert found.agreement < 99
    assert found.accuracy is None


class Wrong(Echo):
    """Of the first image it says something else, or of all in larger batches."""

    precision: Precision = "int8"

    def __init__(self, net: torch.nn.Module, first: Batch | None) -> None:
        super().__init__(net)
        self.first = first

    def logits(self, batch: Batch) -> Logits:
        found = super().logits(batch)
        for number, each in enumerate(batch):
            if np.array_equal(each, self.first) if self.first is not None else len(batch) > 1:
                found[number] = np.roll(found[number], 1)
        return found


def test_an_image_in_a_hundred_passes_at_any_batch_and_a_batch_that_is_wrong_does_not() -> None:
    net = a_network()
    sample = Sample([Image.fromarray(photograph(20 + number, 30)) for number in range(100)], None)
    passed = check(Original(net, about()), Wrong(net, row(sample.images[0], about())), sample, speed=False)
    assert passed.agreement == pytest.approx(99)
    assert passed.passed
    refused = check(Original(net, about()), Wrong(net, None), sample, speed=False)
    assert refused.agreement == pytest.approx(0)
    assert not refused.passed


def test_images_of_many_sizes_come_back_in_their_order() -> None:
    rows = [row(image, about("photographs")) for image in images()]
    assert [some for some, _ in in_batches(rows, 2)] == [[0, 2], [1], [3]]

    class Size:
        name: RuntimeName = "torch"
        precision: Precision = "fp32"

        def logits(self, batch: Batch) -> Logits:
            return np.array([[each.shape[0], each.shape[1]] for each in batch], np.float32)

    assert logits_of(Size(), rows, 2).tolist() == [[20, 30], [25, 25], [20, 30], [40, 18]]


def test_rows_of_each_kind() -> None:
    image = images()[0]
    crop = np.asarray(fitted_image(image, Fit(HOW.crop, HOW.resize)))
    assert np.array_equal(row(image, about("photographs")), np.asarray(image))
    assert np.array_equal(row(image, about("crops")), crop)
    expected = (crop / 255 - np.array(HOW.mean)) / np.array(HOW.std)
    assert np.allclose(row(image, about("tensors")), expected.transpose(2, 0, 1), atol=1e-6)
    assert row(image, about("tensors")).dtype == np.float32
    assert row(image.convert("L"), about("photographs")).shape == (20, 30, 1)


def test_probabilities_at_a_temperature() -> None:
    logits = np.array([[1, 3, 1000], [0, 0, 0]], np.float32)
    assert probabilities(logits[1:], 2).tolist() == [pytest.approx([1 / 3] * 3)]
    assert probabilities(logits, 2)[0].tolist() == pytest.approx([0, 0, 1])
    assert probabilities(logits[:, :2], 2)[0, 1] == pytest.approx(1 / (1 + np.exp(-1)))
