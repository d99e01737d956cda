"""Networks of other libraries, for comparison: built by that library, counted by running them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from reslab.errors import InputError, first_line, nearest
from reslab.nets.costs import Cost, NetCost
from reslab.nets.spec import ReferenceSpec, Size


def timm() -> Any:
    """The library timm, if it is installed."""
    try:
        import timm
    except ImportError:
        raise InputError("networks named timm:... need the library timm: pip install 'reslab[compare]'") from None
    return timm


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def build_reference(spec: ReferenceSpec, *, seed: int = 0) -> nn.Module:
    """Builds the library's own module, with its own initialisation drawn from ``seed``.

    Raises `InputError` if the library is missing, has no such network, or cannot build it as asked.
    """
    with _seeded(seed):
        return _timm_module(spec) if spec.library == "timm" else _torchvision_module(spec)


def _torchvision_module(spec: ReferenceSpec) -> nn.Module:
    from torchvision import models

    if spec.model not in models.list_models(module=models):
        known = models.list_models(module=models)
        raise InputError(f"torchvision has no network '{spec.model}'; {nearest(spec.model, known)}")
    module: nn.Module = models.get_model(spec.model, weights=None, num_classes=spec.num_classes)
    if spec.in_channels != 3:
        _replace_first_convolution(module, spec.in_channels)
    return module


def _replace_first_convolution(module: nn.Module, channels: int) -> None:
    """torchvision's networks are for three channels; another number takes another first layer."""
    for name, child in module.named_modules():
        if isinstance(child, nn.Conv2d) and child.in_channels == 3:
            parent = module.get_submodule(name.rpartition(".")[0])
            new = nn.Conv2d(
                channels, child.out_channels, child.kernel_size, child.stride, child.padding,  # type: ignore[arg-type]
                bias=child.bias is not None,
            )  # fmt: skip
            setattr(parent, name.rpartition(".")[2], new)
            return
    raise InputError(f"the network has no first convolution of three channels to replace by one of {channels}")


def _timm_module(spec: ReferenceSpec) -> nn.Module:
    library = timm()
    known = library.list_models()
    if spec.model.split(".")[0] not in known:
        raise InputError(f"timm has no network '{spec.model}'; {nearest(spec.model, known)}")
    arguments: dict[str, Any] = {"num_classes": spec.num_classes, "in_chans": spec.in_channels}
    try:
        module: nn.Module = library.create_model(spec.model, pretrained=False, **arguments)
        if hasattr(module, "set_input_size"):  # transformers are built for one size
            module = library.create_model(spec.model, pretrained=False, img_size=spec.size, **arguments)
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise InputError(f"timm cannot build '{spec.model}' with {arguments}: {first_line(error)}") from None
    return module


def native_size(spec: ReferenceSpec) -> ReferenceSpec:
    """The specification with the input size that the library gives for it."""
    if spec.library != "timm":
        return spec
    config = timm().get_pretrained_cfg(spec.model, allow_unregistered=True)
    if config is None:
        return spec
    return spec.model_copy(update={"size": tuple(config.input_size[1:])})


def reference_cost(spec: ReferenceSpec, size: Size | None = None) -> NetCost:
    """Counts a network by running it on meta tensors, which have shapes and no numbers.

    Multiply-adds are of convolutions and matrix products, as everywhere here. Parts are the library's
    top-level modules. Raises `InputError` if the network cannot take images of that size.
    """
    size = size or spec.size
    with torch.device("meta"):
        module = build_reference(spec).eval()
    shapes: dict[str, tuple[int, ...]] = {}
    activations: dict[str, int] = {}
    layers: dict[str, int] = {}

    def watch(name: str, child: nn.Module) -> None:
        part = name.split(".")[0]

        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                return
            if name == part:
                shapes[part] = tuple(output.shape)
            if isinstance(child, nn.Conv2d | nn.Linear):
                activations[part] = activations.get(part, 0) + output.numel()
                layers[part] = layers.get(part, 0) + 1

        child.register_forward_hook(hook)

    for name, child in module.named_modules():
        if name:
            watch(name, child)
    from torch.utils.flop_counter import FlopCounterMode  # half a second, for networks of other libraries alone

    counter = FlopCounterMode(display=False)
    try:
        with counter, torch.no_grad():
            module(torch.empty(1, spec.in_channels, *size, device="meta"))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = first_line(error)
        raise InputError(f"'{spec.name}' cannot take images of {size[0]}x{size[1]}: {reason}") from None
    root = type(module).__name__
    flops = {name: sum(by_op.values()) for name, by_op in counter.get_flop_counts().items()}
    parts = []
    for name, child in module.named_children():
        shape = shapes.get(name, ())
        parts.append(
            Cost(
                name=name,
                layers=layers.get(name, 0),
                out_channels=shape[1] if len(shape) > 1 else 0,
                out_size=(shape[2], shape[3]) if len(shape) == 4 else (1, 1),
                params=sum(parameter.numel() for parameter in child.parameters()),
                macs=flops.get(f"{root}.{name}", 0) // 2,
                activations=activations.get(name, 0),
            )
        )
    loose = sum(parameter.numel() for parameter in module.parameters(recurse=False))
    rest = flops.get("Global", 0) // 2 - sum(part.macs for part in parts)
    if loose or rest:  # parameters and products of the network itself, outside its parts
        parts.append(Cost("(itself)", 0, 0, (1, 1), loose, rest, 0))
    return NetCost(tuple(parts), ())
