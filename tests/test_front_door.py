"""What `import reslab` offers: two functions, documented, whose examples run; without torch until they are called."""

import doctest
import pydoc
import subprocess
import sys

import pytest

import reslab
from reslab.nets.network import build
from reslab.weights.load import load


def test_two_functions_are_seen() -> None:
    assert [name for name in dir(reslab) if not name.startswith("_")] == ["build", "load"]
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
