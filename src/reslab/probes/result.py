"""The result of a probe: a frozen dataclass of arrays, with a table and JSON."""

import math
from dataclasses import MISSING, dataclass, fields
from typing import Any, Self, get_origin

import numpy as np
from numpy.typing import NDArray

FORMAT = 3
"""Of the files that results are kept in; raised when what a figure measures changes, so that none is taken for new."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def _plain(value: Any) -> Any:
    """Arrays and tuples as lists; what JSON cannot hold (NaN, infinity) as None."""
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _numbers(value: Any) -> Any:
    """None as NaN, at any depth."""
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return math.nan if value is None else value


@dataclass(frozen=True)
class Result:
    """Base class of results. The first field names the rows of the table, such as the blocks."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; NaN (nothing to measure there) and infinity are None."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The result that `to_dict` came from."""
        found: dict[str, Any] = {}
        for field in fields(cls):
            if field.name not in values and field.default is not MISSING:
                continue  # of a version that did not know it yet
            value = values[field.name]
            if get_origin(field.type) is np.ndarray:
                kind = np.int64 if field.type == Ints else np.float64
                value = np.array(_numbers(value), dtype=kind)
            elif get_origin(field.type) is tuple:
                value = tuple(value)
            elif field.type is float and value is None:
                value = math.nan
            found[field.name] = value
        return cls(**found)

    def rows(self) -> list[dict[str, Any]]:
        """A table, for a data frame: a row for each entry of the first field, a column for each field as long."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        length = len(next(iter(columns.values())))
        fitting = {
            name: _plain(values)
            for name, values in columns.items()
            if isinstance(values, tuple | np.ndarray) and len(values) == length and np.ndim(values) == 1
        }
        return [{name: values[i] for name, values in fitting.items()} for i in range(length)]


def as_floats(values: Any) -> Floats:
    """An array of fp64, from numbers or a tensor."""
    return np.asarray(values, dtype=np.float64)


def as_ints(values: Any) -> Ints:
    """An array of int64."""
    return np.asarray(values, dtype=np.int64)
