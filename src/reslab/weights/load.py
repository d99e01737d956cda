"""Loads weights from a file or a hub."""

import logging
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from reslab.errors import InputError
from reslab.nets.catalog import resolve, resolve_any
from reslab.nets.equivalence import differences, look_alikes, names_and_shapes, same_function
from reslab.nets.network import Network, with_weights
from reslab.nets.reference import build_reference
from reslab.nets.spec import AnyNet, NetSpec, ReferenceSpec
from reslab.weights import hub
from reslab.weights.files import digest_of
from reslab.weights.fit import COUNTER, HEAD, State, headless, misfit, nearest_network, shapes_of
from reslab.weights.inside import Inside, inside
from reslab.weights.keys import to_ours
from reslab.weights.names import DEFAULT, Which, is_hub
from reslab.weights.preprocessing import Preprocessing
from reslab.weights.recognise import recognise
from reslab.weights.shapes import Unrecognised
from reslab.weights.wrapped import not_averaged, taken

_log = logging.getLogger("reslab")
_NET: TypeAdapter[AnyNet] = TypeAdapter(AnyNet)
_PREPROCESSING: TypeAdapter[Preprocessing | None] = TypeAdapter(Preprocessing | None)
_CLASSES: TypeAdapter[tuple[str, ...] | None] = TypeAdapter(tuple[str, ...] | None)
_TEXTS: TypeAdapter[tuple[str, ...]] = TypeAdapter(tuple[str, ...])
T = TypeVar("T")
FINAL = Path("checkpoints") / "final.safetensors"
"""Where the folder of a run has its result."""


@dataclass(frozen=True)
class Weights:
    """Weights, the network that they are of, and what else is known of them."""

    spec: AnyNet
    tensors: dict[str, Tensor]
    """by our parameter names (networks of other libraries keep theirs)"""
    origin: str
    dialect: str = "torchvision"
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] | None = None
    """names of the outputs, in their order"""
    said: tuple[str, ...] = ()
    """notes for the user: what was unwrapped, assumed or replaced"""
    assumed: tuple[str, ...] = ()
    """those notes that are assumptions: what neither names and shapes nor the user determined"""
    header: dict[str, Any] = field(default_factory=dict)
    """other contents of the file's header: recipe, iteration, errors"""
    look_alikes: tuple[str, ...] = ()
    """if the network was recognised by names and shapes: all networks of the catalogue that fit"""
    certain: bool = False
    """whether the file or the hub says the network; names and shapes alone leave some of it to be assumed"""
    which: Which | None = None
    """whether they are an average over the training, where the source holds one"""
    head: Literal["own", "new", "none"] = "own"
    """the last layer: stored, to be drawn for other classes, or none (a backbone, for features)"""
    detects: bool = False
    """whether they are the backbone of a detector, which the source holds whole"""

    def as_header(self) -> dict[str, Any]:
        """The header of our own files."""
        assumed = {"assumed": list(self.assumed)} if self.assumed else {}
        return header_of(self.spec, self.preprocessing, self.classes) | assumed | self.header

    def fingerprint(self) -> str:
        """16 hex digits of BLAKE2b over names, shapes and numbers."""
        return digest_of(self.tensors)

    def module(self, *, seed: int = 0) -> nn.Module:
        """The network with these weights; a new head, which they do not hold, is drawn from ``seed``.

        Without a head its outputs are its features, (N, width): the last layer is the identity.
        """
        net = with_weights(self.spec, self.tensors, seed=seed)  # `load` has compared names and shapes
        if self.head == "none":
            net.fc = nn.Identity()
        return net

    def check_classifier(self, purpose: str) -> None:
        """Raises `InputError` for a detector, of which ``purpose`` would see the backbone alone."""
        if self.detects:
            raise InputError(
                f"{self.origin} holds a detector: {purpose} needs a classifier. 'reslab detect predict', "
                "'reslab detect eval' and 'reslab serve' take detectors that 'reslab detect train' wrote"
            )

    def check_head(self, purpose: str) -> None:
        """Raises `InputError` for weights without a last layer, where ``purpose`` needs its outputs."""
        self.check_classifier(purpose)
        if self.head == "none":
            raise InputError(
                f"{self.origin} holds a backbone without a head (no fc.weight, fc.bias): {purpose} needs one. "
                f"Train one on your data with 'reslab train --weights {self.origin} --data ...'; 'reslab features' "
                "needs none"
            )

    def __repr__(self) -> str:
        """A summary in a few lines."""
        shape = f"{self.spec.in_channels}x{'x'.join(map(str, self.spec.size))}"
        numbers = sum(tensor.numel() for tensor in self.tensors.values())
        out = "features, no head" if self.head == "none" else f"{self.spec.num_classes} classes"
        lines = [
            f"Weights of {self.spec.name}, from {self.origin}",
            f"  {len(self.tensors)} tensors, {numbers:,} numbers; input {shape}; {out}",
        ]
        if self.preprocessing is not None:
            lines.append(f"  images: {self.preprocessing.words()}")
        if self.classes:
            more = ", ..." if len(self.classes) > 4 else ""
            lines.append(f"  classes: {', '.join(self.classes[:4])}{more}")
        lines += [f"  {text}" for text in self.said[:4]]
        if len(self.said) > 4:
            lines.append(f"  ... ({len(self.said)} notes in .said)")
        return "\n".join(lines)

    def network(self, *, seed: int = 0) -> Network:
        """Like `module`, but only for Reslab's own networks; `InputError` for another library's."""
        if not isinstance(self.spec, NetSpec):
            raise InputError(
                f"{self.origin} holds weights of {self.spec.name}, another library's network; "
                "this takes one of Reslab's own ('reslab nets' lists them)"
            )
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


