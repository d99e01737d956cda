"""Compiles the GPU's kernels as their launchers call them, for cards that are not here. Run by itself, not imported.

    python tests/kernels/ahead.py 80 90

Prints a line for each kernel and set of arguments: compute capability, name, bytes of shared memory.
"""

import os
import sys
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from reslab.kernels import triton_conv as convolutions
from reslab.kernels import triton_norm as norms
from reslab.kernels import triton_pool as pools
from reslab.kernels import triton_shift as shifts
from reslab.kernels.shift import Values

TYPES = {
    torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.int64: "*i64", torch.uint8: "*u8",
}  # fmt: skip
CAPABILITIES = [int(word) for word in sys.argv[1:]]
SEEN: set[tuple[Any, ...]] = set()


def compiled(self: JITFunction, *given: Any, grid: Any, warmup: bool = False, **named: Any) -> None:
    """In place of a launch."""
    arguments = dict(zip(self.arg_names, given, strict=False)) | named
    signature, constants = {}, {}
    for parameter in self.params:
        value = arguments[parameter.name]
        one = isinstance(value, int) and value == 1 and not parameter.do_not_specialize  # Triton makes a constant of it
        if parameter.is_constexpr or one:
            signature[parameter.name], constants[parameter.name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[parameter.name] = TYPES[value.dtype]
        else:
            signature[parameter.name] = "fp32" if isinstance(value, float) else "i32" if value < 2**31 else "i64"
    key = (self.__name__, *signature.items(), *constants.items())
    if key in SEEN:
        return
    SEEN.add(key)
    for capability in CAPABILITIES:
        target = GPUTarget("cuda", capability, 32)
        made = triton.compile(ASTSource(self, signature=signature, constexprs=constants), target=target)
        assert made.asm["cubin"], "no machine code"
        print(capability, self.__name__, made.metadata.shared, flush=True)


def normalisation(channels: int, side: int, dtype: torch.dtype, activations: tuple[int, ...]) -> None:
    """As a network calls it: with an addition and without, its output used once and twice."""
    x = torch.zeros(4, channels, side, side, dtype=dtype).contiguous(memory_format=torch.channels_last)
    one, count = torch.ones(channels), torch.tensor(0)
    for activation in activations:
        for residual in (None, x):
            y, saved = norms.forward(
                x, residual, one, one, eps=1e-5, groups=2, activation=activation, running=(one, one, 0.1, count)
            )
            norms.inference(x, residual, one, one, one, one, eps=1e-5, activation=activation)
            seen = None if residual is None or activation == norms.NONE else y
            norms.backward(
                x, residual, x, seen, one, one, saved, groups=2, activation=activation, has_residual=seen is not None
            )


def pooling(channels: int, dtype: torch.dtype) -> None:
    x = torch.zeros(2, channels, 7, 8, dtype=dtype).contiguous(memory_format=torch.channels_last)
    for side, pad in ((2, 0), (3, 1)):
        y, which = pools.forward(x, side, pad)
        pools.backward(y, which, x.shape, side, pad)


def narrow(channels: int, made: int) -> None:
    shapes = ((4, channels, 8, 9), (made, channels, 3, 3), (4, made, 8, 9))
    x, weight, grad = (
        torch.zeros(shape, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last) for shape in shapes
    )
    convolutions.forward(x, weight)
    if channels in convolutions.WIDTHS:
        convolutions.backward_x(grad, weight)
    convolutions.backward_weight(x, grad)


def batches(channels: int, side: int) -> None:
    """With all that a normaliser and an augmentation may hold, and without."""
    images = torch.zeros(4, channels, side, side, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    index, one = torch.arange(4), torch.ones(channels)
    plain = Values(torch.zeros(channels, 256), one)
    whole = Values(plain.table, one, torch.zeros(side, side, channels), one, one)
    for values, flips, pad, reflects in (
        (plain, shifts.NO_FLIP, 0, False), (plain, shifts.FLIP, 4, False), (plain, shifts.ALTERNATING, 4, True),
        (whole, shifts.FLIP, 0, False), (whole, shifts.ALTERNATING, 4, False),
    ):  # fmt: skip
        shifts.shifted(
            images, index, index, values, seed=2**32 - 1, keys=(1, 2, 3), pad=pad, flips=flips, reflects=reflects
        )


if __name__ == "__main__":
    JITFunction.run = compiled
    normalisation(16, 8, torch.bfloat16, (norms.RELU, norms.GELU))
    normalisation(3, 4, torch.float32, (norms.NONE,))
    norms.FEW, norms.MOST_PARTS, norms.TILE = 0, 1, 256  # as of large activations, whose parts are merged
    normalisation(16, 16, torch.bfloat16, (norms.RELU,))
    narrow(16, 16)
    narrow(64, 64)
    narrow(3, 16)
    pooling(64, torch.bfloat16)
    batches(3, 32)
