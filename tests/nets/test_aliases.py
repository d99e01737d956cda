"""Networks under the names that other libraries give them."""

import pytest
from torchvision import models

from reslab import build
from reslab.errors import InputError
from reslab.nets import resolve, resolve_any
from reslab.nets.catalog import CATALOG, FAMILIES, REFERENCES
from reslab.nets.peers import ALIASES, PEERS
from reslab.nets.spec import ReferenceSpec


@pytest.mark.parametrize(("ours", "theirs"), sorted({pair for names in PEERS.values() for pair in names.items()}))
def test_what_another_library_calls_it_is_understood(ours: str, theirs: str) -> None:
    assert resolve(theirs) == resolve(ours)
    assert resolve_any(theirs) == resolve(ours)
    with_arguments = resolve(f" {theirs}(num_classes=7, in_channels=1)")
    assert with_arguments == resolve(ours, num_classes=7, in_channels=1).model_copy(
        update={"name": f"{ours}(num_classes=7, in_channels=1)"}
    )


def test_no_alias_hides_a_network_of_ours() -> None:
    assert not ALIASES.keys() & (CATALOG.keys() | FAMILIES.keys() | REFERENCES.keys())
    assert {"resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"} <= set(
        ALIASES
    )
    assert ALIASES["resnetv2_50"] == "preresnet50"


def test_every_residual_network_of_torchvision_is_understood() -> None:
    """So none was forgotten: all that torchvision's file of residual networks makes."""
    for name in models.list_models(module=models.resnet):
        assert build(name, num_classes=3).spec.num_classes == 3


@pytest.mark.parametrize("name", ["vgg16_bn", "vgg19_bn"])
def test_networks_for_comparison_too(name: str) -> None:
    spec = resolve_any(name)
    assert isinstance(spec, ReferenceSpec)
    assert spec.model == name


def test_what_is_no_spelling_stays_unknown() -> None:
    with pytest.raises(InputError, match="unknown network 'resnet_50'; did you mean 'resnet"):
        resolve("resnet_50")
    assert resolve("cifar_resnet(depth=8)").name == "cifar_resnet(depth=8)"
