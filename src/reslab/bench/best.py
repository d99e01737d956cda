"""A peer at its best: every way that it can be run in is tried for a moment, each in a process of its own."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from reslab.bench.paired import Apart, Slow, Work
from reslab.bench.peers import (
    Against,
    Loading,
    PeerBatches,
    Way,
    compiled_way,
    eager_ways,
    loadings,
    peer_inference,
    peer_training,
)
from reslab.bench.works import Case
from reslab.errors import InputError
from reslab.train.device import cores, has_bf16, is_out_of_memory

Maker = Callable[[], Work]
TRY = 0.5
"""Seconds that a way is tried for, once it has warmed up."""
TRY_WARM_UP = 2
COMPILED_WAYS = 2
"""Of the eager ways so many, the quickest, are tried by torch.compile too: each takes a minute or more."""


@dataclass(frozen=True)
class Best:
    """The fastest setting of a peer."""

    way: str
    maker: Maker
    tried: dict[str, float | str]
    """images a second of each way, or why it could not be had"""


def best_of(
    case: Case, what: Literal["train", "infer", "data"], against: Against, *, compile_limit: float,
    said: Callable[[str, float | str], None] = lambda *_: None,
) -> Best:  # fmt: skip
    """The quickest way to run a peer on this machine.

    Args:
        case: network, batch and device.
        what: is measured.
        against: the peer.
        compile_limit: seconds that torch.compile may take for one way, all warm-up included; 0 leaves it out.
        said: hears of each way and what came of it.

    Raises:
        InputError: none could be run.
    """
    tried: dict[str, float | str] = {}
    makers: dict[str, Maker] = {}

    def attempt(way: Way | Loading, maker: Maker, limit: float | None) -> None:
        name = str(way)
        tried[name] = _rate(name, maker, case, limit)
        makers[name] = maker
        said(name, tried[name])

    def rate(way: Way | Loading) -> float:
        found = tried[str(way)]
        return found if isinstance(found, float) else 0.0

    ways: Iterable[Way | Loading]
    if what == "data":
        ways = loadings(cores())
        for loading in ways:
            attempt(loading, partial(PeerBatches, case, loading), None)
    else:
        make = peer_training if what == "train" else peer_inference
        eager = eager_ways(what, half=has_bf16(case.execution.device))
        for way in eager:
            attempt(way, partial(make, case, against, way), None)
        quickest = sorted(eager, key=rate, reverse=True)[:COMPILED_WAYS]
        written = [compiled_way(way) for way in quickest] if compile_limit else []
        for way in written:
            attempt(way, partial(make, case, against, way), compile_limit)
        ways = [*eager, *written]
    best = max(ways, key=rate)
    if not rate(best):
        raise InputError(f"{against} cannot be run here in any way: {tried[str(best)]}")
    return Best(str(best), makers[str(best)], tried)


def _rate(name: str, maker: Maker, case: Case, limit: float | None) -> float | str:
    """Images a second, or in a few words why there are none."""
    try:
        with Apart(name, maker, TRY, case.execution.device, warm_up=TRY_WARM_UP, limit=limit) as work:
            return round(case.batch / min(work.seconds() for _ in range(2)), 2)
    except Slow as slow:
        return str(slow)
    except (InputError, RuntimeError, MemoryError) as error:
        return "out of memory" if is_out_of_memory(error) else str(error).splitlines()[0]
