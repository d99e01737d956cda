"""A network in words, as plain data: its stages as the papers' tables write them, its kinds of block, its rules.

Tables and pictures take what they show from `describe`, so that they cannot disagree.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

from reslab.nets.cost import Cost, NetCost, cost
from reslab.nets.flow import Flow, Steps, flow, head, layers, stem
from reslab.nets.spec import (
    Basic,
    Block,
    Bottleneck,
    Conv1x1,
    DenseStem,
    Dropout,
    ExclusiveGate,
    Identity,
    NetSpec,
    NoShortcut,
    Order,
    Projection,
    Scale,
    ShortcutGate,
    Size,
    WhiteningStem,
    ZeroPad,
    stem_size,
)

SHORTCUTS = {
    NoShortcut: "none",
    Identity: "identity",
    ZeroPad: "zero padding",
    Projection: "projection",
    Scale: "constant scaling",
    ExclusiveGate: "exclusive gate",
    ShortcutGate: "shortcut-only gate",
    Conv1x1: "1x1 conv",
    Dropout: "dropout",
}
FIGURE4: dict[Order, str] = {
    "original": "a",
    "bn-after-addition": "b",
    "relu-before-addition": "c",
    "relu-only-preactivation": "d",
    "full-preactivation": "e",
}
"""The letters of the orders in He 2016, Fig. 4."""


class Signal(NamedTuple):
    """Channels, height and width."""

    channels: int
    size: Size
    flat: bool = False

    def __str__(self) -> str:
        """``64x56x56``; of a vector the length alone."""
        return f"{self.channels}" if self.flat else f"{self.channels}x{self.pixels}"

    @property
    def pixels(self) -> str:
        """``56x56``."""
        return f"{self.size[0]}x{self.size[1]}"


@dataclass(frozen=True)
class Kind:
    """Blocks whose steps are the same but for their widths, shown with the widths of the first."""

    letter: str
    title: str
    shortcut: str
    formula: str
    """What the addition adds: ``F(x) + x``."""
    order: Order
    changes: bool
    """Whether what leaves it has another shape than what enters."""
    flow: Flow
    first: str
    """The name of that first block: ``layer2.0``."""
    entering: Signal
    leaving: Signal


@dataclass(frozen=True)
class Run:
    """Equal blocks in a row, and the rows of their bracket."""

    kind: Kind
    count: int
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """A stage, by the papers' name and by ours."""

    paper: str
    name: str
    before: Steps
    """The max pool behind the stem, which the paper counts to its conv2_x."""
    runs: tuple[Run, ...]
    entering: Signal
    leaving: Signal
    cost: Cost

    @property
    def brackets(self) -> tuple[tuple[tuple[str, ...], int], ...]:
        """Rows and count of blocks of the same layers. As in the papers, convolutions stand without their stride."""

        def unstrided(run: Run) -> tuple[str, ...]:
            return tuple(row if "pool" in row else row.partition(", stride")[0] for row in run.rows)

        return tuple((key, sum(run.count for run in same)) for key, same in groupby(self.runs, unstrided))


Placed = list[tuple[str, Block, Kind]]
"""Blocks by name, with their kinds."""

Rule = tuple[str, tuple[str, ...]]
"""What holds, and the names of the blocks that it holds for."""


@dataclass(frozen=True)
class Description:
    """All that is to be said about a network."""

    name: str
    depth: int
    cite: str
    cost: NetCost
    entering: Signal
    stem: Steps
    stem_leaving: Signal
    """Layers before the max pool."""
    stages: tuple[Stage, ...]
    head: Steps
    kinds: tuple[Kind, ...]
    shortcuts: tuple[Rule, ...]
    downsampling: tuple[Rule, ...]
    """What a shortcut does in blocks with a stride."""
    strides: tuple[Rule, ...]
    """Which layer strides."""
    orders: tuple[tuple[str, str], ...]
    """Name of the order, and the main path in it: ``3x3 BN ReLU 3x3 BN + ReLU``."""
    remarks: tuple[str, ...]
    """What few networks have."""

    @property
    def stem_paper(self) -> str:
        """The papers' name of the stem."""
        return "conv1" if self.stages[0].paper else ""

    @property
    def stem_rows(self) -> tuple[str, ...]:
        """The stem as rows of a paper's table, which leave BN and ReLU out."""
        return rows(self.stem)

    @property
    def head_rows(self) -> tuple[str, ...]:
        """The head likewise, behind the BN and ReLU that a pre-activation network ends in."""
        final = ", ".join(step.text for step in self.head if step.kind in ("norm", "act"))
        return (*((final,) if final else ()), *rows(self.head))

    def places(self, kind: Kind) -> str:
        """How many blocks of a kind each stage has: ``2 in layer1, 3 in layer2``."""
        counts = ((stage.name, sum(run.count for run in stage.runs if run.kind is kind)) for stage in self.stages)
        return ", ".join(f"{count:,} in {name}" for name, count in counts if count)


