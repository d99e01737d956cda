"""The page in a real browser: no error in the console, no request, and switches that switch."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from reslab.report import html
from reslab.report.summary import Summary

from .sample import sample

CHROMIUM = next(
    (p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")

# Put at the end of the page: uses it as a reader would, and leaves what it saw in the document.
PROBE = """
<script>
addEventListener("load", () => {
  const seen = {};
  const $ = (s) => document.querySelector(s);
  const ink = () => [...document.querySelectorAll("canvas")].map((c) => c.toDataURL()).join();
  const click = (s) => { const before = ink(); $(s).click(); return ink() !== before; };
  seen.static = document.documentElement.classList.contains("static");
  seen.panels = document.querySelectorAll("canvas").length;
  seen.wide = document.documentElement.scrollWidth > innerWidth;
  for (const s of ["[data-toggle=train]", "[data-toggle=test]", "[data-toggle=seeds]", "[data-net]"]) {
    seen[s] = $(s) && [$(s).ariaPressed, click(s), $(s).ariaPressed, click(s), $(s).ariaPressed];
  }
  const ranges = [...document.querySelectorAll("[data-y]")];
  const other = ranges.find((b) => b.ariaPressed === "false");
  seen.range = other && [click(`[data-y="${other.dataset.y}"]`), other.ariaPressed, ranges.filter((b) => b.ariaPressed === "true").length];
  const plots = document.querySelectorAll(".plot");
  plots[0].dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft" }));
  seen.readings = [...document.querySelectorAll(".reading")].map((t) => t.innerText);
  const over = $(".u-over").getBoundingClientRect();
  $(".u-over").dispatchEvent(new MouseEvent("mousemove", { bubbles: true, clientX: over.left + over.width / 2, clientY: over.top + 9 }));
  document.body.addEventListener("click", (e) => e.preventDefault());
  $("#get-json").click();
  seen.json = $("#get-json").href.slice(0, 5);
  seen.figure = $("#get-figure").href.slice(0, 19);
  const finish = () => {
    seen.hover = $(".reading").innerText;
    seen.requests = performance.getEntriesByType("resource").map((e) => e.name).filter((n) => !n.startsWith("data:"));
    const out = document.createElement("pre");
    out.id = "seen";
    out.textContent = "SEEN" + btoa(unescape(encodeURIComponent(JSON.stringify(seen)))) + "NEES";
    document.body.append(out);
  };
  setTimeout(finish, 50);
});
</script>
"""


def browse(summary: Summary, tmp_path: Path, width: int = 1280) -> dict[str, Any]:
    """Open the page as a file, with the probe in it; fail on any message in the console or any request."""
    assert CHROMIUM is not None
    path = tmp_path / "report.html"
    path.write_text(html.render(summary).replace("</body>", PROBE + "</body>"), encoding="utf-8")
    log = tmp_path / "net.json"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},1600"]
    command += ["--enable-logging=stderr", f"--log-net-log={log}", "--virtual-time-budget=3000", "--dump-dom"]
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=90, check=False)
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    assert not console, console
    # Addresses of requests alone: the log also lists the browser's own constants.
    text = log.read_text(errors="replace") if log.exists() else ""
    assert not re.findall(r'"url":"(?:https?|wss?)://[^"]*"[^}]*"initiator":"(?:file|null)', text)
    assert '"initiator":"file' not in text
    found = re.search(r"SEEN([A-Za-z0-9+/=]*)NEES", done.stdout)
    assert found, done.stderr[-2000:]
    import base64

    seen: dict[str, Any] = json.loads(base64.b64decode(found[1]))
    return seen


SWITCHED = ["true", True, "false", True, "true"]


def test_page_draws_and_its_switches_work(tmp_path: Path) -> None:
    seen = browse(sample(), tmp_path)
    assert seen["static"] is False
    assert seen["panels"] == 2
    assert seen["requests"] == []
    assert seen["[data-toggle=train]"] == SWITCHED
    assert seen["[data-toggle=test]"] == SWITCHED
    assert seen["[data-toggle=seeds]"] == ["false", True, "true", True, "false"]
    assert seen["[data-net]"] == SWITCHED
    assert seen["range"] == [True, "true", 1]
    assert all("at 3,900" in reading for reading in seen["readings"])
    assert re.search(r"at (1,9|2,0|2,1)00", seen["hover"])
    assert seen["json"] == "blob:"
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
