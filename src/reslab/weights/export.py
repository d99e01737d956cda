"""Our weights under the names of other libraries, for ``load_state_dict(..., strict=True)`` there."""

from torch import Tensor

from reslab.errors import InputError
from reslab.nets.catalog import resolve
from reslab.nets.equivalence import same_function
from reslab.nets.peers import PEERS, Library
from reslab.nets.spec import NetSpec
from reslab.weights.keys import to_resnetv2
from reslab.weights.load import Weights

__all__ = ["PEERS", "Library", "exported", "peer_of"]


def peer_of(spec: NetSpec, library: Library) -> str | None:
    """What the library calls the network that computes the same; None if it has none."""
    if library == "torchvision" and spec.in_channels != 3:
        return None
    for name, theirs in PEERS[library].items():
        if same_function(resolve(name), spec):
            return theirs
    return None


def exported(weights: Weights, library: Library) -> tuple[dict[str, Tensor], str]:
    """The tensors under the library's names, and its name for the network.

    Raises `InputError` if the library has no network that computes the same from these weights.
    """
    spec = weights.spec
    name = peer_of(spec, library) if isinstance(spec, NetSpec) else None
    if name is None:
        raise InputError(
            f"{library} has no network that computes what '{spec.name}' does; it has "
            f"{', '.join(list(PEERS[library])[:6])}, ... Convert to 'reslab' instead, in any format"
        )
    return (to_resnetv2(weights.tensors) if name.startswith("resnetv2") else weights.tensors), name
