"""A run that is asked to stop leaves a checkpoint, and goes on as if nothing had happened."""

from pathlib import Path

import pytest
import torch

from reslab.data.sources import load
from reslab.errors import InputError
from reslab.recipes.he2015_cifar import he2015_cifar
from reslab.runs import RunDir
from reslab.train.device import Execution
from reslab.train.distributed import ALONE
from reslab.train.loop import Stopped, in_words, train

CPU = Execution(torch.device("cpu"))


def test_stopped_and_gone_on_with(tmp_path: Path) -> None:
    data = load("digits")
    recipe = he2015_cifar("cifar_resnet(depth=8, width=4)", data.info, iterations=12, batch=32)
    asked = iter([False] * 5 + [True] * 20)  # before the first step, and behind each
    with pytest.raises(Stopped, match="stopped at iteration 5 of 12"):
        train(recipe, data, tmp_path / "a", execution=CPU, stop=lambda: next(asked), checkpoint_every=100, quiet=True)
    assert [p.name for p in RunDir(tmp_path / "a").checkpoints.iterdir()] == ["iteration-00000005.safetensors"]
    assert not RunDir(tmp_path / "a").finished
    train(recipe, data, tmp_path / "a", execution=CPU, checkpoint_every=100, quiet=True)
    train(recipe, data, tmp_path / "b", execution=CPU, checkpoint_every=100, quiet=True)
    assert RunDir(tmp_path / "a").metrics.read_bytes() == RunDir(tmp_path / "b").metrics.read_bytes()


def test_a_run_that_is_done_is_not_stopped(tmp_path: Path) -> None:
    data = load("digits")
    recipe = he2015_cifar("cifar_resnet(depth=8, width=4)", data.info, iterations=2, batch=32)
    asked = iter([False, False, True])  # before the first, behind it; at the last iteration nobody asks
    train(recipe, data, tmp_path / "a", execution=CPU, stop=lambda: next(asked), quiet=True)
    assert next(asked)
    assert RunDir(tmp_path / "a").finished


def test_asked_before_the_first_step(tmp_path: Path) -> None:
    """While data were read or memory was measured: a checkpoint of the start, and the training is the same."""
    data = load("digits")
    recipe = he2015_cifar("cifar_resnet(depth=8, width=4)", data.info, iterations=4, batch=32)
    with pytest.raises(Stopped, match="stopped at iteration 0 of 4"):
        train(recipe, data, tmp_path / "a", execution=CPU, stop=lambda: True, quiet=True)
    assert [p.name for p in RunDir(tmp_path / "a").checkpoints.iterdir()] == ["iteration-00000000.safetensors"]
    for name in "ab":
        train(recipe, data, tmp_path / name, execution=CPU, quiet=True)
    assert RunDir(tmp_path / "a").metrics.read_bytes() == RunDir(tmp_path / "b").metrics.read_bytes()


@pytest.mark.parametrize(
    ("how", "said"), [("Terminated", "told to end .SIGTERM.*continue by --resume"), ("Killed", "lack of memory")]
)
def test_what_ended_a_process_that_decodes_is_named(how: str, said: str) -> None:
    """In PyTorch's words: a scheduler tells a whole group to end, the system kills what takes too much memory."""
    with pytest.raises(InputError, match=said), in_words(ALONE):
        raise RuntimeError(f"DataLoader worker (pid 7) is killed by signal: {how}. ")
