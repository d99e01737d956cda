"""Parameters and multiply-adds of every network of the catalogue, against the papers and other libraries.

A network added to the catalogue without a row here fails.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torchvision import models

from reslab.nets.catalog import CATALOG, resolve, resolve_any
from reslab.nets.cost import cost, cost_any
from reslab.nets.network import Network
from reslab.nets.spec import NetSpec
from reslab.weights.export import PEERS, Library

T6 = "He 2015, Table 6"
TWIN = "He 2015, 4.2: a plain network has as many as its residual twin"
T4 = "He 2016, Table 4"
X1 = "Xie 2016, Table 1"
X7 = "Xie 2016, Table 7"
Z5 = "Zagoruyko 2016, Table 5"
Z8 = "Zagoruyko 2016, Table 8"


class Row(NamedTuple):
    """The exact count, and what a paper prints."""

    params: int
    millions: str = ""
    """as printed; nothing where no paper gives a figure"""
    source: str = ""
    """of the paper's figure; how the count comes about where there is none"""
    differs: str = ""
    """why the paper's figure is not ours rounded. 'without BN': ours is, once the parameters of BN are left out"""


TABLE: dict[str, Row] = {
    # He 2015 on CIFAR
    "plain20": Row(269_722, "0.27", TWIN),
    "plain32": Row(464_154, "0.46", TWIN),
    "plain44": Row(658_586, "0.66", TWIN),
    "plain56": Row(853_018, "0.85", TWIN),
    "plain110": Row(1_727_962, "1.7", TWIN),
    "resnet20": Row(269_722, "0.27", T6),
    "resnet32": Row(464_154, "0.46", T6),
    "resnet44": Row(658_586, "0.66", T6),
    "resnet56": Row(853_018, "0.85", T6),
    "resnet110": Row(1_727_962, "1.7", T6),
    "resnet1202": Row(19_421_274, "19.4", T6),
    # He 2016 on CIFAR. The orders differ in the width of the first BN of a block and in the BN of stem and end.
    "resnet110-bn-after-addition": Row(1_727_962, "1.7", T4),
    "resnet110-relu-before-addition": Row(1_727_962, "1.7", T4),
    "resnet110-relu-only-preactivation": Row(1_727_930, "1.7", T4),
    "resnet164-bottleneck": Row(1_704_154, "1.7", T4),
    "resnet164-bn-after-addition": Row(1_704_154, "1.7", T4),
    "resnet164-relu-before-addition": Row(1_704_154, "1.7", T4),
    "resnet164-relu-only-preactivation": Row(1_703_226, "1.7", T4),
    "resnet1001-bottleneck": Row(10_328_602, "10.2", T4, differs="without BN"),
    "resnet1001-bn-after-addition": Row(10_328_602, "10.2", T4, differs="without BN"),
    "resnet1001-relu-before-addition": Row(10_328_602, "10.2", T4, differs="without BN"),
    "resnet1001-relu-only-preactivation": Row(10_327_674, "10.2", T4, differs="without BN"),
    "preresnet20": Row(269_722, source="as resnet20: a BN at the end instead of the stem's"),
    "preresnet56": Row(853_018, source="as resnet56: a BN at the end instead of the stem's"),
    "preresnet110": Row(1_727_962, "1.7", T4),
    "preresnet164": Row(1_703_258, "1.7", T4),
    "preresnet1001": Row(10_327_706, "10.2", T4, differs="without BN"),
    "resnet110-constant-scaling": Row(1_727_962, "1.7", T4),
    "resnet110-dropout": Row(1_727_962, "1.7", T4),
    "resnet110-exclusive-gating": Row(1_821_530, source="resnet110, and 18 16(16+1) + 17 32(32+1) + 17 64(64+1)"),
    "resnet110-shortcut-only-gating": Row(1_821_530, source="as with exclusive gating"),
    "resnet110-conv1x1": Row(1_821_530, source="as with exclusive gating"),
    # others on CIFAR
    "resnext29-8x64d": Row(34_426_698, "34.4", X7),
    "resnext29-16x64d": Row(68_155_210, "68.1", X7, differs="without BN"),
    "wrn28-10": Row(36_479_194, "36.5", Z5),
    "wrn16-8": Row(10_961_370, "11.0", Z5),
    "wrn40-4": Row(8_949_210, "8.9", Z5),
    "fast-resnet8": Row(
        9 * (24 * 64 + 64 * 64 + 64 * 128 + 128 * 128 + 128 * 256 + 256 * 256) + 24 + 2 * (64 + 128 + 256) + 2_570,
        source="filters, shifts and the last layer, as in the row below",
    ),
    "fast-resnet8-wide": Row(
        1_971_362,
        source="airbench94_muon: filters 9 (24 64 + 64 64 + 64 256 + 3 256 256), shifts 24 + 2 64 + 4 256, the last "
        "layer's 2,560; and 10 biases, which that has not",
    ),
    "vgg16-cifar": Row(14_724_042, source="torchvision's vgg16_bn, its biases and last layers aside, and 512 10 + 10"),
    "highway19": Row(2_244_328, "2.3", T6, differs="counted from the authors' definition for Caffe"),
    "highway32": Row(1_260_687, "1.25", T6, differs="the paper does not give its widths"),
    # He 2015 on ImageNet
    "plain18": Row(11_515_688, source="resnet18 without the 173,824 of its three projections"),
    "resnet18": Row(11_689_512, source="torchvision"),
    "resnet18-A": Row(11_515_688, source="as plain18"),
    "resnet18-C": Row(12_043_816, source="resnet18, and projections in its five other blocks"),
    "plain34": Row(21_623_848, source="resnet34 without the 173,824 of its three projections"),
    "resnet34": Row(21_797_672, source="torchvision"),
    "resnet34-A": Row(21_623_848, source="as plain34"),
    "resnet34-C": Row(22_716_840, source="resnet34, and projections in its 13 other blocks"),
    "resnet50": Row(25_557_032, "25.6", Z8),
    "resnet50-v1": Row(25_557_032, "25.5", X1, differs="without BN"),
    "resnet101": Row(44_549_160, "44.5", Z8),
    "resnet101-v1": Row(44_549_160, "44.5", Z8),
    "resnet152": Row(60_192_808, "60.2", Z8),
    "resnet152-v1": Row(60_192_808, "60.2", Z8),
    # their successors
    "preresnet50": Row(25_549_352, source="timm"),
    "preresnet101": Row(44_541_480, source="timm"),
    "preresnet152": Row(60_185_128, source="timm"),
    "resnet50c": Row(25_576_264, source="timm"),
    "resnet50d": Row(25_576_264, source="timm"),
    "resnet101c": Row(44_568_392, source="timm"),
    "resnet101d": Row(44_568_392, source="timm"),
    "resnet152c": Row(60_212_040, source="timm"),
    "resnet152d": Row(60_212_040, source="timm"),
    "resnet200": Row(64_673_832, source="timm"),
    "preresnet200": Row(64_666_152, "64.7", Z8),
    "resnext50-32x4d": Row(25_028_904, "25.0", X1),
    "resnext101-32x4d": Row(44_177_704, source="timm"),
    "resnext101-32x8d": Row(88_791_336, source="torchvision"),
    "resnext101-64x4d": Row(83_455_272, source="torchvision"),
    "wide-resnet50-2": Row(68_883_240, "68.9", Z8),
    "wide-resnet101-2": Row(126_886_696, source="torchvision"),
}


