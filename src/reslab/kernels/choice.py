"""Which of two kernels is quicker here: measured once for each shape, and kept on disk.

No rule holds for all processors. A kernel of ours for narrow convolutions is quicker than the library's where bf16 is
multiplied in vectors, and takes several times as long where there are tiles of it (AMX). So both are tried for some
milliseconds when a shape is first met, and the answer is kept for the processor, the version of PyTorch and the
kernels: a training that is resumed, and all ranks of one on a machine, take the same.
"""

import functools
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from reslab.compiled import cache_folder, fingerprint
from reslab.errors import InputError
from reslab.kernels.build import SOURCE, SUFFIX

log = logging.getLogger("reslab")

Rule = Literal["measured", "own", "library"]
VARIABLE = "RESLAB_KERNELS"
"""Of the environment: own or library takes that one always, without measuring."""
TRIES = 4
MEASURED, LARGE = 64, 16 * 32 * 32
"""Images that a layer is measured with, at the most, and numbers of an image from which on there are fewer."""
_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
"""Of the environment: what may make the library slower than the processor would let it be."""

_known: dict[str, bool] = {}


def rule() -> Rule:
    """How is decided.

    Raises:
        InputError: the variable of the environment holds something else.
    """
    match os.environ.get(VARIABLE, "measured"):
        case "measured" | "own" | "library" as known:
            return known
        case other:
            raise InputError(f"{VARIABLE} is measured, own or library, got '{other}'")


def own_is_quicker(shape: str, own: Callable[[], object], library: Callable[[], object]) -> bool:
    """Whether our kernel is the quicker one.

    Args:
        shape: what the answer is for, in words that hold everything it depends on but processor and versions.
        own: runs our kernel.
        library: runs the general library's, for the same result.
    """
    given = rule()
    if given != "measured":
        return given == "own"
    limits = [f"{name}={os.environ[name]}" for name in _LIMITS if name in os.environ]
    words = [shape, "in the time of a thread", torch.__version__, *limits]
    key = hashlib.sha256("\n".join([*words, fingerprint(SOURCE)]).encode()).hexdigest()[:16]
    if key not in _known:
        _known[key] = _kept(key, shape, own, library)
    return _known[key]


def layer_pays(
    x: Tensor, conv: nn.Conv2d, own: Callable[[Tensor, Tensor], Tensor], library: Callable[[Tensor, Tensor], Tensor]
) -> bool:  # fmt: skip
    """Whether our way to compute a convolution is quicker on such an activation: forward, and backward where wanted.

    Args:
        x: (N, C, H, W), channels-last.
        conv: the layer.
        own: our way, from an activation and a weight in fp32.
        library: the library's.
    """
    n, channels, height, width = x.shape
    side, stride = conv.kernel_size[0], conv.stride[0]
    trains = torch.is_grad_enabled() and (x.requires_grad or conv.weight.requires_grad)
    most = max(1, min(n, MEASURED * LARGE // max(LARGE, channels * height * width)))
    images = 1 << (most.bit_length() - 1)
    shape = (
        f"{side}x{side} of {channels} to {conv.out_channels} channels, stride {stride}, in {SUFFIX[x.dtype]}, "
        f"{images} images of {height}x{width}, {'forward and backward' if trains else 'forward'}"
    )

    @functools.cache
    def operands() -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(0)
        of_images = torch.randn((images, channels, height, width), generator=draw).to(x.dtype)
        weight = torch.randn(conv.weight.shape, generator=draw)
        return (
            of_images.contiguous(memory_format=torch.channels_last),
            weight.contiguous(memory_format=torch.channels_last),
        )

    def run(layer: Callable[[Tensor, Tensor], Tensor]) -> None:
        of_images, weight = (each.detach() for each in operands())
        with torch.set_grad_enabled(trains), torch.autocast("cpu", enabled=False):
            y = layer(of_images.requires_grad_(trains), weight.requires_grad_(trains))
            if trains:
                y.backward(torch.empty_like(y).fill_(0.5))

    return own_is_quicker(shape, lambda: run(own), lambda: run(library))


def _kept(key: str, shape: str, own: Callable[[], object], library: Callable[[], object]) -> bool:
    """The answer on disk; measured if there is none, and written there where that is possible."""
    target = cache_folder() / "choices" / f"{key}.txt"
    try:
        return target.read_text().startswith("own")
    except OSError:
        pass
    ours, theirs = _milliseconds(own, library)
    answer = "own" if ours < theirs else "library"
    said = f"{answer}: {shape}: {ours:.3f} ms by our kernel, {theirs:.3f} ms by the library's\n"
    log.info(said.strip())
    try:
        return _written(target, said).startswith("own")
    except OSError:
        return answer == "own"


def _written(target: Path, text: str) -> str:
    """What stands in a file: the text, unless another process was first."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=target.parent) as scratch:
        scratch.write(text)
        scratch.flush()
        try:
            os.link(scratch.name, target)
        except FileExistsError:
            return target.read_text()
    return text


def _milliseconds(own: Callable[[], object], library: Callable[[], object]) -> tuple[float, float]:
    """The best of a few tries of each, by turns, on one thread and in its own time.

    By the clock on the wall, with several threads that wait for each other, others at work on the machine would decide.
    """
    best = [float("inf"), float("inf")]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for number in range(TRIES + 1):
            for which, work in enumerate((own, library)):
                start = time.thread_time()
                work()
                spent = time.thread_time() - start
                if number:  # the first warms up
                    best[which] = min(best[which], 1e3 * spent)
    finally:
        torch.set_num_threads(threads)
    return best[0], best[1]
