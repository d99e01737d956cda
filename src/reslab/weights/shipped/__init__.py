"""Weights that come with Reslab: ``reslab:NAME``. No network is needed; each file is checked before it is used.

Each has a model card beside it, and a line in ``index.json``, which the loader trusts rather than the file.
"""

import hashlib
from functools import cache
from importlib import resources
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

from reslab.errors import InputError, nearest

FOLDER = Path(str(resources.files(__name__)))
INDEX = "index.json"


class Shipped(BaseModel):
    """A line of the index. Errors are of the test images, in per cent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    net: str
    data: str
    recipe: str
    dtype: str
    """of the stored numbers"""
    sha256: str
    test_error: float
    """one look at each image, with the weights as they are stored"""
    test_error_flip_shift: float
    """with flips and shifts at test time"""


_INDEX: TypeAdapter[dict[str, Shipped]] = TypeAdapter(dict[str, Shipped])


@cache
def index() -> dict[str, Shipped]:
    """All of them, by name."""
    return _INDEX.validate_json((FOLDER / INDEX).read_bytes())


def card(name: str) -> str:
    """The model card, in Markdown."""
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def file(name: str) -> Path:
    """The file of weights of a name.

    Raises `InputError` for a name that is not there, and for a file that is not the one that was shipped.
    """
    if name not in index():
        known = list(index())
        raise InputError(f"'reslab:{name}' is not among the weights that come with Reslab; {nearest(name, known)}")
    path = FOLDER / f"{name}.safetensors"
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        raise InputError(f"{path} is missing; install Reslab again") from None
    if found != index()[name].sha256:
        raise InputError(
            f"{path} is not the file that came with Reslab: its SHA-256 begins with {found[:12]}, expected "
            f"{index()[name].sha256[:12]}. It was not used; install Reslab again"
        )
    return path
