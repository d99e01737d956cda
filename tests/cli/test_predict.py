"""``reslab predict``: images of any kind in, what they show out."""

import csv
import errno
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reslab.weights.preprocessing import Preprocessing

from .sample import TINY, Reslab, ours, photos, refused

HOW = Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), crop=(32, 32))
GIVEN = ("--mean", 0.5, 0.4, 0.3, "--std", 0.2, 0.3, 0.4)
NAMES = tuple(f"kind {i}" for i in range(10))


def lines(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


def picture(path: str, *, seed: int = 0, **saved: object) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **saved)  # type: ignore[arg-type]
    return pixels


def test_probabilities_are_those_of_a_plain_forward_pass(reslab: Reslab) -> None:
    net = ours("w.safetensors", preprocessing=HOW, classes=NAMES)
    pixels = picture("a.png")
    code, out, _ = reslab("predict", "w.safetensors", "a.png", "--json", "--top", 3)
    assert code == 0
    (found,) = lines(out)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    x = (x - torch.tensor(HOW.mean).view(3, 1, 1)) / torch.tensor(HOW.std).view(3, 1, 1)
    expected = net(x).softmax(1)[0].topk(3)
    assert [each["output"] for each in found["top"]] == expected.indices.tolist()  # type: ignore[attr-defined]
    assert [each["probability"] for each in found["top"]] == pytest.approx(expected.values.tolist(), abs=1e-4)  # type: ignore[attr-defined]
    assert found["class"] == NAMES[int(expected.indices[0])]


def test_folders_damaged_images_and_odd_names(reslab: Reslab) -> None:
    ours("w.safetensors", preprocessing=HOW, classes=NAMES)
    photos("p", "x", "y", count=3)
    Path("p/broken.jpg").write_text("no image")
    Path("p/notes.txt").write_text("mine")
    picture("p/new\nline ü.png")
    code, out, err = reslab("predict", "w.safetensors", "p", "--csv", "--threshold", 1.0, "--top", 12)
    assert out.splitlines()[0].endswith(",class_10,probability_10,error")  # as many as there are classes
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert len(rows) == 8
    assert {row["file"] for row in rows} >= {"p/new\nline ü.png", "p/x/x0.png", "p/broken.jpg"}
    assert [bool(row["error"]) for row in rows] == [row["file"] == "p/broken.jpg" for row in rows]
    assert {row["sure"] for row in rows if not row["error"]} == {"no"}
    assert "1 image of 8 could not be read" in err
    assert "1 file is not used" in err
    code, out, err = reslab("predict", "w.safetensors", "p")
    assert code == 0
    assert "p/broken.jpg: expected a whole image" in err
    assert len(out.splitlines()) == 7
    assert max(map(len, out.splitlines())) <= 80