def load(
    source: str | Path,
    *,
    net: str | AnyNet | None = None,
    num_classes: int | None = None,
    which: Which | None = None,
) -> Weights:
    """Reads weights and finds out which network they are of.

    Args:
        source: a file (``.safetensors``, ``.pth``, ``.pt``, ``.th``, ``.tar``), the folder of a run, or a name:
            ``reslab:resnet20-cifar10``, ``torchvision:resnet50/IMAGENET1K_V2``, ``timm:resnet50.a1_in1k``,
            ``hf:ORG/NAME``.
        net: the network to load them into, where names and shapes cannot tell, or for another on purpose. A
            network with the same names and shapes that computes something else is warned of.
        num_classes: of the network; where it is not that of the weights, or they have no head, a new one is drawn.
        which: where the source holds the weights of the last step and their average over the training,
            ``"ema"`` for the average and ``"raw"`` for the others. By default the average, which is what the scripts
            that keep one report; what was taken is in ``said``.

    Raises:
        InputError: nothing there, not whole, refused as unsafe, of no known network, or not of ``net``.
    """
    wanted = resolve_any(net) if isinstance(net, str) else net
    found, spec, why = _found(source, wanted, which)
    if which == "ema" and found.which is None:
        raise not_averaged(source)
    origin = str(source)
    if wanted is not None:
        wanted = _with_own_head(found, net) if isinstance(net, str) else wanted
        _warn_of_another_function(found, spec, wanted)
        origin = f"{source}, weights of '{spec.name}'," if spec is not None and found.certain else str(source)
        spec = wanted
    elif spec is None:
        raise InputError(f"{source} {_of_no_network(found.tensors, why)}")
    assumed = found.assumed if wanted is None else ()
    said = (*found.said, *(f"assumed: {text}" for text in assumed))
    tensors, head, more = _with_head(found.tensors, spec, num_classes)
    missing = () if head == "own" else _head(spec, found.tensors)
    if num_classes is not None and num_classes != spec.num_classes:
        spec = resolve_any(spec, num_classes=num_classes)
    if apart := misfit(tensors, spec, missing=missing):
        raise InputError(f"{origin} does not fit '{spec.name}': {apart}{_advice(tensors, spec)}")
    classes = found.classes if head == "own" else None
    return replace(
        found, spec=spec, tensors=_counted(tensors, spec), classes=classes, said=(*said, *more), assumed=assumed,
        head=head,
    )  # fmt: skip


