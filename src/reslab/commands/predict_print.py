"""Answers of ``reslab predict`` as people, spreadsheets and programs read them, a line each as they come."""

import csv
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from reslab.commands.options.predict import Options

BAR = 30


@dataclass(frozen=True)
class Line:
    """What is said of an image."""

    file: str
    ranked: tuple[tuple[int, str, float], ...]
    """output, its name and probability, the likeliest first; empty where the image could not be read"""
    why: str = ""


def shown_name(text: str) -> str:
    """A name as one line of printable letters."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def cut(text: str, width: int) -> str:
    """At most so many letters; the end of a path says more than its beginning."""
    text = shown_name(text)
    return text if len(text) <= width else f"…{text[len(text) - width + 1 :]}"


def printer(options: Options, *, classes: int, alone: bool) -> Callable[[Line], None]:
    """What prints a line in the form that was asked for, of a network of so many classes."""
    sure: Callable[[Line], bool] = lambda line: line.ranked[0][2] >= (options.threshold or 0)  # noqa: E731
    out = None if sys.stdout.isatty() else sys.stdout  # a bar puts itself in the place of sys.stdout
    if options.json:
        return lambda line: print(json.dumps(_object(line, options, sure)), file=out)
    if options.csv:
        writer = csv.writer(out or sys.stdout, lineterminator="\n")
        header = ["file", "class", "probability", *(["sure"] if options.threshold is not None else [])]
        for place in range(2, min(options.top, classes) + 1):
            header += [f"class_{place}", f"probability_{place}"]
        writer.writerow([*header, "error"])
        return lambda line: writer.writerow(_row(line, options, sure, len(header)))
    width = max(40, shutil.get_terminal_size((80, 24)).columns)
    return lambda line: _for_people(line, alone, width, sure, out)


def _object(line: Line, options: Options, sure: Callable[[Line], bool]) -> dict[str, object]:
    if not line.ranked:
        return {"file": line.file, "error": line.why}
    _, name, probability = line.ranked[0]
    said = {"sure": sure(line)} if options.threshold is not None else {}
    top = [{"output": output, "class": name, "probability": value} for output, name, value in line.ranked]
    return {"file": line.file, "class": name, "probability": probability, **said, "top": top}


def _row(line: Line, options: Options, sure: Callable[[Line], bool], columns: int) -> list[object]:
    if not line.ranked:
        return [line.file, *[""] * (columns - 1), line.why]
    row: list[object] = [line.file]
    for place, (_, name, probability) in enumerate(line.ranked):
        row += [name, f"{probability:.6f}"]
        if place == 0 and options.threshold is not None:
            row.append("yes" if sure(line) else "no")
    return [*row, *[""] * (columns - len(row)), ""]


def _for_people(line: Line, alone: bool, width: int, sure: Callable[[Line], bool], out: TextIO | None) -> None:
    if not line.ranked:
        print(f"{shown_name(line.file)}: {shown_name(line.why)}", file=sys.stderr)
        return
    rest = width - 10
    file, name = cut(line.file, rest * 3 // 5), line.ranked[0][1] if sure(line) else f"not sure ({line.ranked[0][1]}?)"
    where = out or sys.stdout
    print(f"{file:<{rest * 3 // 5}}  {cut(name, rest * 2 // 5):<{rest * 2 // 5}} {line.ranked[0][2]:6.1%}", file=where)
    if alone:
        for _, each, probability in line.ranked:
            bar = "█" * round(BAR * probability)
            print(f"  {cut(each, 32):<32} {bar:<{BAR}} {probability:6.1%}", file=where)