def test_turned_and_deep_images_are_as_their_upright_ones(reslab: Reslab) -> None:
    ours("w.safetensors", preprocessing=HOW, classes=NAMES)
    upright = Image.fromarray(picture("a.png"))
    exif = Image.Exif()
    exif[274] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save("turned.png", exif=exif)
    _, out, _ = reslab("predict", "w.safetensors", "a.png", "turned.png", "--json", "--orient")
    first, second = lines(out)
    assert first["top"] == second["top"]
    _, out, _ = reslab("predict", "w.safetensors", "a.png", "turned.png", "--json", "--no-orient")
    first, second = lines(out)
    assert first["top"] != second["top"]
    grey = np.asarray(upright.convert("L"))
    Image.fromarray(grey).save("g8.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save("g16.png")
    _, out, _ = reslab("predict", "w.safetensors", "g8.png", "g16.png", "--json")
    first, second = lines(out)
    assert first["top"] == second["top"]


def test_nothing_that_can_be_read(reslab: Reslab, monkeypatch: pytest.MonkeyPatch) -> None:
    ours("w.safetensors", preprocessing=HOW)
    picture("a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 32 * 32 // 2 - 1)
    code, out, _ = reslab("predict", "w.safetensors", "a.png", "--json")
    assert code == 1
    assert "expected at most 1,022 pixels, found 1,024; make it smaller" in str(lines(out)[0]["error"])
    Path("empty").mkdir()
    assert "found none" in refused(reslab, "predict", "w.safetensors", "empty")
    assert "no such file" in refused(reslab, "predict", "w.safetensors", "absent.png")
    assert "--json and --csv" in refused(reslab, "predict", "w.safetensors", "a.png", "--json", "--csv")


def test_paths_on_standard_input_and_numbers_for_names(reslab: Reslab, monkeypatch: pytest.MonkeyPatch) -> None:
    ours("w.safetensors", preprocessing=HOW)
    picture("a.png")
    monkeypatch.setattr("sys.stdin", io.StringIO("a.png\ngone.png\n"))
    code, out, err = reslab("predict", "w.safetensors", "-")
    assert code == 0
    assert "a.png" in out
    assert "gone.png: cannot be read (No such file or directory)" in err
    assert err.count("do not name their classes") == 1


def test_bytes_on_standard_input_that_are_no_text(reslab: Reslab, monkeypatch: pytest.MonkeyPatch) -> None:
    ours("w.safetensors", preprocessing=HOW)
    picture("a.png")

    def given(data: bytes) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="strict"))
        return reslab("predict", "w.safetensors", "-")

    code, out, err = given(Path("a.png").read_bytes())
    assert (code, out) == (2, "")
    assert "expected paths on standard input, one per line, found an image" in err
    code, out, err = given(b"a.png\nl\xe4ngst.png\n")  # a name in Latin-1
    assert code == 0
    assert "a.png" in out
    assert "1 image of 2 could not be read" in err


def test_places_that_are_none(reslab: Reslab, monkeypatch: pytest.MonkeyPatch) -> None:
    ours("w.safetensors", preprocessing=HOW)
    picture("a.png")
    code, _, err = reslab("predict", "w.safetensors", "a.png", "--explain", "a.png/why")
    assert (code, "--explain a.png/why cannot be written: Not a directory" in err) == (2, True)
    code, _, err = reslab("predict", "w.safetensors", "a.png", "--csv", "out.csv")
    assert (code, "--json and --csv print: add > out.csv" in err) == (2, True)

    def fails(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "somewhere/a.bin")

    monkeypatch.setattr("reslab.commands.predict._check", fails)  # wherever a command reads or writes
    code, _, err = reslab("predict", "w.safetensors", "a.png")
    assert (code, err.strip()) == (2, "reslab: error: somewhere/a.bin: Permission denied")


def test_explanations_are_pictures_that_overwrite_nothing(reslab: Reslab) -> None:
    ours("w.safetensors", preprocessing=HOW, classes=NAMES)
    Path("b").mkdir()
    picture("a.png")
    picture("b/a.png", seed=1)
    code, _, err = reslab("predict", "w.safetensors", "a.png", "b", "--explain", "why")
    assert code == 0, err
    assert sorted(path.name for path in Path("why").iterdir()) == ["a.png-2.png", "a.png.png"]
    with Image.open("why/a.png.png") as made:
        assert made.size == (224, 224)
    assert "holds files already" in refused(reslab, "predict", "w.safetensors", "a.png", "--explain", "why")


def test_options_of_how_images_are_shown(reslab: Reslab) -> None:
    """Weights that say nothing are told, and their classes named; a batch changes nothing."""
    ours("w.safetensors")
    for seed, name in enumerate("abc"):
        Image.fromarray(picture(f"{name}.png", seed=seed)).resize((60, 48)).save(f"{name}.png")
    Path("names.txt").write_text("\n".join(NAMES))
    words = ("predict", "w.safetensors", "a.png", "b.png", "c.png", "--json", "--outputs", "names.txt", *GIVEN,
             "--device", "cpu", "--threads", 1)  # fmt: skip
    found = [reslab(*words, *more) for more in ((), ("--batch-size", 1), ("-b", 2), ("--net", TINY))]
    found += [reslab(*words, "--model", TINY, "--precision", "bf16")]
    assert all(code == 0 for code, _, _ in found), found
    tops = [[each["top"][0]["class"] for each in lines(out)] for _, out, _ in found[:4]]  # type: ignore[index]
    assert all(top == tops[0] for top in tops)
    assert set(tops[0]) <= set(NAMES)
    usual = [each["probability"] for each in lines(found[0][1])]
    assert [each["probability"] for each in lines(found[4][1])] == pytest.approx(usual, abs=0.1)
    for more in (("--resize", 40), ("--crop", 24), ("--resize", 40, "--interpolation", "bicubic")):
        code, out, err = reslab(*words, *more)
        assert code == 0, err
        assert [each["probability"] for each in lines(out)] != usual
    assert "give --mean and --std" in refused(reslab, "predict", "w.safetensors", "a.png")