def _with_head(
    tensors: dict[str, Tensor], spec: AnyNet, num_classes: int | None
) -> tuple[dict[str, Tensor], Literal["own", "new", "none"], tuple[str, ...]]:
    """The tensors without a head that is replaced, whose head the network has, and what is said of it."""
    head = _head(spec, tensors)
    drawn = f"({', '.join(head)} drawn)"
    if isinstance(spec, NetSpec) and headless(tensors):
        if num_classes is None:
            return tensors, "none", ("no head (fc.weight, fc.bias): a backbone, whose outputs are its features",)
        return tensors, "new", (f"a new head: {num_classes} classes {drawn}, where the weights have none",)
    rows = len(tensors[head[0]]) if head and head[0] in tensors and tensors[head[0]].dim() else spec.num_classes
    if num_classes is None or num_classes == rows:
        return tensors, "own", ()
    rest = {name: tensor for name, tensor in tensors.items() if name not in head}
    return rest, "new", (f"a new head: {num_classes} classes instead of {rows} {drawn}",)


def _found(source: str | Path, wanted: AnyNet | None, which: Which | None = None) -> tuple[Weights, AnyNet | None, str]:
    """The weights, under the names of the ``wanted`` network's kind; their network if it is known, and why not."""
    on_hub = isinstance(source, str) and is_hub(source)
    fetched = hub.fetch(str(source), which) if on_hub else _local(Path(source), which)
    header, tensors, origin = dict(fetched.header), fetched.tensors, str(source)
    placeholder = ReferenceSpec(library="torchvision", model="", name="")
    if "net" in header:
        tensors, kept, what = _of_a_checkpoint(tensors, which)
        fetched = replace(fetched, said=(*fetched.said, *what), which=kept)
        spec = _valid(_NET, header.pop("net"), origin, "network")
        own = Weights(
            spec, tensors, origin, "Reslab",
            preprocessing=_valid(_PREPROCESSING, header.pop("preprocessing", None), origin, "preprocessing")
            or fetched.preprocessing,
            classes=_valid(_CLASSES, header.pop("classes", None), origin, "classes") or fetched.classes,
            said=fetched.said, assumed=_valid(_TEXTS, header.pop("assumed", ()), origin, "assumptions"),
            header=header, certain=True, which=fetched.which,
        )  # fmt: skip
        return own, spec, ""
    theirs = fetched.reference
    as_they_are = Weights(
        placeholder, tensors, origin, theirs.library if theirs else "as they are", fetched.preprocessing,
        fetched.classes, fetched.said, certain=True, which=fetched.which,
        detects=any("roi_heads." in name for name in tensors),
    )  # fmt: skip
    if isinstance(wanted, ReferenceSpec):
        return as_they_are, theirs, ""
    renamed, other = _renamed(as_they_are, which, whole=theirs is not None)
    try:
        known = recognise(renamed)
        spec = _named(fetched.adjust(known.spec)) if fetched.adjust else known.spec
    except Unrecognised as reason:
        if wanted is not None or theirs is None:
            return replace(other, certain=theirs is not None), theirs, str(reason)
        return replace(as_they_are, said=(*fetched.said, _by_their_code(theirs, str(reason)))), theirs, ""
    found = replace(other, spec=spec, look_alikes=known.look_alikes)
    same = _same_output(spec, renamed, theirs, tensors) if theirs else None
    if theirs and same is False and wanted is not None:
        return replace(found, certain=True), theirs, ""
    if theirs and same is False:
        other_function = f"from the same weights Reslab's '{spec.name}' computes something else"
        return replace(as_they_are, said=(*fetched.said, _by_their_code(theirs, other_function))), theirs, ""
    if same or fetched.adjust:
        return replace(found, certain=True), spec, ""
    return replace(found, assumed=known.assumed), spec, ""


