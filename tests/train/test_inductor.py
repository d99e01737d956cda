"""A step whose forward and backward PyTorch compiles is the step."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reslab.data.sources import load
from reslab.errors import InputError
from reslab.recipes.he2015_cifar import he2015_cifar
from reslab.runs import RunDir, read_json
from reslab.train import inductor, trainer
from reslab.train.device import Execution
from reslab.train.loop import Trainer, train
from reslab.train.recipe import Recipe

CPU = torch.device("cpu")


def recipe(net: str, iterations: int = 8) -> Recipe:
    made = he2015_cifar(net, load("digits").info, iterations=iterations, batch=32)
    return made.model_copy(update={"precision": "fp32", "bn_group": 16})


def steps(net: str, execution: Execution) -> Trainer:
    one = Trainer(recipe(net), load("digits"), execution)
    one.net.train()
    for _ in range(8):
        one.step()
        one.look()
    return one


@pytest.mark.parametrize(
    "net",
    [
        "cifar_resnet(depth=8, width=4)",
        "cifar_plain(depth=8, width=4)",
        "cifar_resnet(depth=8, width=4, order='full-preactivation')",
    ],
)
def test_compiled_steps_are_the_steps(net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is PyTorch's but the code it writes, which takes long: BN's groups and statistics, what is counted."""
    monkeypatch.setattr(inductor, "BACKEND", "aot_eager")
    torch._dynamo.reset()
    eager, ours = steps(net, Execution(CPU, fused=False)), steps(net, Execution(CPU, compile=True))
    assert torch._dynamo.utils.counters["graph_break"] == {}
    expected = eager.net.state_dict()
    assert list(ours.net.state_dict()) == list(expected)
    for name, tensor in ours.net.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-4, msg=name)
    assert ours.window.mean_loss() == pytest.approx(eager.window.mean_loss(), rel=1e-4)


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
def test_a_run_with_code_that_the_compiler_wrote(tmp_path: Path) -> None:
    torch._dynamo.reset()
    plan = recipe("cifar_resnet(depth=8, width=4)")
    results = {
        name: train(plan, load("digits"), tmp_path / name, execution=execution, quiet=True)
        for name, execution in (("eager", Execution(CPU, fused=False)), ("compiled", Execution(CPU, compile=True)))
    }
    losses = {name: RunDir(tmp_path / name).read_metrics()[-1]["train_loss"] for name in results}
    assert losses["compiled"] == pytest.approx(losses["eager"], rel=1e-3)


def test_a_run_goes_on_compiled(reslab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is told otherwise; ends as one that was never stopped."""
    seen: list[nn.Module] = []

    def compiled(net: nn.Module) -> Callable[[Tensor], Tensor]:
        seen.append(net)
        return inductor.compiled(net)

    monkeypatch.setattr(inductor, "BACKEND", "aot_eager")
    monkeypatch.setattr(trainer, "compiled", compiled)
    torch._dynamo.reset()
    net = ("--net", "cifar_resnet(depth=8, width=4)", "--data", "digits", "--batch-size", 32, "--precision", "fp32")
    words = ("train", "he2015_cifar", *net, "--iterations", 6, "--checkpoint-every", 2, "--compile")
    for name in ("whole", "stopped"):
        assert reslab(*words, "--out", tmp_path / name)[0] == 0
    stopped = RunDir(tmp_path / "stopped")
    for file in (stopped.result, *stopped.checkpoints.glob("final*"), *stopped.checkpoints.glob("*6.safetensors")):
        file.unlink()
    assert read_json(stopped.env)["compile"] is True
    assert reslab("train", "--resume", stopped.path)[0] == 0
    assert len(seen) == 3
    finals = [RunDir(tmp_path / name).checkpoints / "final.safetensors" for name in ("whole", "stopped")]
    assert finals[0].read_bytes() == finals[1].read_bytes()
    assert reslab("train", "--resume", stopped.path, "--no-compile")[0] == 0


def test_what_cannot_be_compiled_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no Triton here\nand more")

    monkeypatch.setattr(inductor, "BACKEND", broken)
    torch._dynamo.reset()
    one = Trainer(recipe("cifar_resnet(depth=8, width=4)"), load("digits"), Execution(CPU, compile=True))
    with pytest.raises(InputError, match=r"--compile does not work here .*no Triton here.*leave it out"):
        one.step()


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(ZeroDivisionError), inductor.said_plainly():
        _ = 1 // 0


@pytest.mark.parametrize(
    "words", [("--checkpoint-activations",), ("--memory-budget", "1GB"), ("--sync-bn",)], ids=lambda words: words[0]
)
def test_what_it_does_not_go_with(reslab: Any, tmp_path: Path, words: tuple[str, ...]) -> None:
    train_it = ("train", "he2015_cifar", "--data", "digits", "--out", tmp_path / "run", "--compile")
    code, _, err = reslab(*train_it, *words)
    assert code == 2
    assert f"--compile does not go with {words[0]}; leave out one or the other" in err
    assert not (tmp_path / "run").exists()