def test_an_average_over_the_training(reslab: Reslab) -> None:
    net = ours("w.safetensors", preprocessing=HOW, classes=NAMES)
    raw = {f"model.{name}": tensor for name, tensor in net.state_dict().items()}
    ema = {name: tensor * (2 if name == "fc.weight" else 1) for name, tensor in net.state_dict().items()}
    torch.save({"state_dict": {k.removeprefix("model."): v for k, v in raw.items()}, "state_dict_ema": ema}, "both.pth")
    picture("a.png")
    words = (
        "predict",
        "both.pth",
        "a.png",
        "--json",
        "--net",
        TINY,
        "--mean",
        0.5,
        0.4,
        0.3,
        "--std",
        0.2,
        0.3,
        0.4,
    )
    (one,), (other,) = (lines(reslab(*words, "--which", which)[1]) for which in ("raw", "ema"))
    assert one["probability"] != other["probability"]


def test_probabilities_are_at_the_temperature_of_the_weights(reslab: Reslab) -> None:
    from reslab.train.state import save
    from reslab.weights.files import read_safetensors

    ours("w.safetensors", preprocessing=HOW, classes=NAMES)
    picture("a.png")
    (plain,) = lines(reslab("predict", "w.safetensors", "a.png", "--json")[1])
    tensors, header = read_safetensors(Path("w.safetensors"))
    save(Path("warm.safetensors"), tensors, header | {"temperature": 4.0})
    (warm,) = lines(reslab("predict", "warm.safetensors", "a.png", "--json")[1])
    assert warm["class"] == plain["class"]
    assert float(str(warm["probability"])) < float(str(plain["probability"]))


def test_pictures_are_overwritten_only_if_asked(reslab: Reslab) -> None:
    ours("w.safetensors", preprocessing=HOW, classes=NAMES)
    picture("a.png")
    words = ("predict", "w.safetensors", "a.png", "--explain", "why")
    assert reslab(*words)[0] == 0
    assert reslab(*words)[0] == 2
    assert reslab(*words, "--force")[0] == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--nosuch",), "there is no option --nosuch"),
        (("--top", 0), "--top takes 1 or more, got 0"),
        (("--threshold", 2), "--threshold takes a probability, 0 to 1, got 2"),
        (("-b", 0), "--batch-size takes 1 or more, got 0"),
        (("-",), "name no other images beside it"),
        (("--explain", "a.png"), "expected a folder, but there is a file of that name"),
    ],
)
def test_what_cannot_be(words: tuple[object, ...], says: str, reslab: Reslab) -> None:
    ours("w.safetensors", preprocessing=HOW, classes=NAMES)
    picture("a.png")
    assert says in refused(reslab, "predict", "w.safetensors", "a.png", *words)


def test_hostile_files_are_named_and_passed_over(reslab: Reslab) -> None:
    import os
    import struct
    import zlib

    ours("w.safetensors", preprocessing=HOW, classes=NAMES)
    Path("p").mkdir()
    picture("p/good one.png")
    Path("p/text.jpg").write_text("no picture")
    picture("p/whole.jpg")
    Path("p/cut.jpg").write_bytes(Path("p/whole.jpg").read_bytes()[:400])
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    Path("p/bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    )
    os.symlink("..", "p/loop")
    os.symlink("nowhere.png", "p/gone.png")
    code, out, err = reslab("predict", "w.safetensors", "p", "p/good one.png", "--json")
    found = {str(each["file"]): each for each in lines(out)}
    assert code == 0, err
    assert {name for name, each in found.items() if "error" in each} == {
        "p/text.jpg", "p/cut.jpg", "p/bomb.png", "p/gone.png"
    }  # fmt: skip
    assert [str(each["file"]) for each in lines(out)].count("p/good one.png") == 2
