"""``reslab eval`` by each protocol, of several weights and together, as a terminal would call it."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reslab.data.images import ImageSet
from reslab.data.loader import Eval
from reslab.data.sources import load as load_data
from reslab.data.transforms import Normalizer
from reslab.evaluate.ensemble import averaged
from reslab.evaluate.figures import figures
from reslab.evaluate.predictions import load
from reslab.evaluate.recalibrate import recalibrate
from reslab.nets.network import Network
from reslab.runs import read_json
from reslab.weights.preprocessing import Preprocessing

from . import sample
from .sample import TINY, TRAIN, Reslab, photos, refused, said

GREY = Preprocessing(mean=(0.3,), std=(0.4,), crop=(8, 8))
COLOUR = Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), crop=(16, 16), resize=20)
DIGITS = ("--data", "digits", "--json")


def ours(path: str, seed: int = 3, *, preprocessing: Preprocessing = GREY, **fields: Any) -> Network:
    """Of digits, if nothing else is said."""
    return sample.ours(path, seed=seed, preprocessing=preprocessing, **({"in_channels": 1} | fields))


def test_each_protocol(reslab: Reslab) -> None:
    net = ours("w.safetensors")
    found = {name: said(reslab, "eval", "w.safetensors", *DIGITS, "--protocol", name) for name in
             ("one-crop", "ten-crop", "multi-scale")}  # fmt: skip
    for name, each in found.items():
        assert {"top1_error", "top5_error", "n_images", "protocol"} <= each.keys()
        assert (each["protocol"], each["n_images"]) == (name, 360)
        low, high = each["top1_interval"]
        assert 0 <= low < each["top1_error"] < high <= 100
        assert 0 <= each["calibration_error"] <= 100
        assert each["computed_again"] is True
        assert each["kept"] is None
    assert len({each["loss"] for each in found.values()}) == 3
    assert said(reslab, "eval", "w.safetensors", *DIGITS)["loss"] == found["one-crop"]["loss"], "is what is not said"
    assert found["ten-crop"]["protocol_fields"] == {"name": "ten-crop", "crop": [8, 8], "resize": 9}
    assert found["multi-scale"]["protocol_fields"] == {
        "name": "multi-scale", "scales": [8, 9, 14, 17, 23], "flip": True, "window": [2, 2],
    }  # fmt: skip
    # One of them by hand: the size of the training and its mirror image.
    one = said(reslab, "eval", "w.safetensors", *DIGITS, "--protocol", "multi-scale", "--scales", 8)
    digits = load_data("digits").test
    with torch.no_grad():
        x = (digits.images / 255 - 0.3) / 0.4
        mean = (net(x).softmax(1) + net(x.flip(3)).softmax(1)) / 2
    assert one["loss"] == pytest.approx(-mean.gather(1, digits.labels[:, None]).log().mean().item(), rel=1e-4)
    small = ("--protocol", "multi-scale", "--scales", 8, 12)
    losses = {said(reslab, "eval", "w.safetensors", *DIGITS, *small, "--window", w)["loss"] for w in (1, 2, 3)}
    assert len(losses) == 3
    assert said(reslab, "eval", "w.safetensors", *DIGITS, *small)["loss"] in losses, "as in training: 2"


def test_for_people(reslab: Reslab) -> None:
    ours("w.safetensors")
    ours("other.safetensors", 4)
    words = ("eval", "w.safetensors", "--data", "digits")
    code, out, err = reslab(*words, "--protocol", "ten-crop", "--per-class")
    assert code == 0
    assert "protocol  ten-crop: corners and centre 8x8 of shorter side 9, and their mirror images, softmax" in err
    assert re.search(r"top-1 error within \d+\.\d\d to \d+\.\d\d % \(95 %, Wilson\)", out)
    assert re.search(r"loss \d+\.\d+, calibration error \d+\.\d\d % \(expected, 15 bins\)", out)
    assert re.search(r"class, worst first +images +top-1 accuracy +95 %", out)
    assert all(len(line) <= 80 for line in out.splitlines())
    code, out, _ = reslab(*words[:2], "other.safetensors", *words[2:], "--protocol", "ensemble", "--best-subset")
    assert code == 0
    assert "all 2 together" in out
    assert "The best subset was chosen on these images" in out.replace("\n", " ")
    assert re.search(r"members +which are best", out)
    assert all(len(line) <= 80 for line in out.splitlines())


def test_a_run_is_evaluated_once(reslab: Reslab, caplog: pytest.LogCaptureFixture) -> None:
    assert reslab(*TRAIN, "--net", TINY, "--precision", "fp32", "--out", "run")[0] == 0
    words = ("eval", "run", *DIGITS, "--protocol", "ten-crop")
    first = said(reslab, *words)
    place = Path(first["kept"])
    assert place.parent == Path("run/eval")
    assert re.fullmatch(r"ten-crop-[0-9a-f]{16}\.npz", place.name)
    assert first["computed_again"] is True
    assert read_json(place.with_suffix(".json"))["top1_error"] == first["top1_error"]
    made = load(place)
    assert figures(made.logs, made.labels).top1_error == first["top1_error"]
    stamp = place.stat().st_mtime_ns
    again = said(reslab, *words)
    assert again == first | {"computed_again": False}
    code, _, err = reslab(*(word for word in words if word != "--json"))
    assert code == 0
    assert f"kept  {place}: saved before, not computed again (--fresh recomputes)" in err
    assert place.stat().st_mtime_ns == stamp
    assert said(reslab, *words, "--fresh")["computed_again"] is True
    assert place.stat().st_mtime_ns != stamp
    for more in (("--precision", "bf16"), ("--resize", 10), ("--split", "train"), ("--mean", 0.4)):
        other = said(reslab, *words, *more)
        assert other["computed_again"] is True, more
        assert other["kept"] != first["kept"]
    # Other weights in the same place.
    net = Path("run/checkpoints/final.safetensors")
    assert reslab(*TRAIN, "--net", TINY, "--precision", "fp32", "--seed", 5, "--out", "other")[0] == 0
    net.write_bytes(Path("other/checkpoints/final.safetensors").read_bytes())
    assert said(reslab, *words)["computed_again"] is True
    # And the run itself is none the worse for it.
    assert reslab("train", "--resume", "run")[0] == 0


def test_a_run_that_cannot_be_written(reslab: Reslab, caplog: pytest.LogCaptureFixture) -> None:
    assert reslab(*TRAIN, "--net", TINY, "--out", "run")[0] == 0
    Path("run/eval").write_text("in the way")
    found = said(reslab, "eval", "run", *DIGITS)
    assert found["kept"] is None
    assert "the result is not kept: cannot write in run/eval" in caplog.text


def test_several_weights(reslab: Reslab) -> None:
    for seed in (1, 2):
        ours(f"w{seed}.safetensors", seed)
    found = said(reslab, "eval", "w1.safetensors", "w2.safetensors", *DIGITS)
    assert [each["weights"] for each in found] == ["w1.safetensors", "w2.safetensors"]
    for each in found:
        assert said(reslab, "eval", each["weights"], *DIGITS)["loss"] == each["loss"]
    code, out, _ = reslab("eval", "w1.safetensors", "w2.safetensors", "--data", "digits")
    assert code == 0
    assert re.search(r"w1\.safetensors +one-crop +\d+\.\d\d %", out)


def test_an_ensemble_of_weights_runs_and_predictions(reslab: Reslab) -> None:
    for seed in (1, 2, 3):
        ours(f"w{seed}.safetensors", seed)
    assert reslab(*TRAIN, "--net", TINY, "--out", "run")[0] == 0
    ten = ("--protocol", "ten-crop")
    saved = said(reslab, "eval", "w3.safetensors", *DIGITS, *ten, "--save", "new/w3.npz")
    names = ("w1.safetensors", "w2.safetensors", "new/w3.npz", "run")
    words = ("eval", *names, *DIGITS, "--protocol", "ensemble", "--each", "multi-scale", "--best-subset")
    found = said(reslab, *words, "--save", "all.npz")
    assert found["protocol"] == "ensemble"
    assert [each["protocol"] for each in found["members"]] == ["multi-scale", "multi-scale", "ten-crop", "multi-scale"]
    assert found["members"][2]["top1_error"] == saved["top1_error"]
    assert found["members"][3]["kept"].startswith("run/eval/multi-scale-")
    parts = []
    for name in names[:2]:
        said(reslab, "eval", name, *DIGITS, "--protocol", "multi-scale", "--save", "one.npz", "--force")
        parts.append(load(Path("one.npz")))
    parts += [load(Path("new/w3.npz")), load(Path(found["members"][3]["kept"]))]
    together = averaged([each.logs for each in parts])
    np.testing.assert_array_equal(load(Path("all.npz")).logs, together)
    assert found["top1_error"] == figures(together, parts[0].labels).top1_error
    subsets = found["best_subsets"]
    assert [len(each["members"]) for each in subsets] == [1, 2, 3, 4]
    assert subsets[0]["top1_error"] == min(each["top1_error"] for each in found["members"])
    assert subsets[3]["top1_error"] == found["top1_error"]
    assert set(subsets[1]["members"]) <= set(names)
    assert found["best_subsets_chosen_on"] == "these very images"
    # Saved predictions need neither weights nor data, and an ensemble is a member as well.
    Path("w3.safetensors").unlink()
    alone = said(reslab, "eval", "new/w3.npz", "--json")
    assert (alone["top1_error"], alone["loss"], alone["computed_again"]) == (saved["top1_error"], saved["loss"], False)
    of_both = said(reslab, "eval", "new/w3.npz", "all.npz", "--protocol", "ensemble", "--json")
    assert len(of_both["protocol_fields"]["members"]) == 5
    assert said(reslab, "eval", "new/w3.npz", *DIGITS)["loss"] == saved["loss"]


def test_predictions_that_are_not_what_was_asked_for(reslab: Reslab) -> None:
    ours("w.safetensors")
    said(reslab, "eval", "w.safetensors", *DIGITS, "--save", "w.npz")
    assert refused(reslab, "eval", "w.npz", *DIGITS, "--protocol", "ten-crop") == (
        "w.npz holds predictions by one-crop, not ten-crop; give the weights instead"
    )
    other = refused(reslab, "eval", "w.npz", *DIGITS, "--split", "train")
    assert "w.npz holds predictions for other images (digits, test: " in other
    said(reslab, "eval", "w.safetensors", *DIGITS, "--split", "train", "--save", "train.npz")
    both = refused(reslab, "eval", "w.npz", "train.npz", "--protocol", "ensemble")
    assert "train.npz is of other images (digits, train: 1,437" in both
    Path("bad.npz").write_bytes(Path("w.npz").read_bytes()[:300])
    assert "bad.npz: expected predictions that `reslab eval --save` wrote" in refused(reslab, "eval", "bad.npz")
    assert "expected predictions at none.npz, but there is no such file" in refused(reslab, "eval", "none.npz")


def test_members_whose_classes_are_in_another_order(reslab: Reslab) -> None:
    photos("photos", "ant", "bee", "cat", count=3)
    fields: dict[str, Any] = {"preprocessing": COLOUR, "in_channels": 3, "num_classes": 3}
    ours("a.safetensors", 1, classes=("ant", "bee", "cat"), **fields)
    ours("b.safetensors", 2, classes=("ant", "cat", "bee"), **fields)
    ours("c.safetensors", 2, classes=("ant", "bee", "dog"), **fields)
    ours("d.safetensors", 2, **(fields | {"num_classes": 4}), classes=("ant", "bee", "cat", "dog"))
    data = ("--data", "photos", "--split", "all")
    wrong = refused(reslab, "eval", "a.safetensors", "b.safetensors", *data, "--protocol", "ensemble")
    assert "the classes of b.safetensors are in another order than those of a.safetensors: output 1 is 'cat'" in wrong
    assert "knows no class" not in wrong
    strange = refused(reslab, "eval", "a.safetensors", "c.safetensors", *data, "--protocol", "ensemble")
    assert "the weights know no class 'cat'" in strange
    more = refused(reslab, "eval", "a.safetensors", "d.safetensors", *data, "--protocol", "ensemble")
    assert "d.safetensors has 4 classes, a.safetensors 3" in more


def test_confusion_and_classes(reslab: Reslab) -> None:
    ours("w.safetensors")
    words = ("eval", "w.safetensors", *DIGITS)
    found = said(reslab, *words, "--confusion", "m.csv", "--per-class")
    with Path("m.csv").open(newline="") as handle:
        heading, *rows = csv.reader(handle)
    assert heading == ["class", *"0123456789"]
    counts = np.array([[int(cell) for cell in row[1:]] for row in rows])
    assert counts.sum() == 360
    assert found["top1_error"] == pytest.approx(100 - 100 * np.trace(counts) / 360)
    accuracy = {each["name"]: each["accuracy"] for each in found["per_class"]}
    for number, row in enumerate(counts):
        assert accuracy[str(number)] == pytest.approx(100 * row[number] / row.sum())
    assert reslab(*words, "--confusion", "m.png")[0] == 0
    assert Path("m.png").read_bytes().startswith(b"\x89PNG")
    assert "per_class" not in said(reslab, *words)


def test_statistics_computed_anew(reslab: Reslab) -> None:
    net = ours("w.safetensors")
    words = ("eval", "w.safetensors", *DIGITS)
    before = said(reslab, *words)
    found = said(reslab, *words, "--recalibrate-bn")
    assert found["loss"] != before["loss"]
    assert found["recalibrated"].startswith("1437 of 1437 training images (")
    few = said(reslab, *words, "--recalibrate-bn", "--recalibrate-images", 300)
    assert few["recalibrated"].startswith("300 of 1437 training images (")
    assert few["loss"] not in (found["loss"], before["loss"])
    assert "statistics averaged over 1437 of 1437" in reslab(*words[:-1], "--recalibrate-bn")[2]
    # Nearly the same by hand: the batches are others, and of the last ones some images are left out.
    data = load_data("digits")
    normalizer = Normalizer.from_values((0.3,), (0.4,))
    recalibrate(net, Eval(ImageSet(data.train.images, data.train.labels), normalizer, batch=479,
                          device=torch.device("cpu")), device=torch.device("cpu"))  # fmt: skip
    with torch.no_grad():
        logits = net.eval()((data.test.images / 255 - 0.3) / 0.4)
    loss = float(torch.nn.functional.cross_entropy(logits, data.test.labels))
    assert found["loss"] == pytest.approx(loss, rel=0.05)
    assert abs(found["loss"] - loss) < abs(before["loss"] - loss)


def test_statistics_of_a_folder(reslab: Reslab) -> None:
    """Of each class some images, mixed; and never of those that are evaluated on."""
    photos("photos", "ant", "bee", "cat", count=10)
    ours("w.safetensors", preprocessing=COLOUR, in_channels=3, num_classes=3)
    words = ("eval", "w.safetensors", "--data", "photos", "--json")
    found = said(reslab, *words, "--recalibrate-bn", "-b", 8)
    assert found["recalibrated"].startswith("24 of 24 training images (")
    assert found["n_images"] == 6
    assert found["loss"] != said(reslab, *words)["loss"]
    ten = said(reslab, *words, "--recalibrate-bn", "--protocol", "multi-scale", "--scales", 16)
    assert (found["recalibrated"][-11:], ten["recalibrated"][-13:]) == ("8 at a time", "100 at a time")
    assert ten["recalibrated"].removesuffix("100 at a time") == found["recalibrated"].removesuffix("8 at a time")
    assert "--split all evaluates on all there are" in refused(reslab, *words, "--recalibrate-bn", "--split", "all")
    assert "takes 2 or more, got 1" in refused(reslab, *words, "--recalibrate-bn", "--recalibrate-images", 1)


def test_flat_images_with_a_list(reslab: Reslab) -> None:
    photos("photos", "ant", "bee", count=3)
    ours("w.safetensors", preprocessing=COLOUR, in_channels=3, num_classes=2, classes=("ant", "bee"))
    by_folders = said(reslab, "eval", "w.safetensors", "--data", "photos", "--split", "all", "--json")
    Path("flat").mkdir()
    for file in sorted(Path("photos").rglob("*.png")):
        (Path("flat") / file.name).write_bytes(file.read_bytes())
    lines = "".join(f"{file.name} {file.name[:3]}\n" for file in sorted(Path("flat").iterdir()))
    words = ("eval", "w.safetensors", "--data", "flat", "--json")
    assert "have no list of labels; give a list by --labels" in refused(reslab, *words)
    Path("mine.txt").write_text(lines)
    found = said(reslab, *words, "--labels", "mine.txt")
    assert found["loss"] == pytest.approx(by_folders["loss"], rel=1e-5)
    assert found["top1_error"] == by_folders["top1_error"]
    Path("mine.txt").write_text(lines.replace("bee\n", "1\n").replace("ant\n", "0\n"))
    assert said(reslab, *words, "--labels", "mine.txt")["loss"] == pytest.approx(by_folders["loss"], rel=1e-5)
    Path("mine.txt").write_text(lines.replace("bee\n", "emu\n"))
    assert "the weights know no class 'emu'" in refused(reslab, *words, "--labels", "mine.txt")
    assert "not for digits" in refused(reslab, "eval", "w.safetensors", *DIGITS, "--labels", "mine.txt")


def test_a_mean_image_and_several_sizes(reslab: Reslab) -> None:
    image = tuple(tuple((x + y) / 14 for x in range(8)) for y in range(8))
    ours("w.safetensors", preprocessing=Preprocessing(mean=(image,), std=(1.0,), crop=(8, 8)))
    words = ("eval", "w.safetensors", *DIGITS, "--protocol")
    found = said(reslab, *words, "multi-scale")
    assert found["notes"] == ["the mean image has a fixed size: its average per channel is subtracted instead"]
    assert found["preprocessing"]["mean"] == pytest.approx([0.5])
    assert said(reslab, *words, "ten-crop")["notes"] == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("w.safetensors",), "name the images to evaluate w.safetensors on by --data"),
        (("w.safetensors", *DIGITS, "--each", "ten-crop"), "--each sets the protocol of an ensemble's members"),
        (("w.safetensors", *DIGITS, "--best-subset"), "--best-subset compares the members of an ensemble"),
        (("w.safetensors", *DIGITS, "--protocol", "ensemble"), "--protocol ensemble takes two members or more"),
        (("w.safetensors", *DIGITS, "--scales", 8), "--scales goes with --protocol multi-scale, not with one-crop"),
        (("w.safetensors", *DIGITS, "--window", 1), "--window goes with --protocol multi-scale, not with one-crop"),
        (("w.safetensors", *DIGITS, "--protocol", "multi-scale", "--window", 0), "--window takes 1 or more, got 0"),
        (("w.safetensors", *DIGITS, "--protocol", "multi-scale", "--scales", 2, 8), "images need at least 4 pixels"),
        (
            ("w.safetensors", *DIGITS, "--protocol", "ten-crop", "--test-time", "flip"),
            "--test-time goes with --protocol one-crop",
        ),
        (("w.safetensors", *DIGITS, "--recalibrate-images", 9), "add --recalibrate-bn"),
        (("w.safetensors", *DIGITS, "--damaged", 1.5), "--damaged takes a fraction of the images, 0 to 1, got 1.5"),
        (("w.safetensors", *DIGITS, "--save", "w.json"), "--save w.json: expected a name that ends in .npz"),
        (("w.safetensors", *DIGITS, "--confusion", "m.jpg"), "cannot write a confusion matrix as 'm.jpg'"),
        (("w.safetensors", "w.safetensors", *DIGITS, "--save", "w.npz"), "--save takes one evaluation, got 2 weights"),
        (("w.safetensors", *DIGITS, "--protocol", "two-crop"), "two-crop"),
        ((*DIGITS,), "weights|WEIGHTS"),
    ],
)
def test_mistakes(words: tuple[object, ...], expected: str, reslab: Reslab) -> None:
    ours("w.safetensors")
    assert re.search(expected, text := refused(reslab, "eval", *words)), text


def test_the_help_names_the_protocols(reslab: Reslab) -> None:
    code, out, _ = reslab("eval", "--help")
    assert code == 0
    for word in ("ten-crop", "multi-scale", "ensemble", "--best-subset", "--recalibrate-bn", "--confusion"):
        assert word in out


def test_saved_predictions_say_which_image_each_is_of(reslab: Reslab) -> None:
    how = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), crop=(32, 32))
    sample.ours("w.safetensors", preprocessing=how, classes=("x", "y", *"abcdefgh"))
    photos("p", "x", "y", count=5)
    (Path("p") / "x" / "x3.png").write_text("no image")
    words = ("eval", "w.safetensors", "--data", "p", "--split", "all", "--save", "s.npz", "--damaged", 0.5)
    code, _, err = reslab(*words)
    assert code == 0, err
    with np.load("s.npz") as saved:
        names = [bytes(name).decode() for name in saved["names"]]
        assert len(names) == len(saved["labels"]) == 9
    assert names == [f"x/x{i}.png" for i in (0, 1, 2, 4)] + [f"y/y{i}.png" for i in range(5)]
    assert reslab("eval", "s.npz")[0] == 0
