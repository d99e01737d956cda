"""Real runs of studies: what they start from, what is measured of them, what is made of all of them together."""

import json
import math
import shutil
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest
import torch

from reslab import studies
from reslab.data.sources import load
from reslab.nets.network import build
from reslab.recipes.he2015_cifar import he2015_cifar
from reslab.runs import RunDir, read_json
from reslab.studies.measures import SCORES, _ratio, scores_of
from reslab.studies.plan import of_no_study
from reslab.studies.runner import Processes
from reslab.train.device import Execution
from reslab.weights.load import load as load_weights

Reslab = Callable[..., tuple[int, str, str]]
TINY = ("--data", "digits", "--batch-size", 32, "--iterations", 12)


def run(reslab: Reslab, name: str, out: Path, *words: object) -> tuple[dict[str, object], str]:
    torch.set_num_threads(1)
    code, text, err = reslab("study", name, *TINY, "--out", out, "--json", *words)
    assert code == 0, err
    summary: dict[str, object] = json.loads(text)
    return summary, err


def test_the_constructed_solution_is_what_training_starts_from(reslab: Reslab, tmp_path: Path) -> None:
    summary, _ = run(reslab, "constructed", tmp_path / "study", "--depths", 8, 14, "--seeds", 1)
    rows = {row["label"] for row in summary["rows"]}  # type: ignore[attr-defined]
    assert "cifar_resnet(depth=14), constructed" in rows
    folder = tmp_path / "study"
    images = torch.rand(8, 1, 8, 8)
    for kind in ("plain", "resnet"):
        shallow = load_weights(folder / "runs" / f"cifar_{kind}-depth-8-seed0")
        name = next(
            path.stem for path in (folder / "starts").iterdir() if kind in path.name and "constructed" in path.name
        )
        start = load_weights(folder / "starts" / f"{name}.safetensors")
        assert start.network().spec.depth == 14
        with torch.no_grad():
            expected, got = shallow.network().eval()(images), start.network().eval()(images)
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
        env = read_json(RunDir(folder / "runs" / name).env)
        assert env["weights_fingerprint"] == start.fingerprint()


def test_runs_of_a_study_beside_it_are_taken_over(reslab: Reslab, tmp_path: Path) -> None:
    """Convergence asks of the same trainings as degradation: they are linked, and what depends on them agrees."""
    first, _ = run(reslab, "degradation", tmp_path / "a", "--depths", 8, 14, "--seeds", 2)
    second, err = run(reslab, "convergence", tmp_path / "b", "--depths", 8, 14, "--seeds", 2)
    assert err.count(", the same training") == 8
    assert "8 of 8 runs are finished already" in err
    ends = [
        {(run["label"], run["seed"]): run["final_train_error"] for run in summary["runs"]}  # type: ignore[attr-defined]
        for summary in (first, second)
    ]
    assert ends[0] == ends[1]
    one, two = (sorted((tmp_path / study / "runs").glob("*/metrics.jsonl"))[0] for study in "ab")
    assert one.stat().st_ino == two.stat().st_ino, "a link, not a copy"
    # Another length is another training.
    _, err = run(reslab, "convergence", tmp_path / "c", "--depths", 8, 14, "--seeds", 1, "--set", "optimizer.lr=0.03")
    assert ", the same training" not in err


