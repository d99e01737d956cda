"""From a file or a hub's name to weights of a network."""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from reslab.errors import InputError
from reslab.nets.catalog import resolve_any
from reslab.nets.network import Network, build_any
from reslab.nets.reference import build_reference
from reslab.nets.spec import AnyNet, NetSpec, ReferenceSpec
from reslab.nets.weights import hub
from reslab.nets.weights.keys import to_ours
from reslab.nets.weights.preprocessing import Preprocessing
from reslab.nets.weights.recognise import Recognised, Unrecognised, differences, names_and_shapes, recognise, shapes_of

_log = logging.getLogger("reslab")
_NET: TypeAdapter[AnyNet] = TypeAdapter(AnyNet)
FINAL = Path("checkpoints") / "final.safetensors"
"""Where the folder of a run has its result."""
LISTED = 4
"""How many names of parameters an error lists."""


@dataclass(frozen=True)
class Weights:
    """Weights, the network that they are of, and what else is known of them."""

    spec: AnyNet
    tensors: dict[str, Tensor]
    """under our names (a network of another library keeps its own)"""
    origin: str
    dialect: str = "torchvision"
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] | None = None
    """names of the outputs, in their order"""
    said: tuple[str, ...] = ()
    """what was unwrapped, assumed or replaced, for people"""
    header: dict[str, Any] = field(default_factory=dict)
    """what else the file says: recipe, iteration, errors"""
    look_alikes: tuple[str, ...] = ()
    """where the network was told from names and shapes: all of the catalogue that they fit"""

    def as_header(self) -> dict[str, Any]:
        """What a file of ours says beside the tensors."""
        return header_of(self.spec, self.preprocessing, self.classes) | self.header

    def module(self, *, seed: int = 0) -> nn.Module:
        """The network with these weights; a new head, which they do not hold, is drawn from ``seed``."""
        net = build_any(self.spec, seed=seed)
        net.load_state_dict(self.tensors, strict=False)  # `load` has compared names and shapes
        return net

    def network(self, *, seed: int = 0) -> Network:
        """As `module`, for a network of ours; `InputError` for another library's."""
        if not isinstance(self.spec, NetSpec):
            raise InputError(f"{self.origin} holds weights of {self.spec.name}, which is not in Reslab's grammar")
        net = self.module(seed=seed)
        assert isinstance(net, Network)
        return net


def header_of(spec: AnyNet, preprocessing: Preprocessing | None, classes: tuple[str, ...] | None) -> dict[str, Any]:
    """The network, its preprocessing and its classes as plain values, to be kept with its weights."""
    return {
        "net": spec.model_dump(mode="json"),
        "preprocessing": None if preprocessing is None else preprocessing.model_dump(mode="json"),
        "classes": None if classes is None else list(classes),
    }


def load(source: str | Path, *, net: str | AnyNet | None = None, num_classes: int | None = None) -> Weights:
    """Reads weights and finds out which network they are of.

    Args:
        source: a file (``.safetensors``, ``.pth``, ``.pt``, ``.th``, ``.tar``), the folder of a run, or a name on
            a hub: ``torchvision:resnet50/IMAGENET1K_V2``, ``timm:resnet50.a1_in1k``, ``hf:ORG/NAME``.
        net: the network to load them into, where names and shapes cannot tell, or for another on purpose. A
            network with the same names and shapes that computes something else is warned of.
        num_classes: of the network; where it is not that of the weights, the head is replaced.

    Raises:
        InputError: nothing there, not whole, refused as unsafe, of no known network, or not of ``net``.
    """
    found, spec, why = _found(source)
    origin = str(source)
    if net is not None:
        wanted = _named(found, net) if isinstance(net, str) else net
        _warn_of_another_function(found, spec, wanted)
        origin = f"{source}, weights of '{spec.name}'," if spec is not None and not found.look_alikes else str(source)
        spec = wanted
    elif spec is None:
        raise InputError(f"{source} is of no network that is known ({why}); name the network with --net, if it has one")
    tensors, said, head = found.tensors, found.said, _head(spec, found.tensors)
    rows = len(tensors[head[0]]) if head and head[0] in tensors else spec.num_classes
    new: tuple[str, ...] = ()
    if num_classes is not None and num_classes != spec.num_classes:
        spec = resolve_any(spec, num_classes=num_classes)
    if num_classes is not None and num_classes != rows:
        new = head
        tensors = {name: tensor for name, tensor in tensors.items() if name not in head}
        said = (*said, f"a new head: {num_classes} classes instead of {rows} ({', '.join(head)} drawn)")
    _check(tensors, spec, origin, missing=new)
    return replace(found, spec=spec, tensors=_counted(tensors, spec), said=said, classes=None if new else found.classes)


def _found(source: str | Path) -> tuple[Weights, AnyNet | None, str]:
    """The weights, their network if it is known, and why not otherwise."""
    on_hub = isinstance(source, str) and hub.is_hub(source)
    fetched = hub.fetch(str(source)) if on_hub else _local(Path(source).expanduser())
    header, tensors, origin = dict(fetched.header), fetched.tensors, str(source)
    placeholder = ReferenceSpec(library="torchvision", model="", name="")
    if "net" in header:
        if "model.fc.weight" in tensors or any(name.startswith("model.") for name in tensors):
            # A checkpoint in mid-training holds more than weights.
            tensors = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
        spec = _embedded(header.pop("net"), origin)
        own = Weights(
            spec, tensors, origin, "Reslab",
            preprocessing=_preprocessing(header.pop("preprocessing", None), origin) or fetched.preprocessing,
            classes=tuple(header.pop("classes", None) or ()) or fetched.classes,
            said=fetched.said, header=header,
        )  # fmt: skip
        return own, spec, ""
    renamed, dialect = to_ours(tensors)
    other = Weights(placeholder, renamed, origin, dialect.name, fetched.preprocessing, fetched.classes, fetched.said)
    try:
        known: Recognised = recognise(renamed)
    except Unrecognised as reason:
        if (theirs := fetched.reference) is None:
            return other, None, str(reason)
        said = (*fetched.said, f"run by {theirs.library}'s own code, since {reason}")
        return replace(other, tensors=tensors, dialect=theirs.library, said=said), theirs, ""
    said = (*fetched.said, *(f"assumed: {text}" for text in known.assumed))
    return replace(other, spec=known.spec, said=said, look_alikes=known.look_alikes), known.spec, ""


