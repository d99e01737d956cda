"""Every mistake that a user can mend: one line on stderr, exit code 2, nothing written, nothing executed."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

Reslab = Callable[..., tuple[int, str, str]]

TRAIN = ("train", "he2015_cifar", "--net", "cifar_resnet(depth=8, width=4)")
NET = ("train", "he2015_cifar", "--data", "digits", "--net")
DIGITS = (*TRAIN, "--data", "digits")
TINY = (*DIGITS, "--iterations", 4, "--batch-size", 32, "--threads", 1)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default folders of runs and caches lie below the current one."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("RESLAB_CACHE", os.environ.get("RESLAB_CACHE", str(Path.home() / ".cache" / "reslab")))


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name != ".lock"
    }


@pytest.fixture
def refused(reslab: Reslab, tmp_path: Path) -> Callable[..., str]:
    """Runs a command that is to be refused; returns the one line that says why."""

    def run(*words: object) -> str:
        before = contents(tmp_path)
        code, out, err = reslab(*words)
        assert code == 2, err
        assert out == "" or words[0] == "demo"  # which says beforehand what it is about to do
        lines = err.splitlines()
        assert lines[-1].startswith("reslab: error: ")
        assert [line for line in lines if "error" in line or "Traceback" in line] == lines[-1:], err
        assert contents(tmp_path) == before, "something was written"
        return lines[-1].removeprefix("reslab: error: ")

    return run


Refused = Callable[..., str]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("trian",), r"Unknown command .?trian.?\. Did you mean .?train"),
        (("train", "--nett", "resnet20"), r"Unknown option: .*--nett.*--net"),
        (("train",), "name a recipe .he2015_cifar, .*, or resume a run with --resume DIR"),
        (("train", "he2015_cifra", "--data", "digits"), "unknown recipe 'he2015_cifra'; did you mean 'he2015_cifar'"),
        (("train", "he2015_cifar"), "name the data: --data digits, cifar10"),
        (("train", "he2015_cifar", "--data", "digitz"), "unknown data set 'digitz'.* did you mean 'digits'"),
        ((*NET, "resnet21"), "unknown network 'resnet21'; did you mean"),
        ((*NET, "restnet20"), r"did you mean 'resnet20'\?"),
        ((*NET, "cifar_resnet(depth=21)"), "depth 6n.2.* got depth 21; try 20 or 26"),
        ((*NET, "cifar_resnet(depht=20)"), "depht.* did you mean 'depth'"),
        ((*NET, "__import__('os').getcwd()"), "expected a network such as|unknown network"),
        ((*NET, "resnet20(num_classes=5)"), "10 classes but the network only 5"),
        (("train", "he2015_cifar", "--data", "/no/such"), "/no/such: expected a folder, found nothing there"),
        (("study", "degredation"), "unknown study 'degredation'; did you mean 'degradation'"),
        (("study", "degradation", "--data", "digitz"), "unknown data set 'digitz'"),
        (("study", "degradation", "--depths", 20), r"at least two depths such as --depths 20 56, got \[20\]"),
        (("study", "degradation", "--depths", 20, 20), r"at least two depths .*, got \[20\]"),
        (("study", "degradation", "--depths", 20, 57), "depth 6n.2.* got depth 57; try 56 or 62"),
        (("study", "degradation", "--seeds", 0), "--seeds takes 1 or more, got 0"),
        (("study", "degradation", "--jobs", 0), "--jobs takes 1 or more, got 0"),
        (("study", "degradation", "--iterations", 0), "--iterations takes 1 or more, got 0"),
        (("study", "degradation", "--batch-size", 0), "--batch-size takes 2 or more, got 0"),
        (("study", "degradation", "--device", "cuda:9"), "--device cuda:9 is not there; this machine has: cpu"),
        (("study", "degradation", "--set", "optimizer.lrr=1"), r"optimizer has no field 'lrr'; did you mean 'lr'\?"),
        (("study", "degradation", "--set", "seed=3"), "--set seed=3: the study fixes this field at 0"),
        (("study", "degradation", "--set", "data.holdout=9", "select=best-validation"), "=best-validation: the "),
        (("study", "degradation", "--set", "data.holdout=99"), "data.holdout=99: the study fixes this field at 0"),
        (("study", "degradation", "--set", "iterations=99"), "--set iterations=99: the study fixes this field at 500"),
        (("nets", "resnet21"), "unknown network 'resnet21'"),
        (("nets", "resnet20", "--size", 0), "--size takes pixels, 1 or more, got 0"),
    ],
)  # fmt: skip
def test_names_and_shapes(words: tuple[object, ...], said: str, refused: Refused) -> None:
    assert re.search(said, text := refused(*words)), text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--iterations", 0), "--iterations takes a number above 0, got 0"),
        (("--iterations", -3), "--iterations takes a number above 0, got -3"),
        (("--iterations", "ten"), "Invalid value for --iterations: .*ten.* int"),
        (("--epochs", 0), "--epochs takes a number above 0, got 0.0"),
        (("--epochs", "nan"), "--epochs takes a number above 0, got nan"),
        (("--epochs", "inf"), "--epochs takes a number above 0, got inf"),
        (
            ("--epochs", 1, "--iterations", 5),
            "--iterations and --epochs both set the length of training; give only one",
        ),
        (("--batch-size", 0), "--batch-size takes a number above 0, got 0"),
        (("--batch-size", 1), "global_batch: .*greater than or equal to 2, got 1"),
        (("--seed", -1), "seed: .*, got -1"),
        (("--holdout", -5), "holdout: .*, got -5"),
        (("--holdout", 1437), "--holdout takes 1 to 1436 of the 1437 training images, got 1437"),
        (("--holdout", 9999), "--holdout takes 1 to 1436 of the 1437 training images, got 9999"),
        (("--lr", "inf"), "optimizer.lr: .*finite"),
        (("--lr", -0.1), "optimizer.lr: .*greater than 0, got -0.1"),
        (("--wd", -1), "optimizer.weight_decay: .*, got -1"),
        (("--precision", "fp16"), "Invalid value .*for --precision.*fp16|Invalid value .*fp16.*--precision"),
        (("--device", "cuda:9"), "--device cuda:9 is not there; this machine has: cpu"),
        (("--device", "abacus"), "--device abacus is not there; this machine has: cpu"),
        (("--device", "meta"), "--device meta is not there; this machine has: cpu"),
        (("--threads", 0), "--threads takes 1 or more, got 0"),
        (("--checkpoint-every", 0), "--checkpoint-every takes 1 or more iterations, got 0"),
        (("--set", "optimizer.lrr=0.1"), r"--set optimizer.lrr=0.1: optimizer has no field 'lrr'; did you mean 'lr'\?"),
        (("--set", "optimiser.lr=0.1"), r"the recipe has no field 'optimiser'; did you mean 'optimizer'\?"),
        (("--set", "optimizer.lr=fast"), "optimizer.lr: .*number.*, got 'fast'"),
        (("--set", "optimizer.lr"), "--set takes FIELD=VALUE such as optimizer.lr=0.05, got 'optimizer.lr'"),
        (("--set", "net.num_classes=5"), "the data has 10 classes but the network only 5; set net.num_classes=10"),
        (
            ("--set", "net.num_classes=5", "data.num_classes=5"),
            "data 'digits' has 10 classes but the network only 5",
        ),
        (("--set", "data.size=[16,16]"), "the recipe expects 1-channel images of 16x16 .*, but 'digits' has .* 8x8"),
        (("--weights", "none.safetensors"), "expected weights at none.safetensors, but there is no such file"),
        (("--weights", "/"), "/: expected a file of weights or a finished run, found a folder"),
    ],
)
def test_options_of_train(words: tuple[object, ...], said: str, refused: Refused) -> None:
    assert re.search(said, text := refused(*DIGITS, *words)), text


def test_the_data(refused: Refused, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"{empty}: expected Parquet files or a folder of images" in refused(*TRAIN, "--data", empty)
    assert f"{tmp_path / 'none'}: expected a folder, found nothing" in refused(*TRAIN, "--data", tmp_path / "none")
    assert f"{empty}: expected" in refused("study", "degradation", "--data", empty)


def test_an_out_that_is_taken(reslab: Reslab, refused: Refused, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert reslab(*TINY, "--out", out)[0] == 0
    for other in (("--seed", 1), ("--lr", 0.2), ("--precision", "fp32", "--set", "label_smoothing=0.1")):
        assert f"--out {out} already holds a run of another recipe" in refused(*TINY, *other, "--out", out)
    weights = out / "checkpoints" / "final.safetensors"
    assert "was started from other weights" in refused(*TINY, "--weights", weights, "--out", out)
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "cat.jpg").write_bytes(b"cat")
    for words in ((*TINY, "--out", photos), ("study", "degradation", "--out", photos), ("demo", "--out", photos)):
        assert re.search(
            f"--out {photos} exists and is not a (run|study); choose a new or an empty folder", refused(*words)
        )
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "x", Path("/proc/x")):
        for command in (TINY, ("study", "degradation")):
            said = refused(*command, "--out", place)
            assert re.search(
                f"--out {place} (cannot be written: |needs about .* only 0.0 MB are free)|^{place} cannot", said
            )
    assert "exists and is not a run" in refused(*TINY, "--out", tmp_path / "file")


def test_what_there_is_to_resume(reslab: Reslab, refused: Refused, tmp_path: Path) -> None:
    none = tmp_path / "none"
    assert f"--resume {none}: expected a run (recipe.json in it), but there is none" in refused(
        "train", "--resume", none
    )
    out = tmp_path / "run"
    assert reslab(*TINY, "--out", out)[0] == 0
    for words, name in (
        (("--out", none), "--out"),
        (("--seed", 0), "--seed"),
        (("--net", "resnet20"), "--net"),
        (("--iterations", 5), "--iterations"),
        (("--epochs", 5), "--epochs"),
        (("--batch-size", 5), "--batch-size"),
        (("--holdout", 5), "--holdout"),
        (("--lr", 0.1), "--set (or --lr, --wd, --precision)"),
        (("--precision", "fp32"), "--set (or --lr, --wd, --precision)"),
        (("--weights", "x"), "--weights"),
    ):
        assert refused("train", "--resume", out, *words).endswith(f"leave out {name}")
    assert refused("train", "he2015_cifar", "--resume", out).endswith("leave out RECIPE")
    assert "the recipe expects 1-channel images" in refused("train", "--resume", out, "--data", "synthetic")
    for name, text in (("recipe.json", '{"net":'), ("recipe.json", '{"net": 1}'), ("env.json", "")):
        copy = tmp_path / "copy"
        shutil.copytree(out, copy)
        (copy / name).write_text(text)
        assert f"{copy / name}" in refused("train", "--resume", copy)
        shutil.rmtree(copy)


def test_a_study_folder_with_other_settings(refused: Refused, tmp_path: Path) -> None:
    out = tmp_path / "study"
    out.mkdir()
    mark = {"study": "degradation", "data": "x", "iterations": 20, "batch": 64, "settings": []}
    (out / "study.json").write_text(json.dumps(mark))
    text = refused("study", "degradation", "--iterations", 30, "--out", out)
    assert f"--out {out} holds this study with other settings, or by another version of it (" in text
    assert "iterations 20 there, 30 now" in text
    assert "batch" not in text
    (out / "study.json").write_text("{")
    assert "study.json is damaged" in refused("study", "degradation", "--out", out)


class Payload:
    """Whoever unpickles this leaves a file behind."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.marker}",))