def test_gradients_are_measured_once(reslab: Reslab, tmp_path: Path) -> None:
    summary, _ = run(reslab, "controls", tmp_path / "study", "--depths", 8, 14, "--seeds", 1)
    lengths = {row["label"]: 12 for row in summary["rows"]} | {"cifar_plain(depth=14), 3 times as long": 36}  # type: ignore[attr-defined]
    for found in summary["runs"]:  # type: ignore[attr-defined]
        assert found["iterations"] == lengths[found["label"]]
        assert set(found["measures"]) == {"log10_gradient_ratio_start", "log10_gradient_ratio_end"}
    kept = sorted((tmp_path / "study" / "runs").glob("*/measures.json"))
    assert len(kept) == 4
    # One that is missing is measured again, without training again.
    kept[0].unlink()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "study" / "runs").glob("*/metrics.jsonl")}
    again, err = run(reslab, "controls", tmp_path / "study", "--depths", 8, 14, "--seeds", 1)
    assert "3 of 4 runs are finished already" in err
    assert again["runs"] == summary["runs"]
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(("skip", "share"), [("identity", 1.0), ("constant-scaling", 0.125)])
def test_the_share_of_the_gradient_that_arrives(skip: str, share: float) -> None:
    """Along shortcuts alone all of it arrives; where each of three identity shortcuts halves it, an eighth.

    The branches give nothing, the signal is positive, and the shortcuts that change the size leave positions out,
    which takes nothing from the gradient's norm.
    """
    name = f"cifar_resnet(depth=14, width=(4, 4, 4), skip='{skip}')"
    net = build(name, num_classes=2, in_channels=1, size=(8, 8)).eval()
    with torch.no_grad():
        bn1 = net.get_submodule("bn1")
        assert isinstance(bn1, torch.nn.BatchNorm2d)
        bn1.bias.fill_(9.0)
        for block in net.blocks:
            for part, parameter in block.named_parameters():
                if "bn2" in part:
                    parameter.zero_()
    x, labels = torch.rand(16, 1, 8, 8), torch.arange(16) % 2
    assert _ratio(net, x, labels) == pytest.approx(math.log10(share), abs=2e-4)
    assert not any(block._forward_hooks for block in net.blocks)


def test_ensembles_by_hand(reslab: Reslab, tmp_path: Path) -> None:
    """Every ensemble's error against the scores of its members, added up here."""
    summary, _ = run(reslab, "ensembles", tmp_path / "study", "--depths", 8, 14, "--seeds", 4)
    folder = tmp_path / "study" / "runs"
    labels = load("digits").test.labels.numpy()
    scores = {path.parent.name: scores_of(RunDir(path.parent)) for path in folder.glob(f"*/{SCORES}")}
    assert len(scores) == 8
    deep = [scores[f"cifar_resnet-depth-14-seed{seed}"] for seed in range(4)]
    shallow = [scores[f"cifar_resnet-depth-8-seed{seed}"] for seed in range(4)]
    for each in (*deep, *shallow):
        np.testing.assert_allclose(each.sum(1), 1, atol=1e-4)

    def error(*members: object) -> float:
        wrong = np.mean(members, axis=0).argmax(1) != labels  # type: ignore[arg-type]
        return 100 * float(wrong.mean())

    found = {(run["label"], run["seed"]): run["final_test_error"] for run in summary["runs"]}  # type: ignore[attr-defined]
    for seed in range(4):
        assert found["one of each depth", seed] == pytest.approx(error(deep[seed], shallow[seed]), abs=1e-4)
        assert found["cifar_resnet(depth=14)", seed] == pytest.approx(error(deep[seed]), abs=0.3)
    assert found["2 of cifar_resnet(depth=14)", 0] == pytest.approx(error(deep[0], deep[1]), abs=1e-4)
    assert found["2 of cifar_resnet(depth=14)", 1] == pytest.approx(error(deep[2], deep[3]), abs=1e-4)
    assert found["4 of cifar_resnet(depth=14)", 0] == pytest.approx(error(*deep), abs=1e-4)
    assert ("3 of cifar_resnet(depth=14)", 1) not in found, "it would share seeds with the first"


def test_a_folder_of_another_version_is_refused(reslab: Reslab, tmp_path: Path) -> None:
    out = tmp_path / "study"
    run(reslab, "warm-up", out, "--depths", 8, "--seeds", 1)
    mark = read_json(out / "study.json")
    (out / "study.json").write_text(json.dumps(mark | {"version": "0"}))
    code, _, err = reslab("study", "warm-up", *TINY, "--depths", 8, "--seeds", 1, "--out", out)
    assert code == 2
    assert "or by another version of it (version 0 there," in err


