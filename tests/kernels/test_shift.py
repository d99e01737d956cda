"""The kernel that shifts, mirrors and normalises bytes: the same bits as PyTorch's operations, one after the other."""

from typing import Any

import pytest
import torch

from reslab.data.spec import Augment
from reslab.data.transforms import Normalizer, augment
from reslab.kernels import build, shift


def images(n: int, channels: int, height: int, width: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(n)
    drawn = torch.randint(0, 256, (n, channels, height, width), dtype=torch.uint8, generator=draw)
    return drawn.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", ["per-channel", "per-pixel-mean", "none"])
@pytest.mark.parametrize(
    "fields",
    [
        {"pad": 2, "flip": True},
        {"pad": 3, "flip": "alternating", "border": "reflect"},
        {"pad": 4, "flip": True, "border": "black"},
        {"pad": 0, "flip": True},
        {"pad": 2, "flip": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(5, 3, 9, 7), (3, 1, 8, 8), (4, 2, 6, 11), (70, 3, 32, 32)])
@pytest.mark.parametrize("processor", ["", "-mno-avx512f"], indirect=True)
def test_the_same_bits(
    shape: tuple[int, ...], fields: dict[str, Any], kind: Any, processor: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = images(*shape)
    normalizer = Normalizer.of(kind, batch)
    index = torch.arange(len(batch)) * 7
    arguments: dict[str, Any] = {
        "normalizer": normalizer, "spec": Augment(**fields), "seed": 3, "epoch": torch.full_like(index, 2)
    }  # fmt: skip
    assert shift.supports(batch)
    ours = augment(batch, index, **arguments)
    monkeypatch.setattr(shift, "supports", lambda _: False)
    theirs = augment(batch, index, **arguments)
    assert torch.equal(ours, theirs)
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_what_is_left_to_pytorch() -> None:
    batch = images(4, 3, 8, 8)
    assert shift.supports(batch) == (build.library() is not None)
    assert not shift.supports(batch.contiguous())
    assert not shift.supports(batch.float())
    assert not shift.supports(batch[:0])
    assert not shift.supports(batch.to("meta"))
