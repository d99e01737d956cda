"""Libraries of the extra ``[deploy]``: imported when they are needed, and missed in a sentence.

OpenVINO and NNCF report each conversion and quantisation to their maker unless the library that sends the reports is
missing: here it is. Whoever imports them before this module keeps what they do by themselves.
"""

import sys
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
