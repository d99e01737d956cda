"""Batches as a pure function of seed and iteration; splits; evaluation once over."""

from collections import Counter

import pytest
import torch

from reslab.data.images import Dataset, ImageSet
from reslab.data.loader import Batches, Eval, check, split
from reslab.data.sources import load
from reslab.data.spec import Augment, DataInfo, DataSpec
from reslab.data.transforms import Normalizer
from reslab.errors import InputError

CPU = torch.device("cpu")
NONE = Normalizer(torch.zeros(1, 1, 1), torch.ones(1, 1, 1))


def numbered(n: int, classes: int = 2) -> ImageSet:
    """Image i is of colour i, so that it can be recognised; its class is i modulo the classes."""
    images = torch.arange(n, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    return ImageSet(images, torch.arange(n) % classes)


def batches(n: int = 23, *, batch: int = 5, seed: int = 0, augment: Augment | None = None) -> Batches:
    spec = DataSpec(name="numbered", num_classes=2, channels=1, size=(4, 4), augment=augment or Augment())
    return Batches(numbered(n), spec, NONE, batch=batch, seed=seed, device=CPU)


def seen(images: torch.Tensor) -> list[int]:
    return (images[:, 0, 2, 2] * 255).round().int().tolist()


@pytest.mark.parametrize(("n", "batch"), [(23, 5), (20, 5), (7, 7), (3, 8), (5, 17), (2, 2)])
def test_each_epoch_sees_every_image_once(n: int, batch: int) -> None:
    data = batches(n, batch=batch)
    order: list[tuple[int, int]] = []
    for iteration in range(-(-4 * n // batch)):
        index, epoch = data.positions(iteration)
        images, labels = data(iteration)
        assert len(images) == len(labels) == batch
        assert seen(images) == index.tolist()
        assert labels.tolist() == [i % 2 for i in index.tolist()]
        order += zip(index.tolist(), epoch.tolist(), strict=True)
    for epoch_number in range(4):
        part = order[epoch_number * n : (epoch_number + 1) * n]
        assert sorted(index for index, _ in part) == list(range(n))
        assert {epoch for _, epoch in part} == {epoch_number}


def test_epochs_and_seeds_differ_in_their_order() -> None:
    orders = [tuple(batches(23, batch=23, seed=seed).positions(e)[0].tolist()) for seed in range(3) for e in range(3)]
    assert len(set(orders)) == 9


def test_a_batch_is_a_pure_function_of_the_iteration() -> None:
    augment = Augment(pad=1, flip=True)
    forward, backward = batches(augment=augment), batches(augment=augment)
    there = [forward(i) for i in range(12)]
    back = [backward(i) for i in reversed(range(12))][::-1]
    again = [forward(i) for i in range(12)]
    for one, other, third in zip(there, back, again, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
        assert torch.equal(one[0], third[0])
    # Far into a training, where nothing has been drawn before.
    assert torch.equal(batches(augment=augment)(100_000)[0], forward(100_000)[0])
    assert not torch.equal(batches(augment=augment, seed=1)(0)[0], there[0][0])


def test_the_size_of_the_batch_does_not_change_the_order() -> None:
    ones = [batches(batch=1).positions(i)[0].item() for i in range(46)]
    assert torch.cat([batches(batch=23).positions(i)[0] for i in range(2)]).tolist() == ones


def test_an_image_is_augmented_anew_in_each_epoch() -> None:
    data = Batches(
        ImageSet(torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4).expand(2, -1, -1, -1), torch.tensor([0, 1])),
        DataSpec(name="one", num_classes=2, channels=1, size=(4, 4), augment=Augment(pad=1, flip=True)),
        NONE, batch=2, seed=0, device=CPU,
    )  # fmt: skip
    views = {tuple(image.flatten().tolist()) for i in range(50) for image in data(i)[0]}
    assert len(views) == 18


def test_batches_are_channels_last() -> None:
    train = ImageSet(torch.randint(0, 256, (9, 3, 4, 4), dtype=torch.uint8), torch.arange(9) % 2)
    for augment in (Augment(), Augment(pad=1, flip=True)):
        spec = DataSpec(name="colour", num_classes=2, channels=3, size=(4, 4), augment=augment)
        images, _ = Batches(train, spec, NONE, batch=4, seed=0, device=CPU)(0)
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert images.dtype == torch.float32
    for images, _ in Eval(train, NONE, batch=4, device=CPU):
        assert images.is_contiguous(memory_format=torch.channels_last)


def colours(images: ImageSet) -> list[int]:
    return images.images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("holdout", [1, 2, 20, 33, 99])
def test_a_split_is_disjoint_and_stratified(holdout: int) -> None:
    train = numbered(100, classes=4)
    fitting, held = split(train, holdout, 0)
    assert held is not None
    assert len(held) == holdout
    assert sorted(colours(fitting) + colours(held)) == list(range(100))
    for part in (fitting, held):
        assert part.labels.tolist() == [i % 4 for i in colours(part)]
    counts = Counter(held.labels.tolist())
    assert max(counts.values()) - min(counts[label] for label in range(4)) <= 1


def test_a_split_keeps_the_proportions_of_unequal_classes() -> None:
    labels = torch.tensor([0] * 150 + [1] * 45 + [2] * 5)
    train = ImageSet(torch.zeros(200, 1, 1, 1, dtype=torch.uint8), labels)
    fitting, held = split(train, 40, 0)
    assert held is not None
    assert Counter(held.labels.tolist()) == {0: 30, 1: 9, 2: 1}
    assert set(fitting.labels.tolist()) == {0, 1, 2}


def test_a_split_is_fixed_by_its_own_seed() -> None:
    train = numbered(100)
    first, again, other = (split(train, 20, seed)[1] for seed in (0, 0, 1))
    assert first is not None
    assert again is not None
    assert other is not None
    assert colours(first) == colours(again)
    assert colours(first) != colours(other)
    assert colours(first) != list(range(20)), "the held-out images are drawn, not the first ones"
    # A split does not follow the order in which a training of the same seed sees the images.
    order = batches(100, batch=20, seed=0).positions(0)[0]
    assert len(set(order.tolist()) & set(colours(first))) < 12


def test_no_holdout_is_all() -> None:
    train = numbered(10)
    fitting, held = split(train, 0, 0)
    assert fitting is train
    assert held is None


@pytest.mark.parametrize("holdout", [-1, 10, 11])
def test_a_holdout_that_leaves_nothing(holdout: int) -> None:
    with pytest.raises(InputError, match=f"--holdout takes 1 to 9 of the 10 training images, got {holdout}"):
        split(numbered(10), holdout, 0)


@pytest.mark.parametrize("batch", [1, 4, 23, 100])
def test_an_evaluation_yields_everything_once_and_in_order(batch: int) -> None:
    data = Eval(numbered(23), NONE, batch=batch, device=CPU)
    assert len(data) == 23
    for _ in range(2):
        images, labels = zip(*data, strict=True)
        assert seen(torch.cat(images)) == list(range(23))
        assert torch.cat(labels).tolist() == [i % 2 for i in range(23)]


def dataset(*, classes: int = 2, size: tuple[int, int] = (4, 4), channels: int = 1) -> Dataset:
    info = DataInfo(
        name="pets", source="test", fingerprint="0", classes=tuple(map(str, range(classes))), channels=channels,
        size=size, n_train=4, n_test=4, augment=Augment(),
    )  # fmt: skip
    return Dataset(info, numbered(4), numbered(4))


def test_data_that_fit_pass() -> None:
    check(dataset().info, dataset().info.spec())
    check(load("digits").info, load("digits").info.spec())
    check(dataset(classes=2).info, dataset(classes=3).info.spec())  # more outputs than classes is the user's choice


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (dataset(classes=3), "'pets' has 3 classes but the network only 2; set num_classes=3"),
        (dataset(size=(4, 5)), "expects 1-channel images of 4x4 .*'pets' has 1-channel images of 4x5"),
        (dataset(channels=3), "expects 1-channel images of 4x4 .*'pets' has 3-channel images of 4x4"),
    ],
)
def test_data_that_do_not_fit_are_refused(data: Dataset, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        check(data.info, dataset().info.spec())
