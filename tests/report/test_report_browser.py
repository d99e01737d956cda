"""The page in a real browser: no error in the console, no request, and switches that switch."""

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from reslab.report import claims, html
from reslab.report.summary import Summary

from .sample import sample

CHROMIUM = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: make browser")

# Put at the end of the page: uses it as a reader would, and leaves what it saw in the document.
PROBE = """
<script>
addEventListener("load", async () => {
  const seen = {};
  const $ = (s) => document.querySelector(s);
  const pause = () => new Promise((done) => setTimeout(done, 30));
  const ink = () => [...document.querySelectorAll("canvas")].map((c) => c.toDataURL()).join();
  const click = async (s) => { const before = ink(); $(s).click(); await pause(); return ink() !== before; };
  await pause();
  seen.static = document.documentElement.classList.contains("static");
  seen.panels = document.querySelectorAll("canvas").length;
  seen.wide = document.documentElement.scrollWidth > innerWidth;
  for (const s of ["[data-toggle=train]", "[data-toggle=test]", "[data-toggle=seeds]", "[data-net]"]) {
    const state = () => $(s).ariaPressed;
    seen[s] = $(s) && [state(), await click(s), state(), await click(s), state()];
  }
  const ranges = [...document.querySelectorAll("[data-y]")];
  const other = ranges.find((b) => b.ariaPressed === "false");
  const changed = other && await click(`[data-y="${other.dataset.y}"]`);
  seen.range = [changed, other && other.ariaPressed, ranges.filter((b) => b.ariaPressed === "true").length];
  $(".plot").dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft" }));
  await pause();
  seen.readings = [...document.querySelectorAll(".reading")].map((t) => t.innerText);
  const { left, top, width } = $(".u-over").getBoundingClientRect();
  const middle = { bubbles: true, clientX: left + width / 2, clientY: top + 9 };
  $(".u-over").dispatchEvent(new MouseEvent("mousemove", middle));
  await pause();
  seen.hover = $(".reading").innerText;
  document.body.addEventListener("click", (e) => e.preventDefault());
  $("#get-json").click();
  seen.json = await (await fetchBlob($("#get-json").href)).text();
  seen.figure = $("#get-figure").href.slice(0, 19);
  const resources = performance.getEntriesByType("resource").map((entry) => entry.name);
  seen.requests = resources.filter((name) => !/^(data|blob):/.test(name));
  const out = document.createElement("pre");
  const bytes = new TextEncoder().encode(JSON.stringify(seen));
  out.textContent = "SEEN" + btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join("")) + "NEES";
  document.body.append(out);
});
// The page's own rules forbid fetch, so the blob is caught where it is made.
let blob;
const make = URL.createObjectURL;
URL.createObjectURL = (made) => { blob = made; return make.call(URL, made); };
const fetchBlob = async () => blob;
</script>
"""


def chromium(path: Path, tmp_path: Path, width: int = 1280) -> tuple[str, list[str], list[str]]:
    """The document after its scripts ran, the console's messages, the addresses that were requested."""
    assert CHROMIUM is not None
    log = tmp_path / "net.json"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += ["--disable-default-apps", "--disable-extensions", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},1600"]
    command += ["--enable-logging=stderr", f"--log-net-log={log}", "--virtual-time-budget=5000", "--dump-dom"]
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=90, check=False)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert done.returncode == 0, done.stderr
    # One event a line, the last perhaps cut off. Requests of a page opened as a file have its isolation
    # key; the browser's own (the time, its updates) have none and are not the page's doing.
    of_page = re.compile(r'"network_isolation_key":"file:.*"url":"([^"]*)"')
    asked = of_page.findall(log.read_text(errors="replace"))
    return done.stdout, console, asked


