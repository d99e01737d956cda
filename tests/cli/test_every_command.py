"""What holds for every command there is, found by asking the command line: a new one cannot forget it."""

import json
import re
from pathlib import Path

import pytest

from reslab.cli import app

from .sample import Reslab
from .test_cli import commands

EVERY = [name for name, _ in commands(app)]

WRONG: dict[str, tuple[str, ...]] = {
    "bench": ("infer", "--net", "resnet21"),
    "claims": ("nowhere",),
    "deepen": ("no.pth", "--to", "resnet56", "--out", "x.safetensors"),
    "demo": ("--out", "file"),
    "detect eval": ("no.pth", "nowhere"),
    "detect predict": ("no.pth", "x.png"),
    "detect study": ("nowhere",),
    "detect train": ("nowhere",),
    "eval": ("no.pth", "--data", "digits"),
    "export": ("no.pth", "--data", "digits", "--out", "x"),
    "features": ("no.pth", "--data", "digits", "--out", "x.npz"),
    "finetune": ("nowhere",),
    "nets": ("resnet21",),
    "predict": ("no.pth", "x.png"),
    "probe": ("no.pth", "--data", "digits", "--all"),
    "prune": ("no.pth", "--data", "digits", "--out", "x.safetensors"),
    "published": ("he2051",),
    "report": ("nowhere",),
    "runs": ("nowhere",),
    "serve": ("no.pth",),
    "study": ("depths",),
    "train": ("he2051_cifar",),
    "weights convert": ("no.pth", "x.safetensors"),
    "weights fetch": ("resnet18",),
    "weights inspect": ("no.pth",),
    "weights list": ("--out", "x"),
}
"""A mistake for each command."""


def test_every_command_has_its_mistake() -> None:
    assert set(WRONG) == set(EVERY)


@pytest.mark.parametrize("command", EVERY)
def test_a_mistake_is_json_where_json_is_asked_for(command: str, reslab: Reslab) -> None:
    Path("file").write_text("mine")
    words = (*command.split(), *WRONG.get(command, ()))
    code, out, err = reslab(*words)
    assert (code, out) == (2, "")
    said = err.removeprefix("reslab: error: ").rstrip("\n")
    assert reslab(*words, "--json") == (2, json.dumps({"error": said}) + "\n", "")


@pytest.mark.parametrize("command", EVERY)
def test_an_unknown_option_is_json_too(command: str, reslab: Reslab) -> None:
    code, out, err = reslab(*command.split(), "--json", "--no-such-option")
    assert (code, err) == (2, "")
    assert list(json.loads(out)) == ["error"]


@pytest.mark.parametrize("command", EVERY)
def test_help_can_be_read(command: str, reslab: Reslab) -> None:
    """Each option is explained, in words and in 80 columns; no default is written as Python writes it."""
    code, out, err = reslab(*command.split(), "--help")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert "--json" in out
    for python in ("default: ()", "default: (", "default: False", "default: None", "[]", "``"):
        assert python not in out
    for argument in dict(commands(app))[command].assemble_argument_collection(parse_docstring=True):
        if argument.parse and argument.names != ("*",):
            explained = argument.parameter.help or ""
            assert re.match(r"[\w\"]", explained), f"{command} {argument.name} is not explained"
            assert not explained.startswith(("Of ", "Of the ")), f"{command} {argument.name}: no sentence"


def test_commands_are_listed_by_what_they_are_for(reslab: Reslab) -> None:
    code, out, _ = reslab("--help")
    assert code == 0
    assert re.findall(r"─ ([A-Z][\w ]+) ─", out) == [
        "Train it", "Prove it", "Take it apart", "Find it", "Ship it", "About",
    ]  # fmt: skip
    for command in {name.split()[0] for name in EVERY}:
        assert re.search(rf"│ {command}  ", out)
