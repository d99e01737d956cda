"""The page of a fine-tuning: its figures, pictures and commands put together for `reslab.report.finetuned`."""

import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from reslab import __version__, runs
from reslab.data.decode.modes import pixels_of
from reslab.data.decode.whole import Fit, fitted_image, whole
from reslab.data.images import ImageSet
from reslab.data.loader import Batches
from reslab.data.photographs import Maker, Wanted
from reslab.data.spec import Augment
from reslab.data.stored import Stored, encoded
from reslab.data.transforms import Normalizer, coloured
from reslab.errors import writing
from reslab.evaluate.calibration import reliability
from reslab.evaluate.figures import confusion, predicted, wilson
from reslab.nets.network import Network
from reslab.probes.attribution import grad_cam
from reslab.probes.overlay import heat
from reslab.probes.seam import Sample
from reslab.report import finetuned, words
from reslab.report.page import data_uri
from reslab.runs import RunDir
from reslab.train.device import Execution
from reslab.transfer.finetune import Prepared, network
from reslab.transfer.look import below
from reslab.transfer.worth import Worth
from reslab.weights.load import load

FILE = "report.html"
SHOWN = 12
"""Pictures of a kind."""
AUGMENTED, TIMES = 3, 6
"""Training images, and how often each, that show what augmentation makes."""
THUMBNAIL = 160
NAMED = 100
"""Damaged or repeated images that are named, of each kind."""
MANY = 300
"""Test images from which on the reliability diagram has ten bins; of fewer five."""
FEW = 100
"""Test images below which the interval says little."""


def write(prepared: Prepared, worth: Worth, out: Path, execution: Execution) -> Path:
    """Writes the page into the folder of a finished run, and returns its path.

    Raises:
        InputError: the page cannot be written.
    """
    path = out / FILE
    result = runs.read_json(RunDir(out).result)
    plain, _ = worth.figures()
    low, high = plain.top1_interval
    made = finetuned.Finetuned(
        title=f"{prepared.recipe.net.name} on {prepared.data.info.name}",
        accuracy=100 - plain.top1_error,
        interval=(100 - high, 100 - low),
        n_test=plain.n_images,
        lede=_lede(prepared, worth, result),
        warnings=tuple(_warnings(prepared, worth, result)),
        kinds=_kinds(prepared, worth),
        confusion=confusion(worth.test.logs, worth.test.labels, range(len(worth.classes)))[:, :-1].tolist(),
        calibration=_calibration(worth),
        reliability=_reliability(worth),
        worst=(shown := _shown(prepared, worth, out, execution))[0],
        unsure=shown[1],
        curve=_curve(RunDir(out)),
        chosen="The validation images chose the weights; the test images were evaluated once, at the end."
        if prepared.recipe.select == "best-validation"
        else "The weights are those of the last step; the test images were evaluated once, at the end.",
        augmented=_augmented(prepared),
        commands=_commands(prepared, out),
        facts=_facts(prepared, out, result),
        version=__version__,
    )
    with writing(path):
        finetuned.write(made, path)
    return path


TRAINED = {
    "head": "Only the last layer was fitted, to the embeddings of the images",
    "last": "The last layer and the last stages were trained",
    "all": "The whole network was trained",
    "gradual": "The network was trained stage after stage, the last one first",
}


def _lede(prepared: Prepared, worth: Worth, result: dict[str, Any]) -> str:
    rule, parts = prepared.recipe.transfer, prepared.division
    assert rule is not None
    held = ", a held-out fifth of each class," if parts.held_out else ""
    source = Path(prepared.source).name if Path(prepared.source).exists() else prepared.source
    counts = np.bincount(np.asarray(worth.test.labels), minlength=len(worth.classes))
    usual = worth.classes[int(counts.argmax())]
    return (
        f"{TRAINED[rule.trains]}, from {source}, on {words.plural(len(parts.train), 'image')} in "
        f"{words.duration(result['seconds'])}. The test images{held} influenced no choice and were evaluated once. "
        f"Always predicting {usual} would be right for {100 * counts.max() / counts.sum():.1f} % of them."
    )


def _warnings(prepared: Prepared, worth: Worth, result: dict[str, Any]) -> list[str]:
    looked = prepared.looked
    said = []
    if result.get("at_chance"):
        said.append("This is no better than always predicting the most frequent class: the network has learnt nothing.")
    elif result.get("test_at_chance"):
        said.append("On the test images this is no better than always predicting the most frequent class.")
    if len(worth.test) < FEW:
        said.append(
            f"There are only {len(worth.test)} test images: on another test set the result could be anywhere in the "
            "interval above."
        )
    return [*said, *(text[0].upper() + text[1:] + "." for text in looked.warnings(NAMED))]


