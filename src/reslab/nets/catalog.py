"""The table of the papers' networks, by name. `resolve` turns what a user types into a specification."""

import ast
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from reslab.errors import InputError, nearest
from reslab.nets import cifar, cifar_others, imagenet
from reslab.nets.cifar import cifar_bottleneck, cifar_plain, cifar_resnet, cifar_resnext, cifar_wide
from reslab.nets.cifar_others import cifar_fast, cifar_highway, cifar_vgg
from reslab.nets.families import Common, unfit
from reslab.nets.imagenet import imagenet_resnet
from reslab.nets.peers import ALIASES
from reslab.nets.spec import AnyNet, NetSpec, ReferenceSpec
from reslab.nets.vectors import mlp


@dataclass(frozen=True)
class Entry:
    """A row of the catalogue: a maker, the arguments that the name fixes, and what it is."""

    make: Callable[..., NetSpec]
    fixed: dict[str, Any]
    summary: str
    cite: str


def _cifar2015() -> dict[str, Entry]:
    rows = {f"plain{d}": Entry(cifar_plain, {"depth": d}, "plain", cifar.HE2015) for d in (20, 32, 44, 56, 110)}
    for d in (20, 32, 44, 56, 110, 1202):
        rows[f"resnet{d}"] = Entry(cifar_resnet, {"depth": d}, "option A", cifar.HE2015)
    return rows


def _cifar2016() -> dict[str, Entry]:
    rows: dict[str, Entry] = {}
    orders = {"bn-after-addition": "b", "relu-before-addition": "c", "relu-only-preactivation": "d"}
    figure4, table1 = cifar.HE2016 + ", Fig. 4", cifar.HE2016 + ", Table 1"
    for d, make in ((110, cifar_resnet), (164, cifar_bottleneck), (1001, cifar_bottleneck)):
        if d != 110:
            rows[f"resnet{d}-bottleneck"] = Entry(make, {"depth": d}, "(a)", figure4)
        for order, letter in orders.items():
            rows[f"resnet{d}-{order}"] = Entry(make, {"depth": d, "order": order}, f"({letter})", figure4)
    for d in (20, 56, 110, 164, 1001):
        make = cifar_resnet if d <= 110 else cifar_bottleneck
        rows[f"preresnet{d}"] = Entry(make, {"depth": d, "order": "full-preactivation"}, "(e)", figure4)
    for skip in ("constant-scaling", "exclusive-gating", "shortcut-only-gating", "conv1x1", "dropout"):
        rows[f"resnet110-{skip}"] = Entry(cifar_resnet, {"depth": 110, "skip": skip}, "", table1)
    return rows


def _cifar_others() -> dict[str, Entry]:
    rows = {
        f"resnext29-{c}x{w}d": Entry(
            cifar_resnext, {"depth": 29, "cardinality": c, "base_width": w}, f"{c} groups of {w}", cifar.XIE2016
        )
        for c, w in ((8, 64), (16, 64))
    }
    for d, k in ((28, 10), (16, 8), (40, 4)):
        row = Entry(
            cifar_wide, {"depth": d, "factor": k}, f"{k} times as wide; {d} with shortcuts", cifar.ZAGORUYKO2016
        )
        rows[f"wrn{d}-{k}"] = row
    rows["vgg16-cifar"] = Entry(cifar_vgg, {}, "not residual, with BN", cifar_others.SIMONYAN2014)
    rows["highway19"] = Entry(cifar_highway, {}, "a gate at each layer", cifar_others.SRIVASTAVA2015)
    for name, widths in (("fast-resnet8", (64, 128, 256)), ("fast-resnet8-wide", (64, 256, 256))):
        summary = f"shallow, {widths[1]} wide, for training in minutes"
        rows[name] = Entry(cifar_fast, {"widths": widths}, summary, cifar_others.JORDAN2024)
    thin = {"widths": (18, 45, 72), "gated": (9, 9, 9)}
    rows["highway32"] = Entry(cifar_highway, thin, "deeper and thinner", cifar_others.SRIVASTAVA2015)
    return rows


