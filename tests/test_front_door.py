"""What `import reslab` offers: two functions, documented, whose examples run; without torch until they are called."""

import doctest
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import reslab
from reslab.data.sources import load as load_data
from reslab.nets.network import build
from reslab.runs import RunDir
from reslab.runs.files import write_json
from reslab.weights.load import load


def test_two_functions_and_two_classes_are_seen() -> None:
    seen = [name for name in dir(reslab) if not name.startswith("_")]
    assert seen == ["Classifier", "ImageClassifier", "build", "load"]
    text = pydoc.plain(pydoc.render_doc(reslab))
    for word in ("build(net", "load(", "num_classes=5", "draws its weights", '``"ema"`` or ``"raw"``'):
        assert word in text
    assert "TYPE_CHECKING" not in text


@pytest.mark.parametrize("function", [reslab.build, reslab.load], ids=["build", "load"])
def test_the_examples_run(function: object) -> None:
    [test] = doctest.DocTestFinder(recurse=False).find(function, name=getattr(function, "__name__", ""))
    assert len(test.examples) >= 3
    results = doctest.DocTestRunner().run(test)
    assert (results.failed, results.attempted) == (0, len(test.examples))


def test_they_take_what_the_functions_behind_them_take() -> None:
    for front, behind in ((reslab.build, build), (reslab.load, load)):
        assert (
            front.__code__.co_varnames[: front.__code__.co_argcount + front.__code__.co_kwonlyargcount]
            == (behind.__code__.co_varnames[: behind.__code__.co_argcount + behind.__code__.co_kwonlyargcount])
        )


def test_importing_takes_no_torch() -> None:
    code = "import reslab, sys; dir(reslab); reslab.build; reslab.load; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_a_notebook_prints_is_a_few_lines(tmp_path: Path) -> None:
    """Of weights, networks, their specifications, data and runs; never tensors, never every class or layer."""
    weights, data, run = reslab.load("reslab:resnet20-cifar10"), load_data("digits"), RunDir(tmp_path / "r50")
    for thing, expected in (
        (weights, "Weights of resnet20, from reslab:resnet20-cifar10"),
        (weights, "classes: airplane, automobile, bird, cat, ..."),
        (weights.preprocessing, "Preprocessing(32x32, mean a whole image"),
        (weights.spec, "NetSpec('resnet20', 20 layers, 3x32x32 -> 10 classes, blocks 3-3-3)"),
        (reslab.build("resnet152"), "layer3: 1024 channels; 1 bottleneck/projection, 35 bottleneck/identity"),
        (data, "digits: 1,437 training and 360 test images of 8x8, 1 channels, 10 classes"),
        (data.test, "ImageSet(360 images of 1x8x8)"),
        (run, "r50': no run yet)"),
    ):
        text = repr(thing)
        assert expected in text
        assert len(text) < 600
        assert text.count("\n") < 9
    run.create({"a": 1}, {})
    assert repr(run).endswith("r50': begun)")
    write_json(run.result, {"test_error": 8.25})
    assert repr(run).endswith("r50': finished, 8.25 % test error)")