def _kinds(prepared: Prepared, worth: Worth) -> tuple[finetuned.Kind, ...]:
    chosen = predicted(worth.test.logs)
    train = np.bincount(prepared.looked.labels[prepared.division.train], minlength=len(worth.classes))
    found = []
    for number, name in enumerate(worth.classes):
        of, said = worth.test.labels == number, chosen == number
        hits = int((of & said).sum())
        recall, precision = _share(hits, int(of.sum())), _share(hits, int(said.sum()))
        found.append(
            finetuned.Kind(
                name, int(train[number]), int(of.sum()), precision and precision[0], precision and precision[1:],
                recall and recall[0], recall and recall[1:],
            )
        )  # fmt: skip
    return tuple(found)


def _share(hits: int, n: int) -> tuple[float, float, float] | None:
    if not n:
        return None
    low, high = wilson(hits, n)
    return 100 * hits / n, 100 * low, 100 * high


def _calibration(worth: Worth) -> str:
    plain, calibrated = worth.figures()
    if worth.temperature is None:
        return (
            f"The expected calibration error of its probabilities is {plain.calibration_error:.1f} points. There are "
            "too few validation images to fit a temperature."
        )
    return (
        f"The expected calibration error of its probabilities is {plain.calibration_error:.1f} points, and "
        f"{calibrated.calibration_error:.1f} at a temperature of {worth.temperature:.2f}, fitted on "
        f"{words.plural(len(worth.validation), 'validation image')}; reslab predict uses that temperature."
    )


def _reliability(worth: Worth) -> tuple[finetuned.Dots, ...]:
    lines = [("without temperature", 3, worth.test.logs)]
    if worth.temperature is not None:
        lines.append(("with temperature", 0, worth.calibrated()))
    return tuple(
        finetuned.Dots(
            label, color,
            tuple((100 * bin.confidence, 100 * bin.accuracy) for bin in bins),
            tuple((100 * bin.confidence, 100 * bin.interval[0], 100 * bin.interval[1]) for bin in bins),
        )
        for label, color, logs in lines
        if (bins := reliability(logs, worth.test.labels, 10 if len(worth.test) >= MANY else 5))
    )  # fmt: skip


def _shown(
    prepared: Prepared, worth: Worth, out: Path, execution: Execution
) -> tuple[tuple[finetuned.Picture, ...], tuple[finetuned.Picture, ...]]:
    """The surest mistakes, and the least sure images that are none of them."""
    scores = np.exp(worth.calibrated().astype(np.float64))
    chosen = predicted(worth.test.logs)
    confidence = scores[np.arange(len(chosen)), chosen]
    wrong = np.flatnonzero(chosen != worth.test.labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:SHOWN]
    unsure = np.setdiff1d(np.argsort(confidence, kind="stable")[: 2 * SHOWN], worst, assume_unique=True)
    unsure = unsure[np.argsort(confidence[unsure], kind="stable")][:SHOWN]
    wanted = [*worst.tolist(), *unsure.tolist()]
    if not wanted:
        return (), ()
    pixels = np.stack([_pixels(prepared, i) for i in wanted])
    maps = _maps(prepared, out, execution, pixels, torch.from_numpy(chosen[wanted]))
    made = []
    for row, i in enumerate(wanted):
        over = None if maps is None else _uri(heat(pixels[row], maps[row]))
        made.append(
            finetuned.Picture(
                uri=_uri(_image(pixels[row])), heat=over, name=below(worth.test.names[i], prepared.looked.root),
                truth=worth.classes[worth.test.labels[i]], said=worth.classes[chosen[i]],
                probability=float(confidence[i]), of_truth=float(scores[i, worth.test.labels[i]]),
            )
        )  # fmt: skip
    return tuple(made[: len(worst)]), tuple(made[len(worst) :])


def _pixels(prepared: Prepared, index: int) -> npt.NDArray[np.uint8]:
    """A test image as the network is shown it, (H, W, C)."""
    images = prepared.data.test
    if isinstance(images, ImageSet):
        return images.images[index].permute(1, 2, 0).numpy()
    return _fitted(images, index, prepared)


def _fitted(images: Stored, index: int, prepared: Prepared) -> npt.NDArray[np.uint8]:
    how = prepared.preprocessing
    seen = fitted_image(
        whole(encoded(images, index), prepared.data.info.channels), Fit(how.crop, how.resize, how.interpolation)
    )
    return pixels_of(seen)


def _maps(
    prepared: Prepared, out: Path, execution: Execution, pixels: npt.NDArray[np.uint8], classes: Tensor
) -> npt.NDArray[np.float32] | None:
    """What the network looked at (N, h, w); None of another library's network."""
    net = network(load(out), execution)
    if not isinstance(net, Network) or net.spec.stem.kind == "dense":
        return None
    how = prepared.preprocessing
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    x = Normalizer.from_values(how.mean, how.std)(images).to(execution.device)
    chosen = classes.to(execution.device)
    return np.asarray(grad_cam(net, Sample(x, chosen, batch=8), classes=chosen).maps, np.float32)