def _imagenet() -> dict[str, Entry]:
    rows: dict[str, Entry] = {}

    def add(name: str, depth: int, summary: str, cite: str = imagenet.HE2015, **fixed: Any) -> None:
        rows[name] = Entry(imagenet_resnet, {"depth": depth, "cite": cite, **fixed}, summary, cite)

    for d in (18, 34):
        add(f"plain{d}", d, "plain", shortcut="none")
        add(f"resnet{d}", d, "option B, as torchvision's", shortcut="B")
        for option in "AC":
            add(f"resnet{d}-{option}", d, f"option {option}", shortcut=option)
    for d in (50, 101, 152):
        add(f"resnet{d}", d, "stride in the 3x3 (v1.5), as torchvision's")
        add(f"resnet{d}-v1", d, "stride in the first 1x1, as in the paper", stride_on="first")
        add(f"preresnet{d}", d, "full pre-activation (v2)", imagenet.HE2016, order="full-preactivation")
        add(f"resnet{d}c", d, "ResNet-C: and a deep stem", imagenet.TONG_HE2018, stem="deep")
        d_row = {"stem": "deep", "downsample": "pool"}
        add(f"resnet{d}d", d, "ResNet-D: pooled shortcuts too", imagenet.TONG_HE2018, **d_row)
    add("resnet200", 200, "original order", imagenet.HE2016)
    add("preresnet200", 200, "full pre-activation (v2)", imagenet.HE2016, order="full-preactivation")
    for d, g, w in ((50, 32, 4), (101, 32, 4), (101, 32, 8), (101, 64, 4)):
        add(f"resnext{d}-{g}x{w}d", d, f"{g} groups of {w}", imagenet.XIE2016, groups=g, width_per_group=w)
    for d in (50, 101):
        add(f"wide-resnet{d}-2", d, "3x3 layers twice as wide", imagenet.ZAGORUYKO2016, width_per_group=128)
    return rows


CATALOG: dict[str, Entry] = {**_cifar2015(), **_cifar2016(), **_cifar_others(), **_imagenet()}

HUANG2016 = "Huang, Liu, van der Maaten, Weinberger 2016, arXiv 1608.06993"
VGG = "Simonyan, Zisserman 2014, arXiv 1409.1556"
REFERENCES: dict[str, ReferenceSpec] = {
    name: ReferenceSpec(library="torchvision", model=name.replace("-", "_"), name=name, cite=cite)
    for cite, names in (
        (VGG, ("vgg16", "vgg16-bn", "vgg19", "vgg19-bn")),
        (HUANG2016, ("densenet121", "densenet161", "densenet169", "densenet201")),
    )
    for name in names
}
"""Networks that are not residual, for comparison: torchvision's own code."""

LIBRARIES = ("torchvision", "timm")
"""``torchvision:NAME`` and ``timm:NAME`` are any networks of these libraries."""

FAMILIES: dict[str, Callable[..., NetSpec]] = {
    make.__name__: make
    for make in (
        cifar_plain, cifar_resnet, cifar_bottleneck, cifar_wide, cifar_resnext, cifar_vgg, cifar_highway,
        cifar_fast, imagenet_resnet, mlp,
    )
}  # fmt: skip
"""Makers, for all the networks between the named ones: ``cifar_resnet(depth=38)``."""


def _parse(text: str) -> tuple[str, dict[str, Any]]:
    """Splits ``name(key=literal, ...)``. Only literals are read; nothing is evaluated."""
    wrong = InputError(f"expected a network such as resnet20 or \"cifar_resnet(depth=38, shortcut='B')\", got {text!r}")
    found = re.fullmatch(r"\s*([\w.+:/-]+)\s*(\(.*\))?\s*", text, re.DOTALL)
    if found is None:
        raise wrong
    base, call = found.groups()
    base = _ours(base)
    if call is None:
        return base, {}
    try:
        node = ast.parse("f" + call, mode="eval").body
    except SyntaxError:
        raise wrong from None
    if not isinstance(node, ast.Call) or node.args or not all(k.arg for k in node.keywords):
        raise wrong
    try:
        return base, {k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg}
    except (ValueError, TypeError):  # no literal; a literal that cannot be, such as {[]: 1}
        raise wrong from None


def arguments_of(net: str) -> dict[str, Any]:
    """The arguments in a network's name: ``{"depth": 38}`` of ``cifar_resnet(depth=38)``.

    Raises `InputError` for what is no name of a network.
    """
    return _parse(net)[1]


