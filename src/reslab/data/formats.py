"""Which files of a folder are images, and which are nobody's: left behind by a system, a browser or a notebook."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

IMAGES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff",
    ".gif", ".avif", ".jp2", ".tga", ".heic", ".heif", ".jxl", ".dng", ".cr2", ".nef", ".arw", ".svg", ".psd",
)  # fmt: skip
"""Endings that people's images have. Not all of them can be read: see `readable`."""
_SYSTEM = ("thumbs.db", "desktop.ini", "icon\r")
_EXAMPLES = 3


@cache
def readable() -> tuple[str, ...]:
    """The endings of `IMAGES` that Pillow can open here: ``.avif`` if it was built so, ``.heic`` by a plugin alone."""
    from PIL import Image, features

    Image.init()
    known = {ending for ending, name in Image.registered_extensions().items() if name in Image.OPEN}
    if not features.check("avif"):
        known -= {".avif"}
    if not features.check("webp"):
        known -= {".webp"}
    if not features.check("jpg_2000"):
        known -= {".jp2"}
    return tuple(ending for ending in IMAGES if ending in known and ending != ".psd")


def is_nobodys(name: str) -> bool:
    """Whether a file or folder is passed over without a word.

    Hidden ones (``.DS_Store``, ``.ipynb_checkpoints``, and the ``._IMG.JPG`` that a Mac writes beside each file on a
    foreign disk), ``__MACOSX``, ``__pycache__``, ``Thumbs.db`` and ``desktop.ini``.
    """
    return name.startswith((".", "__")) or name.lower() in _SYSTEM


def is_image(name: str) -> bool:
    """Whether a file is one of the images that are used, by its name."""
    return not is_nobodys(name) and name.lower().endswith(readable())


@dataclass
class Unused:
    """Files that lie among the images and are not used: how many of which ending, and some of them by name."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """other files in the folder that are not used, in words"""

    def join(self, other: "Unused") -> None:
        """Counts the others too."""
        self.counts.update(other.counts)
        self.notes += other.notes
        for ending, names in other.examples.items():
            self.examples[ending] = [*self.examples.get(ending, []), *names][:_EXAMPLES]

    def add(self, names: Iterable[str]) -> "Unused":
        """Counts files, by their paths; returns itself."""
        for name in names:
            ending = os.path.splitext(name)[1].lower()
            self.counts[ending] += 1
            some = self.examples.setdefault(ending, [])
            if len(some) < _EXAMPLES:
                some.append(name)
        return self

    def __bool__(self) -> bool:
        return bool(self.counts) or bool(self.notes)

    def said(self) -> str:
        """One line for the user; empty if all files are used."""
        if not self:
            return ""
        parts = []
        for ending, count in self.counts.most_common():
            what = f"{count} {ending or 'without an ending'}"
            why = " (images that Pillow cannot read here)" if ending in IMAGES else ""
            parts.append(f"{what}{why}, such as {self.examples[ending][0]!r}")
        total = sum(self.counts.values())
        files = f"{total} {'file is' if total == 1 else 'files are'} not used: {'; '.join(parts)}"
        return "; ".join([*([files] if total else []), *self.notes])