def _image(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _uri(image: Image.Image) -> str:
    """A thumbnail inside the page; of small images the pixels can be seen."""
    larger = image.width < THUMBNAIL
    resample = Image.Resampling.NEAREST if larger else Image.Resampling.LANCZOS
    buffer = io.BytesIO()
    image.convert("RGB").resize((THUMBNAIL, round(THUMBNAIL * image.height / image.width)), resample).save(
        buffer, "WEBP", quality=80
    )
    return data_uri("image/webp", buffer.getvalue())


def _curve(run: RunDir) -> tuple[finetuned.Dots, ...]:
    history = run.read_metrics()
    lines = []
    for label, color, key in (("training error", 2, "train_error"), ("validation error", 0, "validation_error")):
        points = tuple((float(line["iteration"]), line[key]) for line in history if line.get(key) is not None)
        if len(points) > 1:
            lines.append(finetuned.Dots(label, color, points))
    return tuple(lines) if any(line["iteration"] for line in history) else ()


def _augmented(prepared: Prepared) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Some training images, each as it is and as it is trained on; by the code that trains. None without a step."""
    recipe, data = prepared.recipe, prepared.data
    if not recipe.iterations:
        return ()
    labels = data.train.labels
    firsts = [int(torch.nonzero(labels == label)[0]) for label in labels.unique()[:AUGMENTED]]
    found = []
    for index in firsts:
        as_it_is, made = _of_memory(prepared, index) if isinstance(data.train, ImageSet) else _of_disk(prepared, index)
        called = prepared.looked.called(int(prepared.division.train[index]))
        found.append((called, tuple(_uri(_image(pixels)) for pixels in (as_it_is, *made))))
    return tuple(found)


Pixels = npt.NDArray[np.uint8]


def _of_memory(prepared: Prepared, index: int) -> tuple[Pixels, Sequence[Pixels]]:
    train, spec = prepared.data.train, prepared.recipe.data
    assert isinstance(train, ImageSet)
    plain = Normalizer.of("none", train.images)
    batches = Batches(train, spec, plain, batch=1, seed=prepared.recipe.seed, device=torch.device("cpu"))
    images, _ = batches.at(torch.full((TIMES,), index), torch.arange(TIMES))
    made = (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return train.images[index].permute(1, 2, 0).numpy(), list(made)


def _of_disk(prepared: Prepared, index: int) -> tuple[Pixels, Sequence[Pixels]]:
    train, spec = prepared.data.train, prepared.recipe.data
    assert not isinstance(train, ImageSet)
    assert not isinstance(spec.augment, Augment)
    chosen, epochs, seed = torch.full((TIMES,), index), torch.arange(TIMES), prepared.recipe.seed
    images = Maker(train, spec.augment, spec.size, seed)[Wanted(chosen, epochs)].images
    if spec.augment.colour.changes:
        wide = coloured(images.float() / 255, chosen, spec=spec.augment.colour, seed=seed, epoch=epochs)
        images = (wide.clamp(0, 1) * 255).round().to(torch.uint8)
    return _fitted(train, index, prepared), list(images.permute(0, 2, 3, 1).numpy())


def _commands(prepared: Prepared, out: Path) -> tuple[tuple[str, str], ...]:
    where, folder = shlex.quote(str(out)), shlex.quote(str(prepared.looked.root))
    return (
        ("Classify a new image", f"reslab predict {where} picture.jpg"),
        (
            "Classify a folder of images, as a table, with heat maps",
            f"reslab predict {where} folder --csv --explain why",
        ),
        ("Evaluate it on other images with labels", f"reslab eval {where} --data folder --split all"),
        (
            "Ship it: without PyTorch, and over HTTP",
            f"reslab export {where} --to onnx openvino --data {folder} --out mine\nreslab serve mine",
        ),
        (
            "From Python",
            f'import reslab\n\nclf = reslab.Classifier.load({str(out)!r})\nclf.predict("picture.jpg")',
        ),
    )


def _facts(prepared: Prepared, out: Path, result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    recipe, parts = prepared.recipe, prepared.division
    rule = recipe.transfer
    assert rule is not None
    trained: dict[str, Any] = {
        "network": recipe.net.name, "weights": prepared.source, "trained": rule.trains, "head": rule.head,
        "steps": recipe.iterations,
    }  # fmt: skip
    if recipe.iterations:
        trained |= {
            "batch": recipe.global_batch, "learning rate": recipe.optimizer.lr,
            "chosen step": result["selected_iteration"],
            "BN statistics": "frozen" if rule.freeze_bn else "of the batch", "mixup": recipe.mixup,
        }  # fmt: skip
    env = runs.read_json(RunDir(out).env)  # of the machine that trained it, which need not be this one
    machine = {key: env[key] for key in runs.describe() if key in env and key != "git_commit"}
    images = {
        "folder": str(prepared.looked.root), "to train on": len(parts.train), "for validation": len(parts.validation),
        "to test on": len(parts.test), "input": prepared.preprocessing.words(), "random seed": recipe.seed,
    }  # fmt: skip
    return {
        "Training": trained,
        "Images": images,
        "Machine": machine | {"time": words.duration(result["seconds"]), "date": result["finished"]},
    }
