"""The command ``reslab``: names of commands. What each takes stands in `reslab.commands.options`."""

import errno
import gc
import json
import logging
import os
import signal
import sys
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from cyclopts import App, CycloptsError, Group, Parameter
from rich.console import Console

from reslab import __version__
from reslab.commands.options import (
    bench,
    claims,
    deepen,
    detect,
    evaluate,
    export,
    features,
    finetune,
    nets,
    predict,
    probe,
    prune,
    published,
    report,
    runs,
    serve,
    study,
    train,
    weights,
)
from reslab.commands.options.common import Command
from reslab.errors import InputError

COMMANDS: dict[str, dict[str, type[Command] | dict[str, type[Command]]]] = {
    "Train it": {"demo": study.Demo, "train": train.Options, "eval": evaluate.Options, "runs": runs.Options},
    "Prove it": {
        "study": study.Options,
        "claims": claims.Options,
        "report": report.Options,
        "published": published.Options,
    },
    "Take it apart": {
        "nets": nets.Options,
        "weights": {
            "list": weights.List,
            "inspect": weights.Inspect,
            "convert": weights.Convert,
            "fetch": weights.Fetch,
        },
        "probe": probe.Options,
        "prune": prune.Options,
        "deepen": deepen.Options,
        "features": features.Options,
        "bench": bench.Options,
    },
    "Find it": {
        "detect": {"train": detect.Train, "eval": detect.Eval, "predict": detect.Predict, "study": detect.Study},
    },
    "Ship it": {
        "finetune": finetune.Options,
        "predict": predict.Options,
        "export": export.Options,
        "serve": serve.Options,
    },
}
"""Commands by what they are for, in the order of ``reslab --help``."""

UNWRITABLE = frozenset((errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG))
"""Of the system's errors about a file: what its user can mend, and no defect of ours."""
HELP = {
    "weights": "List, inspect, convert and download weights of any residual network.",
    "detect": "Train object detectors, measure them, and find objects in images.",
}
"""What commands are for that have others below them."""


def _shown(default: object) -> str | None:
    """A default as one would write it on the command line; what an absent option says by itself is not shown."""
    if default is None or default is False or default == ():
        return None
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _app() -> App:
    made = App(
        name="reslab",
        help="Train the papers' residual networks, test their claims, analyse and deploy them.",
        version=__version__,
        default_parameter=Parameter(negative=(), show_env_var=False, show_default=_shown),
        suppress_keyboard_interrupt=False,  # `main` says how to go on
        group_commands=Group("About", sort_key=len(COMMANDS)),
    )
    for place, (title, commands) in enumerate(COMMANDS.items()):
        group = Group(title, sort_key=place)
        for order, (name, options) in enumerate(commands.items()):
            if not isinstance(options, dict):
                made.command(options, name=name, group=group, sort_key=order)
                continue
            below = App(
                name=name,
                help=HELP[name],
                group=group,
                sort_key=order,
                group_commands="Commands",
            )
            for each, inner in options.items():
                below.command(inner, name=each)
            made.command(below)
    made.register_install_completion_command(
        help="Install completion of commands and options for your shell: bash, zsh, fish or PowerShell."
    )
    return made


app = _app()


def _carry_out(options: Command, *, alone: bool) -> None:
    if not _rank() and (named := options.names()):  # of several ranks none ends before it has told the others
        from reslab.commands.names import check

        check(**named)
    module, _, function = options.runs.partition(":")
    with _without_collection(alone):
        command = getattr(import_module(module), function)
    page: Path | None = command(options)
    if page is not None and getattr(options, "open", False):
        webbrowser.open(page.resolve().as_uri())


@contextmanager
def _without_collection(alone: bool) -> Iterator[None]:
    """Python does not look for cycles of unused objects while modules are imported, which make many that stay in use.

    Doing so takes a tenth of the time of importing PyTorch. Where the command is all that the process does (``alone``),
    these objects are not looked through later either: at the process's end that takes 0.2 seconds.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if alone:
            gc.freeze()
        if running:
            gc.enable()


@contextmanager
def _looked_through_at_the_end() -> Iterator[None]:
    """Libraries that print what they take for leaks as the process ends get the look at all objects that frees them."""
    try:
        yield
    finally:
        if sys.modules.keys() & {"onnx", "triton"}:  # by nanobind
            gc.unfreeze()


def _rank() -> str:
    """Which of several processes this is, where a launcher started them."""
    rank = os.environ.get("RANK")
    return "" if rank is None or os.environ.get("WORLD_SIZE", "1") == "1" else f" [rank {rank}]"


def names_in_utf8() -> None:
    """Starts this process anew in Python's UTF-8 mode, where the locale has ASCII for names of files.

    Such names would be text that no file of ours can hold. What is printed stays in the locale's letters.
    """
    if sys.getfilesystemencoding() != "utf-8":
        encoding = getattr(sys.stdout, "encoding", None) or "ascii"
        os.environ |= {"PYTHONUTF8": "1", "PYTHONIOENCODING": f"{encoding}:replace"}
        os.execv(sys.executable, sys.orig_argv)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does: what it has started (workers, compilers) is ended with it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    mine = os.getpid()

    def end(number: int, _frame: object) -> None:
        if os.getpid() == mine:
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_DFL)  # a process that was forked off ends as it always did
        os.kill(os.getpid(), number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Once(logging.Filter):
    """Passes each text once."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        new = text not in self._said
        self._said.add(text)
        return new


@contextmanager
def _said_once() -> Iterator[None]:
    """A warning is printed once by a command, though two of its steps may come upon it."""
    filters = [(handler, _Once()) for handler in logging.root.handlers]
    for handler, once in filters:
        handler.addFilter(once)
    try:
        yield
    finally:
        for handler, once in filters:
            handler.removeFilter(once)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command.

    Exit codes: 0 done, 1 output that nobody read or no image that `predict` could read, 2 something to mend in what
    was asked, 130 interrupted (Ctrl-C, SIGTERM). With
    ``--json`` a failure is one object on stdout, ``{"error": "..."}``, with the same code.
    """
    if arguments is None:
        names_in_utf8()
    logging.basicConfig(format="reslab: %(message)s", level=logging.WARNING)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # what a terminal in ASCII cannot show is shown as "?"
            stream.reconfigure(errors="replace")
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options: Any = app(words, exit_on_error=False, print_error=False, result_action="return_value")
        if isinstance(options, Command):  # and no page of help
            with _ended_in_order(), _said_once(), _looked_through_at_the_end():
                _carry_out(options, alone=arguments is None)
    except (InputError, CycloptsError) as error:
        _fail(f"error: {' '.join(str(error).split())}", words, 2)
    except KeyboardInterrupt as stop:
        # Commands that leave something to go on with say so in the exception.
        _fail(f"interrupted; {stop}" if str(stop) else "interrupted", words, 130)
    except BrokenPipeError:
        # Who reads the output has seen enough (`| head`); what Python would still write at its end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        if error.errno not in UNWRITABLE or error.filename is None:
            raise
        _fail(f"error: {os.fsdecode(error.filename)}: {error.strerror}", words, 2)


def _fail(why: str, words: Sequence[str], code: int) -> None:
    """Says why in one line, whatever the width of the terminal: it can be searched for and cut out."""
    if "--json" in words:
        print(json.dumps({"error": why.removeprefix("error: ")}))
    else:
        Console(stderr=True).print(f"reslab{_rank()}: {why}", markup=False, highlight=False, soft_wrap=True)
    raise SystemExit(code) from None