def rows(steps: Steps) -> tuple[str, ...]:
    """Layers as the rows of a paper's table, without BN and activations."""
    return tuple(step.row for step in steps if step.kind not in ("norm", "act"))


def where(names: tuple[str, ...], total: int) -> str:
    """How many of ``total`` blocks, and which if they are few."""
    if len(names) == total:
        return "all blocks" if total > 1 else "its only block"
    count = f"{len(names):,} block" + ("s" if len(names) > 1 else "")
    return f"{count} ({', '.join(names)})" if len(names) <= 4 else count


def ten_to_the(count: int) -> str:
    """Three digits and a power of ten: ``3.86 x 10^9``."""
    power = 9 if count >= 1e9 else 6 if count >= 1e6 else 3
    value = count / 10**power
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f} x 10^{power}"


def describe(spec: NetSpec, size: Size | None = None) -> Description:
    """A network in words, for images of ``size`` (height, width); the specification's own by default."""
    counted = cost(spec, size)
    flat = isinstance(spec.stem, DenseStem)
    steps, pool = stem(spec)
    signal = Signal(spec.stem.width, counted.parts[0].out_size, flat)
    outs = iter(counted.blocks)
    kinds: dict[object, Kind] = {}
    placed: Placed = []
    stages = []
    for number, (blocks, part) in enumerate(zip(spec.stages, counted.parts[1:-1], strict=True), 1):
        begin, entering = len(placed), signal
        for block in blocks:
            one = next(outs)
            before, signal = signal, Signal(block.width, one.out_size, flat)
            placed.append((one.name, block, _kind(block, one.name, before, signal, spec, kinds)))
        paper, pooled = "" if flat else f"conv{number + 1}_x", pool if number == 1 else ()
        stages.append(Stage(paper, f"layer{number}", pooled, _runs(placed[begin:]), entering, signal, part))
    return Description(
        name=spec.name,
        depth=spec.depth,
        cite=spec.cite,
        cost=counted,
        entering=Signal(spec.in_channels, size or spec.size, flat),
        stem=steps,
        stem_leaving=_stem_leaving(spec, size),
        stages=tuple(stages),
        head=head(spec),
        kinds=tuple(kinds.values()),
        shortcuts=_rules((f"{kind.shortcut}: {kind.formula}", name) for name, _, kind in placed),
        downsampling=_rules(_downsampling(placed)),
        strides=_rules(_strides(placed)),
        orders=_orders(placed),
        remarks=_remarks(spec, kinds.values()),
    )


def _stem_leaving(spec: NetSpec, size: Size | None) -> Signal:
    if isinstance(spec.stem, DenseStem):
        return Signal(spec.stem.width, (1, 1), flat=True)
    if isinstance(spec.stem, WhiteningStem):
        return Signal(spec.stem.width, stem_size(size or spec.size, spec.stem))
    alone = spec.model_copy(update={"stem": spec.stem.model_copy(update={"pool": False}), "stages": ()})
    return Signal(spec.stem.width, cost(alone, size).parts[0].out_size)


def _kind(block: Block, name: str, entering: Signal, leaving: Signal, spec: NetSpec, kinds: dict[object, Kind]) -> Kind:
    """The kind of a block; a new one, put into ``kinds``, if no earlier block takes the same steps."""
    way = flow(block, entering.channels, spec)
    changes = block.stride > 1 or leaving.channels != entering.channels
    parts = (way.fork, way.branch, way.shortcut, way.gate, way.after)
    key = (changes, *(part and tuple(replace(step, width=None) for step in part) for part in parts))
    if key not in kinds:
        kinds[key] = Kind(
            letter=chr(ord("A") + len(kinds)) if len(kinds) < 26 else f"Z{len(kinds) - 25}",
            title=_title(block, way),
            shortcut=_shortcut(block),
            formula=_formula(block, way),
            order=block.order,
            changes=changes,
            flow=way,
            first=name,
            entering=entering,
            leaving=leaving,
        )
    return kinds[key]


def _runs(placed: Placed) -> tuple[Run, ...]:
    found = ((kind, rows(layers(block))) for _, block, kind in placed)
    same = (list(group) for _, group in groupby(found, lambda each: (each[0].letter, each[1])))
    return tuple(Run(group[0][0], len(group), group[0][1]) for group in same)


def _shortcut(block: Block) -> str:
    pooled = isinstance(block.shortcut, Projection) and block.shortcut.pool and block.stride > 1
    return "pooled projection" if pooled else SHORTCUTS[type(block.shortcut)]


