"""Convolutions of few channels on a GPU against PyTorch in fp64: run by Triton's interpreter where there is no GPU."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

pytest.importorskip("triton", reason="Triton is not installed here")
from reslab.kernels import conv, gpu, narrow
from reslab.kernels import triton_conv as kernels
from reslab.nets.layers import Conv2d


@pytest.mark.parametrize(
    ("shape", "made"),
    [
        ((2, 16, 5, 7), 16),
        ((1, 16, 1, 1), 32),
        ((3, 32, 12, 9), 32),
        ((1, 64, 6, 6), 64),
        ((2, 64, 3, 20), 16),
        ((2, 3, 6, 7), 16),
    ],
)
def test_it_and_its_gradients(shape: tuple[int, ...], made: int) -> None:
    """Of -1, 0 and 1, whose sums here are below 256, up to which bf16 holds every whole number: all is exact."""
    draw = torch.Generator().manual_seed(0)
    sizes = (shape, (made, shape[1], 3, 3), (shape[0], made, *shape[2:]))
    x, weight, grad = (
        torch.randint(-1, 2, size, generator=draw).to(torch.bfloat16, memory_format=torch.channels_last)
        for size in sizes
    )  # fmt: skip
    x64, weight64 = (each.double().requires_grad_() for each in (x, weight))
    y = F.conv2d(x64, weight64, padding=1)
    of_x, of_weight = torch.autograd.grad(y, (x64, weight64), grad.double())
    pairs = [(kernels.forward(x, weight), y), (kernels.backward_weight(x, grad), of_weight)]
    pairs += [(kernels.backward_x(grad, weight), of_x)] if shape[1] in kernels.WIDTHS else []
    for one, wanted in pairs:
        assert one.is_contiguous(memory_format=torch.channels_last)
        assert wanted.abs().max() <= 256
        assert torch.equal(one, wanted.detach().to(torch.bfloat16))


def test_nan_passes_to_where_it_is_seen_from() -> None:
    x = torch.zeros(1, 16, 6, 6, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    x[0, 3, 2, 2] = float("nan")
    weight = torch.ones(16, 16, 3, 3, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    seen = torch.zeros(6, 6, dtype=torch.bool)
    seen[1:4, 1:4] = True
    assert torch.equal(kernels.forward(x, weight)[0].isnan(), seen.expand(16, 6, 6))


@pytest.mark.parametrize("own", [False, True])
def test_a_layer_takes_the_quicker_one_of_each_pass(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a layer whose weight is kept in bf16, as a training on a GPU keeps it; in evaluation PyTorch's runs."""
    monkeypatch.setattr(gpu, "usable", lambda device: True)
    monkeypatch.setattr(conv, "supports", lambda *_: False)  # those of the processor that the test runs on
    monkeypatch.setenv("RESLAB_KERNELS", "measured")
    mixed = {"y": own, "the gradient of x": not own, "the gradient of the weight": own}
    monkeypatch.setattr(narrow, "_quicker", lambda *_: mixed)
    seen = list[str]()

    def counted(name: str, original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*given: Tensor) -> Tensor:
            seen.append(name)
            return original(*given)

        return call

    for name in ("forward", "backward_x", "backward_weight"):
        monkeypatch.setattr(kernels, name, counted(name, getattr(kernels, name)))
    layer = Conv2d(16, 16, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    layer.fused = True
    with torch.no_grad():
        layer.weight.round_()
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(-1, 2, (2, 16, 5, 6), generator=draw).to(torch.bfloat16, memory_format=torch.channels_last)
    layer.in_bf16 = torch.randint(-1, 2, layer.weight.shape, generator=draw).to(
        torch.bfloat16, memory_format=torch.channels_last
    ).requires_grad_()  # fmt: skip
    x.requires_grad_()
    y = layer(x)
    grad = torch.randint(-1, 2, y.shape, generator=draw).to(torch.bfloat16, memory_format=torch.channels_last)
    found = torch.autograd.grad(y, (x, layer.in_bf16), grad)
    assert seen == (["forward", "backward_weight"] if own else ["backward_x"])
    x64, weight64 = (each.detach().double().requires_grad_() for each in (x, layer.in_bf16))
    wanted = torch.autograd.grad(F.conv2d(x64, weight64, padding=1), (x64, weight64), grad.double())
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one.double(), other)
    layer.eval()
    seen.clear()
    layer(x.float())
    assert not seen


