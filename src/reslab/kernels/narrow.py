"""3x3 convolutions of few channels on a GPU: of each pass the quicker of our kernel and the library's, measured once.

A step computes y, the gradient of x and that of the weight. Which of two kernels is quicker depends on the card, the
shape and the library's version, so both are timed when a shape is first met, as the card runs them in a captured step.
"""

import logging
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from reslab.errors import first_line
from reslab.kernels import choice, gpu

log = logging.getLogger("reslab")

Pass = Literal["y", "the gradient of x", "the gradient of the weight"]
CLOSE = 0.02
"""How far results may be from the library's, as a share of the largest: both round to 8 bits."""
MOST = 2**31
"""Numbers of an activation, which are counted in 32 bits."""
TYPES = (torch.bfloat16, torch.float16)
_LIBRARYS = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)
"""Stride, padding, dilation, whether transposed, output padding and groups."""
_known: dict[tuple[tuple[int, ...], int, torch.dtype, torch.device], dict[Pass, bool]] = {}


def supports(x: Tensor, weight: Tensor, conv: nn.Conv2d) -> bool:
    """Whether the kernels can compute a layer on an activation (N, C, H, W) with a weight of its type.

    Where kernels have to repeat themselves bit for bit, what runs must not hang on a measurement: the library's then.
    """
    return (
        conv.kernel_size == (3, 3)
        and conv.stride == conv.padding == conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.bias is None
        and conv.padding_mode == "zeros"
        and weight.shape == (conv.out_channels, x.shape[1], 3, 3)
        and weight.device == x.device
        and x.dtype in TYPES
        and weight.dtype == x.dtype
        and gpu.takes(x)
        and x.shape[1] in gpu.convolutions().TAKEN
        and conv.out_channels in gpu.convolutions().WIDTHS
        and weight.is_contiguous(memory_format=torch.channels_last)
        and x.numel() // x.shape[1] * max(x.shape[1], conv.out_channels) < MOST
        and not torch.are_deterministic_algorithms_enabled()
    )


def conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    """The convolution of x (N, C, H, W) with weight (C', C, 3, 3), as `supports` requires: (N, C', H, W)."""
    y: Tensor = _Conv.apply(x, weight)
    return y


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        ways = _ways(x, weight, None)["y"]
        with torch.cuda.device_of(x):
            y: Tensor = ways[_own("y", x, weight)]()
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled():  # gradients of gradients are wanted, which the library's operator has
            needed = [*ctx.needs_input_grad, False]
            of = torch.ops.aten.convolution_backward(grads[0], x, weight, None, *_LIBRARYS, needed)
            return of[0], of[1]
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        ways = _ways(x, weight, grad)
        names: tuple[Pass, Pass] = ("the gradient of x", "the gradient of the weight")
        with torch.cuda.device_of(x):
            of_x, of_weight = (
                ways[name][_own(name, x, weight)]() if needed else None
                for name, needed in zip(names, ctx.needs_input_grad, strict=True)
            )
        return of_x, of_weight


def _ways(x: Tensor, weight: Tensor, grad: Tensor | None) -> dict[Pass, tuple[Callable[[], Tensor], ...]]:
    """Each pass by the library, and by our kernel."""
    own, library = gpu.convolutions(), torch.ops.aten

    def back(*mask: bool) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = library.convolution_backward(grad, x, weight, None, *_LIBRARYS, [*mask, False])
        return found

    by_us = own.backward_x if x.shape[1] in own.WIDTHS else lambda *_: back(True, False)[0]
    return {
        "y": (lambda: library.convolution(x, weight, None, *_LIBRARYS), lambda: own.forward(x, weight)),
        "the gradient of x": (lambda: back(True, False)[0], lambda: by_us(grad, weight)),
        "the gradient of the weight": (lambda: back(False, True)[1], lambda: own.backward_weight(x, grad)),
    }


def _own(name: Pass, x: Tensor, weight: Tensor) -> bool:
    if choice.rule() == "own":
        return True
    return _quicker(tuple(x.shape), weight.shape[0], x.dtype, x.device)[name]


def _quicker(shape: tuple[int, ...], made: int, dtype: torch.dtype, device: torch.device) -> dict[Pass, bool]:
    """Whether our kernel is the quicker one, and right, for each pass on an activation of this shape."""
    asked = (shape, made, dtype, device)
    if asked not in _known:
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            return dict.fromkeys(get_args(Pass), False)  # nothing can be timed now
        try:
            _known[asked] = _measured(*asked)
        except RuntimeError as error:  # of memory, most likely, which a training may have enough of without this
            log.warning("3x3 convolutions of %s could not be timed (%s): PyTorch's run", shape, first_line(error))
            _known[asked] = dict.fromkeys(get_args(Pass), False)
    return _known[asked]


def _measured(shape: tuple[int, ...], made: int, dtype: torch.dtype, device: torch.device) -> dict[Pass, bool]:
    n, channels, height, width = shape
    what = f"3x3 convolution of {channels} to {made} channels, {n} images of {height}x{width}"
    draw = torch.Generator(device).manual_seed(0)  # of its own, so that a training's random numbers stay the same
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        x, weight, grad = (
            torch.randn(size, device=device, generator=draw).to(dtype, memory_format=torch.channels_last)
            for size in (shape, (made, channels, 3, 3), (n, made, height, width))
        )
        found: dict[Pass, bool] = {}
        for name, (library, own) in _ways(x, weight, grad).items():
            found[name] = gpu.agrees(f"{what}, {name}", own, library(), within=CLOSE)
            if found[name]:
                theirs, ours = gpu.microseconds(library, device), gpu.microseconds(own, device)
                found[name] = ours < theirs
                log.info("%s: %s takes %.1f us by our kernel, %.1f by the library's", what, name, ours, theirs)
    return found
