"""The weights that a run of a study starts from, where these are another run's result."""

from pathlib import Path

from reslab.nets.deepen import deepened
from reslab.nets.spec import NetSpec
from reslab.runs.files import write_bytes
from reslab.weights.files import to_bytes
from reslab.weights.load import header_of, load


def constructed(shallow: Path, to: NetSpec, out: Path) -> Path:
    """A file of weights of the network ``to`` that computes what the run in ``shallow`` ended with; made once.

    Where both are the same network, it holds the run's own weights.
    """
    path = out.with_name(f"{out.name}.safetensors")
    if not path.exists():
        weights = load(shallow)
        net = weights.network()
        if len(to.blocks) != len(net.spec.blocks):
            net = deepened(net, to)
        header = header_of(net.spec, weights.preprocessing, weights.classes) | {"deepened_from": weights.spec.name}
        write_bytes(path, to_bytes(net.state_dict(), header))
    return path
