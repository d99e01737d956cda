"""Unwraps weights as training scripts save them: nested dictionaries, averaged weights, name prefixes.

Each layout stands here with the program that writes it. What is taken, and what is left aside, is said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from reslab.errors import InputError
from reslab.weights.names import DEFAULT, Which

NESTS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params", "module",
    "student",  # DINO
)  # fmt: skip
"""Where training scripts put the weights inside what they save, in the order of preference."""

AVERAGES = (
    "state_dict_ema",  # timm
    "model_ema",  # torchvision
    "ema_state_dict", "ema_model_state_dict", "model_ema_state_dict", "ema_model", "ema", "params_ema",
    "averaged_model", "swa_state_dict", "swa_model",
    "teacher",  # DINO
)  # fmt: skip
"""Where they put the average of the weights over the training."""

SWAPPED = "current_model_state"
"""Lightning's weight averaging keeps the average as ``state_dict``, and the weights of the last step here."""

PREFIXES = (
    "module", "model", "net", "network", "backbone", "encoder", "timm_model", "ema_model", "averaged_model",
)  # fmt: skip
"""What wrappers put before every name: DataParallel, Lightning, Transformers around timm, and others."""

_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Parts of names that torch.compile, FSDP and checkpointing of activations put in, wherever a module was wrapped."""

COUNTERS = ("n_averaged", "steps", "num_updates", "initted")
"""What counts the updates of an average beside it: `torch.optim.swa_utils.AveragedModel`, mmengine, and others."""


@dataclass(frozen=True)
class Unwrapped:
    """The weights of a file under the names that stand in it, without what was around all of them."""

    tensors: dict[str, Tensor]
    said: tuple[str, ...] = ()
    """notes: what was unwrapped, chosen and ignored"""
    which: Which | None = None
    """average or not, where the file says"""


def unwrapped(loaded: Any, path: Path, which: Which | None = None) -> Unwrapped:
    """The weights in what a script saved.

    Raises `InputError` where there are none, or not those that were asked for.
    """
    said: list[str] = []
    known: Which | None = None
    for _ in range(4):
        if not isinstance(loaded, Mapping):
            break
        if _is_state(loaded):
            found = _state(loaded)
            if found.which == "ema" and known is None and which == "raw":
                raise only_averaged(path)
            return Unwrapped(found.tensors, (*said, *found.said), known or found.which)
        nest, kind, text = _nest(loaded, path, which if known is None else None)
        if not nest:
            break
        said.append(text)
        known = known or kind
        loaded = loaded[nest]
    raise InputError(f"{path}: expected a state dict (names to tensors), found {_outline(loaded)}")


def only_averaged(where: object) -> InputError:
    """The error for asking for raw weights if a file has only the average."""
    return InputError(f"{where} holds only the average of the weights, not those of the last step; leave out --which")


def not_averaged(where: object) -> InputError:
    """The error for asking for averaged weights if a file has none."""
    return InputError(f"{where} holds one set of weights, without an average of them; leave out --which")


def taken(chosen: Which, raw: str, average: str, which: Which | None) -> str:
    """The note for a file that holds both raw and averaged weights."""
    other = "raw" if chosen == "ema" else "ema"
    first = f"holds the weights of the last step ({raw}) and their average over the training ({average})"
    what = "the average" if chosen == "ema" else "those of the last step"
    return f"{first}: using {what}{'' if which else f'; --which {other} uses the other'}"


def _outline(loaded: Any) -> str:
    if not isinstance(loaded, Mapping):
        return f"a {type(loaded).__name__}"
    kind = ""
    if {"state", "param_groups"} <= loaded.keys() or "base_lrs" in loaded:
        kind = "what an optimizer or a schedule keeps, with "
    names = ", ".join(map(str, list(loaded)[:5]))
    return f"{kind}keys {names}{', ...' if len(loaded) > 5 else ''}" if names else "an empty dictionary"


def _is_state(value: Any) -> bool:
    """Whether names lead to tensors: all of them, or some of the form ``layer.parameter``."""
    if not isinstance(value, Mapping) or not value:
        return False
    if all(isinstance(v, Tensor) for v in value.values()):
        return True
    return any(isinstance(v, Tensor) and isinstance(k, str) and "." in k for k, v in value.items())


def _holds(value: Any, depth: int = 3) -> bool:
    """Whether weights are found in a value that a key leads to."""
    if not isinstance(value, Mapping):
        return False
    return _is_state(value) or (depth > 0 and any(_holds(value.get(name), depth - 1) for name in (*NESTS, *AVERAGES)))


def _nest(loaded: Mapping[Any, Any], path: Path, which: Which | None) -> tuple[str, Which | None, str]:
    """The key that leads on, whether to an average, and what is said of it."""
    raw = next((name for name in NESTS if _holds(loaded.get(name))), "")
    average = next((name for name in AVERAGES if _holds(loaded.get(name))), "")
    if _holds(loaded.get(SWAPPED)):
        raw, average = SWAPPED, raw
    elif average == "ema_state_dict" and "steps" in loaded[average] and "message_hub" in loaded:
        raw, average = average, raw  # mmengine swaps the two, so that the average is what is found by default
    if raw and average:
        chosen = which or DEFAULT
        said = taken(chosen, f"'{raw}'", f"'{average}'", which)
        return (average if chosen == "ema" else raw), chosen, said
    if average:
        if which == "raw":
            raise only_averaged(path)
        return average, "ema", f"taken from its '{average}', the average of the weights over the training"
    return raw, None, f"taken from its '{raw}'"


def _state(loaded: Mapping[Any, Any]) -> Unwrapped:
    """The tensors of a state dict without what was put before all names and beside them."""
    tensors = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    others = [str(name) for name, value in loaded.items() if not isinstance(value, Tensor)]
    averaged = False
    counters = [name for name in COUNTERS if name in tensors and tensors[name].dim() == 0]
    rest = [name for name in tensors if name not in counters]
    if counters and rest and all(name.startswith("module.") for name in rest):
        tensors, averaged = {name: tensors[name] for name in rest}, True
    tensors, said = stripped(tensors)
    if averaged:
        said = (f"the average of the weights over the training ({', '.join(counters)} beside them)", *said)
    if others:
        said = (*said, left_aside(others))
    return Unwrapped(tensors, said, "ema" if averaged else None)


def left_aside(names: Sequence[str]) -> str:
    """The note about names in a file that do not belong to the network."""
    more = f", ... ({len(names)} in all)" if len(names) > 4 else ""
    return f"ignored, not part of the network: {', '.join(names[:4])}{more}"


def stripped(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Removes the name prefixes of wrappers; returns notes about what was removed."""
    gone: list[str] = []
    while tensors:
        first = {name.partition(".")[0] for name in tensors}
        if len(first) != 1 or (prefix := first.pop()) not in (*PREFIXES, *_WRAPPERS):
            break
        tensors = {name.partition(".")[2]: tensor for name, tensor in tensors.items()}
        gone.append(prefix)
    said = [f"prefix '{'.'.join(gone)}.' removed from its names"] if gone else []
    marks = sorted({part for name in tensors for part in name.split(".") if part in _WRAPPERS})
    plain = {".".join(part for part in name.split(".") if part not in _WRAPPERS): t for name, t in tensors.items()}
    if marks and len(plain) == len(tensors):
        tensors = plain
        said.append(f"{', '.join(marks)} removed from within its names")
    return tensors, tuple(said)
