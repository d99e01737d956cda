"""The pictures of a network: what they show, in which order, and that they fit."""

import re
from xml.etree import ElementTree

import pytest

from reslab.nets.catalog import CATALOG, resolve
from reslab.nets.describe import describe
from reslab.nets.diagram import picture
from reslab.nets.spec import Block, Conv1x1, ConvStem, Dropout, Identity, NetSpec, Projection, Scale, ShortcutGate
from reslab.nets.svg import drawing
from reslab.nets.svg.canvas import WIDTH, pretty, si, text_width

NAMES = [*CATALOG, "mlp(depth=8)", "mlp(depth=8, residual=False)", "resnet20(norm=None, activation='tanh')"]

ORDERS = {
    "resnet20": "conv BN ReLU conv BN + ReLU",
    "resnet110-bn-after-addition": "conv BN ReLU conv + BN ReLU",
    "resnet110-relu-before-addition": "conv BN ReLU conv BN ReLU +",
    "resnet110-relu-only-preactivation": "ReLU conv BN ReLU conv BN +",
    "preresnet56": "BN ReLU conv BN ReLU conv +",
    "plain20": "conv BN ReLU conv BN ReLU",
    "resnet50": "conv BN ReLU conv BN ReLU conv BN + ReLU",
    "preresnet50": "BN ReLU conv BN ReLU conv BN ReLU conv +",
}
"""He 2016, Fig. 4, written down by hand: the main path of the block with an identity (or none)."""


def block_of(text: str, title: str) -> list[str]:
    """The lines of one block's picture."""
    [found] = [part for part in re.split(r"\n\n(?=[A-Z]  )", text) if part[1:].startswith(f"  {title}: ")]
    return found.splitlines()


@pytest.mark.parametrize("name", ORDERS)
def test_the_order_of_the_steps_in_the_text(name: str) -> None:
    told = describe(resolve(name))
    kind = next(kind for kind in told.kinds if not kind.changes and not kind.flow.fork)
    steps = []
    for line in block_of(picture(told), kind.title)[3:]:
        if found := re.match(r" *(?:│ *(BN|ReLU)\b|│ \dx\d (conv)|(⊕))", line):
            steps.append(found[1] or found[2] or found[3].replace("⊕", "+"))
    assert " ".join(steps) == ORDERS[name]