def test_timing_them_draws_no_random_number_of_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "usable", lambda device: True)
    before = torch.get_rng_state()
    asked = ((2, 16, 4, 4), 16, torch.bfloat16, torch.device("cpu"))
    found = narrow._quicker(*asked)
    assert found.keys() == {"y", "the gradient of x", "the gradient of the weight"}
    assert narrow._quicker(*asked) is found, "once"
    assert torch.equal(torch.get_rng_state(), before)


class TestWhereTheLibraryIsTaken:
    """A layer of 16 channels on a device whose kernels can be used."""

    @pytest.fixture(autouse=True)
    def as_a_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gpu, "usable", lambda device: True)
        monkeypatch.setenv("RESLAB_KERNELS", "measured")
        monkeypatch.setattr(narrow, "_known", {})

    @staticmethod
    def given(channels: int = 16) -> tuple[Tensor, Tensor, Conv2d]:
        layer = Conv2d(16, 16, 3, padding=1, bias=False).to(torch.bfloat16)
        layer = layer.to(memory_format=torch.channels_last)
        x = torch.randn(1, channels, 3, 3).to(torch.bfloat16, memory_format=torch.channels_last)
        return x, layer.weight, layer

    def test_a_weight_of_other_channels_is_refused(self) -> None:
        """PyTorch says what is wrong; the kernels would read beyond the weight."""
        assert narrow.supports(*self.given())
        assert not narrow.supports(*self.given(channels=32))

    def test_so_are_activations_that_32_bits_do_not_count(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(narrow, "MOST", 9 * 16)
        assert not narrow.supports(*self.given())
        monkeypatch.setattr(narrow, "MOST", 9 * 16 + 1)
        assert narrow.supports(*self.given())

    def test_under_deterministic_algorithms(self) -> None:
        torch.use_deterministic_algorithms(True)
        try:
            assert not narrow.supports(*self.given())
        finally:
            torch.use_deterministic_algorithms(False)

    def test_where_ours_comes_out_wrong(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        forward = kernels.forward
        monkeypatch.setattr(kernels, "forward", lambda x, weight: 1.1 * forward(x, weight))
        found = narrow._quicker((2, 16, 4, 4), 16, torch.bfloat16, torch.device("cpu"))
        assert found["y"] is False
        assert "came out otherwise" in caplog.text

    def test_where_memory_does_not_suffice_to_time_them(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def measured(*_: object) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory\nTried to allocate")

        monkeypatch.setattr(narrow, "_measured", measured)
        for _ in range(2):
            found = narrow._quicker((2, 16, 4, 4), 16, torch.bfloat16, torch.device("cpu"))
            assert set(found.values()) == {False}
        assert caplog.text.count("could not be timed") == 1


@pytest.mark.parametrize("wide", [16, 32])
def test_gradients_of_gradients(wide: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As PyTorch's, with respect to both operands."""
    monkeypatch.setenv("RESLAB_KERNELS", "own")
    draw = torch.Generator().manual_seed(0)
    x, weight = (
        torch.randint(-1, 2, size, generator=draw).to(torch.bfloat16, memory_format=torch.channels_last)
        for size in ((1, 16, 3, 4), (wide, 16, 3, 3))
    )

    def second(run: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, ...]:
        leaves = tuple(each.detach().requires_grad_() for each in (x, weight))
        first = torch.autograd.grad(run(*leaves).float().square().sum(), leaves, create_graph=True)
        return torch.autograd.grad(first[0].float().sum() + first[1].float().sum(), leaves)

    for one, wanted in zip(second(narrow.conv3x3), second(lambda x, w: F.conv2d(x, w, padding=1)), strict=True):
        torch.testing.assert_close(one.float(), wanted.float(), rtol=0.02, atol=0.5)
