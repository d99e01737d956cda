"""Parameter names of other libraries. Ours are torchvision's.

A dialect is a table of patterns, read top down; a name that none of them fits stays as it is.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from reslab.errors import InputError

Rule = tuple[str, str | Callable[[re.Match[str]], str]]


@dataclass(frozen=True)
class Dialect:
    """One way to name the parameters of a residual network."""

    name: str
    sign: str
    """pattern that some of its names fit, and none of ours"""
    rules: tuple[Rule, ...]

    def ours(self, name: str) -> str:
        """Our name of a parameter."""
        for pattern, replacement in self.rules:
            renamed, count = re.subn(f"^{pattern}$", replacement, name)
            if count:
                return renamed
        return name


def _in_block(rest: str) -> Callable[[re.Match[str]], str]:
    """``layer{S+1}.{B}.`` from groups 1 and 2, counted from 0, then ``rest``, in which groups may be named."""
    return lambda found: f"layer{int(found[1]) + 1}.{found[2]}.{found.expand(rest)}"


def _resnetv2(pooled: bool) -> tuple[Rule, ...]:
    conv, norm = ("1", "2") if pooled else ("0", "1")
    return (
        (r"stem\.conv\.(.*)", r"conv1.\1"),
        (r"stem\.norm\.(.*)", r"bn1.\1"),
        (r"stem\.conv(\d)\.(.*)", lambda found: f"conv1.{3 * (int(found[1]) - 1)}.{found[2]}"),
        (r"stem\.norm([12])\.(.*)", lambda found: f"conv1.{3 * (int(found[1]) - 1) + 1}.{found[2]}"),
        (r"stem\.norm3\.(.*)", r"bn1.\1"),
        (r"stages\.(\d+)\.blocks\.(\d+)\.norm(\d+)\.(.*)", _in_block(r"bn\3.\4")),
        (r"stages\.(\d+)\.blocks\.(\d+)\.downsample\.conv\.(.*)", _in_block(rf"downsample.{conv}.\3")),
        (r"stages\.(\d+)\.blocks\.(\d+)\.downsample\.norm\.(.*)", _in_block(rf"downsample.{norm}.\3")),
        (r"stages\.(\d+)\.blocks\.(\d+)\.(.*)", _in_block(r"\3")),
        (r"norm\.(.*)", r"bn_last.\1"),
        (r"head\.fc\.(.*)", r"fc.\1"),
    )


def _weiaicunzai_layer(found: re.Match[str]) -> str:
    stage, block, index = int(found[1]) - 1, found[2], int(found[3])
    return f"layer{stage}.{block}.{'bn' if index % 3 else 'conv'}{index // 3 + 1}.{found[4]}"


def _transformers_layer(found: re.Match[str]) -> str:
    kind = "conv" if found[4] == "convolution" else "bn"
    return f"layer{int(found[1]) + 1}.{found[2]}.{kind}{int(found[3]) + 1}.{found[5]}"


def _transformers_shortcut(found: re.Match[str]) -> str:
    return f"layer{int(found[1]) + 1}.{found[2]}.downsample.{0 if found[3] == 'convolution' else 1}.{found[4]}"


OURS = Dialect("torchvision", "", ())
DIALECTS: tuple[Dialect, ...] = (
    Dialect(  # nn.Sequential(*resnet.children()), as fastai's body and many backbones are
        "layers in a sequence",
        r"4\.0\.conv1\.weight",
        (
            (r"0\.(.*)", r"conv1.\1"),
            (r"1\.(.*)", r"bn1.\1"),
            (r"([4-7])\.(.*)", lambda found: f"layer{int(found[1]) - 3}.{found[2]}"),
            (r"9\.(.*)", r"fc.\1"),
        ),
    ),
    Dialect(
        "mmpretrain, deep stem",
        r"stem\.[036]\.weight",
        ((r"stem\.7\.(.*)", r"bn1.\1"), (r"stem\.(\d)\.(.*)", r"conv1.\1.\2")),
    ),
    # The deep stem goes with pooled shortcuts in timm's resnetv2_*d; without one there is no pool.
    Dialect("timm resnetv2 D", r"stem\.conv3\.weight", _resnetv2(pooled=True)),
    Dialect("timm resnetv2", r"stages\.\d+\.blocks\.\d+\.norm1\.weight", _resnetv2(pooled=False)),
    Dialect(
        "transformers",
        r"(resnet\.)?embedder\.embedder\.convolution\.weight",
        (
            (r"(?:resnet\.)?embedder\.embedder\.convolution\.(.*)", r"conv1.\1"),
            (r"(?:resnet\.)?embedder\.embedder\.normalization\.(.*)", r"bn1.\1"),
            (
                r"(?:resnet\.)?encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.(\d+)\.(convolution|normalization)\.(.*)",
                _transformers_layer,
            ),
            (
                r"(?:resnet\.)?encoder\.stages\.(\d+)\.layers\.(\d+)\.shortcut\.(convolution|normalization)\.(.*)",
                _transformers_shortcut,
            ),
            (r"classifier\.1\.(.*)", r"fc.\1"),
        ),
    ),
    Dialect(
        "pytorch-cifar100",
        r"conv2_x\.0\.residual_function\.0\.weight",
        (
            (r"conv1\.0\.(.*)", r"conv1.\1"),
            (r"conv1\.1\.(.*)", r"bn1.\1"),
            (r"conv(\d)_x\.(\d+)\.residual_function\.(\d+)\.(.*)", _weiaicunzai_layer),
            (
                r"conv(\d)_x\.(\d+)\.shortcut\.(.*)",
                lambda found: f"layer{int(found[1]) - 1}.{found[2]}.downsample.{found[3]}",
            ),
        ),
    ),
    Dialect(
        "WideResNet-pytorch",
        r"block1\.layer\.0\.conv1\.weight",
        (
            (r"block(\d)\.layer\.(\d+)\.convShortcut\.(.*)", r"layer\1.\2.downsample.0.\3"),
            (r"block(\d)\.layer\.(\d+)\.(.*)", r"layer\1.\2.\3"),
            (r"bn1\.(.*)", r"bn_last.\1"),
        ),
    ),
    Dialect(
        "CIFAR repositories",
        r"linear\.weight|bn\.weight|layer\d+\.\d+\.shortcut\..*",
        (
            (r"linear\.(.*)", r"fc.\1"),
            (r"bn\.(.*)", r"bn_last.\1"),
            (r"(layer\d+\.\d+)\.shortcut\.(.*)", r"\1.downsample.\2"),
        ),
    ),
)
"""Read top down; the first whose sign is seen is taken, and torchvision's if there is none."""