def test_code_in_a_checkpoint_is_never_run(reslab: Reslab, refused: Refused, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    bare, zipped = tmp_path / "bare.safetensors", tmp_path / "zipped.pt"
    bare.write_bytes(pickle.dumps(Payload(marker)))
    torch.save({"model": Payload(marker)}, zipped)
    torch.load(zipped, weights_only=False)
    assert marker.exists(), "the payload works where it is let"
    marker.unlink()
    odd = tmp_path / "odd.pth"
    odd.write_bytes(bare.read_bytes())
    more = "holds more than tensors and plain values"
    for path, said in ((bare, "is not a whole safetensors file"), (zipped, more), (odd, more)):
        text = refused(*TINY, "--weights", path, "--out", tmp_path / "never")
        assert f"{path} {said}" in text
        assert "it was refused, and none of it was run" in text
    out = tmp_path / "run"
    assert reslab(*TINY, "--out", out)[0] == 0
    (out / "result.json").unlink()
    for checkpoint in out.glob("checkpoints/iteration-*"):
        checkpoint.write_bytes(bare.read_bytes())
    assert "iteration-00000004.safetensors is not a whole safetensors file" in refused("train", "--resume", out)
    assert not marker.exists()


def test_a_truncated_checkpoint(reslab: Reslab, refused: Refused, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert reslab(*TINY, "--out", out)[0] == 0
    whole = (out / "checkpoints" / "final.safetensors").read_bytes()
    cut = tmp_path / "cut.safetensors"
    for length in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        cut.write_bytes(whole[:length])
        assert f"{cut} is not a whole safetensors file" in refused(*TINY, "--weights", cut, "--out", tmp_path / "b")
    cut.write_bytes(whole)
    wider = ("train", "he2015_cifar", "--net", "cifar_resnet(depth=8, width=8)", "--data", "digits", "--iterations", 2)
    text = refused(*wider, "--weights", cut)
    assert f"{cut}, weights of 'cifar_resnet(depth=8, width=4)', does not fit 'cifar_resnet(depth=8, width=8)'" in text


def test_a_loss_that_is_not_finite(reslab: Reslab, tmp_path: Path) -> None:
    code, out, err = reslab(*DIGITS, "--iterations", 40, "--set", "optimizer.lr=1e9", "--out", tmp_path / "run")
    assert code == 2
    assert out == ""
    assert re.search(
        r"^reslab: error: the loss is not finite at iteration \d+ with learning rate 1e\+09; try", err, re.M
    )
    assert "Traceback" not in err
    assert not (tmp_path / "run" / "result.json").exists()


FULL = (*DIGITS, "--batch-size", 32, "--set", "log_every=10", "evaluate_every=20", "--iterations")


def test_a_file_that_may_not_grow(forge: Reslab, tmp_path: Path) -> None:
    """The limit on a file's size stands in for a full disk, which takes root to make."""
    straight, out = tmp_path / "straight", tmp_path / "run"
    assert forge(*FULL, 60, "--checkpoint-every", 2, "--out", straight)[0] == 0
    code, text, _ = forge(*FULL, 60, "--checkpoint-every", 2, "--out", out, fsize=20_000)
    assert code == 2
    assert f"reslab: error: stopped at iteration 2: {out} cannot be written (File too large); no checkpoint" in text
    stop = {"signal": "SIGKILL", "run": str(out), "lines": 2}
    assert forge("train", "--resume", out, "--checkpoint-every", 2, stop=stop)[0] == -9
    kept = {path.name: path.read_bytes() for path in out.glob("checkpoints/*")}
    last = max(name for name in kept if name.startswith("iteration"))
    code, text, _ = forge("train", "--resume", out, fsize=20_000)
    assert code == 2
    assert "Traceback" not in text
    assert f"cannot be written (File too large); the last good checkpoint, {last}, is intact" in text
    assert f"go on with --resume {out}" in text
    assert {path.name: path.read_bytes() for path in out.glob("checkpoints/*")} == kept
    assert forge("train", "--resume", out)[0] == 0
    for name in ("metrics.jsonl", "checkpoints/final.safetensors"):
        assert (out / name).read_bytes() == (straight / name).read_bytes()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place))
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk takes root, and leave to mount it")
    yield place
    subprocess.run(("umount", str(place)), check=True)


