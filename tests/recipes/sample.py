"""A data set as recipes see it."""

from reslab.data.spec import Augment, DataInfo

CIFAR10 = DataInfo(
    name="cifar10",
    source="made by hand",
    fingerprint="0",
    classes=tuple("abcdefghij"),
    channels=3,
    size=(32, 32),
    n_train=50_000,
    n_test=10_000,
    augment=Augment(pad=4, flip=True),
)