def test_every_network_has_a_row() -> None:
    assert TABLE.keys() == CATALOG.keys()


@pytest.mark.parametrize("name", CATALOG)
def test_parameters_are_the_published_ones(name: str) -> None:
    spec, row = resolve(name), TABLE[name]
    assert NetSpec.model_validate_json(spec.model_dump_json()) == spec
    with torch.device("meta"):
        network = Network(spec)
    assert cost(spec).params == sum(p.numel() for p in network.parameters() if p.requires_grad) == row.params
    assert row.source or row.millions
    if row.millions:
        digits = len(row.millions.partition(".")[2])
        assert (f"{row.params / 1e6:.{digits}f}" == row.millions) == (not row.differs)
        assert row.params / 1e6 == pytest.approx(float(row.millions), rel=0.04)
        if row.differs == "without BN":
            norms = (module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
            others = row.params - sum(p.numel() for norm in norms for p in norm.parameters())
            assert f"{others / 1e6:.{digits}f}" == row.millions


@pytest.mark.parametrize("library", PEERS)
def test_other_libraries_count_the_same(library: Library) -> None:
    make: Callable[..., Any] = models.get_model
    if library == "timm":
        make = pytest.importorskip("timm", reason="timm is an extra: pip install 'reslab[compare]'").create_model
    for name, theirs in PEERS[library].items():
        with torch.device("meta"):
            module = make(theirs)
        assert sum(p.numel() for p in module.parameters()) == TABLE[name].params, name


def test_vgg_has_the_convolutions_of_torchvision() -> None:
    with torch.device("meta"):
        layers = list(models.vgg16_bn().features)
    theirs = sum(p.numel() for layer in layers for p in layer.parameters())
    biases = sum(layer.bias.numel() for layer in layers if isinstance(layer, nn.Conv2d) and layer.bias is not None)
    assert theirs - biases + 512 * 10 + 10 == TABLE["vgg16-cifar"].params


GMACS = {
    # He 2015, Table 1; VGG in section 4.1. Its bottlenecks stride in the first 1x1.
    "plain18": 1.8,
    "resnet18": 1.8,
    "plain34": 3.6,
    "resnet34": 3.6,
    "resnet50-v1": 3.8,
    "resnet101-v1": 7.6,
    "resnet152-v1": 11.3,
    "vgg16": 15.3,
    "vgg19": 19.6,
    # Xie 2016, Table 1
    "resnet50": 4.1,
    "resnext50-32x4d": 4.2,
}


@pytest.mark.parametrize(("name", "gmacs"), GMACS.items())
def test_multiply_adds_agree_with_the_papers(name: str, gmacs: float) -> None:
    assert cost_any(resolve_any(name)).macs / 1e9 == pytest.approx(gmacs, rel=0.02)


@pytest.mark.parametrize(("name", "gmacs"), [("resnet34", "3.66"), ("resnet50-v1", "3.86")])
def test_multiply_adds_to_two_digits(name: str, gmacs: str) -> None:
    assert f"{cost(resolve(name)).macs / 1e9:.2f}" == gmacs
