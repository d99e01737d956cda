"""Asking and answering from Python, as a study does it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from reslab.data.images import ImageSet
from reslab.data.stream import in_memory
from reslab.errors import InputError
from reslab.evaluate.figures import figures
from reslab.evaluate.predict import Answer, Images, Question, Training, answer, ask, compute, namings
from reslab.evaluate.protocols import Kind, suited
from reslab.nets import build
from reslab.runs import RunDir
from reslab.weights.load import Weights
from reslab.weights.preprocessing import Preprocessing

CPU = torch.device("cpu")
CARRIED = Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3, crop=(16, 16))
PIXELS = torch.randint(0, 256, (9, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(9) % 3


def weights(seed: int = 0, classes: tuple[str, ...] | None = None, outputs: int = 3) -> Weights:
    net = build("cifar_resnet(depth=8, width=4)", seed=seed, num_classes=outputs, size=(16, 16))
    return Weights(net.spec, dict(net.state_dict()), "made", preprocessing=CARRIED, classes=classes)


def question(kind: Kind = "one-crop", *, of: Weights | None = None, loaded: bool = True) -> Question:
    listed = in_memory(PIXELS, LABELS, name="made", source="here", classes=("a", "b", "c"), content="x")
    images = Images(listed, "test", PIXELS if loaded and kind == "one-crop" else None)
    return ask(of or weights(), images, suited(kind, CARRIED, window=(4, 4)), CARRIED, precision="fp32")


@pytest.mark.parametrize("kind", ["one-crop", "ten-crop", "multi-scale"])
def test_an_answer(kind: Kind) -> None:
    asked = question(kind)
    made = compute(asked, device=CPU, fused=False, batch=4)
    assert made.about.key() == asked.about.key()
    assert made.about.seconds > 0
    assert made.about.when
    assert made.labels.tolist() == LABELS.tolist()
    assert figures(made.logs, made.labels).n_images == 9
    again = compute(question(kind), device=CPU, fused=False, batch=4)
    np.testing.assert_array_equal(again.logs, made.logs)
    if kind == "one-crop":
        streamed = compute(question(loaded=False), device=CPU, fused=False, batch=5)
        np.testing.assert_allclose(streamed.logs, made.logs, rtol=1e-5, atol=1e-6)
        assert streamed.about.key() == made.about.key(), "wherever the pixels lay"


def test_labels_are_outputs() -> None:
    made = compute(question(of=weights(classes=("c", "a", "b"))), device=CPU, fused=False)
    assert made.labels.tolist() == [1, 2, 0] * 3
    assert made.about.outputs == ("c", "a", "b")
    with pytest.raises(InputError, match="the weights know no class"):
        question(of=weights(classes=("d", "e", "f")))


def test_what_outputs_are_called(tmp_path: Path) -> None:
    assert namings(weights()) == [["0", "1", "2"]]
    assert namings(weights(classes=("c", "a", "b"))) == [("c", "a", "b"), ["0", "1", "2"]]
    (tmp_path / "names.txt").write_text("x\ny\nz\n")
    assert namings(weights(classes=("c", "a", "b")), tmp_path / "names.txt")[0] == ("x", "y", "z")
    known = namings(weights(outputs=1000))
    assert known[0][0] == "n01440764"
    assert len(known) == 2


def test_kept_in_the_folder_of_a_run(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    told: list[Answer] = []

    def result(new: Answer) -> dict[str, object]:
        told.append(new)
        return {"n": len(new.predictions.labels)}

    first = answer(question(), run, result, device=CPU, fused=False)
    assert first.place is not None
    assert (first.again, first.place.parent) == (False, run.eval)
    assert first.place.with_suffix(".json").read_text() == '{\n  "n": 9\n}\n'
    second = answer(question(), run, result, device=CPU, fused=False)
    assert (second.again, second.place) == (True, first.place)
    np.testing.assert_array_equal(second.predictions.logs, first.predictions.logs)
    assert answer(question(), run, result, device=CPU, fused=False, fresh=True).again is False
    assert answer(question(of=weights(1)), run, result, device=CPU, fused=False).place != first.place
    assert len(told) == 3
    assert answer(question(), None, result, device=CPU, fused=False).place is None


def test_statistics_computed_anew_are_another_evaluation() -> None:
    plain = question()
    training = Training("9 images", lambda: ImageSet(PIXELS, LABELS))
    anew = ask(plain.weights, plain.images, plain.protocol, CARRIED, precision="fp32", training=training)
    assert anew.about.key() != plain.about.key()
    before = plain.weights.fingerprint()
    logs = [compute(each, device=CPU, fused=False).logs for each in (plain, anew)]
    assert np.abs(logs[0] - logs[1]).max() > 1e-3
    assert plain.weights.fingerprint() == before, "the weights that were given are not touched"
