"""The training loop: what it reads, what it selects, what it writes, and when it stops."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reslab.data.sources import Dataset, ImageSet
from reslab.data.sources import load as load_data
from reslab.data.transforms import Normalizer
from reslab.errors import InputError
from reslab.evaluate.metrics import evaluate
from reslab.nets import build
from reslab.nets.spec import NetSpec
from reslab.recipes.he2015_cifar import he2015_cifar
from reslab.runs import RunDir, read_json
from reslab.train.device import Execution, resolve_precision
from reslab.train.loop import NonFiniteLoss, Trainer, train
from reslab.train.recipe import Recipe, override
from reslab.weights.files import read_safetensors
from reslab.weights.load import load

CPU = Execution(torch.device("cpu"))


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits")


def tiny(data: Dataset, *settings: str, holdout: int = 0, iterations: int = 30) -> Recipe:
    recipe = he2015_cifar("cifar_resnet(depth=8, width=4)", data.info, iterations=iterations, batch=32, holdout=holdout)
    return override(recipe, ["log_every=5", "evaluate_every=5", *settings])


def fit(recipe: Recipe, data: Dataset, out: Path, **more: Any) -> dict[str, Any]:
    torch.set_num_threads(1)
    return train(recipe, data, out, execution=CPU, quiet=True, **more)


RESTLESS = ("schedule.drops=[]", "optimizer.lr=2", "evaluate_every=1", "log_every=1")
"""At so high a rate the error goes up and down: the last iterate is seldom the best, and never of both seeds."""
SEEDS = range(2)


def test_without_a_holdout_the_test_curve_is_recorded_and_the_last_iterate_is_the_result(
    digits: Dataset, tmp_path: Path
) -> None:
    lost = 0.0
    for seed in SEEDS:
        run = RunDir(tmp_path / str(seed))
        result = fit(tiny(digits, *RESTLESS, f"seed={seed}", iterations=15), digits, run.path)
        lines = run.read_metrics()
        assert [line["iteration"] for line in lines] == list(range(1, 16))
        curve = [line["test_error"] for line in lines]
        assert not any("validation_error" in line for line in lines)
        assert (result["selected"], result["selected_iteration"]) == ("last", 15)
        assert result["test_error"] == curve[-1]
        assert result["best_test_error"] == min(curve)
        assert result["train_error"] == lines[-1]["train_error"]
        assert result["n_test_images"] == 360
        assert "validation_error" not in result
        assert not (run.checkpoints / "best.safetensors").exists()
        lost += curve[-1] - min(curve)
    assert lost > 0


def test_with_a_holdout_the_best_iterate_is_selected_and_the_test_set_read_at_the_end(
    digits: Dataset, tmp_path: Path
) -> None:
    """1,300 images to train on and 137 to select on, as 45k and 5k of CIFAR-10."""
    earlier = 0
    for seed in SEEDS:
        run = RunDir(tmp_path / str(seed))
        result = fit(tiny(digits, *RESTLESS, f"seed={seed}", iterations=15, holdout=137), digits, run.path)
        lines = run.read_metrics()
        assert lines[0]["epoch"] == round(32 / 1300, 4)
        assert not any(key.startswith("test") for line in lines for key in line)
        curve = {line["iteration"]: line["validation_error"] for line in lines}
        best = min(curve, key=lambda i: (curve[i], i))
        assert (result["selected"], result["selected_iteration"]) == ("best-validation", best)
        assert result["validation_error"] == curve[best]
        assert result["train_error"] == lines[best - 1]["train_error"]
        assert "best_test_error" not in result
        chosen, meta = read_safetensors(run.checkpoints / "best.safetensors")
        final, final_meta = read_safetensors(run.checkpoints / "final.safetensors")
        assert meta["iteration"] == final_meta["iteration"] == best
        assert all(torch.equal(chosen[name], final[name]) for name in chosen)
        last, _ = read_safetensors(run.checkpoints / "iteration-00000015.safetensors")
        assert torch.equal(last["model.conv1.weight"], final["conv1.weight"]) == (best == 15)
        earlier += best < 15
    assert earlier


def test_a_holdout_whose_last_iterate_is_taken(digits: Dataset, tmp_path: Path) -> None:
    lost = 0.0
    for seed in SEEDS:
        run = RunDir(tmp_path / str(seed))
        recipe = tiny(digits, *RESTLESS, f"seed={seed}", "select=last", iterations=15, holdout=137)
        result = fit(recipe, digits, run.path)
        curve = [line["validation_error"] for line in run.read_metrics()]
        assert result["selected_iteration"] == 15
        assert result["validation_error"] == curve[-1]  # of the iterate that is the result, not of the best
        lost += curve[-1] - min(curve)
    assert lost > 0


def test_the_test_set_chooses_nothing(digits: Dataset, tmp_path: Path) -> None:
    """Other test labels change the test error and not one bit of anything else."""
    other = replace(digits, test=ImageSet(digits.test.images, (digits.test.labels + 1) % 10))
    found = {}
    for name, data in (("a", digits), ("b", other)):
        result = fit(tiny(digits, holdout=137), data, tmp_path / name)
        found[name] = (
            (tmp_path / name / "metrics.jsonl").read_bytes(),
            (tmp_path / name / "checkpoints" / "best.safetensors").read_bytes(),
            result["selected_iteration"],
        )
        found[f"test {name}"] = result["test_error"]
    assert found["a"] == found["b"]
    assert found["test a"] != found["test b"]


def test_a_saved_recipe_has_nothing_open(digits: Dataset, tmp_path: Path) -> None:
    recipe = tiny(digits, iterations=2)
    assert recipe.precision == "auto"
    fit(recipe, digits, tmp_path / "run")
    saved = Recipe.model_validate(read_json(tmp_path / "run" / "recipe.json"))
    assert saved.precision == resolve_precision("auto", CPU.device) != "auto"
    assert saved == recipe.model_copy(update={"precision": saved.precision})
    env = read_json(tmp_path / "run" / "env.json")
    assert env["data"]["fingerprint"] == digits.info.fingerprint
    assert (env["threads"], env["device"], env["weights"]) == (1, "cpu", None)
    assert {"cpu", "cores", "memory", "torch", "python", "git_commit", "started"} <= env.keys()


def test_the_same_recipe_is_the_same_training(digits: Dataset, tmp_path: Path) -> None:
    one, two = (fit(tiny(digits, iterations=10), digits, tmp_path / name) for name in "ab")
    assert one["train_loss"] == two["train_loss"]
    for name in ("metrics.jsonl", "checkpoints/final.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    other = fit(tiny(digits, "seed=1", iterations=10), digits, tmp_path / "c")
    assert other["train_loss"] != one["train_loss"]


@pytest.mark.parametrize(
    "setting",
    [
        "label_smoothing=0.1",
        "net.init.zero_gamma=true",
        'net.init.fan="out"',
        "net.norm.momentum=0.5",
        "net.activation=tanh",
        "bn_group=16",
        "data.normalization=per-channel",
        "data.augment.pad=0",
        "data.augment.flip=true",
        "data.augment.border=black",
        "optimizer.nesterov=true",
        "optimizer.momentum=0.5",
        "optimizer.momentum_form=lr-outside",
        "optimizer.weight_decay=0.1",
        "optimizer.decay=all",
        "schedule.drops=[2]",
        "schedule.factor=0.5",
        'warm_up={"lr":0.001}',
        'resolution={"start":4,"end":8}',
        'average={"decay":0.9,"every":1}',
    ],
)
def test_each_field_of_a_recipe_does_something(
    setting: str, digits: Dataset, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.getbasetemp() / "base-of-fields"
    common = ["schedule.drops=[3]", "optimizer.weight_decay=0.05", "precision=fp32"]
    fit(tiny(digits, *common, iterations=6), digits, base)
    fit(tiny(digits, *common, setting, iterations=6), digits, tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() != (base / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("every", [None, 1, 3])
def test_a_loss_that_is_not_finite_stops_the_run(every: int | None, digits: Dataset, tmp_path: Path) -> None:
    recipe = tiny(digits, "optimizer.lr=1e30", "schedule.drops=[]", iterations=40)
    with pytest.raises(NonFiniteLoss, match=r"not finite at iteration \d+ with learning rate 1e\+30; try") as caught:
        fit(recipe, digits, tmp_path / "run", checkpoint_every=every)
    stopped = int(str(caught.value).split("iteration ")[1].split()[0])
    run = RunDir(tmp_path / "run")
    assert not run.finished
    assert not (run.checkpoints / "final.safetensors").exists()
    assert "NaN" not in run.metrics.read_text() if run.metrics.exists() else True
    for path in run.checkpoints.glob("*"):
        tensors, meta = read_safetensors(path)
        assert meta["iteration"] < stopped, "a checkpoint of a diverged run replaced a good one"
        assert math.isfinite(float(tensors["window.loss"]))


def test_a_folder_with_other_images_is_refused(digits: Dataset, tmp_path: Path) -> None:
    recipe = tiny(digits, iterations=4)
    fit(recipe, digits, tmp_path / "run")
    other = replace(digits, info=digits.info.model_copy(update={"fingerprint": "other"}))
    with pytest.raises(InputError, match=r"was started on other images: expected .*, got other"):
        fit(recipe, other, tmp_path / "run")


def test_a_finished_run_is_not_run_again(digits: Dataset, tmp_path: Path) -> None:
    recipe = tiny(digits, iterations=4)
    result = fit(recipe, digits, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.name != ".lock"}
    assert fit(recipe, digits, tmp_path / "run") == result
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_two_processes_do_not_write_one_run(digits: Dataset, tmp_path: Path) -> None:
    recipe = tiny(digits, iterations=4)
    with RunDir(tmp_path / "run").lock(), pytest.raises(InputError, match="another process is writing the run"):
        fit(recipe, digits, tmp_path / "run")
    assert not (tmp_path / "run" / "recipe.json").exists()


def test_weights_carry_their_network(digits: Dataset, tmp_path: Path) -> None:
    recipe = tiny(digits, iterations=4)
    fit(recipe, digits, tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "final.safetensors"
    tensors, meta = read_safetensors(path)
    assert NetSpec.model_validate(meta["net"]) == recipe.net
    assert not any(name.startswith(("module.", "_orig_mod.")) for name in tensors)
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "fc.bias"} <= tensors.keys()
    net = build(recipe.net, seed=9)
    net.load_state_dict(load(path, net=recipe.net).tensors)
    assert all(torch.equal(value, tensors[name]) for name, value in net.state_dict().items())
    assert path.stat().st_mode & 0o444 == (tmp_path / "run" / "result.json").stat().st_mode & 0o444
    carried = load(path)
    assert carried.spec == recipe.net
    assert carried.classes == digits.info.classes
    assert carried.preprocessing is not None
    normalizer = Normalizer.from_values(carried.preprocessing.mean, carried.preprocessing.std)
    assert torch.equal(normalizer.mean, Normalizer.of("per-pixel-mean", digits.train.images).mean)


def test_progress_is_told_without_a_terminal(
    digits: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10**6, 20))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    torch.set_num_threads(1)
    train(tiny(digits, iterations=10), digits, tmp_path / "run", execution=CPU, title="a title")
    lines = capsys.readouterr().err.splitlines()
    assert lines
    for line in lines:
        assert line.startswith("a title: ")
        for word in ("loss", "error", "images/s", "data", "left"):
            assert word in line


def test_the_share_of_time_waiting_for_data_is_a_share(digits: Dataset, tmp_path: Path) -> None:
    result = fit(tiny(digits, iterations=10), digits, tmp_path / "run")
    assert 0 < result["waiting_for_data"] < 1
    speed = (tmp_path / "run" / "speed.jsonl").read_text().splitlines()
    assert len(speed) == 2
    events = list((tmp_path / "run" / "tensorboard").glob("events.*"))
    assert len(events) == 1


def test_steps_do_not_depend_on_those_before() -> None:
    """The batch of an iteration is a function of seed and iteration: any may be asked for, in any order."""
    data = load_data("digits")
    trainer = Trainer(tiny(data), data, CPU)
    images, labels = trainer.feed(7)
    trainer.feed(100)
    again, labels_again = trainer.feed(7)
    assert torch.equal(images, again)
    assert torch.equal(labels, labels_again)


def test_a_checkpoint_holds_all_that_goes_on(digits: Dataset) -> None:
    recipe = tiny(digits, "warm_up={}", holdout=137)
    trainer, other = Trainer(recipe, digits, CPU), Trainer(recipe, digits, CPU)
    for _ in range(3):
        trainer.step()
    trainer.best = {"iteration": 2, "error": 50.0}
    tensors, meta = trainer.state()
    other.restore({name: tensor.clone() for name, tensor in tensors.items()}, {"iteration": 3, **meta})
    again, meta_again = other.state()
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)
    assert {**meta_again, "seconds": 0} == {**meta, "seconds": 0}
    assert meta["best"] == {"iteration": 2, "error": 50.0}
    assert meta["seen"] == {"window": 96, "warm_up_window": 96}
    assert other.iteration == trainer.iteration == 3
    assert other.seconds >= meta["seconds"]


def test_the_end_is_evaluated_once(digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With many views of each image an evaluation may take as long as an epoch."""
    seen = []
    original = evaluate

    def counting(*given: Any, **more: Any) -> Any:
        seen.append(given[0])
        return original(*given, **more)

    monkeypatch.setattr("reslab.train.ending.evaluate", counting)
    result = fit(tiny(digits, "evaluate_every=5", iterations=10), digits, tmp_path / "run")
    assert len(seen) == 2
    assert result["test_error"] == RunDir(tmp_path / "run").read_metrics()[-1]["test_error"]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
        ),
    ],
)
def test_out_of_memory_says_what_to_try(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def full(_trainer: Trainer) -> None:
        raise error

    recipe = tiny(digits, "global_batch=128", "bn_group=64")
    monkeypatch.setattr(Trainer, "step", full)
    says = (
        r"out of memory on cpu at iteration 1, with 128 images of 8x8 at a time; try --accumulate 2 \(the same.*"
        r"--checkpoint-activations.*--batch-size 64"
    )
    with pytest.raises(InputError, match=says):
        fit(recipe, digits, tmp_path / "run")


def test_another_fault_is_not_taken_for_lack_of_memory(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_trainer: Trainer) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Trainer, "step", broken)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        fit(tiny(digits), digits, tmp_path / "run")
