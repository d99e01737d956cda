"""A classifier in a line: whatever an image comes as, the answer is the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import SkipTestWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator

import reslab
from reslab.errors import InputError
from reslab.transfer.classifier import choice

from .pictures import COLOURS, folder, picture

CHOICES: dict[str, Any] = {"trains": "head", "precision": "fp32"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("data") / "photos", 12)


@pytest.fixture(scope="module")
def clf(photos: Path, start: Path, tmp_path_factory: pytest.TempPathFactory) -> reslab.Classifier:
    out = tmp_path_factory.mktemp("runs") / "run"
    return reslab.Classifier.finetune(photos, weights=str(start), out=out, quiet=True, device="cpu", **CHOICES)


def test_what_it_says(clf: reslab.Classifier, photos: Path) -> None:
    images = [photos / "red" / "001.png", photos / "blue" / "002.png"]
    assert clf.predict(images).tolist() == ["red", "blue"]
    assert clf.score(images, ["red", "blue"]) == 1.0
    assert clf.score(images, [2, 2]) == 0.5
    proba = clf.predict_proba(images)
    assert proba.shape == (2, 3)
    assert proba.sum(1) == pytest.approx([1, 1])
    assert clf.classes_.tolist() == list(COLOURS)
    assert clf.predict(photos / "green").tolist().count("green") >= 10


def test_an_image_may_come_as_anything(clf: reslab.Classifier, photos: Path) -> None:
    path = photos / "red" / "003.png"
    with Image.open(path) as opened:
        image = opened.copy()
    array = np.asarray(image)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    expected = clf.predict_proba(str(path))
    for given in (path, [path], image, array, array[None], array.astype(np.float32) / 255, tensor, tensor[None],
                  np.array([str(path)]), iter([image])):  # fmt: skip
        assert clf.predict_proba(given) == pytest.approx(expected, abs=1e-5)


def test_embeddings_and_explanations(clf: reslab.Classifier, photos: Path) -> None:
    rows = clf.embed([photos / "red" / "001.png", photos / "blue" / "001.png"])
    assert rows.shape == (2, 16)
    found = clf.explain(photos / "red" / "001.png")
    assert found.name == "red"
    assert found.map.min() >= 0
    assert found._repr_png_().startswith(b"\x89PNG")
    assert clf.explain(picture("red", 5), "blue").name == "blue"
    with pytest.raises(InputError, match="there is no class 'grey'"):
        clf.explain(picture("red", 5), "grey")


def test_it_shows_itself(clf: reslab.Classifier, start: Path) -> None:
    assert "accuracy: " in repr(clf)
    assert "<table>" in clf._repr_html_()
    assert clf.report().name == "report.html"
    other = reslab.Classifier.load(start)
    assert "<b>" not in other._repr_html_()
    with pytest.raises(InputError, match="is no fine-tuning with a page"):
        other.report()


def test_what_it_cannot_do(clf: reslab.Classifier, photos: Path, start: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(InputError, match=r"text\.jpg: expected a whole image"):
        clf.predict(tmp_path / "text.jpg")
    with pytest.raises(InputError, match="expected labels among the 3 classes"):
        clf.score([photos / "red" / "001.png"], ["grey"])
    for number in (-1, 3):
        with pytest.raises(InputError, match=f"expected numbers of outputs, 0 to 2, got {number}"):
            clf.score([photos / "red" / "001.png"], [number])
    with pytest.raises(InputError, match="expected a label for each of the 1 images, got 2"):
        clf.score([photos / "red" / "001.png"], ["red", "red"])
    assert choice(train="head", stage_decay=0.5, batch_size=8) == choice(trains="head", decay=0.5, batch=8)
    with pytest.raises(InputError, match="the choices are trains, head, stages"):
        reslab.Classifier.finetune(photos, weights=str(start), speed=3)


def test_weights_without_names_of_classes_are_numbered(start: Path, tmp_path: Path) -> None:
    torch.save(reslab.load(start).tensors, tmp_path / "w.pth")
    clf = reslab.Classifier.load(tmp_path / "w.pth", net="cifar_resnet(depth=8, width=4, num_classes=5)")
    assert clf.predict(picture("red", 1)).tolist()[0] in list("01234")


def test_scikit_learn_takes_it(photos: Path, start: Path) -> None:
    paths = sorted(photos.rglob("*.png"))
    names = [path.parent.name for path in paths]
    estimator = reslab.ImageClassifier(str(start), penalty=0.01, device="cpu")
    scores = cross_val_score(estimator, [str(path) for path in paths], names, cv=3)
    assert scores.mean() > 0.8
    arrays = np.stack([np.asarray(picture(name, i)) for i, name in enumerate(names)])
    found = make_pipeline(clone(estimator)).fit(arrays, names)
    assert found.score(arrays, names) > 0.9
    search = GridSearchCV(estimator, {"penalty": [0.01, 1.0]}, cv=2).fit(arrays, names)
    assert search.best_params_["penalty"] in (0.01, 1.0)
    two = [i for i, name in enumerate(names) if name != "blue"]
    both = clone(estimator).fit(arrays[two], np.array(names)[two])
    assert both.decision_function(arrays[:3]).shape == (3,)
    assert both.predict_proba(arrays[:3]).shape == (3, 2)
    with pytest.raises(InputError, match=r"expected images \(N, H, W\) or \(N, H, W, C\)"):
        estimator.fit(np.zeros((4, 7)), [0, 1, 0, 1])


def test_checks_of_scikit_learn(start: Path) -> None:
    """It says itself that it has no data of images to check with; those of its checks that need none hold."""
    estimator = reslab.ImageClassifier(str(start), penalty=0.1, device="cpu")
    with pytest.warns(SkipTestWarning, match="Can't test estimator ImageClassifier which requires input"):
        check_estimator(estimator, on_fail="raise")
    for check in (
        estimator_checks.check_no_attributes_set_in_init, estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_get_params_invariance, estimator_checks.check_set_params,
        estimator_checks.check_do_not_raise_errors_in_init_or_set_params, estimator_checks.check_estimator_repr,
        estimator_checks.check_estimator_tags_renamed, estimator_checks.check_valid_tag_types,
        estimator_checks.check_mixin_order,
    ):  # fmt: skip
        check("ImageClassifier", clone(estimator))