def test_warm_up_is_on_in_one_arm_alone(reslab: Reslab, tmp_path: Path) -> None:
    run(reslab, "warm-up", tmp_path / "study", "--depths", 8, "--seeds", 1)
    recipes = {path.parent.name: read_json(path) for path in (tmp_path / "study" / "runs").glob("*/recipe.json")}
    assert recipes["with-warm-up-seed0"]["warm_up"]["lr"] == 0.01
    assert recipes["without-seed0"]["warm_up"] is None


def test_figures_in_every_format(reslab: Reslab, tmp_path: Path) -> None:
    files = [tmp_path / f"figure.{kind}" for kind in ("pdf", "svg", "png")]
    run(reslab, "depth", tmp_path / "study", "--depths", 8, 14, "--seeds", 1, "--figure", *files)
    assert [path.read_bytes()[:4] for path in files] == [b"%PDF", b"<?xm", b"\x89PNG"]
    code, _, err = reslab("study", "depth", *TINY, "--depths", 8, 14, "--figure", tmp_path / "figure.gif")
    assert code == 2
    assert "end the name in .png, .svg or .pdf" in err


def test_the_listing(reslab: Reslab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(reslab, "depth", tmp_path / "runs" / "depth", "--depths", 8, 14, "--seeds", 2)
    monkeypatch.chdir(tmp_path)
    code, text, _ = reslab("study", "--json")
    assert code == 0
    listed = {entry["name"]: entry for entry in json.loads(text)}
    assert set(listed) == set(studies.MODULES)
    assert all(entry["seconds"] > 0 and entry["claims"] for entry in listed.values())
    assert [len(entry["results"]) for name, entry in listed.items()] == [name == "depth" for name in listed]
    code, text, _ = reslab("study")
    assert code == 0
    assert "digits, 12 iterations, n = 2" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80


def test_a_training_that_diverges_is_a_result(reslab: Reslab, tmp_path: Path) -> None:
    words = ("--depths", 8, 14, "--seeds", 2, "--set", "optimizer.lr=1e30", "evaluate_every=4")
    summary, err = run(reslab, "controls", tmp_path / "study", *words)
    assert "failed; the loss is not finite at iteration" in err
    for each in summary["runs"]:  # type: ignore[attr-defined]
        assert each["final_test_error"] == 90.0
        assert each["curve"]["iteration"][-1] == each["iterations"]
    assert summary["verdict"]["overall"] == "not decided"  # type: ignore[index]
    assert any("Its errors are those of guessing" in text for text in summary["caveats"])  # type: ignore[attr-defined]
    again, err = run(reslab, "controls", tmp_path / "study", *words)
    assert "8 of 8 runs are finished already" in err
    assert again["runs"] == summary["runs"]


def test_runs_without_weights_are_not_taken_over_where_they_are_needed(reslab: Reslab, tmp_path: Path) -> None:
    run(reslab, "degradation", tmp_path / "a", "--depths", 8, 14, "--seeds", 1)
    for path in (tmp_path / "a").glob("runs/*/checkpoints/final.safetensors"):
        path.unlink()
    _, err = run(reslab, "convergence", tmp_path / "b", "--depths", 8, 14, "--seeds", 1)
    assert err.count(", the same training") == 4
    for study in ("controls", "constructed"):
        shutil.copytree(tmp_path / "a", tmp_path / study / "a")
        _, err = run(reslab, study, tmp_path / study / "b", "--depths", 8, 14, "--seeds", 1)
        # Of the constructed networks only the shallow ones are needed.
        assert err.count(", the same training") == 0


def test_processes_are_ended_in_the_midst_of_their_runs(tmp_path: Path) -> None:
    """Without a word from the pool's own thread, which would be an error here as any warning is."""
    workers = Processes(2, "nowhere", tmp_path, Execution(torch.device("cpu")), None)
    recipe = he2015_cifar("resnet20", load("digits").info)
    for run in of_no_study({f"seed{seed}": recipe for seed in range(8)}):
        workers.submit(run)
    workers.close(at_once=True)
    assert [type(future.exception(0)) for future in workers._running] == 8 * [BrokenProcessPool]
