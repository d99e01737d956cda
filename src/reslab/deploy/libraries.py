"""Libraries of the extra ``[deploy]``: imported when they are needed, and missed in a sentence.

OpenVINO and NNCF report each conversion and quantisation to their maker unless the library that sends the reports is
missing: here it is. Whoever imports them before this module keeps what they do by themselves.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

from reslab.errors import InputError

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # its import fails, which both provide for


def library(name: str) -> Any:
    """A library by its name. Raises `InputError` where it is not installed, or does not load."""
    try:
        return import_module(name)
    except ImportError as why:
        raise InputError(f"this needs the library {name} ({why}): pip install 'reslab[deploy]'") from None


@cache
def openvino_core() -> Any:
    """OpenVINO's `Core`, the only one of this process. Raises `InputError` where OpenVINO is not installed.

    The CPU plugin of each core sets a stack for signals, and as it ends the one that it found. Where two do not end in
    the reverse order of their beginning, the stack that is left has been freed (OpenVINO 2026.4), and the next signal
    with a handler, as Ctrl-C, ends the process by a segmentation fault.
    """
    return library("openvino").Core()


@contextmanager
def one_openvino_core() -> Iterator[None]:
    """Other libraries, too, take the `openvino_core` where they make one of their own."""
    openvino = library("openvino")
    own = openvino.Core
    openvino_core()
    openvino.Core = openvino_core
    try:
        yield
    finally:
        openvino.Core = own