def _renamed(weights: Weights, which: Which | None, *, whole: bool) -> tuple[dict[str, Tensor], Weights]:
    """The tensors under our names, alone and as weights; of the ``whole`` file, or of the network that is in it."""
    if whole:  # the library's own network is known, and has all of it
        ours, dialect = to_ours(weights.tensors)
        found = Inside(ours, dialect.name)
    else:
        found = inside(weights.tensors, which if weights.which is None else None)
    return found.tensors, replace(
        weights, tensors=found.tensors, dialect=found.dialect, said=(*weights.said, *found.said), certain=False,
        which=weights.which or found.which,
    )  # fmt: skip


def _of_a_checkpoint(
    tensors: dict[str, Tensor], which: Which | None
) -> tuple[dict[str, Tensor], Which | None, tuple[str, ...]]:
    """The weights of a file of ours: in mid-training with more, and with an average where the recipe has one."""
    own = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    if not own:
        return tensors, None, ()
    average = {name.removeprefix("average."): t for name, t in tensors.items() if name.startswith("average.")}
    if not average:
        return own, None, ()
    chosen = which or DEFAULT
    said = taken(chosen, "'model.'", "'average.'", which)
    return (own | average if chosen == "ema" else own), chosen, (said,)


def _named(spec: NetSpec) -> NetSpec:
    """Gives a specification its name in the catalogue, if it has one."""
    name = next((name for name in look_alikes(spec) if same_function(resolve(name), spec)), spec.name)
    return spec.model_copy(update={"name": name})


def _by_their_code(theirs: ReferenceSpec, reason: str) -> str:
    return f"run by {theirs.library}'s own code, since {reason}"


@torch.no_grad()
def _same_output(spec: NetSpec, ours: State, theirs: ReferenceSpec, tensors: State) -> bool | None:
    """Whether two networks compute the same from the same weights; None if the library cannot run its own."""

    def full(state: State) -> dict[str, Tensor]:
        return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}

    try:
        with torch.device("meta"):  # nothing is drawn, and the weights are there once
            other, mine = build_reference(theirs), Network(spec)
        other.load_state_dict(full(tensors), assign=True)
    except (InputError, RuntimeError):
        return None
    mine.load_state_dict(full(_counted(ours, spec)), assign=True)
    # Names do not show blurred or averaged subsampling, which an odd size brings out.
    image = torch.randn(1, spec.in_channels, 65, 65, generator=torch.Generator().manual_seed(0))
    try:
        expected, got = other.eval()(image), mine.eval()(image)
    except RuntimeError:  # theirs has more than its state says
        return False
    return bool((expected - got).abs().max() <= 1e-3 * expected.abs().max())


def _local(given: Path, which: Which | None = None) -> hub.Fetched:
    try:
        path = given.expanduser()
        is_folder = path.is_dir()
    except (RuntimeError, OSError, ValueError) as error:  # no such user; a name that no file can have
        raise InputError(f"expected weights at {given}, but {error}") from None
    if not is_folder:
        return hub.described(path, lambda name: None, which)
    if (path / FINAL).is_file():
        return hub.described(path / FINAL, lambda name: None, which)
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (path / name).is_file():
            return hub.described(path / name, lambda beside: path / beside, which)
    if (path / "metadata.json").is_file():
        raise InputError(f"{path} is what 'reslab export' wrote; here the weights that it was made of are needed")
    what = "a run that has not ended (no final weights yet)" if (path / "recipe.json").is_file() else "a folder"
    raise InputError(f"{path}: expected a file of weights or a finished run, found {what}; give a checkpoint in it")


def _valid(kind: TypeAdapter[T], value: Any, origin: str, what: str) -> T:
    """A part of our header, validated."""
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        raise InputError(
            f"{origin} describes its {what} in a way that this version of reslab does not know "
            f"({error.errors()[0]['msg']})"
        ) from None


