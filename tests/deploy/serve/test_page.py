"""The page in a real browser: a picture in by every way, an answer, a heat map, and errors that are kind.

Takes what `make browser` installs: a chromium on the PATH, Playwright and axe-core.
"""

import base64
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .listening import listening
from .sample import SMALL as LIMITS
from .sample import Colours, ExplainedColours, Patches, patch, picture

CHROMIUM = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: make browser")
sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright: make browser")
pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe: make browser")

PHOTOGRAPH = picture("blue", (120, 80), "JPEG")
HOSTILE = "<img src=x onerror=document.title='taken'>.png"

# Puts a file where a drag or the clipboard would, as a user's hand cannot in a test.
GIVEN = """([kind, name, data]) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const transfer = new DataTransfer();
  if (data) transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
  else transfer.setData("text/uri-list", "http://outside.invalid/x.png");
  const how = { bubbles: true, cancelable: true };
  document.dispatchEvent(kind === "drop" ? new DragEvent(kind, { dataTransfer: transfer, ...how })
                                         : new ClipboardEvent(kind, { clipboardData: transfer, ...how }));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with listening() as found:
        yield found


def until(page: Any, condition: str) -> None:
    """Playwright's own way to wait for an expression is against the page's rules for scripts."""
    for _ in range(1000):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(10)
    raise AssertionError(condition)


@contextmanager
def opened(browser: Any, port: int, **more: Any) -> Iterator[Any]:
    """The page; at its end nothing may have been said in the console nor asked of anybody else."""
    page = browser.new_page(**({"viewport": {"width": 1280, "height": 900}} | more))
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"http://127.0.0.1:{port}/")
    until(page, "document.getElementById('model').textContent !== 'Reslab' || !entry.hidden || !problem.hidden")
    yield page
    # A refusal is a failed load to the browser, which it notes itself.
    assert [text for text in said if "Failed to load resource" not in text] == []
    assert [url for url in asked if not url.startswith((f"http://127.0.0.1:{port}/", "blob:", "data:"))] == []
    page.close()


def choose(page: Any, name: str, data: bytes, folder: Path) -> None:
    path = folder / name
    path.write_bytes(data)
    with page.expect_file_chooser() as chooser:
        page.click("#choose")
    chooser.value.set_files(path)


def test_a_picture_that_is_chosen(browser: Any, port: int, tmp_path: Path) -> None:
    with opened(browser, port) as page:
        assert page.inner_text("#model") == "Reslab · colours · 3 classes"
        choose(page, "sea.jpg", PHOTOGRAPH, tmp_path)
        page.wait_for_selector("#result:not([hidden])")
        assert page.inner_text("#name") == "sea.jpg"
        rows = page.locator("#classes li")
        assert rows.count() == 3
        assert rows.nth(0).locator(".class").inner_text() == "blue & <b>bold</b>"
        widths = [rows.nth(i).locator(".bar i").bounding_box()["width"] for i in range(3)]
        assert widths[0] > 10 * max(widths[1:])
        assert re.fullmatch(r"\d+ ms in the server, \d+ ms with the way there and back\.", page.inner_text("#latency"))
        assert "blue" in page.inner_text("#status")


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_picture_that_is_dropped_or_pasted(browser: Any, port: int, kind: str) -> None:
    with opened(browser, port) as page:
        page.evaluate(GIVEN, [kind, "sea.jpg", base64.b64encode(PHOTOGRAPH).decode()])
        page.wait_for_selector("#result:not([hidden])")
        assert page.inner_text("#best").startswith("blue & <b>bold</b>, ")
        page.evaluate(GIVEN, [kind, "", ""])
        page.wait_for_selector("#problem:not([hidden])")
        assert "An address of one is not fetched" in page.inner_text("#problem")


def test_where_it_was_seen_and_back(browser: Any, port: int, tmp_path: Path) -> None:
    with opened(browser, port) as page:
        choose(page, "sea.jpg", PHOTOGRAPH, tmp_path)
        page.wait_for_selector("#seen:not([hidden])")
        page.focus("#heat")
        page.keyboard.press("Enter")
        page.wait_for_selector("#heat[aria-pressed=true]")
        source = page.get_attribute("#picture", "src")
        assert source.startswith("data:image/png;base64,")
        assert "was seen" in page.get_attribute("#picture", "alt")
        until(page, "picture.complete && picture.naturalWidth === 16")
        page.keyboard.press("Enter")
        page.wait_for_selector("#heat[aria-pressed=false]")
        assert page.get_attribute("#picture", "src").startswith("blob:")


def test_a_model_that_does_not_explain_offers_no_map(browser: Any, tmp_path: Path) -> None:
    with listening(Colours()) as port, opened(browser, port) as page:
        choose(page, "sea.jpg", PHOTOGRAPH, tmp_path)
        page.wait_for_selector("#result:not([hidden])")
        assert page.is_hidden("#seen")


def test_a_hostile_name_is_text(browser: Any, port: int, tmp_path: Path) -> None:
    with opened(browser, port) as page:
        choose(page, HOSTILE, PHOTOGRAPH, tmp_path)
        page.wait_for_selector("#result:not([hidden])")
        assert page.inner_text("#name") == HOSTILE
        assert page.locator("#name img").count() == 0
        assert page.locator("#best b").count() == 0
        assert page.title().startswith("What does this picture show?")


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("notes.txt", b"no picture at all", "This file is no picture that can be read here."),
        ("cut.jpg", PHOTOGRAPH[:300], "This picture is damaged"),
        ("wide.png", picture(size=(60_000, 1)), "This picture is too large for the server:"),
        ("heavy.png", b"x" * 100_001, "This picture has 0.1 MB; the server takes 0."),
    ],
)
def test_errors_are_kind(browser: Any, port: int, tmp_path: Path, name: str, data: bytes, kind: str) -> None:
    with opened(browser, port) as page:
        choose(page, name, data, tmp_path)
        page.wait_for_selector("#problem:not([hidden])")
        assert page.inner_text("#problem").startswith(kind)
        assert page.get_attribute("#problem", "role") == "alert"
        assert page.is_hidden("#result")
        choose(page, "sea.jpg", PHOTOGRAPH, tmp_path)
        page.wait_for_selector("#result:not([hidden])")
        assert page.is_hidden("#problem")


def test_a_busy_server_and_one_that_is_gone(browser: Any, tmp_path: Path) -> None:
    model = Colours()
    with listening(model, LIMITS.model_copy(update={"patience": 0.2})) as port:
        with opened(browser, port) as page:
            model.goes_on.clear()
            choose(page, "sea.jpg", PHOTOGRAPH, tmp_path)
            page.wait_for_selector("#problem:not([hidden])")
            assert page.inner_text("#problem") == "The server is busy. Please try again in a second."
            model.goes_on.set()
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector("#ask:not([hidden])")
    choose(page, "sea.jpg", PHOTOGRAPH, tmp_path)
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem") == "The server does not answer. Is it still running?"
    page.close()


def test_the_token_is_asked_for(browser: Any, tmp_path: Path) -> None:
    with listening(token="s3cret") as port, opened(browser, port) as page:
        assert page.is_hidden("#ask")
        assert page.evaluate("document.activeElement.id") == "token"
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#problem:not([hidden])")
        assert page.inner_text("#problem") == "The server did not take this token."
        page.fill("#token", "s3cret")
        page.keyboard.press("Enter")
        page.wait_for_selector("#ask:not([hidden])")
        choose(page, "sea.jpg", PHOTOGRAPH, tmp_path)
        page.wait_for_selector("#result:not([hidden])")
        page.click("#heat")
        page.wait_for_selector("#heat[aria-pressed=true]")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_can_be_used_by_everybody(
    browser: Any, usable: Any, port: int, tmp_path: Path, width: int, scheme: str
) -> None:
    touch = width == 390
    view = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme, "bypass_csp": True, "has_touch": touch}
    with opened(browser, port, **view, is_mobile=touch) as page:
        assert page.is_visible("#photograph") == touch
        for state in ("empty", "answer", "problem"):
            if state == "answer":
                choose(page, "a" * 120 + ".jpg", PHOTOGRAPH, tmp_path)
                page.wait_for_selector("#seen:not([hidden])")
            if state == "problem":
                choose(page, "notes.txt", b"nothing", tmp_path)
                page.wait_for_selector("#problem:not([hidden])")
            assert usable(page, width) == [], state
        choose(page, "sea.jpg", PHOTOGRAPH, tmp_path)
        page.wait_for_selector("#seen:not([hidden])")
        assert usable.by_keys(page) == []


def test_a_new_picture_takes_the_place_of_the_old(browser: Any, tmp_path: Path) -> None:
    model = ExplainedColours()
    with listening(model) as port, opened(browser, port) as page:
        choose(page, "red.png", picture("red", (50, 50)), tmp_path)
        page.wait_for_selector("#seen:not([hidden])")
        page.click("#heat")
        page.wait_for_selector("#heat[aria-pressed=true]")
        choose(page, "sea.jpg", PHOTOGRAPH, tmp_path)
        until(page, "document.getElementById('name').textContent === 'sea.jpg'")
        assert page.get_attribute("#heat", "aria-pressed") == "false"
        assert page.inner_text("#best").startswith("blue")
        assert page.get_attribute("#picture", "src").startswith("blob:")


def test_boxes_are_drawn_over_the_picture(browser: Any, tmp_path: Path) -> None:
    with listening(Patches()) as port, opened(browser, port) as page:
        choose(page, "a.png", patch((300, 200), (30, 20, 150, 120)), tmp_path)
        page.wait_for_selector("#result:not([hidden])")
        assert page.inner_text("#best") == "1 × red <i>"
        assert page.locator("#classes li").count() == 1
        until(page, "picture.complete && picture.naturalWidth === 300")
        image = page.locator("#picture").bounding_box()
        box = page.locator("#boxes rect:not(.under)").bounding_box()
        scale = image["width"] / 300
        assert abs(box["x"] - image["x"] - 30 * scale) < 3
        assert abs(box["y"] - image["y"] - 20 * scale) < 3
        assert abs(box["width"] - 120 * scale) < 5
        page.focus("#least")
        for _ in range(5):
            page.keyboard.press("ArrowLeft")
        assert page.inner_text("#from") == "25 %"
        assert page.locator("#boxes rect:not(.under)").count() == 2
        assert page.inner_text("#best") == "1 × red <i>, 1 × half"
        choose(page, "sea.png", picture("blue", (50, 50)), tmp_path)
        until(page, "document.getElementById('name').textContent === 'sea.png'")
        assert page.inner_text("#best") == "Nothing was found"
        assert page.locator("#boxes rect").count() == 0
        assert page.is_hidden("#seen")


@pytest.mark.parametrize("width", [1280, 390])
def test_boxes_can_be_used_by_everybody(browser: Any, usable: Any, tmp_path: Path, width: int) -> None:
    view = {"viewport": {"width": width, "height": 900}, "bypass_csp": True}
    with listening(Patches()) as port, opened(browser, port, **view) as page:
        choose(page, "a.png", patch((300, 200), (30, 20, 150, 120)), tmp_path)
        page.wait_for_selector("#result:not([hidden])")
        assert usable(page, width) == []
        assert usable.by_keys(page) == []
