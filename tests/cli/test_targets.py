"""Files that commands write: none is overwritten unasked, and each is what its name says."""

from pathlib import Path

import pytest

from .sample import Reslab, refused

WEIGHTS = "w.safetensors"

TARGETS = [
    (("nets", "resnet20"), "--svg", "net.svg"),
    (("claims",), "--html", "claims.html"),
    (("report", "run"), "--figure", "figure.pdf"),
    (("study", "degradation", "--depths", 8, 14), "--figure", "figure.png"),
    (("eval", WEIGHTS, "--data", "digits"), "--confusion", "matrix.csv"),
    (("eval", WEIGHTS, "--data", "digits"), "--save", "scores.npz"),
    (("bench", "infer"), "--out", "speed.json"),
    (("probe", WEIGHTS, "--data", "digits", "--all"), "--out", "xray.html"),
    (("prune", WEIGHTS, "--data", "digits", "--drop", 1), "--out", "small.safetensors"),
    (("prune", WEIGHTS, "--data", "digits", "--drop", 1, "--out", "new.safetensors"), "--report", "curve.html"),
    (("prune", WEIGHTS, "--data", "digits", "--drop", 1, "--out", "new.safetensors"), "--figure", "curve.svg"),
    (("features", WEIGHTS, "--data", "digits"), "--out", "features.parquet"),
    (("deepen", WEIGHTS, "--to", "resnet56"), "--out", "deep.safetensors"),
]


@pytest.mark.parametrize(("words", "option", "name"), TARGETS, ids=lambda value: str(value[0]) if value else "")
def test_nothing_is_overwritten_unasked(words: tuple[object, ...], option: str, name: str, reslab: Reslab) -> None:
    Path(WEIGHTS).write_bytes(b"not read before")
    Path(name).write_text("mine")
    said = refused(reslab, *words, option, name)
    assert said.startswith(f"{option} {name} exists; ")
    assert "--force" in said
    assert Path(name).read_text() == "mine"
    _, _, err = reslab(*words, option, name, "--force", "--device", "none") if words[0] in FORCED else (0, "", "")
    assert "exists" not in err
    folder = Path(f"folder{Path(name).suffix}")
    folder.mkdir()
    assert "is a folder; name a file in it" in refused(reslab, *words, option, folder)


FORCED = ("eval", "probe", "prune", "features", "study", "bench")
"""Commands with a device: one that there is not stops them behind the check of the file."""


@pytest.mark.parametrize(("words", "option", "name"), TARGETS, ids=lambda value: str(value[0]) if value else "")
def test_a_name_of_another_kind_is_refused(words: tuple[object, ...], option: str, name: str, reslab: Reslab) -> None:
    Path(WEIGHTS).write_bytes(b"not read before")
    wrong = Path(name).with_suffix(".txt")
    said = refused(reslab, *words, option, wrong)
    assert str(wrong) in said
    assert Path(name).suffix in said or "expected a page such as xray.html" in said


def test_folders_of_files(reslab: Reslab) -> None:
    Path("compared").mkdir()
    Path("compared/report.html").write_text("mine")
    assert "compared holds report.html already" in refused(reslab, "report", "run", "--out", "compared")
    Path("pictures").mkdir()
    Path("pictures/responses.png").write_text("mine")
    Path(WEIGHTS).write_bytes(b"not read before")
    words = ("probe", WEIGHTS, "--data", "digits", "--responses", "--figures", "pictures")
    assert "pictures holds responses.png already" in refused(reslab, *words)
