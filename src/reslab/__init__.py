"""Reslab: the residual networks of the papers, trained, proved, taken apart and shipped."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reslab.nets.network import build as build
    from reslab.weights.load import load as load

__version__ = "0.1.0"
__all__ = ["__version__", "build", "load"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; `reslab --help` must not wait for it.
    if name == "build":
        from reslab.nets.network import build

        return build
    if name == "load":
        from reslab.weights.load import load

        return load
    raise AttributeError(f"module 'reslab' has no attribute '{name}'")
