"""What mistakes are said as."""

from pathlib import Path

import pytest

from reslab.errors import InputError, first_line, writing


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^--out x cannot be written: Not a directory$"), writing("--out x"):
        (tmp_path / "file/below").write_text("")
    with pytest.raises(InputError, match=r"^x cannot be written: by the library$"), writing("x"):
        raise OSError("by the library")  # without the system's own words
    with pytest.raises(KeyError), writing("x"):
        raise KeyError


@pytest.mark.parametrize(
    ("text", "line"),
    [("one\ntwo", "one"), ("\n  one ", "one"), ("", "RuntimeError"), ("[a.cpp:12] one", "one"), ("x" * 900, "x" * 200)],
)
def test_the_first_line_of_an_error(text: str, line: str) -> None:
    assert first_line(RuntimeError(text)) == line