def test_a_disk_that_cannot_be_written(reslab: Reslab, refused: Refused, small_disk: Path) -> None:
    out = small_disk / "run"
    assert reslab(*TINY, "--out", out)[0] == 0
    (out / "result.json").unlink()
    subprocess.run(("mount", "-o", "remount,ro", str(small_disk)), check=True)
    assert f"{out} cannot be written: Read-only file system" in refused("train", "--resume", out)
    for command in (TINY, ("study", "degradation")):
        assert "cannot be written: Read-only file system" in refused(*command, "--out", small_disk / "new")


def test_a_disk_that_fills_up(forge: Reslab, refused: Refused, small_disk: Path) -> None:
    big = ("train", "he2015_cifar", "--net", "resnet20", "--data", "digits", "--out", small_disk / "big")
    assert re.search(r"needs about 8\.\d MB for checkpoints, but only 1\.\d MB are free", refused(*big))

    out, filler = small_disk / "run", small_disk / "filler"

    def fill() -> None:
        give_up = time.monotonic() + 60
        while not list(out.glob("checkpoints/iteration-*")) and time.monotonic() < give_up:
            time.sleep(0.001)
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    thread = threading.Thread(target=fill)
    thread.start()
    code, text, _ = forge(*FULL, 200, "--checkpoint-every", 1, "--out", out)
    thread.join()
    assert code == 2, text
    assert "Traceback" not in text
    assert "cannot be written (No space left on device); the last good checkpoint, iteration-" in text
    filler.unlink()
    code, text, _ = forge("train", "--resume", out)
    assert code == 0, text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "he2015"), "unknown recipe 'he2015'"),
        (("train", "he2015_cifar", "--net", "resnet21", "--data", "digits"), "unknown network 'resnet21'"),
        (("train", "he2015_cifar", "--data", "cifar"), "unknown data set 'cifar'"),
        (("train", "he2015_cifar", "--data", "digits", "--weights", "no.pth"), "expected weights at no.pth"),
        (("study", "depths"), "unknown study 'depths'"),
        (("study", "depth", "--data", "cifar"), "unknown data set 'cifar'"),
        (("eval", "no.pth", "--data", "digits"), "expected weights at no.pth"),
        (("probe", "no.pth", "--data", "digits", "--all"), "expected weights at no.pth"),
        (("prune", "no.pth", "--data", "digits", "--out", "x.safetensors"), "expected weights at no.pth"),
        (("features", "no.pth", "--data", "digits", "--out", "x.npz"), "expected weights at no.pth"),
        (("weights", "inspect", "no.pth"), "expected weights at no.pth"),
        (("bench", "train", "--net", "resnet21"), "unknown network 'resnet21'"),
    ],
)
def test_a_misspelt_name_does_not_wait_for_pytorch(words: tuple[str, ...], said: str) -> None:
    code = (
        "import sys\nfrom reslab.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as stop:\n    assert 'torch' not in sys.modules\n    raise"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
