"""The fused mode as a GPU runs it: its kernels behind the seam of the CPU's, run by Triton's interpreter."""

import copy
import importlib.util
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

pytest.importorskip("triton", reason="Triton is not installed here")
from reslab.kernels import gpu, norm
from reslab.nets.layers import BatchNorm2d
from reslab.nets.network import Network, build

SMALL = "cifar_resnet(depth=8, width=4)"


@pytest.fixture
def as_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU taken for a GPU, whose kernels the interpreter runs."""
    monkeypatch.setattr(gpu, "usable", lambda device: True)


def images(count: int, seed: int = 0) -> Tensor:
    drawn = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    return drawn.contiguous(memory_format=torch.channels_last)


def learnt(net: Network, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Logits, loss, gradients and running statistics of one step, and logits in evaluation."""
    net.train()
    logits = net(x)
    F.cross_entropy(logits, labels).backward()
    found = {"logits": logits.detach()}
    found |= {f"grad {name}": p.grad for name, p in net.named_parameters() if p.grad is not None}
    found |= {f"buffer {name}": buffer.clone() for name, buffer in net.named_buffers()}
    net.eval()
    with torch.no_grad():
        found["evaluated"] = net(x)
    return found


@pytest.mark.usefixtures("as_a_gpu")
@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_a_network_learns_as_by_its_modules(shortcut: str) -> None:
    plain = build(SMALL, shortcut=shortcut).group_norm_statistics(2).to(memory_format=torch.channels_last)
    fused = copy.deepcopy(plain).fuse()
    x, labels = images(4)[:, :, ::4, ::4].contiguous(memory_format=torch.channels_last), torch.tensor([0, 3, 1, 2])
    wanted, found = learnt(plain, x, labels), learnt(fused, x, labels)
    assert wanted.keys() == found.keys()
    for name, right in wanted.items():
        torch.testing.assert_close(found[name], right, rtol=2e-3, atol=2e-4, msg=name)


@pytest.mark.usefixtures("as_a_gpu")
def test_no_pass_is_left_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each BN of a step goes through the kernels once each way; evaluation through those with given statistics."""
    own, seen = gpu.kernels(), list[str]()

    def counted(name: str) -> Callable[..., Any]:
        original = getattr(own, name)

        def call(*given: Any, **more: Any) -> Any:
            seen.append(name)
            return original(*given, **more)

        return call

    names = ("forward", "backward", "inference")
    for name in names:
        monkeypatch.setattr(own, name, counted(name))
    net = build(SMALL).fuse().to(memory_format=torch.channels_last)
    norms = sum(isinstance(module, BatchNorm2d) for module in net.modules())
    learnt(net, images(2)[:, :, ::8, ::8].contiguous(memory_format=torch.channels_last), torch.tensor([0, 1]))
    assert [seen.count(name) for name in names] == [norms, norms, norms]


@pytest.mark.usefixtures("as_a_gpu")
@pytest.mark.parametrize("activation", ["none", "relu", "gelu"])
def test_gradients_by_differences(activation: norm.Activation) -> None:
    """gradcheck of both outputs, away from ReLU's corner: no y lies closer to zero than a difference reaches."""
    draw = torch.Generator().manual_seed(3)
    shapes = ((2, 3, 2, 2), (2, 3, 2, 2), (3,), (3,))
    leaves = [torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_() for shape in shapes]

    def run(*leaves: Tensor, activation: norm.Activation = activation) -> tuple[Tensor, Tensor]:
        x, residual, weight, bias = (leaf.float() for leaf in leaves)  # the kernels compute in fp32
        x, residual = (each.contiguous(memory_format=torch.channels_last) for each in (x, residual))
        y, twin, _, _ = norm.norm_training(x, residual, weight, bias, eps=1e-5, groups=2, activation=activation)
        return y.double(), twin.double()

    assert float(run(*leaves, activation="none")[0].detach().abs().min()) > 0.02
    assert torch.autograd.gradcheck(run, leaves, eps=2e-3, atol=2e-3, rtol=2e-3, fast_mode=True)


@pytest.mark.usefixtures("as_a_gpu")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_the_kernels_cannot_read_is_left_to_pytorch(layout: torch.memory_format, dtype: torch.dtype) -> None:
    x = torch.randn(4, 3, 2, 2).to(dtype, memory_format=layout)
    taken = layout == torch.channels_last and dtype != torch.float64
    assert norm.supports(x, 2) is taken
    assert not norm.supports(x[:1, :, :1, :1], 1), "no variance of one number"
    assert not norm.supports(x, 3), "groups of unequal size"


def test_where_they_come_out_right_they_are_used() -> None:
    assert gpu.tried(torch.device("cpu")) is None


@pytest.mark.parametrize("broken", [0, 1, 2, 3, 4])
def test_where_they_come_out_wrong_that_is_seen(monkeypatch: pytest.MonkeyPatch, broken: int) -> None:
    """Each of the five results: y, and the gradients of x, the residual, scale and shift."""
    own = gpu.kernels()
    forward, backward = own.forward, own.backward

    def wrong(found: tuple[Tensor, ...], which: int) -> tuple[Tensor, ...]:
        return tuple(1.1 * each if i == which else each for i, each in enumerate(found))

    monkeypatch.setattr(own, "forward", lambda *a, **k: wrong(forward(*a, **k), broken))
    monkeypatch.setattr(own, "backward", lambda *a, **k: wrong(backward(*a, **k), broken - 1))
    assert "otherwise than by PyTorch" in str(gpu.tried(torch.device("cpu")))


@pytest.mark.parametrize(
    ("capability", "found", "fails", "said"),
    [
        ((7, 5), True, None, "need compute capability 8.0, and cuda:0 has 7.5"),
        ((9, 0), False, None, "Triton is not installed"),
        ((9, 0), True, RuntimeError("ptxas: no\nsuch option"), "RuntimeError: ptxas: no"),
        ((9, 0), True, None, None),
    ],
)
def test_what_is_missing_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capability: tuple[int, int], found: bool,
    fails: Exception | None, said: str | None,
) -> None:  # fmt: skip
    def tried(device: torch.device) -> None:
        if fails is not None:
            raise fails

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found or None)
    monkeypatch.setattr(gpu, "tried", tried)
    monkeypatch.setenv("RESLAB_KERNELS", "own")
    gpu.unusable.cache_clear()
    try:
        with caplog.at_level(logging.WARNING, "reslab"):
            answers = [gpu.usable(torch.device("cuda", 0)) for _ in range(3)]
        assert answers == 3 * [said is None]
        lines = [record.getMessage() for record in caplog.records]
        assert lines == [] if said is None else len(lines) == 1
        assert said is None or said in lines[0]
        monkeypatch.setenv("RESLAB_KERNELS", "library")
        assert not gpu.usable(torch.device("cuda", 0)), "asked for PyTorch's own"
    finally:
        gpu.unusable.cache_clear()
    assert not gpu.usable(torch.device("cpu"))
