"""Commands take an artefact as they take weights, and say the same."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from PIL import Image

from deploy.conftest import CLASSES, HOW, Exported
from deploy.test_preprocess import photograph
from reslab.deploy.artefact import Input, RuntimeName
from reslab.weights.files import to_bytes
from reslab.weights.load import header_of

Get = Callable[[Input], Exported]
Reslab = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of each class and of several sizes, one of them noted as lying on its side."""
    monkeypatch.chdir(tmp_path)
    sizes = ((40, 60), (50, 44), (40, 60), (70, 36))
    for number, name in enumerate(sorted(CLASSES)):
        for again in range(2):
            path = Path("p", name, f"{again}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            height, width = sizes[(number + again) % 4]
            image = Image.fromarray(photograph(height, width + number))
            exif = image.getexif()
            exif[274] = 6 if number == 1 else 1
            image.save(path, exif=exif)


def weights_of(made: Exported) -> str:
    """The network of an artefact as a file of weights."""
    header = header_of(made.net.spec, HOW, CLASSES)
    Path("w.safetensors").write_bytes(to_bytes(made.net.state_dict(), header))
    return "w.safetensors"


def lines(reslab: Reslab, *words: object) -> dict[str, dict[str, Any]]:
    code, out, err = reslab("predict", *words, "--json", "--threads", 1)
    assert code == 0, err
    found = [json.loads(line) for line in out.splitlines()]
    return {line["file"]: line for line in found}


@pytest.mark.parametrize("kind", get_args(Input))
@pytest.mark.parametrize("runtime", get_args(RuntimeName))
def test_predict_by_each_runtime(reslab: Reslab, exported: Get, kind: Input, runtime: RuntimeName) -> None:
    made = exported(kind)
    expected = lines(reslab, weights_of(made), "p")
    assert len(expected) == 8
    words = (made.artefact.folder, "p", "--runtime", runtime)
    for more in ((), ("-b", 2)):
        found = lines(reslab, *words, *more)
        assert list(found) == list(expected)  # in the same order
        for file, line in found.items():
            assert line["class"] == expected[file]["class"]
            assert line["probability"] == pytest.approx(expected[file]["probability"], abs=0.05)
    turned = "p/bee/0.png"
    assert turned in found
    upright = lines(reslab, *words, "--no-orient")[turned]["probability"]
    assert upright != pytest.approx(found[turned]["probability"], abs=1e-3)


@pytest.mark.parametrize("kind", get_args(Input))
def test_eval_by_each_runtime(reslab: Reslab, exported: Get, kind: Input) -> None:
    made = exported(kind)

    def seen(source: object, *more: object) -> dict[str, Any]:
        code, out, err = reslab("eval", source, "--data", "p", "--split", "all", "--json", "--threads", 1, *more)
        assert code == 0, err
        found: dict[str, Any] = json.loads(out)
        return found

    expected = seen(weights_of(made), "--orient")
    for runtime in get_args(RuntimeName):
        found = seen(made.artefact.folder, "--runtime", runtime, "--orient")
        assert found["top1_error"] == expected["top1_error"]
        assert found["loss"] == pytest.approx(expected["loss"], abs=0.05)
        assert found["data_fingerprint"] == expected["data_fingerprint"]
        assert found["net"] == expected["net"]
        assert f"computed by {runtime} in fp32, from {kind}" in found["notes"]


def test_the_quickest_is_said(reslab: Reslab, exported: Get) -> None:
    folder = exported("crops").artefact.folder
    code, out, err = reslab("predict", folder, "p", "--csv", "--precision", "auto")
    assert code == 0
    assert len(out.splitlines()) == 9
    assert "the fastest here (" in err
    for way in ("openvino fp32", "openvino bf16", "onnxruntime fp32", "torch fp32", "torch bf16"):
        assert way in err


def test_an_ensemble_with_weights(reslab: Reslab, exported: Get) -> None:
    made = exported("crops")
    words = ("eval", weights_of(made), made.artefact.folder, "--data", "p", "--split", "all", "--protocol", "ensemble")
    code, out, err = reslab(*words, "--json", "--runtime", "onnxruntime")
    assert code == 2  # a runtime goes with artefacts alone
    assert "applies to an artefact" in out
    code, out, err = reslab(*words, "--json")
    assert code == 0, err
    found = json.loads(out)[-1] if out.startswith("[") else json.loads(out)
    assert len(found["members"]) == 2


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--mean", 0.5, 0.5, 0.5), "with its preprocessing built in; leave out --mean"),
        (("--crop", 24), "with its preprocessing built in"),
        (("--net", "resnet20"), "--net needs the weights that it was exported from"),
        (("--explain", "why"), "--explain needs the weights"),
        (("--device", "cuda"), "which runs on the CPU"),
        (("--runtime", "onnxruntime", "--precision", "bf16"), "cannot be computed by onnxruntime bf16"),
        (("--threads", 0), "--threads takes 1 or more"),
    ],
)
def test_options_of_weights_are_refused(
    reslab: Reslab, exported: Get, words: tuple[object, ...], why: str
) -> None:  # fmt: skip
    code, out, err = reslab("predict", exported("crops").artefact.folder, "p", *words)
    assert (code, out) == (2, "")
    assert why in err


