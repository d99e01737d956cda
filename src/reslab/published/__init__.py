"""Numbers that papers published, as data: each with paper, table or figure, row and protocol.

A study shows them beside its own only where data, network and length of training are the paper's.
"""

from __future__ import annotations

import tomllib
from copy import deepcopy
from functools import cache
from importlib import resources
from typing import Any

from reslab.errors import InputError, nearest


def load(name: str) -> dict[str, Any]:
    """The figures of one paper, for example ``load("he2015")["table6"]["rows"]["resnet20"]["test_error"]``.

    Raises:
        InputError: if there is no such paper; the nearest name is given.
    """
    known = names()
    if name not in known:
        raise InputError(f"no published figures called '{name}': {nearest(name, known)}")
    return deepcopy(_read(name))


@cache
def _read(name: str) -> dict[str, Any]:
    text = resources.files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def names() -> tuple[str, ...]:
    """The papers that `load` knows."""
    files = (entry.name for entry in resources.files(__package__).iterdir())
    return tuple(sorted(file.removesuffix(".toml") for file in files if file.endswith(".toml")))
