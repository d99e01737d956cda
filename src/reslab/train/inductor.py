"""A network's forward and backward compiled by PyTorch (TorchDynamo, TorchInductor): fewer, larger kernels."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from reslab.errors import InputError

BACKEND = "inductor"


def compiled(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """The compiled network, which shares the weights; compiled at the first call, a minute or more.

    Shapes are taken as they come: another size of the images or of the batch compiles anew.
    """
    # That a machine with CUDA's tools has no GPU is nothing to be told of.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    return torch.compile(net, dynamic=False, backend=BACKEND)


def freeze() -> None:
    """Makes later compilations for inference in this process treat weights as constants.

    They are then laid out beforehand as the kernels want them, and BN becomes a part of the convolutions.
    """
    from torch._inductor import config  # takes seconds to import

    config.freezing = True


@contextmanager
def said_plainly(compiling: bool = True) -> Iterator[None]:
    """Turns errors of the compiler, which come from deep inside at the first calls, into one line.

    Raises:
        InputError: there is no C++ compiler or no Triton, or a part of the network cannot be compiled.
    """
    try:
        yield
    except Exception as error:
        if not compiling:
            raise
        from torch._dynamo.exc import TorchDynamoException  # takes seconds to import
        from torch._inductor.exc import CppCompileError, InvalidCxxCompiler

        if not isinstance(error, TorchDynamoException | CppCompileError | InvalidCxxCompiler):
            raise
        cause = getattr(error, "inner_exception", error)
        why = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        raise InputError(f"--compile does not work here ({why}); leave it out") from error