def test_other_protocols_and_damaged_artefacts(reslab: Reslab, exported: Get, tmp_path: Path) -> None:
    folder = exported("crops").artefact.folder
    code, _, err = reslab("eval", folder, "--data", "p", "--split", "all", "--protocol", "ten-crop")
    assert code == 2
    assert "evaluate it by --protocol one-crop" in err
    code, _, err = reslab("eval", folder, "--data", "p", "--split", "all", "--recalibrate-bn")
    assert "--recalibrate-bn needs the weights" in err
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        os.link(path, copy / path.name) if path.suffix != ".onnx" else (copy / path.name).write_bytes(b"less")
    for command in (("predict", copy, "p"), ("eval", copy, "--data", "p")):
        code, out, err = reslab(*command)
        assert (code, out) == (2, "")
        assert "model.onnx was cut or altered" in err


def test_a_runtime_goes_with_an_artefact(reslab: Reslab, exported: Get) -> None:
    for words in (("predict", weights_of(exported("crops")), "p"), ("eval", "w.safetensors", "--data", "p")):
        code, _, err = reslab(*words, "--runtime", "openvino")
        assert code == 2
        assert "--runtime openvino applies to an artefact that 'reslab export' wrote, not to weights" in err


def benched(reslab: Reslab, *words: object) -> dict[str, Any]:
    short = ("--rounds", 2, "--turn", 0.01, "-b", 3, "--threads", 1, "--compile-limit", 0, "--json")
    code, out, err = reslab("bench", "infer", *words, *short)
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def test_bench_by_the_quickest_and_against_the_same_network_in_pytorch(reslab: Reslab, exported: Get) -> None:
    made = exported("photographs")
    found = benched(reslab, made.artefact.folder, "--against", "eager", "--peer", "default", "--precision", "fp32")
    assert found["images_per_second"].keys() == {"reslab", "eager as it comes"}
    assert found["runtime"] in get_args(RuntimeName)
    assert found["net"] == made.net.spec.name
    assert (found["precision"], found["size"]) == ("fp32", [32, 32])
    assert (found["input"], found["shape"]) == ("photographs", [53, 72, 3])
    assert "photographs of 53x72, and resizes, crops and normalises them" in found["mode"]
    assert found["share_of_peak"] > 0


@pytest.mark.parametrize("kind", get_args(Input))
def test_bench_by_a_runtime_that_is_named(reslab: Reslab, exported: Get, kind: Input) -> None:
    folder = exported(kind).artefact.folder
    found = benched(reslab, folder, "--runtime", "onnxruntime")
    assert (found["runtime"], found["input"]) == ("onnxruntime", kind)
    assert found["images_per_second"]["reslab"] > 0
    assert found["command"].startswith(f"reslab bench infer {folder} --batch-size 3 --runtime onnxruntime")


def test_bench_of_weights(reslab: Reslab, exported: Get) -> None:
    found = benched(reslab, weights_of(exported("crops")), "--size", 16, "--against", "eager", "--peer", "default")
    assert found["images_per_second"].keys() == {"reslab", "eager as it comes"}
    assert found["size"] == [16, 16]
    assert found["weights"] == "w.safetensors"


def test_what_bench_refuses(reslab: Reslab, exported: Get) -> None:
    folder = exported("crops").artefact.folder
    for words, said in (
        (("infer", folder, "--compile"), "is an artefact: --compile needs the weights"),
        (("infer", folder, "--size", 16), "is an artefact: --size needs the weights"),
        (("infer", folder, "--against", "torchvision"), "torchvision has no network that computes what"),
        (("infer", folder, "-b", 0), "--batch-size takes 1 or more, got 0"),
        (("infer", "--runtime", "openvino"), "--runtime openvino applies to an artefact"),
        (("infer", "--which", "raw"), "--which raw chooses among the weights in a file"),
        (("train", folder), "bench train takes a network by --net; weights and artefacts go with bench infer"),
        (("infer", "nowhere.safetensors"), "nowhere.safetensors"),
    ):
        code, out, err = reslab("bench", *words)
        assert (code, out) == (2, ""), words
        assert said in err
        assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [("features", "--data", "p", "--out", "f.npz"), ("prune", "--data", "p", "--drop", 1, "--out", "q.safetensors")],
)
def test_who_needs_weights_says_so(reslab: Reslab, exported: Get, words: tuple[object, ...]) -> None:
    command, *more = words
    code, out, err = reslab(command, exported("crops").artefact.folder, *more)
    assert (code, out) == (2, "")
    assert "is what 'reslab export' wrote" in err
    assert "here the weights that it was made of are needed" in err
