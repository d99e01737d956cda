"""Files of predictions: what is written is read, and nothing else is."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reslab.errors import InputError
from reslab.evaluate import kept
from reslab.evaluate.predictions import Predictions, load, save
from reslab.evaluate.protocols import Ensemble, MultiScale, OneCrop, TenCrop
from reslab.runs import RunDir

from .sample import about, predictions


@pytest.mark.parametrize(
    "protocol",
    [
        OneCrop(crop=(8, 8), test_time="flip"),
        TenCrop(crop=(8, 8), resize=9),
        MultiScale(scales=(8, 12)),
        Ensemble(members=(OneCrop(crop=(8, 8)), MultiScale(scales=(8,)))),
    ],
)
def test_written_and_read(protocol: object, tmp_path: Path) -> None:
    made = predictions(outputs=("class 0", None, "naïve"), protocol=protocol, notes=("a", "b"))
    made.logs[0, 0] = -np.inf
    save(made, tmp_path / "new" / "p.npz")
    found = load(tmp_path / "new" / "p.npz")
    assert found.about == made.about
    assert np.array_equal(found.logs, made.logs)
    assert np.array_equal(found.labels, made.labels)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["p.npz"], "nothing temporary is left"


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_what_is_no_file_of_predictions(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    assert "there is no such file" in refusal(path)
    save(predictions(), path)
    whole = path.read_bytes()
    for length in (0, 1, 50, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "found something else or a part of it" in refusal(path)
    for content in (b"text", b"\x80\x04.", pickle.dumps([1])):
        path.write_bytes(content)
        assert "found something else" in refusal(path)
    path.unlink()
    path.mkdir()
    assert "found something else" in refusal(path)
    with pytest.raises(InputError, match=r"expected a name that ends in \.npz"):
        save(predictions(), tmp_path / "p.json")


def test_a_flipped_bit_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    save(predictions(), path)
    content = bytearray(path.read_bytes())
    content[content.find(b"NUMPY") + 150] ^= 1  # inside the scores: the archive has a checksum
    path.write_bytes(content)
    assert "found something else or a part of it" in refusal(path)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("trapped",)


def test_nothing_in_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "p.npz"
    made = predictions()
    array = np.empty(1, object)
    array[0] = Trap()
    np.savez(path, logs=array, labels=made.labels, about=np.array(made.about.model_dump_json()))
    assert "found something else" in refusal(path)
    assert not Path("trapped").exists()


def rewritten(path: Path, **changed: Any) -> Path:
    made = predictions()
    parts: dict[str, Any] = {
        "logs": made.logs,
        "labels": made.labels,
        "about": np.array(made.about.model_dump_json()),
    } | changed
    np.savez(path, **{name: value for name, value in parts.items() if value is not None})
    return path


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"logs": None}, "found something else"),
        ({"about": None}, "found something else"),
        ({"about": np.array("{}")}, "is not one that this version of reslab knows .*Field required"),
        ({"about": np.array("no json")}, "is not one that this version of reslab knows"),
        ({"logs": np.zeros((6, 3))}, "scores of float64"),
        ({"logs": np.zeros(6, np.float32)}, r"scores of float32 \(6,\)"),
        ({"logs": np.zeros((0, 3), np.float32), "labels": np.zeros(0, np.int64)}, "scores of float32"),
        ({"logs": np.ones((6, 3), np.float32)}, "a score of 2.72, expected 1 at most"),
        ({"logs": np.zeros((6, 4), np.float32)}, "3 names for 4 outputs"),
        ({"labels": np.zeros(5, np.int64)}, "for 6 images"),
        ({"labels": np.zeros(6, np.int32)}, "labels of int32"),
        ({"labels": np.full(6, 3)}, "labels 3 to 3 for 3 outputs"),
        ({"labels": np.full(6, -1)}, "labels -1 to -1"),
        ({"about": np.array(about(numbers=(0, 1, 7)).model_dump_json())}, "for 3 classes"),
        ({"about": np.array(about(numbers=(0, 1)).model_dump_json())}, "for 3 classes"),
    ],
)
def test_parts_that_do_not_go_together(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert_matches(refusal(rewritten(tmp_path / "p.npz", **changed)), said)


def assert_matches(text: str, pattern: str) -> None:
    import re

    assert re.search(pattern, text), text


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    later = about().model_dump_json().replace('"format":1', '"format":2')
    assert "format" in refusal(rewritten(tmp_path / "p.npz", about=np.array(later)))


def test_the_key_is_of_all_that_decides_the_scores() -> None:
    base = about().key()
    deciding: tuple[dict[str, Any], ...] = (
        {"weights_fingerprint": "9" * 16},
        {"net_fingerprint": "9" * 16},
        {"data_fingerprint": "9" * 16},
        {"numbers": (2, 1, 0)},
        {"protocol": OneCrop(crop=(8, 8), test_time="flip")},
        {"protocol": TenCrop(crop=(8, 8), resize=9)},
        {"preprocessing": {"mean": [0.4], "std": [0.25]}},
        {"precision": "bf16"},
        {"recalibrated": "100 images"},
        {"most_damaged": 1},
    )
    for changed in deciding:
        assert about(**changed).key() != base, changed
    beside: tuple[dict[str, Any], ...] = (
        {"seconds": 3.0}, {"when": "now"}, {"weights": "elsewhere"}, {"notes": ("x",)}, {"split": "all"},
    )  # fmt: skip
    for changed in beside:
        assert about(**changed).key() == base, changed


def test_kept_with_a_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = RunDir(tmp_path / "run")
    made = predictions()
    assert kept.find(run, made.about) is None
    path = kept.keep(run, made, {"top1_error": 1.5})
    assert path is not None
    assert path == kept.place(run, made.about)
    assert path.name == f"one-crop-{made.about.key()}.npz"
    assert path.with_suffix(".json").read_text() == '{\n  "top1_error": 1.5\n}\n'
    found = kept.find(run, made.about)
    assert found is not None
    assert np.array_equal(found.logs, made.logs)
    assert kept.find(run, about(precision="bf16")) is None
    path.write_bytes(path.read_bytes()[:100])
    assert kept.find(run, made.about) is None
    assert "it is computed again" in caplog.text


def test_a_file_of_another_evaluation_under_that_name_is_not_taken(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    other = predictions(precision="bf16")
    save(other, kept.place(run, about()))
    assert kept.find(run, about()) is None


def test_where_nothing_can_be_written_that_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "eval").write_text("a file in the way")
    assert kept.keep(RunDir(tmp_path / "run"), predictions(), {}) is None
    assert "the result is not kept: cannot write in" in caplog.text


def test_an_old_file_outlives_a_write_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.npz"
    save(predictions(), path)
    before = path.read_bytes()

    def full(handle: io.BufferedWriter, **arrays: object) -> None:
        handle.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        save(predictions(seed=1), path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["p.npz"]


def test_predictions_are_frozen() -> None:
    made: Predictions = predictions()
    with pytest.raises(AttributeError):
        made.logs = made.logs  # type: ignore[misc]