def _local(path: Path) -> hub.Fetched:
    if not path.is_dir():
        return hub.described(path, lambda name: None)
    if (path / FINAL).is_file():
        return hub.described(path / FINAL, lambda name: None)
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (path / name).is_file():
            return hub.described(path / name, lambda beside: path / beside)
    what = "a run that has not ended (no final weights yet)" if (path / "recipe.json").is_file() else "a folder"
    raise InputError(f"{path}: expected a file of weights or a finished run, found {what}; give a checkpoint in it")


def _embedded(value: Any, origin: str) -> AnyNet:
    try:
        return _NET.validate_python(value)
    except ValidationError as error:
        raise InputError(
            f"{origin} describes its network in a way that this version of reslab does not know "
            f"({error.errors()[0]['msg']})"
        ) from None


def _preprocessing(value: Any, origin: str) -> Preprocessing | None:
    try:
        return None if value is None else Preprocessing.model_validate(value)
    except ValidationError as error:
        raise InputError(
            f"{origin} describes its preprocessing in a way that this version of reslab does not know "
            f"({error.errors()[0]['msg']})"
        ) from None


def _named(found: Weights, name: str) -> AnyNet:
    """The network of a name, with the weights' own number of classes and channels unless the name says them."""
    wanted = resolve_any(name)
    if not isinstance(wanted, NetSpec):
        return wanted
    own: dict[str, Any] = {}
    head, first = found.tensors.get("fc.weight"), found.tensors.get("conv1.weight")
    if head is not None and "num_classes" not in name:
        own["num_classes"] = len(head)
    if first is not None and first.dim() == 4 and "in_channels" not in name:
        own["in_channels"] = first.shape[1]
    return resolve_any(name, **own)


def _warn_of_another_function(found: Weights, spec: AnyNet | None, wanted: AnyNet) -> None:
    """v1 and v1.5, option A and plain: weights of one load into the other, and are worthless there."""
    if found.look_alikes or not isinstance(spec, NetSpec) or not isinstance(wanted, NetSpec):
        return  # told from shapes: that was a guess, and the caller knows better
    if (known := differences(spec, wanted)) and names_and_shapes(spec) == names_and_shapes(wanted):
        _log.warning(
            "%s holds weights of '%s'; '%s' has the same names and shapes, but computes something else: %s",
            found.origin, spec.name, wanted.name, "; ".join(known),
        )  # fmt: skip


def _expected(spec: AnyNet) -> dict[str, tuple[int, ...]]:
    if isinstance(spec, NetSpec):
        return shapes_of(spec)
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in build_reference(spec).state_dict().items()}


def _head(spec: AnyNet, tensors: dict[str, Tensor]) -> tuple[str, ...]:
    """Names of the last layer's parameters: the last ones with as many rows as there are classes."""
    if isinstance(spec, NetSpec):
        return ("fc.weight", "fc.bias")
    rows = [name for name, tensor in tensors.items() if tensor.dim() and len(tensor) == spec.num_classes]
    last = rows[-1].rpartition(".")[0] if rows else ""
    return tuple(name for name in rows if name.rpartition(".")[0] == last)


def _check(tensors: dict[str, Tensor], spec: AnyNet, origin: str, missing: tuple[str, ...] = ()) -> None:
    """Raises `InputError` unless names and shapes are those of the network, ``missing`` ones aside."""
    expected = _expected(spec)
    there = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    absent = [n for n in expected if n not in there and n not in missing and not n.endswith("num_batches_tracked")]
    extra = [name for name in there if name not in expected]
    other = [
        f"{name} {_by(there[name])} instead of {_by(shape)}"
        for name, shape in expected.items()
        if name in there and there[name] != shape
    ]
    if not absent and not extra and not other:
        return
    said = [
        f"{len(names)} {what} ({', '.join(names[:LISTED])}{', ...' if len(names) > LISTED else ''})"
        for what, names in (("missing", absent), ("unexpected", extra), ("of another shape", other))
        if names
    ]
    heads = other and all(text.startswith("fc.") for text in other) and not absent and not extra
    advice = f"; --num-classes {spec.num_classes} replaces the head" if heads else _would_fit(tensors, spec)
    raise InputError(f"{origin} does not fit '{spec.name}': {'; '.join(said)}{advice}")


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _would_fit(tensors: dict[str, Tensor], spec: AnyNet) -> str:
    try:
        fits = recognise(tensors)
    except Unrecognised as reason:
        return f"; it fits no network that is known ({reason})"
    name = fits.look_alikes[0] if fits.look_alikes else ""
    if not name:
        return f"; by names and shapes it is a network of {fits.spec.depth} layers that has no name here"
    return "" if name == spec.name else f"; it would fit {' or '.join(fits.look_alikes[:3])}"


def _counted(tensors: dict[str, Tensor], spec: AnyNet) -> dict[str, Tensor]:
    """With the counters of batches that files from before PyTorch 0.4.1 do not have."""
    counters = [name for name in _expected(spec) if name.endswith("num_batches_tracked") and name not in tensors]
    return tensors | {name: torch.zeros((), dtype=torch.int64) for name in counters}