def _title(block: Block, way: Flow) -> str:
    match block.branch:
        case Basic():
            what = "basic block"
        case Bottleneck():
            what = "bottleneck"
        case _:
            what = " + ".join(step.what for step in layers(block))
    joined = f"{what} without shortcut" if way.shortcut is None else f"{what}, {_shortcut(block)}"
    strided = f", stride {block.stride}" if block.stride > 1 else ""
    return joined + strided + (", pre-activated" if way.fork else "")


def _formula(block: Block, way: Flow) -> str:
    x = "a(x)" if way.fork else "x"
    match block.shortcut:
        case NoShortcut():
            return "F(x)"
        case Identity():
            return f"F(x) + {x}"
        case ZeroPad():
            return f"F(x) + pad({x})"
        case Projection():
            projected = f"W pool({x})" if _shortcut(block) == "pooled projection" else f"W {x}"
            normed = any(step.kind == "norm" for step in way.shortcut or ())
            return f"F(x) + BN({projected})" if normed else f"F(x) + {projected}"
        case Scale(shortcut=factor, residual=residual):
            return f"{residual:g} F(x) + {factor:g} {x}"
        case ExclusiveGate():
            return f"g F(x) + (1 - g) {x}"
        case ShortcutGate():
            return f"F(x) + (1 - g) {x}"
        case Conv1x1():
            return f"F(x) + W {x}"
        case Dropout():
            return f"F(x) + dropout({x})"


# --- rules that hold for many blocks -----------------------------------------------------------------------------


def _rules(found: Iterable[tuple[str, str]]) -> tuple[Rule, ...]:
    """Blocks by what holds for them, the most frequent first."""
    rules: dict[str, list[str]] = {}
    for what, name in found:
        rules.setdefault(what, []).append(name)
    return tuple((what, tuple(names)) for what, names in sorted(rules.items(), key=lambda item: -len(item[1])))


def _downsampling(placed: Placed) -> Iterator[tuple[str, str]]:
    for name, block, kind in placed:
        if block.stride > 1 and kind.flow.shortcut is not None:
            yield ", ".join(" ".join((step.what, *step.details)) for step in kind.flow.shortcut), name


def _strides(placed: Placed) -> Iterator[tuple[str, str]]:
    for name, block, _ in placed:
        steps = layers(block)
        for index, step in enumerate(steps):
            if step.strides:
                same = [i for i, other in enumerate(steps) if other.what == step.what]
                nth = ("first ", "second ", "third ", "later ")[min(same.index(index), 3)] if len(same) > 1 else ""
                yield f"{nth}{step.what}", name


def _orders(placed: Placed) -> tuple[tuple[str, str], ...]:
    """Each order of the blocks with a shortcut, with the main path of its most frequent kind."""
    counts = Counter(kind.letter for _, _, kind in placed)
    kinds = {kind.letter: kind for _, _, kind in placed}
    ranked = [kinds[letter] for letter, _ in counts.most_common()]
    found: dict[str, str] = {}
    for kind in ranked:
        if kind.flow.shortcut is not None:
            found.setdefault(f"{kind.order} (He 2016, Fig. 4{FIGURE4[kind.order]})", _path(kind.flow))
    return tuple(found.items()) or (("plain", _path(ranked[0].flow)),)


def _path(way: Flow) -> str:
    """The main path in a line: ``3x3 BN ReLU 3x3 BN + ReLU``."""

    def short(steps: Steps) -> tuple[str, ...]:
        return tuple(step.what.removesuffix(" conv") for step in steps)

    addition = ("+",) if way.shortcut is not None else ()
    return " ".join((*short(way.fork), *short(way.branch), *addition, *short(way.after)))


def _remarks(spec: NetSpec, kinds: Iterable[Kind]) -> tuple[str, ...]:
    remarks = [] if spec.norm is not None else ["no BN; the layers have biases instead"]
    gates = {
        f"g = sigmoid({block.shortcut.kernel}x{block.shortcut.kernel} conv of x), initial bias {block.shortcut.bias:g}"
        for block in spec.blocks
        if isinstance(block.shortcut, ExclusiveGate | ShortcutGate)
    }
    remarks += sorted(gates)
    if spec.norm is not None and not spec.norm.scale:
        remarks.append("BN learns a shift per channel, but no scale")
    if spec.logit_scale != 1:
        remarks.append(f"logits are multiplied by {spec.logit_scale:g}")
    if any(kind.flow.fork for kind in kinds):
        before = " and ".join(step.what for step in next(kind.flow.fork for kind in kinds if kind.flow.fork))
        remarks.append(f"a(x): x after the first {before}, where these shortcuts start")
    rates = [block.drop_path for block in spec.blocks if block.drop_path]
    if rates:
        remarks.append(f"stochastic depth: training drops a branch with p = {rates[0]:.2g} to {rates[-1]:.2g}")
    return tuple(remarks)
