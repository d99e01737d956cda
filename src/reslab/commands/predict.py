"""``reslab predict``."""

import io
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console

from reslab.commands.artefacts import check_options, check_weights, open_artefact
from reslab.commands.classifying import classifying
from reslab.commands.options.predict import Options
from reslab.commands.output_names import output_names
from reslab.commands.predict_print import Line, printer, shown_name
from reslab.data.decode.whole import late_bar
from reslab.data.formats import Unused
from reslab.data.walk import images_below
from reslab.deploy.artefact import is_artefact, read
from reslab.deploy.classify import Exported
from reslab.errors import InputError, writing
from reslab.evaluate.classify import Answering, Answers
from reslab.probes.attribution import grad_cam
from reslab.probes.overlay import heat
from reslab.probes.seam import Sample, own
from reslab.report.words import plural


def run(options: Options) -> None:
    """Prints what each image shows, as the answers come. Exit code 1 if no image could be read."""
    _check(options)
    console = Console(stderr=True, quiet=options.json)
    unused, unreadable = Unused(), list[str]()
    files = _files(options.images, unused, unreadable)
    # Above half of its limit Pillow warns, above the whole it refuses; the refusal is enough.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    asked = _by_artefact if is_artefact(options.weights) else _by_weights
    classify, names, explain = asked(options, console, None if files is None else len(files))
    listed = None if files is None else len(files)
    answers = classify(iter(files) if files is not None else _on_standard_input())
    count, left_out = _print(options, answers, names, listed, explain)
    for text in (*unreadable, unused.said()):
        if text:
            console.print(shown_name(text), markup=False, highlight=False, soft_wrap=True)
    if left_out:
        console.print(f"{plural(left_out, 'image')} of {count:,} could not be read", highlight=False, soft_wrap=True)
    if not count:
        raise InputError("no paths came on standard input; expected one per line")
    if left_out == count:
        raise SystemExit(1)


Asked = tuple[Answering, tuple[str, ...], "_Explain | None"]
"""What answers, what its outputs are called, and what explains."""


def _by_weights(options: Options, console: Console, _count: int | None) -> Asked:
    check_weights(options.runtime)
    classify, weights = classifying(options, "a prediction")
    explain = None if options.explain is None else _Explain(options.explain, classify.net, classify.precision)
    names = output_names(options.outputs, "weights", weights.spec.num_classes, weights.classes, console)
    return classify, names, explain


def _by_artefact(options: Options, console: Console, count: int | None) -> Asked:
    others = {"net": options.net, "which": options.which, "explain": options.explain}
    check_options(options.weights, options.given, options.device, others)
    found = open_artefact(
        read(options.weights), options.runtime, options.precision, threads=options.threads,
        batch=min(options.batch, count or options.batch), console=console,
    )  # fmt: skip
    about = found.about(options.oriented)
    names = output_names(options.outputs, "artefact", about.num_classes, about.classes, console)
    return Exported(found.runtime, about, options.batch), names, None


def _check(options: Options) -> None:
    """What is wrong whatever the weights and images are."""
    for name in options.images:
        if name.startswith("-") and name != "-":
            raise InputError(f"there is no option {name}; an image of that name is given as ./{name}")
    if options.json and options.csv:
        raise InputError("--json and --csv are two forms of the same; give one of them")
    for name, number in (
        ("top", options.top), ("batch-size", options.batch), ("resize", options.given.resize),
        ("crop", options.given.crop),
    ):  # fmt: skip
        if number is not None and number < 1:
            raise InputError(f"--{name} takes 1 or more, got {number}")
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        raise InputError(f"--threshold takes a probability, 0 to 1, got {options.threshold:g}")
    folder = options.explain
    if folder is not None:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"--explain {folder}: expected a folder, but there is a file of that name")
        if folder.is_dir() and any(folder.iterdir()) and not options.force:
            raise InputError(f"--explain {folder} holds files already; name another folder, or add --force")


def _files(given: tuple[str, ...], unused: Unused, unreadable: list[str]) -> list[Path] | None:
    """The images that are named, those of folders in order; None: paths come on standard input."""
    if "-" in given:
        if len(given) > 1:
            raise InputError("- takes the paths from standard input; name no other images beside it")
        return None
    found: list[Path] = []
    for name in given:
        path = Path(name).expanduser()
        if path.is_dir():
            found += images_below(path, unused, unreadable)
        elif os.path.lexists(path):
            found.append(path)
        else:
            text = f"expected an image or a folder of images at {name!r}, but there is no such file"
            table = Path(name).suffix in (".json", ".jsonl", ".csv")
            raise InputError(f"{text}; --json and --csv print: add > {name}" if table else text)
    if not found:
        more = "; ".join(text for text in (*unreadable, unused.said()) if text)
        raise InputError(f"expected images in {', '.join(given)}, found none{f'; {more}' if more else ''}")
    return found


_IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")
"""How files of images begin."""


def _on_standard_input() -> Iterator[str]:
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # names of files are bytes, whatever the locale says
    for number, line in enumerate(sys.stdin):
        if number == 0 and os.fsencode(line).startswith(_IMAGES):
            raise InputError(
                "expected paths on standard input, one per line, found an image; name its file in place of -"
            )
        if path := line.rstrip("\r\n"):
            yield path


def _print(
    options: Options, answers: Iterator[Answers], names: tuple[str, ...], listed: int | None, explain: "_Explain | None"
) -> tuple[int, int]:
    """Prints every answer; returns how many images there were, and how many could not be read."""
    write = printer(options, classes=len(names), alone=listed == 1)
    # On a terminal the lines themselves show how far it is, and a bar would run through them.
    bar = late_bar("images", listed or 0) if listed and not sys.stdout.isatty() else None
    count = left_out = 0
    try:
        for some in answers:
            for shown, probabilities in some.each():
                count += 1
                if probabilities is None:
                    left_out += 1
                    write(Line(shown.name, (), shown.why))
                    continue
                best = probabilities.topk(min(options.top, len(names)))
                ranked = zip(best.indices.tolist(), best.values.tolist(), strict=True)
                write(Line(shown.name, tuple((index, names[index], value) for index, value in ranked)))
            if explain is not None:
                explain(some)
            sys.stdout.flush()
            if bar is not None:
                bar(count)
    finally:
        if bar is not None:
            bar(None)
    return count, left_out


class _Explain:
    """Writes a picture of each image into a folder, no two under one name."""

    def __init__(self, folder: Path, net: torch.nn.Module, precision: str) -> None:
        self.folder, self.net, self.precision = folder, own(net, "--explain"), precision
        self.taken: set[str] = set()
        with writing(f"--explain {folder}"):
            folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, some: Answers) -> None:
        shown = [each for each in some.shown if each.pixels is not None]
        if not shown:
            return
        best = some.probabilities.argmax(1).to(some.x.device)
        found = grad_cam(self.net, Sample(some.x, best, batch=len(shown), precision=self.precision), classes=best)
        for each, values in zip(shown, found.maps, strict=True):
            assert each.pixels is not None
            target = self.folder / self._name(each.name)
            with writing(f"--explain {target}"):
                heat(each.pixels, values).save(target)

    def _name(self, source: str) -> str:
        """The name of the file with what is not safe in names replaced, and a number where it is taken."""
        stem = re.sub(r"[^\w.-]", "_", Path(source).name).lstrip(".")[:60] or "image"
        name, number = f"{stem}.png", 1
        while name.casefold() in self.taken:
            number += 1
            name = f"{stem}-{number}.png"
        self.taken.add(name.casefold())
        return name
