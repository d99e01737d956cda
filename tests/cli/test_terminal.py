"""Shells and locales: completion can be installed, and an ASCII terminal shows what it can."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from reslab.cli import app

from .sample import TINY, TRAIN, Reslab, photos
from .test_cli import commands

SHELLS = {
    "bash": ".local/share/bash-completion/completions/reslab",
    "zsh": ".zsh/completions/_cyclopts_reslab",
    "fish": ".config/fish/completions/reslab.fish",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_is_installed(shell: str, reslab: Reslab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ZSH", raising=False)
    monkeypatch.delenv("ZSH_CUSTOM", raising=False)
    monkeypatch.setenv("SHELL", f"/bin/{shell}")
    code, out, err = reslab("--install-completion", "--shell", shell)
    assert (code, err) == (0, "")
    script = tmp_path / SHELLS[shell]
    assert str(script) in out
    text = script.read_text(encoding="utf-8")
    for name, _ in commands(app):
        assert name.split()[-1] in text
    assert "batch-size" in text


def test_bash_completes(reslab: Reslab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert reslab("--install-completion", "--shell", "bash")[0] == 0
    script = f"""
    source {tmp_path / SHELLS["bash"]}
    COMP_WORDS=(reslab "$1" "$2"); COMP_CWORD=$3
    _reslab; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    for words, expected in ((("pu", "", "1"), ["published"]), (("train", "--see", "2"), ["--seed"])):
        done = subprocess.run(["bash", "-c", script, "bash", *words], capture_output=True, text=True, check=True)
        assert [word.strip() for word in done.stdout.split()] == expected


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""}
MANY = """
import sys
from reslab.cli import main, names_in_utf8
names_in_utf8()
for line in sys.stdin.buffer.read().decode(sys.getfilesystemencoding(), "surrogateescape").splitlines():
    try:
        main(line.split("|"))
    except SystemExit as stop:
        assert not stop.code, line
"""


def test_names_that_ascii_has_no_letters_for() -> None:
    """Commands that print, write and read such names, where the locale is ASCII: replaced characters, no traceback."""
    photos("fotos/train", "\u00e4pfel", "birnen", count=6, size=(12, 12))
    photos("fotos/val", "\u00e4pfel", "birnen", count=4, size=(12, 12))
    run = "l\u00e4ufe/eins"
    train = "|".join(map(str, (*TRAIN, "--net", TINY, "--device", "cpu")))
    done = subprocess.run(
        [sys.executable, "-c", MANY],
        input="\n".join(
            (
                "nets|resnet20|--diagram",
                "nets|resnet20|--svg|n\u00e4tz.svg",
                f"{train}|--out|{run}",
                train.replace("digits", "fotos").replace("|32|", "|4|") + "|--size|12|--out|l\u00e4ufe/zwei",
                "eval|l\u00e4ufe/zwei|--data|fotos",
                "runs|l\u00e4ufe",
                f"report|{run}|--out|b\u00e4richt",
                f"weights|inspect|{run}",
                f"weights|convert|{run}|g\u00e4wichte.safetensors",
            )
        ).encode(),
        env=os.environ | ASCII, capture_output=True, check=False,
    )  # fmt: skip
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    assert "Traceback" not in said
    assert said.isascii()
    for path in (
        "n\u00e4tz.svg",
        "l\u00e4ufe/eins/result.json",
        "b\u00e4richt/report.html",
        "g\u00e4wichte.safetensors",
    ):
        assert Path(path).exists()
    for file in Path().rglob("*.json"):
        file.read_text(encoding="utf-8")


def test_a_pipe_that_takes_ascii_alone() -> None:
    command = [sys.executable, "-m", "reslab", "nets", "resnet20", "--diagram"]
    done = subprocess.run(command, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "3x3 conv" in done.stdout.decode("ascii")


CTRL_C = """
import sys
class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == "cyclopts":
            raise KeyboardInterrupt
sys.meta_path.insert(0, CtrlC())
from reslab.__main__ import main
main()
"""


def test_an_interrupt_before_the_first_word() -> None:
    """A tenth of a second after its start the command is still importing what reads its options."""
    done = subprocess.run([sys.executable, "-c", CTRL_C], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "reslab: interrupted\n")


def test_a_warning_is_said_once(reslab: Reslab, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An evaluation lists the images first and decodes them then; both steps see the file that is none."""
    root = photos(str(tmp_path / "photos"), "cat", "dog", size=(32, 31))
    (root / "cat" / "notes.txt").write_text("no image")
    for times in (1, 2):  # by each command anew
        assert reslab("eval", "reslab:resnet20-cifar10", "--data", root, "--split", "all")[0] == 0
        assert [record.getMessage().count("notes.txt") for record in caplog.records] == [1] * times


def test_a_hint_does_not_list_ninety_names(reslab: Reslab) -> None:
    code, _, err = reslab(*TRAIN, "--net", "xyzzy")
    assert code == 2
    assert re.search(r"known: (cifar_\w+, ){7}.*, \.\.\. \(\d\d in all\)", err), err
    assert len(err) < 400


def test_no_library_speaks_of_leaks_at_the_end() -> None:
    """As Triton does of objects that the collector of cycles has not looked through when the process ends."""
    pytest.importorskip("triton")
    script = "import sys, triton; sys.argv[1:] = ['published', '--json']; from reslab.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)
    assert done.stderr == ""
