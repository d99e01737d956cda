"""Networks: a specification (plain data), the catalogue of the papers, and the module built from it."""

from typing import TYPE_CHECKING, Any

from reslab.nets.catalog import CATALOG, FAMILIES, REFERENCES, resolve, resolve_any
from reslab.nets.cifar import cifar_plain, cifar_resnet
from reslab.nets.spec import AnyNet, NetSpec, ReferenceSpec

if TYPE_CHECKING:
    from reslab.nets.network import Network as Network
    from reslab.nets.network import build as build
    from reslab.nets.network import build_any as build_any

__all__ = [
    "CATALOG", "FAMILIES", "REFERENCES", "AnyNet", "NetSpec", "Network", "ReferenceSpec", "build", "build_any",
    "cifar_plain", "cifar_resnet", "resolve", "resolve_any",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    # Specifications are plain data; torch is imported when a network is built.
    if name in ("build", "build_any", "Network"):
        from reslab.nets import network

        return getattr(network, name)
    raise AttributeError(f"module 'reslab.nets' has no attribute '{name}'")
