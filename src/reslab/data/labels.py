"""Which output of a network is which class of a data set. Nothing is guessed without saying so."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from reslab.errors import InputError

_WORDNET = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class Outputs:
    """The output of each class of a data set."""

    numbers: tuple[int, ...]
    said: str
    """how they were found, for people"""


@cache
def ilsvrc() -> tuple[str, ...]:
    """The WordNet ids of ImageNet's 1,000 classes in the order of every network's outputs (which is sorted)."""
    return tuple(files("reslab.data").joinpath("ilsvrc_wordnet_ids.txt").read_text("ascii").split())


def outputs(
    classes: Sequence[str], count: int, *, names: Sequence[str] | None = None, file: Path | None = None
) -> Outputs:
    """The output of each class, by name where the names are known, and otherwise by order.

    Args:
        classes: of the data, in the order of its labels.
        count: outputs of the network.
        names: of the outputs, if the weights say them.
        file: a text file with a class's name for each output, a line each; it wins over ``names``.

    Raises:
        InputError: classes and outputs do not go together, with what would settle it.
    """
    if file is not None:
        return _by_name(classes, read_names(file, count), f"by the names in {file}")
    if names is not None:
        if len(names) != count:
            raise InputError(
                f"the weights contain the names of {len(names)} classes, but the network has {count} outputs; name the "
                "class of each in a text file, one a line: --outputs FILE"
            )
        if set(classes) <= set(names):
            return _by_name(classes, names, "by the class names in the weights")
    if count == len(ilsvrc()) and all(_WORDNET.fullmatch(name) for name in classes) and set(classes) <= set(ilsvrc()):
        return _by_name(classes, ilsvrc(), "by ImageNet's WordNet ids")
    if names is not None:
        strange = [name for name in classes if name not in set(names)]
        known = ", ".join([*names[:4], *(["..."] if len(names) > 4 else [])])
        raise InputError(
            f"the weights know no class '{strange[0]}' ({len(strange)} of the data's {len(classes)} classes), but "
            f"{known}; rename the folders, or give a file of names by --outputs"
        )
    if len(classes) != count:
        raise InputError(
            f"the data has {len(classes)} classes ({', '.join(list(classes)[:3])}, ...), the network {count} outputs; "
            "give --outputs FILE, a class's name on each line in the order of the outputs"
        )
    return Outputs(tuple(range(count)), "in the order of the data's classes (the weights contain no names)")


def _by_name(classes: Sequence[str], names: Sequence[str], said: str) -> Outputs:
    number = {name: i for i, name in enumerate(names)}
    if missing := [name for name in classes if name not in number]:
        raise InputError(f"no output is named '{missing[0]}' ({len(missing)} such classes); outputs were found {said}")
    if twice := [name for name in classes if list(names).count(name) > 1]:
        raise InputError(f"two outputs are named '{twice[0]}'; outputs were found {said}")
    return Outputs(tuple(number[name] for name in classes), said)


def read_names(file: Path, count: int) -> tuple[str, ...]:
    """The names of the outputs in a text file, a line each. Raises `InputError` for another number of them."""
    try:
        lines = [line.strip() for line in file.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--outputs {file}: expected a text file with a name on each line, but {error}") from None
    if len(lines) != count:
        raise InputError(f"--outputs {file}: expected {count} names, one for each output, found {len(lines)}")
    return tuple(lines)