def dialect_of(names: Iterable[str]) -> Dialect:
    """Whose names these are."""
    known = list(names)
    for dialect in DIALECTS:
        if any(re.fullmatch(dialect.sign, name) for name in known):
            return dialect
    return OURS


def to_ours(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Dialect]:
    """Renames tensors to our names and says whose names they had; `InputError` if two get the same name."""
    dialect = dialect_of(tensors)
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        ours = dialect.ours(name)
        if ours in renamed:
            raise InputError(
                f"two tensors of the file stand for one parameter, '{ours}' (one is '{name}'); save the state dict of "
                "one network"
            )
        renamed[ours] = tensor
    head = renamed.get("fc.weight")
    if head is not None and head.dim() == 4 and head.shape[2:] == (1, 1):
        renamed["fc.weight"] = head.flatten(1)  # timm keeps it as a 1x1 convolution
    return renamed, dialect


def to_resnetv2(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """From our names to those of timm's ``resnetv2_*``: the inverse of its table."""
    deep = "conv1.0.weight" in tensors
    renamed = {}
    for name, tensor in tensors.items():
        if deep and (found := re.fullmatch(r"conv1\.(\d)\.(.*)", name)):
            index = int(found[1])
            name = f"stem.{'norm' if index % 3 else 'conv'}{index // 3 + 1}.{found[2]}"
        elif name.startswith(("conv1.", "bn1.")):
            name = re.sub(r"^conv1\.", "stem.conv.", re.sub(r"^bn1\.", "stem.norm.", name))
        elif found := re.fullmatch(r"layer(\d+)\.(\d+)\.(.*)", name):
            rest = re.sub(r"^bn(\d+)\.", r"norm\1.", found[3])
            rest = re.sub(r"^downsample\.\d\.", "downsample.conv.", rest)
            name = f"stages.{int(found[1]) - 1}.blocks.{found[2]}.{rest}"
        elif name == "fc.weight":
            name, tensor = "head.fc.weight", tensor[:, :, None, None]
        else:
            name = re.sub(r"^fc\.", "head.fc.", re.sub(r"^bn_last\.", "norm.", name))
        renamed[name] = tensor
    return renamed
