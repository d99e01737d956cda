"""The run directory: the only state that commands share. Standard library only."""

from reslab.runs.files import append_line, is_temporary, read_json, write_atomic, write_json
from reslab.runs.machine import called, describe, made, now
from reslab.runs.rundir import RunDir

__all__ = [
    "RunDir",
    "append_line",
    "called",
    "describe",
    "is_temporary",
    "made",
    "now",
    "read_json",
    "write_atomic",
    "write_json",
]
