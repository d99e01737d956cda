"""What a network is: a specification (plain data), the catalogue of the papers, and the module built from it."""

from typing import TYPE_CHECKING, Any

from reslab.nets.catalog import CATALOG, cifar_plain, cifar_resnet, resolve
from reslab.nets.spec import NetSpec

if TYPE_CHECKING:
    from reslab.nets.build import Network as Network
    from reslab.nets.build import build as build

__all__ = ["CATALOG", "NetSpec", "Network", "build", "cifar_plain", "cifar_resnet", "resolve"]


def __getattr__(name: str) -> Any:
    # Specifications are plain data; torch is imported when a network is built.
    if name in ("build", "Network"):
        import importlib

        module = importlib.import_module("reslab.nets.build")
        globals().update(build=module.build, Network=module.Network)
        return globals()[name]
    raise AttributeError(f"module 'reslab.nets' has no attribute '{name}'")