@pytest.mark.parametrize("name", ORDERS)
def test_the_order_of_the_steps_in_the_svg(name: str) -> None:
    told = describe(resolve(name))
    kind = next(kind for kind in told.kinds if not kind.changes and not kind.flow.fork)
    only = drawing(told)
    texts = only[only.index(f">{pretty(kind.title)}<") :]
    texts = texts[: texts.find(">x: ", texts.find(">x: ") + 1)]  # up to the next block
    # Steps by where they stand: the sign of the addition is a path, all others are texts.
    steps = [
        (float(y), word)
        for y, word in re.findall(r'<text x="[\d.]+" y="([\d.]+)"[^>]*>(?:\d×\d )?(conv|BN|ReLU)\b', texts)
    ]
    steps += [(float(y), "+") for y in re.findall(r'<circle cx="[\d.]+" cy="([\d.]+)" r="8" class="plus"', texts)]
    assert " ".join(word for _, word in sorted(steps)) == ORDERS[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_network_fits_into_80_columns(name: str) -> None:
    told = describe(resolve(name))
    text = picture(told)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert not any(line != line.rstrip() for line in lines)
    for kind in told.kinds:
        assert f"\n{kind.letter}  {kind.title}: {kind.formula}\n" in text
    for stage in told.stages:
        assert re.search(rf"{stage.name} +{re.escape(str(stage.leaving))}", text)
        for run in stage.runs:
            assert re.search(rf"│ +{run.kind.letter} x {run.count} +│", text)
    assert text.count("⊕") == sum(kind.flow.shortcut is not None for kind in told.kinds)
    # Whatever goes in comes out: every line that forks off ends in an addition or in a gate.
    assert text.count("┐") == text.count("┌") + text.count("⊕")


def test_the_shortcuts_in_the_text() -> None:
    def block(name: str, title: str) -> str:
        return "\n".join(block_of(picture(describe(resolve(name))), title))

    assert "identity" in block("resnet20", "basic block, identity").split("\n\n", 1)[1]
    padded = block("resnet20", "basic block, zero padding, stride 2")
    assert "subsampling, stride 2" in padded
    assert "zero padding, 32, on both sides" in padded
    assert re.search(r"│ 1x1 conv, 512, stride 2 │$", block("resnet50", "bottleneck, projection, stride 2"), re.M)
    pooled = block("resnet50d", "bottleneck, pooled projection, stride 2")
    beside = re.findall(r"│ +(\d[^│]*?) +│$", pooled, re.M)
    assert beside == ["2x2 average pool, stride 2", "1x1 conv, 512"]
    gated = block("resnet110-exclusive-gating", "basic block, exclusive gate")
    assert re.search(r"├─+┬─+┐", gated)  # branch, shortcut and gate
    for words in ("× g", "× (1 - g)", "1x1 conv, 16, bias -6", "sigmoid"):
        assert words in gated
    only = block("resnet110-shortcut-only-gating", "basic block, shortcut-only gate")
    assert "× (1 - g)" in only
    assert "× g" not in only
    assert block("resnet110-constant-scaling", "basic block, constant scaling").count("× 0.5") == 2
    assert "dropout, p = 0.5" in block("resnet110-dropout", "basic block, dropout")
    plain = block("plain20", "basic block without shortcut")
    assert not any(sign in plain for sign in "⊕├◄")


def test_a_block_in_full() -> None:
    spec = NetSpec(
        name="one", stem=ConvStem(width=4), stages=((Block(width=8, stride=2, shortcut=Projection()),),), size=(8, 8)
    )
    assert picture(describe(spec)).endswith(
        """A  basic block, projection, stride 2: F(x) + BN(W x)
   1 in layer1

          x: 4x8x8   (enters layer1.0)
              ├─────────────────────────────┐
  ┌───────────┴───────────┐                 │
  │ 3x3 conv, 8, stride 2 │                 │
  └───────────┬───────────┘     ┌───────────┴───────────┐
              │ BN              │ 1x1 conv, 8, stride 2 │
              │ ReLU            └───────────┬───────────┘
  ┌───────────┴───────────┐                 │ BN
  │      3x3 conv, 8      │                 │
  └───────────┬───────────┘                 │
              │ BN                          │
              ⊕◄────────────────────────────┘
              │ ReLU
              ▼
            8x4x4"""
    )


# --- SVG -------------------------------------------------------------------------------------------------------------

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("name", NAMES)
def test_every_network_as_svg(name: str) -> None:
    told = describe(resolve(name))
    svg = drawing(told)
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert root.get("width") == str(WIDTH) == "900"
    height = float(root.get("height", "nan"))
    assert height < 2500  # finite, whatever the depth
    assert len(svg) < 60_000
    for rect in root.iter(f"{SVG}rect"):
        x, y, w, h = (float(rect.get(key, 0)) for key in ("x", "y", "width", "height"))
        assert x >= 0 <= y
        assert x + w <= 900
        assert y + h <= height
        assert w > 0 < h
    for text in root.iter(f"{SVG}text"):
        assert 0 < float(text.get("y", "nan")) < height
        assert float(text.get("font-size", "nan")) >= 7, text.text
    shown = texts(svg)
    assert shown[0] == name  # as it is typed, whatever is done to figures
    for stage in told.stages:
        assert pretty(f"output {stage.leaving}") in shown
    for kind in told.kinds:
        assert pretty(kind.formula) in shown
    assert root.findtext(f"{SVG}title") == name


def test_an_svg_needs_nothing_beside_itself() -> None:
    svg = drawing(describe(resolve("resnet20")))
    assert "prefers-color-scheme:dark" in svg
    assert "sans-serif" in svg
    root = ElementTree.fromstring(svg)
    assert [child.tag.removeprefix(SVG) for child in root][:4] == ["title", "desc", "style", "rect"]
    assert root[3].attrib == {"width": "900", "height": root.get("height"), "class": "ground"}
    assert not re.search(r"url\(|href|@import|<script|<image", svg)
    # Every class that is used has a rule, in both schemes every colour a value.
    style = root.findtext(f"{SVG}style") or ""
    light, dark = re.findall(r":root\{([^}]*)\}", style)
    assert (
        {*re.findall(r"(--\w+):", light)} == {*re.findall(r"(--\w+):", dark)} >= {*re.findall(r"var\((--\w+)\)", style)}
    )
    used = {word for element in root.iter() for word in element.get("class", "").split()}
    assert used <= {*re.findall(r"\.([\w-]+)", style)}


def ways(name: str) -> dict[str, int]:
    paths = ElementTree.fromstring(drawing(describe(resolve(name)))).iter(f"{SVG}path")
    classes = [path.get("class", "") for path in paths]
    return {css: classes.count(css) for css in ("way", "way changes", "way pads", "gate")}


def test_the_shortcuts_in_the_svg() -> None:
    """One curve for each block, one for each kind, one in the legend; dashed or dotted where the shape changes."""
    assert ways("resnet20") == {"way": 7 + 2, "way changes": 0, "way pads": 2 + 2, "gate": 0}
    assert ways("resnet50-v1") == {"way": 12 + 2, "way changes": 4 + 3, "way pads": 0, "gate": 0}
    assert ways("plain20") == {"way": 0, "way changes": 0, "way pads": 0, "gate": 0}
    assert ways("highway19") == {"way": 14 + 2, "way changes": 0, "way pads": 0, "gate": 2}
    assert "gate" in texts(drawing(describe(resolve("highway19"))))
    assert "pad" in texts(drawing(describe(resolve("resnet20"))))
    pooled = texts(drawing(describe(resolve("resnet50d"))))
    assert pooled.count("pool") == 3
    assert pooled.count("1×1") == 4


def test_deep_networks_are_piled() -> None:
    deep = texts(drawing(describe(resolve("resnet1202"))))
    assert [text for text in deep if text.endswith(" more")] == ["198 more", "197 more", "197 more"]
    assert deep.count("3×3, 16") == 1 + 2 * 2  # the stem and two blocks
    shallow = texts(drawing(describe(resolve("resnet20"))))
    assert not any(text.endswith(" more") for text in shallow)
    assert shallow.count("3×3, 16") == 1 + 2 * 3


def test_any_shortcut_any_number_of_stages_any_name() -> None:
    kinds = (Identity(), ShortcutGate(), Scale(shortcut=0.3, residual=0.7), Dropout(), Conv1x1())
    stages: list[tuple[Block, ...]] = [(Block(width=8, shortcut=Identity()),)]
    stages += [
        (Block(width=8 + i, stride=2, shortcut=Projection()), *(Block(width=8 + i, shortcut=kind) for kind in kinds))
        for i in range(1, 7)
    ]
    spec = NetSpec(name="<seven> & 'odd' \x01", stem=ConvStem(width=8), stages=tuple(stages), size=(128, 128))
    told = describe(spec)
    shown = texts(drawing(told))
    assert shown[0] == "<seven> & 'odd' \ufffd"
    assert "conv8_x" in shown
    assert {"× 0.3", "drop", "gate"} <= set(shown)
    assert picture(told).count("⊕") == len(told.kinds) == 6


def test_words_of_the_svg() -> None:
    assert pretty("3x3 conv, 64, bias -6") == "3×3 conv, 64, bias −6"
    assert pretty("g F(x) + (1 - g) x") == "g F(x) + (1 − g) x"
    assert pretty("pre-activated, shortcut-only") == "pre-activated, shortcut-only"
    assert [si(n) for n in (640, 51_072, 999_600, 269_722, 25_557_032, 3_857_973_248)] == [
        "640",
        "51.1 k",
        "1,000 k",
        "270 k",
        "25.6 M",
        "3.86 G",
    ]
    assert text_width("3×3, 64", 12) < text_width("3×3, 1024", 12)
