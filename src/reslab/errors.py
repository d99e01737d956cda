"""The one error type for mistakes that a user can mend.

The command line prints it as one line and exits with code 2, and so it does with what the system says of a file that
may not be written or a disk that is full. Anything else that is raised is a defect of Reslab and keeps its traceback.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class InputError(ValueError):
    """Something the user gave cannot be used. The text says what was expected, what came, what to do."""


@contextmanager
def writing(place: object) -> Iterator[None]:
    """Turns an OSError inside the block into an `InputError`: this place cannot be written, and why."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{place} cannot be written: {error.strerror or error}") from None


def first_line(error: Exception) -> str:
    """The first line of another library's error, at most 200 characters, without the place in that library's source."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.sub(r"^\[[^]]*\] ", "", lines[0])[:200]


MOST_NAMED = 12
"""Names that a hint lists; who has to read ninety reads none."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint such as ``did you mean 'resnet20'?`` for a misspelt name; the first known names if none is near."""
    names = sorted(known)
    close = get_close_matches(word.lower(), names, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    more = f", ... ({len(names)} in all)" if len(names) > MOST_NAMED else ""
    return f"known: {', '.join(names[:MOST_NAMED])}{more}"