def _with_own_head(found: Weights, name: str) -> AnyNet:
    """The network of a name, with the weights' own number of classes and channels unless the name says them."""
    wanted = resolve_any(name)
    if not isinstance(wanted, NetSpec):
        return wanted
    own: dict[str, Any] = {}
    head = found.tensors.get("fc.weight")
    stems = (found.tensors.get(f"{name}.weight") for name in ("conv1", "conv1.0", "linear1"))
    first = next((tensor for tensor in stems if tensor is not None), None)
    if head is not None and head.dim() == 2 and "num_classes" not in name:
        own["num_classes"] = len(head)
    if first is not None and first.dim() > 1 and "in_channels" not in name:
        own["in_channels"] = first.shape[1]
    return resolve_any(name, **own)


def _warn_of_another_function(found: Weights, spec: AnyNet | None, wanted: AnyNet) -> None:
    """v1 and v1.5, option A and plain: weights of one load into the other, and are worthless there."""
    if not found.certain or spec is None or not isinstance(wanted, NetSpec):
        return  # told from shapes: that was a guess, and the caller knows better
    if isinstance(spec, NetSpec):
        if names_and_shapes(spec) != names_and_shapes(wanted) or not (known := differences(spec, wanted)):
            return
        what = f": {'; '.join(known)}"
    elif misfit(found.tensors, wanted):
        return
    else:
        what = f" than {spec.library}'s code"
    _warn_once(
        f"{found.origin} holds weights of '{spec.name}'; '{wanted.name}' has the same names and shapes, but "
        f"computes something else{what}"
    )


@cache
def _warn_once(text: str) -> None:
    """A run loads its weights twice: to know the network before anything is written, and to start."""
    _log.warning("%s", text)


def _head(spec: AnyNet, tensors: State) -> tuple[str, ...]:
    """Names of the last layer's parameters: the last ones with as many rows as there are classes."""
    if isinstance(spec, NetSpec):
        return HEAD
    rows = [name for name, tensor in tensors.items() if tensor.dim() and len(tensor) == spec.num_classes]
    last = rows[-1].rpartition(".")[0] if rows else ""
    return tuple(name for name in rows if name.rpartition(".")[0] == last)


def _advice(tensors: State, spec: AnyNet) -> str:
    """Advice for weights that do not fit."""
    heads = {f"fc.{kind}": tensors[f"fc.{kind}"] for kind in ("weight", "bias") if f"fc.{kind}" in tensors}
    if heads and not misfit({n: t for n, t in tensors.items() if n not in heads}, spec, missing=heads):
        return f"; --num-classes {spec.num_classes} replaces the head"
    if not isinstance(spec, NetSpec):
        return ""
    try:
        fits = recognise(tensors)
    except Unrecognised as reason:
        near = nearest_network(tensors)
        if near is None:
            return f"; it is no network that Reslab knows ({reason})"
        return "" if names_and_shapes(near) == names_and_shapes(spec) else f"; the nearest to it is '{near.name}'"
    if not fits.look_alikes:
        return f"; its names and shapes are those of a network of {fits.spec.depth} layers without a name in Reslab"
    return "" if fits.look_alikes[0] == spec.name else f"; it would fit {' or '.join(fits.look_alikes[:3])}"


def _of_no_network(tensors: State, why: str) -> str:
    near = nearest_network(tensors)
    if near is None:
        return (
            f"holds weights of a network that Reslab does not know ({why}); name it by --net, if 'reslab nets' has it, "
            "or as torchvision:NAME or timm:NAME"
        )
    apart = misfit(tensors, near)
    return f"holds weights of a network that Reslab does not know; the nearest, '{near.name}', differs: {apart}"


def _counted(tensors: State, spec: AnyNet) -> dict[str, Tensor]:
    """Adds BN's batch counters, which files from before PyTorch 0.4.1 lack."""
    counters = [name for name in shapes_of(spec) if name.endswith(COUNTER) and name not in tensors]
    return dict(tensors) | {name: torch.zeros((), dtype=torch.int64) for name in counters}
