"""Every kind of page in a real browser: axe finds nothing, nothing scrolls sideways, no type is small, keys reach all.

Takes what `make browser` installs: a chromium on the PATH, Playwright and axe-core.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from reslab.nets import build
from reslab.nets.describe import describe
from reslab.nets.svg import drawing
from reslab.probes import drawing as figures
from reslab.probes import plots
from reslab.probes.lesions import lesions
from reslab.probes.responses import responses
from reslab.probes.result import Result
from reslab.probes.seam import Sample
from reslab.report import claims, detected, finetuned, html, sheet

from .sample import sample

CHROMIUM = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: make browser")
sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright: make browser")
pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe: make browser")


def study(path: Path) -> None:
    html.write(sample(), path)


def comparison(path: Path) -> None:
    compared = sample(depths=(20, 32, 44, 56), x_label="depth")
    html.write(compared.model_copy(update={"verdict": None, "paper": "", "differs_from_paper": ()}), path)


def ledger(path: Path) -> None:
    evidence = claims.Evidence(
        "held", "−3.10 points (one-sided 95 % bounds −3.50 and −2.70)", 3, "cifar10, n = 3", "reslab study depth",
        "2026-03-01", "a CPU", "results/depth/summary.json",
    )  # fmt: skip
    rows = [
        claims.ClaimRow("a", "He et al. 2015", "Table 6", "Deeper is better.", "reslab study depth", (evidence,)),
        claims.ClaimRow("b", "He et al. 2015", "Table 7", "Not tried.", "reslab study x"),
    ]
    claims.write(rows, path)


def xray(path: Path) -> None:
    net = build("cifar_plain(depth=14, width=4)", size=(8, 8)).eval()
    data = Sample(torch.randn(60, 3, 8, 8), torch.arange(60) % 10)
    named: dict[str, list[tuple[str, Result]]] = {
        "lesions": [("plain", lesions(net, data))],
        "responses": [("plain", responses(net, data))],
    }
    panels = tuple(
        sheet.Panel(
            name, name.capitalize(), figures.svg(getattr(plots, name), found, salt=name), ("Read it so.", "And so."),
            (("plain", "what was found"),), "Found.", "Veit 2016", {label: one.rows() for label, one in found},
        )
        for name, found in named.items()
    )  # fmt: skip
    facts = {"Machine": {"cores": 2}}
    sheet.write(sheet.Sheet("X-ray", "Inside.", panels, (("Gates", "none"),), facts, "reslab probe", "1", ("!",)), path)


def classifier(path: Path) -> None:
    dot = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
    pictures = tuple(
        finetuned.Picture(dot, dot, f"a long folder/of photographs/{i}.jpg", "ox", said, 0.9, 0.1)
        for i, said in enumerate(("ox", "cow"))
    )
    kinds = (
        finetuned.Kind("ox", 40, 12, 66.7, (39.1, 86.2), 83.3, (55.2, 95.3)),
        finetuned.Kind("a class of a very long name", 7, 3, None, None, None, None),
    )
    dots = finetuned.Dots("at the temperature", 0, ((40.0, 30.0), (90.0, 95.0)), ((40.0, 10.0, 60.0),))
    made = finetuned.Finetuned(
        "resnet18 on photos", 73.3, (48.0, 89.1), 15, "Trained.", ("15 test images are few.",), kinds,
        [[10, 2], [3, 0]], "Off by 3 points.", (dots,), pictures, pictures[:1], (dots,), "The last.",
        (("a.jpg", (dot, dot, dot)),),
        (("Say what it shows", "reslab predict run picture.jpg"),), {"Machine": {"cores": 2}}, "1",
    )  # fmt: skip
    finetuned.write(made, path)


def detector(path: Path) -> None:
    dot = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
    classes = ("ox", "a class of a very long name", *(f"class {i}" for i in range(12)))
    figures = tuple(
        detected.Row(rule, "88.8", "86.0 to 91.6", tuple("no boxes" if i % 5 == 1 else "82.4" for i in range(14)))
        for rule in ("VOC 07, 11 points", "VOC 10+, area", "COCO")
    )
    curves = tuple(finetuned.Dots(name, i % 4, ((0.0, 100.0), (50.0, 90.0 - i))) for i, name in enumerate(classes))
    errors = (("badly placed", 108, "An overlap of 0.1 to 0.5."), ("missed", 0, "Not found."))
    worst = tuple(detected.Drawn(f"a long folder/of_photographs_without_a_break_{i}.jpg", dot, dot, "3 missed")
                  for i in range(3))  # fmt: skip
    made = detected.Detected(
        "fpn on resnet18", "Mean average precision 88.8 %", "Measured.", ("2 x box of no size (left out)",), classes,
        figures, curves, 0.5, errors, worst, "reslab detect eval run data", {"Detector": {"network": "resnet18"}}, "1",
    )  # fmt: skip
    detected.write(made, path)


PAGES: dict[str, Callable[[Path], None]] = {
    "study": study, "comparison": comparison, "ledger": ledger, "xray": xray, "classifier": classifier,
    "detector": detector,
}  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", list(PAGES))
def test_page(browser: Any, usable: Any, tmp_path: Path, kind: str, width: int, scheme: str) -> None:
    path = tmp_path / "page.html"
    PAGES[kind](path)
    view = {"width": width, "height": 900}
    page = browser.new_page(viewport=view, color_scheme=scheme, bypass_csp=True)  # so that axe can be put into it
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert usable(page, width) == []
    assert usable.by_keys(page) == []
    page.close()


@pytest.mark.parametrize("name", ["resnet20", "resnet50-v1", "preresnet164", "highway32"])
def test_drawing_of_a_network(browser: Any, usable: Any, tmp_path: Path, name: str) -> None:
    path = tmp_path / "net.svg"
    path.write_text(drawing(describe(build(name).spec)), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    assert usable.small(page) == []
    page.close()
