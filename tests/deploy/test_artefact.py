"""An artefact's folder: read back as it was written, and refused once a bit of it has changed."""

import json
from pathlib import Path

import pytest

from reslab.deploy.artefact import METADATA, About, Checked, is_artefact, read, seal, written
from reslab.errors import InputError
from reslab.weights.preprocessing import Preprocessing

ABOUT = About(
    net="resnet20", num_classes=2, channels=3, classes=("cat", "dög"), input="crops",
    preprocessing=Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3, crop=(32, 32)), temperature=1.5,
    models={"onnx": "model.onnx"}, provenance={"weights": "runs/pets", "test_error": 4.25},
    gate=(
        Checked(runtime="openvino", precision="fp32", images=3, largest_difference={7: 0.0, 32: 0.1}, agreement=99.5),
    ),
)  # fmt: skip


def an_artefact(folder: Path) -> Path:
    with written(folder) as made:
        (made / "model.onnx").write_bytes(bytes(range(256)))
        seal(made, ABOUT)
    return folder


def test_it_is_read_back(tmp_path: Path) -> None:
    found = read(an_artefact(tmp_path / "out"))
    assert found.about.model_copy(update={"files": {}}) == ABOUT
    assert found.about.files["model.onnx"].bytes == 256
    assert found.file("onnx").read_bytes()[:2] == b"\x00\x01"
    assert is_artefact(tmp_path / "out")
    assert not is_artefact(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("where", [0, 100, 255])
def test_a_bit_of_the_model(tmp_path: Path, where: int) -> None:
    model = an_artefact(tmp_path / "out") / "model.onnx"
    data = bytearray(model.read_bytes())
    data[where] ^= 4
    model.write_bytes(data)
    with pytest.raises(InputError, match="was altered since it was written: expected the checksum"):
        read(tmp_path / "out")


def test_a_model_cut_short_or_gone(tmp_path: Path) -> None:
    model = an_artefact(tmp_path / "out") / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(InputError, match="expected 256 bytes, found 255"):
        read(tmp_path / "out")
    model.unlink()
    with pytest.raises(InputError, match="does not exist"):
        read(tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values: values["classes"].reverse(), "was altered"),
        (lambda values: values["preprocessing"].update(std=[0.3] * 3), "was altered"),
        (lambda values: values["files"].clear(), "was altered"),
        (lambda values: values.pop("sha256"), "was altered"),
        (lambda values: values.update(version=2), "expected an artefact of version 1, found 2"),
    ],
)
def test_edited_metadata(tmp_path: Path, change: object, said: str) -> None:
    path = an_artefact(tmp_path / "out") / METADATA
    values = json.loads(path.read_text(encoding="utf-8"))
    assert callable(change)
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(InputError, match=said):
        read(tmp_path / "out")


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "[" * 100_000, "\udcff"])
def test_metadata_that_is_none(tmp_path: Path, text: str) -> None:
    path = an_artefact(tmp_path / "out") / METADATA
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"damaged|expected an artefact of version"):
        read(tmp_path / "out")


def test_written_anew_with_other_spaces_it_is_the_same(tmp_path: Path) -> None:
    path = an_artefact(tmp_path / "out") / METADATA
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(dict(reversed(values.items()))), encoding="utf-8")
    assert read(tmp_path / "out").about.classes == ("cat", "dög")


def test_a_name_that_leads_out_of_the_folder() -> None:
    with pytest.raises(ValueError, match="should match pattern"):
        About.model_validate(ABOUT.model_dump() | {"models": {"onnx": "../model.onnx"}})


def test_what_fails_leaves_nothing_behind_and_the_old_one_as_it_was(tmp_path: Path) -> None:
    an_artefact(tmp_path / "out")

    def fail() -> None:
        with written(tmp_path / "out") as made:
            (made / "model.onnx").write_bytes(b"new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert read(tmp_path / "out").file("onnx").stat().st_size == 256
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_new_one_takes_its_place(tmp_path: Path) -> None:
    an_artefact(tmp_path / "out")
    with written(tmp_path / "out") as made:
        (made / "model.onnx").write_bytes(b"new")
        seal(made, ABOUT)
    assert read(tmp_path / "out").about.files["model.onnx"].bytes == 3
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
