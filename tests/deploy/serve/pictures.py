"""Encoded pictures, good and bad; those that attack are of `benchmarks/serve_hostile.py`."""

import importlib.util
import io
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image


def _hostile() -> ModuleType:
    path = Path(__file__).parents[3] / "benchmarks" / "serve_hostile.py"
    spec = importlib.util.spec_from_file_location("serve_hostile", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["serve_hostile"] = module
    spec.loader.exec_module(module)
    return module


hostile: Any = _hostile()


def drawn(width: int = 40, height: int = 30) -> Image.Image:
    """A smooth picture with a little noise, always the same one."""
    draw = np.random.default_rng(width * 1000 + height)
    down, across = np.mgrid[0:height, 0:width]
    pixels = np.stack([255 * across / width, 255 * down / height, 128 + 60 * np.sin(across / 5)], 2)
    return Image.fromarray((pixels + draw.normal(0, 4, pixels.shape)).clip(0, 255).astype(np.uint8))


def photograph(width: int = 40, height: int = 30, kind: str = "PNG", **more: Any) -> bytes:
    """The same, encoded."""
    out = io.BytesIO()
    drawn(width, height).save(out, kind, **more)
    return out.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of so many black pixels, of which the bytes are few."""
    found: bytes = hostile.bomb(width, height)
    return found


def of_many_chunks(count: int) -> bytes:
    """A PNG whose pixels come after so many empty parts."""
    found: bytes = hostile.of_many_chunks(photograph(), count)
    return found


def of_many_scans(count: int) -> bytes:
    """A progressive JPEG with its last scan again and again."""
    found: bytes = hostile.of_many_scans(drawn(), count)
    return found


def animation(frames: int) -> bytes:
    """A GIF whose first picture is red, and the others blue."""
    found: bytes = hostile.animation(frames)
    return found
