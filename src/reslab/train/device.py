"""Where a training runs: device, precision and threads, resolved before the first step."""

import ctypes
import os
import sys
from dataclasses import dataclass

import torch

from reslab.errors import InputError
from reslab.kernels.build import library
from reslab.kernels.gpu import usable
from reslab.processor import allowed_cores, level
from reslab.train.distributed import ALONE, World, launched, local_rank, ranks_here
from reslab.train.recipe import Precision

DAMAGED_SHARE = 0.01


@dataclass(frozen=True)
class Execution:
    """How a recipe is carried out. Nothing here changes what is trained, beyond rounding.

    Only dropout and stochastic depth draw otherwise where a batch is worked through in parts, or by several ranks.
    """

    device: torch.device
    fused: bool = True
    compile: bool = False
    """forward and backward compiled by PyTorch, in place of kernels of our own"""
    deterministic: bool = False
    checkpoint_activations: bool | tuple[int, ...] | None = None
    """of all stages, or of these (from 1); None: as many as ``memory_budget`` requires, or none without a budget"""
    memory_budget: int | None = None
    """bytes that a step may take; each rank has as many"""
    graphs: bool = True
    """on CUDA, capture the step and replay it"""
    workers: int | None = None
    """processes that decode photographs; None: all cores but one"""
    damaged_share: float = DAMAGED_SHARE
    """fraction of the photographs that may be damaged before a run stops"""
    accumulate: int = 1
    """parts that a rank's share of a batch is worked through in, to save memory"""
    sync_bn: bool = False
    """BN's statistics may be of the images of several ranks"""
    world: World = ALONE
    """the processes that train together"""

    @property
    def fuses(self) -> bool:
        """Whether the fused kernels are wanted, made for the device, and there."""
        if not self.fused or self.compile:
            return False
        return library() is not None if self.device.type == "cpu" else usable(self.device)

    def most_damaged(self, images: int) -> int:
        """How many of so many photographs may be damaged: at least one, unless none may."""
        return max(1, int(images * self.damaged_share)) if self.damaged_share else 0

    @property
    def captures(self) -> bool:
        """Whether steps are captured as CUDA graphs."""
        return self.graphs and self._at_once

    @property
    def packs(self) -> bool:
        """Whether parameters lie in one piece of memory, and are cast and updated at once."""
        return self.fuses and self._at_once

    @property
    def _at_once(self) -> bool:
        """Whether a step is one forward and one backward pass on one GPU."""
        alone = self.world.alone and self.accumulate == 1
        # A stage that is computed again takes up random numbers where they were, which a graph cannot.
        whole = not self.checkpoint_activations and self.memory_budget is None
        return self.device.type == "cuda" and alone and whole


def cores() -> int:
    """Cores that this process may use: those it is allowed, shared out to the ranks on this machine."""
    return max(1, allowed_cores() // ranks_here())


def pick_device(name: str | None) -> torch.device:
    """The device of that name; by default CUDA where there is one, else the CPU."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if launched() and name.startswith("cuda"):
        if name != "cuda":
            raise InputError(f"--device {name}: with several ranks, each uses its own GPU; give just cuda")
        name = f"cuda:{local_rank()}"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("another kind of device")
    except (RuntimeError, AssertionError):
        have = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise InputError(f"--device {name} is not there; this machine has: {', '.join(have)}") from None
    return device


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 in hardware (elsewhere bf16 is slower than fp32)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        limit = level()
        there = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return bool(there) and (limit is None or limit.bf16)
    return False


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """ "auto" becomes bf16 where the hardware has it, and fp32 elsewhere."""
    if precision == "auto":
        return "bf16" if has_bf16(device) else "fp32"
    return precision


def keep_freed_memory(keep: bool = True) -> None:
    """Lets the C library keep the memory of activations from step to step (glibc; elsewhere nothing happens).

    By default blocks above 32 MB go back to the system when they are freed, and the next step pays for the same
    pages once more: a seventh of ResNet-50's time at 224 pixels (results/kept_memory.json). With ``keep`` False it
    does what it comes to by itself in a process with large blocks: for measuring what others take.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, mmap_threshold, mmap_max = -1, -3, -4
    mallopt(mmap_max, 0 if keep else 65_536)
    mallopt(mmap_threshold, 32 * 2**20)
    mallopt(trim_threshold, 2**31 - 1 if keep else 64 * 2**20)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is used up, on the device or the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    signs = ("not enough memory", "can't allocate", "out of memory", "ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


def use_deterministic_kernels(device: torch.device) -> None:
    """Makes a resumed CUDA run equal an uninterrupted one bit for bit, at some cost in speed."""
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def use_exact_fp32(device: torch.device) -> None:
    """Fp32 means fp32: without this, convolutions on CUDA round their inputs to 10 bits (TF32)."""
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()


def use_usual_fp32(device: torch.device) -> None:
    """PyTorch's defaults, TF32 in convolutions among them, with the search for algorithms that scripts turn on."""
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.benchmark = True


def describe(device: torch.device, precision: str, fused: bool, compiles: bool = False) -> str:
    """One line for the start of a run; ``fused`` is what `Execution.fuses` says."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    how = ["channels-last"]
    if fused:
        how.append("fused BN+ReLU")
    if compiles:
        how.append("compiled (compiling takes a minute or more at the start)")
    off = " (--precision fp32 turns bf16 off)" if precision == "bf16" else ""
    return f"{where}; {precision}, {', '.join(how)}{off}"
