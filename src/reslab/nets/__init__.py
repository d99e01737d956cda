"""What a network is: a specification (plain data), the catalogue of the papers, and the module built from it."""

from typing import TYPE_CHECKING, Any

from reslab.nets.catalog import CATALOG, FAMILIES, resolve
from reslab.nets.cifar import cifar_plain, cifar_resnet
from reslab.nets.spec import NetSpec

if TYPE_CHECKING:
    from reslab.nets.network import Network as Network
    from reslab.nets.network import build as build

__all__ = ["CATALOG", "FAMILIES", "NetSpec", "Network", "build", "cifar_plain", "cifar_resnet", "resolve"]


def __getattr__(name: str) -> Any:
    # Specifications are plain data; torch is imported when a network is built.
    if name in ("build", "Network"):
        from reslab.nets import network

        return getattr(network, name)
    raise AttributeError(f"module 'reslab.nets' has no attribute '{name}'")
