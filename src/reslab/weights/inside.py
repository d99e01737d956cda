"""The network among the names of a state dict: under which prefix it stands, beside what, and which layer is its head.

Training code keeps a backbone beside a loss, a projection head, a queue or a second copy of itself. What is taken
under our names, and what is left aside, is said.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from reslab.errors import InputError
from reslab.weights.fit import headless
from reslab.weights.keys import to_ours
from reslab.weights.names import DEFAULT, Which
from reslab.weights.recognise import is_known
from reslab.weights.wrapped import left_aside, taken

_BLOCK = re.compile(
    r"(?P<prefix>([\w-]+\.)*?)"
    r"(layer1\.0\.|stages\.0\.blocks\.0\.|(resnet\.)?embedder\.embedder\.convolution\.|conv2_x\.0\.residual_function\."
    r"|block1\.layer\.0\.|4\.0\.conv1\.)"
)
"""The first block of a residual network, in any dialect, behind what stands before all of the network's names."""

_AVERAGE = re.compile(r"(^|[._])(ema|teacher|target|momentum|averaged?|swa|shadow|encoder_k|key_encoder)([._]|$)")
"""Of two networks in one state dict the name of that which follows the other: DINO, BYOL, MoCo, and averages."""

_HEADS = ("fc", "head", "heads", "classifier", "cls_head", "linear", "last_linear", "classification_head", "logits")
"""What the last layer is called beside a backbone: mmpretrain, DINO, SimCLR and others."""

_ASIDE = (
    *_HEADS, "criterion", "loss", "loss_fn", "loss_func", "projector", "projection", "projection_head", "predictor",
    "prediction_head", "prototypes", "queue", "queue_ptr", "aux", "aux_head", "aux_classifier", "class_weights",
    "pos_weight", "neck",
)  # fmt: skip
"""What stands behind or beside a network's features, and has no part in them."""


@dataclass(frozen=True)
class Inside:
    """A network's parameters under our names."""

    tensors: dict[str, Tensor]
    dialect: str
    said: tuple[str, ...] = ()
    which: Which | None = None
    """average or not, where there were both"""


def inside(tensors: Mapping[str, Tensor], which: Which | None = None) -> Inside:
    """The network in a state dict. Names that are of none stay as they are, to be recognised or refused.

    Raises `InputError` for several networks of which none is an average of another.
    """
    prefix, others, said, known = _chosen(tensors, which)
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if _is_under(name, prefix, others)}
    beside = {name: tensor for name, tensor in tensors.items() if not _is_under(name, prefix, (*others, prefix))}
    if not prefix:
        beside = {}
    ours, dialect = to_ours(own)
    loose = [name for name in ours if not is_known(name) and name.partition(".")[0] in _ASIDE]
    beside |= {name: ours.pop(name) for name in loose}
    if prefix:
        said = (*said, f"taken from the names that begin with '{prefix}'")
    if beside and headless(ours) and (head := _head(ours, beside)):
        ours |= {f"fc.{kind}": beside.pop(f"{head}.{kind}") for kind in ("weight", "bias")}
        said = (*said, f"its '{head}' taken as the network's last layer (fc)")
    if beside:
        said = (*said, left_aside(list(beside)))
    return Inside(ours, dialect.name, said, known)


def _is_under(name: str, prefix: str, others: Iterable[str]) -> bool:
    return name.startswith(prefix) and not any(name.startswith(o) for o in others if len(o) > len(prefix))


def _prefixes(names: Iterable[str]) -> list[str]:
    """The name prefixes of the networks in a file, in file order."""
    known = list(names)
    there = set(known)
    found: dict[str, None] = {}
    for name in known:
        if match := _BLOCK.match(name):
            prefix = match["prefix"]
            # A sequence of layers: its fourth is a stage, if its first two are a stem.
            if match[3] == "4.0.conv1." and not {f"{prefix}0.weight", f"{prefix}1.running_mean"} <= there:
                continue
            found[prefix] = None
    return list(found)


def _chosen(
    tensors: Mapping[str, Tensor], which: Which | None
) -> tuple[str, tuple[str, ...], tuple[str, ...], Which | None]:
    """The prefix of the network that is taken, those of the others, what is said, and whether it is an average."""
    prefixes = _prefixes(tensors)
    if len(prefixes) < 2:
        return (prefixes[0] if prefixes else ""), (), (), None
    averages = [prefix for prefix in prefixes if _AVERAGE.search(prefix)]
    own = [prefix for prefix in prefixes if prefix not in averages]
    if len(averages) != 1 or len(own) != 1:
        listed = ", ".join(f"'{prefix}'" if prefix else "no prefix" for prefix in prefixes[:4])
        raise InputError(
            f"expected one network, found {len(prefixes)}, under {listed}: save the state dict of the one that is meant"
        )
    chosen = which or DEFAULT
    prefix, other = (averages[0], own[0]) if chosen == "ema" else (own[0], averages[0])
    said = taken(chosen, f"'{own[0]}'" if own[0] else "names without a prefix", f"'{averages[0]}'", which)
    return prefix, (other,), (said,), chosen


def _head(ours: Mapping[str, Tensor], beside: dict[str, Tensor]) -> str:
    """The one linear layer beside a backbone that takes its features and has a head's name; "" if there is none."""
    lasts = [name for name in ours if re.fullmatch(r"layer\d+\.\d+\.conv\d+\.weight", name)]
    if not lasts:
        return ""
    numbers = {name: tuple(int(digits) for digits in re.findall(r"\d+", name)) for name in lasts}
    width = len(ours[max(lasts, key=lambda name: numbers[name])])
    found = []
    for name, tensor in beside.items():
        layer = name.removesuffix(".weight")
        if layer == name or tensor.dim() != 2 or tensor.shape[1] != width:
            continue
        parts = [part for part in layer.split(".") if part not in ("module", "model", "0")]
        root = next((part for part in parts if part in _HEADS), "")
        # Alone under its name: of several layers none is the head by itself.
        siblings = [other for other in beside if root and other.startswith(layer[: layer.index(root) + len(root)])]
        lone = len([other for other in siblings if beside[other].dim() > 1]) == 1
        if layer.isdigit():  # nn.Sequential(backbone, nn.Flatten(), nn.Linear(...))
            lone = len(beside) == 2
        if lone and (bias := beside.get(f"{layer}.bias")) is not None and bias.shape == (len(tensor),):
            found.append(layer)
    return found[0] if len(found) == 1 else ""
