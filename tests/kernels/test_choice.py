"""Which kernel is taken: the one that is quicker here, measured once, the same for all processes."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from reslab.errors import InputError
from reslab.kernels import build, choice, conv
from reslab.nets import build as build_net


@pytest.fixture(autouse=True)
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if build.library() is None:
        pytest.skip("no C++ compiler: there are no kernels")
    monkeypatch.setenv("RESLAB_CACHE", str(tmp_path))
    monkeypatch.delenv("RESLAB_KERNELS", raising=False)
    monkeypatch.setattr(choice, "_known", {})


class Works:
    """Two that take times of their own, on a clock that only they move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, own: float, library: float) -> None:
        self.now, self.calls, self.spent = 0.0, 0, {"own": own, "library": library}
        monkeypatch.setattr(time, "thread_time", lambda: self.now)

    def work(self, which: str) -> None:
        self.calls += 1
        # Warming up takes long, and one try was disturbed.
        self.now += self.spent[which] * (100 if self.calls <= 2 or self.calls in (5, 6) else 1)

    def quicker(self, shape: str = "a shape") -> bool:
        return choice.own_is_quicker(shape, lambda: self.work("own"), lambda: self.work("library"))


@pytest.mark.parametrize(("own", "library", "answer"), [(1.0, 2.0, True), (2.0, 1.0, False)])
def test_the_quicker_is_taken_and_kept(
    own: float, library: float, answer: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:  # fmt: skip
    works = Works(monkeypatch, own, library)
    with caplog.at_level(logging.INFO, "reslab"):
        assert works.quicker() == answer
    assert f"{1e3 * own:.3f} ms by our kernel, {1e3 * library:.3f} ms by the library's" in caplog.text
    calls = works.calls
    assert works.quicker() == answer
    choice._known.clear()  # as another process finds it
    works.spent = {"own": library, "library": own}
    assert works.quicker() == answer
    assert works.calls == calls, "nothing is measured twice"
    assert works.quicker("another shape") != answer
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")  # which no kind of processor is held to
    assert works.quicker() != answer, "a slower library is another question"
    assert len(list((tmp_path / "kernels" / "choices").iterdir())) == 3


def test_the_first_of_two_processes_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    works = Works(monkeypatch, 1.0, 2.0)
    folder = tmp_path / "kernels" / "choices"

    def meanwhile() -> None:
        works.work("own")
        if not list(folder.glob("*.txt")):
            folder.mkdir(parents=True, exist_ok=True)
            key = next(iter(seen))
            (folder / f"{key}.txt").write_text("library: seen by another")

    seen: list[str] = []
    kept = choice._kept

    def noted(key: str, shape: str, own: Callable[[], object], library: Callable[[], object]) -> bool:
        seen.append(key)
        return kept(key, shape, own, library)

    monkeypatch.setattr(choice, "_kept", noted)
    assert not choice.own_is_quicker("a shape", meanwhile, lambda: works.work("library"))


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "kernels").write_text("in the way")
    assert Works(monkeypatch, 1.0, 2.0).quicker()


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    works = Works(monkeypatch, 1.0, 2.0)
    monkeypatch.setenv("RESLAB_KERNELS", "library")
    assert not works.quicker()
    monkeypatch.setenv("RESLAB_KERNELS", "own")
    assert works.quicker()
    assert works.calls == 0
    monkeypatch.setenv("RESLAB_KERNELS", "fast")
    with pytest.raises(InputError, match="RESLAB_KERNELS is measured, own or library, got 'fast'"):
        works.quicker()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("trains", [True, False])
def test_a_layer_is_measured_without_a_trace(dtype: torch.dtype, trains: bool, tmp_path: Path) -> None:
    layer = nn.Conv2d(16, 16, 3, padding=1, bias=False)
    x = torch.zeros(5, 16, 12, 12, dtype=dtype).contiguous(memory_format=torch.channels_last)
    if not conv.supports(x, layer):
        pytest.skip("this processor has no kernel for it")
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    with torch.set_grad_enabled(trains), torch.autocast("cpu", torch.bfloat16):
        answer = conv.pays(x, layer)
    assert layer.weight.grad is None
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    (kept,) = (tmp_path / "kernels" / "choices").iterdir()
    text = kept.read_text()
    assert text.startswith("own" if answer else "library")
    assert "4 images of 12x12" in text, "of the power of two below"
    assert ("forward and backward" in text) == trains


def test_a_network_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = conv.conv3x3
    asked: list[int] = []
    for answer in (True, False):
        calls: list[int] = []

        def counted(x: Tensor, weight: Tensor, calls: list[int] = calls) -> Tensor:
            calls.append(1)
            return kernel(x, weight)

        def said(*_: object, answer: bool = answer) -> bool:
            return answer

        monkeypatch.setattr(conv, "pays", said)
        monkeypatch.setattr(conv, "conv3x3", counted)
        net = build_net("cifar_resnet(depth=8)", size=(8, 8)).to(memory_format=torch.channels_last).fuse()
        net(torch.zeros(4, 3, 8, 8).contiguous(memory_format=torch.channels_last))
        asked.append(len(calls))
    has = build.has("conv16", torch.float32) or build.has("winograd", torch.float32)
    assert asked == [2 if has else 0, 0]
