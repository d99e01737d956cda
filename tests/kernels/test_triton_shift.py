"""The GPU's kernel that makes a batch, by Triton's interpreter: PyTorch's numbers, bit for bit."""

import logging
from typing import Literal

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed here")
from reslab.data.images import ImageSet
from reslab.data.loader import Batches
from reslab.data.spec import Augment, DataSpec, Normalization
from reslab.data.transforms import Normalizer, OnGpu, augment
from reslab.kernels import gpu, triton_shift


@pytest.fixture
def as_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU taken for a GPU, whose kernels the interpreter runs."""
    monkeypatch.setattr(gpu, "usable", lambda device: True)


def pictures(n: int, channels: int, size: tuple[int, int]) -> Tensor:
    drawn = torch.randint(0, 256, (n, channels, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))
    return drawn.contiguous(memory_format=torch.channels_last)


def both(images: Tensor, spec: Augment, kind: Normalization, seed: int = 7) -> tuple[Tensor, Tensor]:
    """By the kernel and by PyTorch: images out of their order, one of them twice, in several epochs."""
    normalizer = Normalizer.of(kind, images)
    index = torch.tensor([4, 0, 2, 4, 5])
    epoch = torch.tensor([0, 1, 2, 3, 2**31 + 5])
    own = OnGpu(images, normalizer, spec, seed)(index, epoch)
    return own, augment(images[index], index, normalizer=normalizer, spec=spec, seed=seed, epoch=epoch)


@pytest.mark.parametrize("kind", ["none", "per-channel", "per-pixel-mean"])
@pytest.mark.parametrize("border", ["mean", "black", "reflect"])
@pytest.mark.parametrize("flip", [False, True, "alternating"])
def test_bit_for_bit(
    kind: Normalization, border: Literal["mean", "black", "reflect"], flip: bool | Literal["alternating"]
) -> None:
    own, wanted = both(pictures(6, 3, (5, 7)), Augment(pad=2, flip=flip, border=border), kind)
    assert torch.equal(own, wanted)
    assert own.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1, 2**32 - 1, 2**40 + 1])
@pytest.mark.parametrize(("channels", "size"), [(1, (1, 1)), (1, (9, 2)), (4, (3, 3))])
@pytest.mark.parametrize("spec", [Augment(), Augment(pad=1), Augment(flip=True), Augment(pad=4, flip=True)])
def test_any_seed_and_shape(seed: int, channels: int, size: tuple[int, int], spec: Augment) -> None:
    own, wanted = both(pictures(6, channels, size), spec, "per-channel", seed)
    assert torch.equal(own, wanted)


def test_a_large_image_has_several_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_shift, "TILE", 32)
    own, wanted = both(pictures(6, 3, (9, 11)), Augment(pad=3, flip=True), "per-pixel-mean")
    assert torch.equal(own, wanted)


def batches() -> Batches:
    spec = DataSpec(name="some", num_classes=2, channels=3, size=(5, 4), augment=Augment(pad=1, flip=True))
    data = ImageSet(pictures(20, 3, (5, 4)), torch.arange(20) % 2)
    return Batches(data, spec, Normalizer.of("per-channel", data.images), batch=6, seed=3, device=torch.device("cpu"))


def test_batches_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    by_pytorch = batches()
    monkeypatch.setattr(gpu, "usable", lambda device: True)
    by_kernel = batches()
    assert by_pytorch.by_kernel is None
    assert by_kernel.by_kernel is not None
    for iteration in range(5):
        for own, wanted in zip(by_kernel(iteration), by_pytorch(iteration), strict=True):
            assert torch.equal(own, wanted)


@pytest.mark.usefixtures("as_a_gpu")
@pytest.mark.parametrize("fails", [False, True])
def test_a_kernel_that_computes_otherwise_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fails: bool
) -> None:
    right = triton_shift.shifted

    def wrong(*given: object, **named: object) -> Tensor:
        if fails:
            raise RuntimeError("no kernel image\nfor this device")
        return right(*given, **named) + 1e-6  # type: ignore[arg-type]

    monkeypatch.setattr(triton_shift, "shifted", wrong)
    with caplog.at_level(logging.WARNING, "reslab"):
        assert batches().by_kernel is None
    assert len(caplog.records) == 1
    said = caplog.records[0].getMessage()
    assert "of the augmentation cannot be used" in said
    assert ("RuntimeError: no kernel image)" in said) is fails
