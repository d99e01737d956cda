"""Where and how a command computes, from its options, and how it is asked to stop."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from reslab.errors import InputError
from reslab.train.device import DAMAGED_SHARE, Execution, cores, pick_device
from reslab.train.distributed import launched


def start(
    device: str | None,
    threads: int | None = None,
    *,
    fused_kernels: bool = True,
    compile: bool = False,
    deterministic: bool = False,
    checkpoint_activations: bool | tuple[int, ...] | None = None,
    memory_budget: int | None = None,
    accumulate: int = 1,
    workers: int | None = None,
    damaged: float | None = None,
    sync_bn: bool = False,
) -> Execution:
    """Resolves where to run, and sets the number of threads."""
    if accumulate < 1:
        raise InputError(f"--accumulate takes 1 or more parts of a batch, got {accumulate}")
    if workers is not None and workers < 0:
        raise InputError(f"--workers takes 0 (no processes beside the training) or more, got {workers}")
    if damaged is not None and not 0 <= damaged <= 1:
        raise InputError(f"--damaged takes a fraction of the images, 0 to 1, got {damaged:g}")
    if threads is not None:
        if threads < 1:
            raise InputError(f"--threads takes 1 or more, got {threads}")
        torch.set_num_threads(threads)
    elif launched():  # torchrun allows each process one thread
        torch.set_num_threads(cores())
    where = pick_device(device)
    if where.type == "cuda" and where.index is not None:
        torch.cuda.set_device(where)  # streams and handles of libraries are made on the current one
    return Execution(
        where,
        fused=fused_kernels,
        compile=compile,
        deterministic=deterministic,
        checkpoint_activations=checkpoint_activations,
        memory_budget=memory_budget,
        accumulate=accumulate,
        workers=workers,
        damaged_share=DAMAGED_SHARE if damaged is None else damaged,
        sync_bn=sync_bn,
    )


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Ctrl-C, or SIGTERM as schedulers send it before they take a machine away, asks; a second one ends at once.

    So a run ends between two iterations, with a checkpoint, and not in the midst of one.
    """
    asked: list[int] = []

    def ask(number: int, _frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