def browse(summary: Summary, tmp_path: Path, width: int = 1280) -> dict[str, Any]:
    """Open the page as a file, with the probe in it; fail on any message in the console or any request."""
    path = tmp_path / "report.html"
    path.write_text(html.render(summary).replace("</body>", PROBE + "</body>"), encoding="utf-8")
    document, console, asked = chromium(path, tmp_path, width)
    assert console == []
    assert asked == []
    found = re.search(r"SEEN([A-Za-z0-9+/=]*)NEES", document)
    assert found, "the probe did not come to its end"
    seen: dict[str, Any] = json.loads(base64.b64decode(found[1]))
    assert seen["requests"] == []
    return seen


def test_the_check_itself_sees_requests_and_errors(tmp_path: Path) -> None:
    path = tmp_path / "bad.html"
    path.write_text('<img src="http://outside.invalid/x.png"><script>nothing()</script>')
    _, console, asked = chromium(path, tmp_path)
    assert any("nothing is not defined" in line for line in console)
    assert "http://outside.invalid/x.png" in asked


SWITCHED = ["true", True, "false", True, "true"]


def test_page_draws_and_its_switches_work(tmp_path: Path) -> None:
    seen = browse(sample(), tmp_path)
    assert seen["static"] is False
    assert seen["panels"] == 2
    assert seen["[data-toggle=train]"] == SWITCHED
    assert seen["[data-toggle=test]"] == SWITCHED
    assert seen["[data-toggle=seeds]"] == ["false", True, "true", True, "false"]
    assert seen["[data-net]"] == SWITCHED
    assert seen["range"] == [True, "true", 1]
    assert all("at 3,900" in reading for reading in seen["readings"])
    assert re.search(r"at (1,9|2,0|2,1)00", seen["hover"])
    assert Summary.of(json.loads(seen["json"])) == sample()
    assert seen["figure"] == "data:image/svg+xml;"


def test_one_run_on_a_narrow_page(tmp_path: Path) -> None:
    seen = browse(sample(depths=(20,), kinds=("residual",), seeds=1, threshold=None), tmp_path, width=500)
    assert seen["panels"] == 1
    assert seen["wide"] is False
    assert seen["[data-toggle=seeds]"] is None
    assert seen["[data-net]"] == SWITCHED


def test_hostile_names_do_not_break_the_page(tmp_path: Path) -> None:
    name = "</script><script>document.body.innerHTML=''</script><img src=x onerror=alert(1)>"
    seen = browse(sample(data_name=name), tmp_path)
    assert seen["panels"] == 2
    assert seen["requests"] == []


def test_errors_over_depth_and_curves_on_one_page(tmp_path: Path) -> None:
    seen = browse(sample(depths=(20, 32, 44, 56), x_label="depth"), tmp_path)
    assert seen["panels"] == 3
    assert seen["[data-toggle=train]"] == SWITCHED
    assert seen["[data-toggle=seeds]"] == ["false", True, "true", True, "false"]
    assert seen["[data-net]"] == SWITCHED
    # The arrow key moved along the first chart alone, from its end to the point before it.
    first, *others = seen["readings"]
    assert "depth 44" in first
    assert all("at the end" in reading for reading in others)


def test_the_ledger_opens_without_network(tmp_path: Path) -> None:
    evidence = claims.Evidence(
        "held", "−3.10 points (one-sided 95 % bounds −3.50 and −2.70)", 3, "cifar10, n = 3", "reslab study depth",
        "2026-03-01", "a CPU", "results/depth/summary.json",
    )  # fmt: skip
    rows = (
        claims.ClaimRow("a", "He et al. 2015", "Table 6", "Deeper is better.", "reslab study depth", (evidence,)),
        claims.ClaimRow("b", "He et al. 2015", "<script>", "Not tried.", "reslab study x"),
    )
    path = tmp_path / "claims.html"
    claims.write(rows, path)
    document, console, asked = chromium(path, tmp_path)
    assert console == []
    assert asked == []
    assert "−3.10 points" in document
    assert "&lt;script&gt;" in document