def _ours(name: str) -> str:
    """Our name of a network that another library spells its own way: ``resnext50_32x4d``, ``vgg16_bn``."""
    if name in ALIASES:
        return ALIASES[name]
    dashed = name.replace("_", "-")
    return dashed if dashed != name and (dashed in CATALOG or dashed in REFERENCES) else name


def _of_cifar(name: str) -> str:
    """Any depth 6n + 2 of the family of He 2015, section 4.2, not those of the paper alone; "" for another name."""
    found = re.fullmatch(r"(resnet|plain)(\d+)", name)
    if found is None or (depth := int(found[2])) < 8 or (depth - 2) % 6:
        return ""
    return f'the CIFAR network of this depth is "cifar_{found[1]}(depth={depth})"'


def resolve(net: str | NetSpec, **overrides: Any) -> NetSpec:
    """The specification of a network given by name, by ``name(key=value, ...)``, or as it is.

    ``overrides`` (``num_classes``, ``in_channels``, ``size``, ``activation``, ...) win over what the
    name says. Raises `InputError` for an unknown name or argument, or shapes that cannot be built.
    """
    if isinstance(net, NetSpec):
        if not overrides:
            return net
        try:
            return NetSpec.model_validate({**net.model_dump(), **overrides})
        except ValidationError as error:
            raise unfit(net.name, error) from None
    base, arguments = _parse(net)
    fixed: dict[str, Any] = {}
    if base in CATALOG:
        make, fixed = CATALOG[base].make, CATALOG[base].fixed
    elif base in FAMILIES:
        make = FAMILIES[base]
    else:
        if base in REFERENCES or _library(base):
            raise InputError(
                f"'{net}' is another library's network; this takes one of Reslab's own ('reslab nets' lists them)"
            )
        known = [*CATALOG, *FAMILIES, *REFERENCES]
        raise InputError(
            f"unknown network '{net}'; {_of_cifar(base) or nearest(base, known)} ('reslab nets' lists all)"
        )
    given = {**arguments, **overrides}
    own = {k: p for k, p in inspect.signature(make).parameters.items() if p.kind is not p.VAR_KEYWORD}
    known = [*own, *Common.__annotations__]
    for key, value in given.items():
        if key not in known:
            raise InputError(f"network '{net}': there is no argument '{key}'; {nearest(key, known)}")
        if value != fixed.get(key, value):
            raise InputError(f"network '{base}' has {key}={fixed[key]}, got {key}={value}; name another network")
    given |= fixed
    missing = [key for key, value in own.items() if value.default is inspect.Parameter.empty and key not in given]
    if missing:
        raise InputError(f"network '{net}' needs {' and '.join(missing)}, such as {base}({missing[0]}=38)")
    try:
        return make(**{"name": _spelt(net, base), **given})
    except ValidationError as error:
        raise unfit(net, error) from None


def _spelt(net: str, base: str) -> str:
    """The name as it was given, arguments and all, with our spelling of the network."""
    return base + net.strip()[len(re.split(r"[\s(]", net.strip(), maxsplit=1)[0]) :]


def _library(base: str) -> str:
    """The library of ``timm:NAME`` and ``torchvision:NAME``; nothing for other names."""
    library, colon, _ = base.partition(":")
    return library if colon and library in LIBRARIES else ""


def resolve_any(net: str | AnyNet, **overrides: Any) -> AnyNet:
    """Like `resolve`, but also takes networks of other libraries: ``vgg16``, ``timm:NAME``, ``torchvision:NAME``."""
    if isinstance(net, NetSpec):
        return resolve(net, **overrides)
    if isinstance(net, ReferenceSpec):
        spec = net
    else:
        base, arguments = _parse(net)
        overrides = {**arguments, **overrides}
        if base in REFERENCES:
            spec = REFERENCES[base]
        elif library := _library(base):
            model = base.partition(":")[2]
            spec = ReferenceSpec.model_validate({"library": library, "model": model, "name": base, "cite": library})
        else:
            return resolve(net, **overrides)
    free = ("name", "in_channels", "size", "num_classes")
    for key in overrides:
        if key not in free:
            raise InputError(f"network '{spec.name}': there is no argument '{key}'; {nearest(key, free)}")
    try:
        return ReferenceSpec.model_validate({**spec.model_dump(), **overrides})
    except ValidationError as error:
        raise unfit(spec.name, error) from None
