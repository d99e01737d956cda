"""A classifier of images for notebooks: fine-tuned or loaded, asked in a line, and shown where it is shown."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from reslab.data.formats import Unused
from reslab.data.walk import images_below
from reslab.errors import InputError
from reslab.evaluate.classify import Answers, AnyImage, Classifying
from reslab.probes.attribution import grad_cam
from reslab.probes.overlay import heat
from reslab.probes.seam import Sample, own
from reslab.runs import RunDir, read_json
from reslab.train.device import Execution, keep_freed_memory, pick_device, resolve_precision
from reslab.train.recipe import Precision
from reslab.transfer import page
from reslab.transfer.embed import into_head
from reslab.transfer.finetune import IMAGENET, fit, network, prepare
from reslab.transfer.recipe import Choice
from reslab.transfer.worth import measure
from reslab.weights.load import Weights, load
from reslab.weights.names import Which
from reslab.weights.preprocessing import Preprocessing

Many = AnyImage | Iterable[AnyImage]
"""An image or several; the path of a folder is all images below it."""


@dataclass(frozen=True)
class Explanation:
    """What a network said of an image, and where it looked."""

    name: str
    """of the class"""
    probability: float
    map: npt.NDArray[np.float32]
    """(h, w), Grad-CAM, none below 0"""
    picture: Image.Image
    """the image in grey under the map"""

    def _repr_png_(self) -> bytes:
        return self.picture._repr_png_() or b""


class Classifier:
    """A network with all that it takes to ask it what images show.

    Example:
        >>> clf = reslab.Classifier.finetune("photos")  # a folder for each class
        >>> clf.predict(["new.jpg", "other.png"])
        ['cat', 'dog']
    """

    def __init__(
        self, weights: Weights, *, device: str | None = None, precision: Precision = "fp32", batch: int = 32,
        run: Path | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            weights: with a last layer (`reslab.load`).
            device: cpu, cuda, ...; by default CUDA where there is one.
            precision: of the forward passes.
            batch: images computed at a time.
            run: folder of the run that they are of.

        Raises:
            InputError: the weights have no last layer, or are of no images.
        """
        weights.check_head("a classifier")
        self.weights, self.run = weights, run
        self.execution = Execution(pick_device(device))
        if self.execution.device.type == "cpu":
            keep_freed_memory()
        count = weights.spec.num_classes
        self.classes_: npt.NDArray[np.str_] = np.array(weights.classes or [str(i) for i in range(count)])
        """names of the classes in the order of the probabilities; numbers where the weights have none"""
        self.net: nn.Module = network(weights, self.execution)
        self.temperature = float(weights.header.get("temperature") or 1.0)
        resolved = resolve_precision(precision, self.execution.device)
        self._classify = Classifying(
            self.net, _preprocessing(weights), weights.spec.in_channels, self.execution.device, resolved, batch,
            temperature=self.temperature,
        )  # fmt: skip

    @classmethod
    def finetune(
        cls, folder: str | os.PathLike[str], *, weights: str = "torchvision:resnet50",
        out: str | os.PathLike[str] | None = None, device: str | None = None, workers: int | None = None,
        validation: float | None = None, size: int | None = None, quiet: bool = False, **choices: Any,
    ) -> Classifier:  # fmt: skip
        """Fine-tunes on a folder of images, as ``reslab finetune`` does, and loads the result.

        Args:
            folder: a folder for each class, with or without train/ and test/ above them, or any other layout.
            weights: to start from: a file, a run or a hub's name.
            out: folder of the run, gone on with if it was interrupted; by default ``runs/finetune-NET-FOLDER-seedS``.
            device: cpu, cuda, ...
            workers: processes that decode images beside the training.
            validation: share of the training images that is set aside; by default as suits their number.
            size: pixels of a side that the network sees; by default what the weights were trained with.
            quiet: no progress.
            choices: fields of `reslab.transfer.recipe.Choice`: ``trains="head"``, ``epochs=10``, ``lr=0.01``, ...
                The names of the command's options mean the same: ``train="head"``, ``batch_size=64``, ...

        Raises:
            InputError: images, weights or choices that do not go together.
        """
        root = Path(folder).expanduser()
        prepared = prepare(root, weights, choice(**choices), size=size, validation=validation)
        run = Path(out) if out else prepared.usual_out
        execution = Execution(pick_device(device), workers=workers)
        fit(prepared, run, execution=execution, title=prepared.recipe.net.name, quiet=quiet)
        page.write(prepared, measure(prepared, run, execution), run, execution)
        return cls.load(run, device=device)

    @classmethod
    def load(
        cls, source: str | os.PathLike[str], *, net: str | None = None, which: Which | None = None,
        device: str | None = None, precision: Precision = "fp32", batch: int = 32,
    ) -> Classifier:  # fmt: skip
        """Loads weights: the folder of a run, a file, or a hub's name. Arguments: those of `reslab.load` too."""
        given = os.fspath(source)
        run = Path(given) if Path(given).is_dir() else None
        return cls(load(given, net=net, which=which), device=device, precision=precision, batch=batch, run=run)

    def predict(self, images: Many) -> npt.NDArray[np.str_]:
        """The name of the likeliest class of each image (N,).

        Args:
            images: one or several: paths, images of Pillow, arrays (H, W[, C]) or tensors (C, H, W), of uint8, or of
                floating point from 0 to 1; a path of a folder is all images below it.

        Raises:
            InputError: an image that cannot be read, by name.
        """
        chosen: npt.NDArray[np.str_] = self.classes_[self.predict_proba(images).argmax(1)]
        return chosen

    def predict_proba(self, images: Many) -> npt.NDArray[np.float64]:
        """Probabilities (N, classes), at the temperature of the weights; the rows sum to 1."""
        rows = [some.probabilities.double().numpy() for some in self._answers(images)]
        found = np.concatenate(rows) if rows else np.empty((0, len(self.classes_)))
        normed: npt.NDArray[np.float64] = found / found.sum(1, keepdims=True)
        return normed

    def score(self, images: Many, labels: Sequence[str] | Sequence[int] | npt.NDArray[Any]) -> float:
        """The share of images that are classified correctly, 0 to 1.

        ``labels`` are names of classes, or numbers of outputs. Raises `InputError` for one that is neither.
        """
        wanted = np.asarray(labels)
        if wanted.dtype.kind in "iu":
            count = len(self.classes_)
            if outside := [number for number in wanted.tolist() if not 0 <= number < count]:
                raise InputError(f"expected numbers of outputs, 0 to {count - 1}, got {outside[0]}")
            wanted = self.classes_[wanted]
        unknown = sorted(set(wanted.astype(str).tolist()) - set(self.classes_.tolist()))
        if unknown:
            raise InputError(
                f"expected labels among the {len(self.classes_)} classes ({', '.join(self.classes_[:4])}, ...), got "
                f"{', '.join(map(repr, unknown[:3]))}"
            )
        said = self.predict(images)
        if len(said) != len(wanted):
            raise InputError(f"expected a label for each of the {len(said)} images, got {len(wanted)}")
        return float((said == wanted).mean())

    def embed(self, images: Many) -> npt.NDArray[np.float32]:
        """What the last layer takes of each image (N, D)."""
        rows = []
        with into_head(self.net) as seen:
            for _ in self._answers(images):
                rows.append(seen.pop().float().cpu().numpy())
        found: npt.NDArray[np.float32] = np.concatenate(rows)
        return found

    def explain(self, image: AnyImage, name: str | None = None) -> Explanation:
        """Where the network saw a class in an image (Grad-CAM); by default the likeliest.

        Raises:
            InputError: no such class, or another library's network, which cannot be looked into.
        """
        net = own(self.net, "explain()")
        (some,) = self._answers([image])
        number = int(some.probabilities[0].argmax())
        if name is not None:
            if name not in self.classes_:
                raise InputError(f"there is no class {name!r}; the classes are {', '.join(self.classes_[:6])}")
            number = self.classes_.tolist().index(name)
        label = torch.tensor([number], device=some.x.device)
        values = np.asarray(grad_cam(net, Sample(some.x, label), classes=label).maps[0], np.float32)
        pixels = some.shown[0].pixels
        assert pixels is not None
        return Explanation(
            str(self.classes_[number]), float(some.probabilities[0, number]), values, heat(pixels, values)
        )

    def report(self) -> Path:
        """The page of the fine-tuning. Raises `InputError` where the weights are of none."""
        path = None if self.run is None else self.run / page.FILE
        if path is None or not path.exists():
            raise InputError(f"{self.weights.origin} is no fine-tuning with a page; Classifier.finetune makes one")
        return path

    def _answers(self, images: Many) -> Iterator[Answers]:
        for some in self._classify(_each(images)):
            for shown in some.shown:
                if shown.pixels is None:
                    raise InputError(f"{shown.name}: {shown.why}")
            yield some

    def _facts(self) -> dict[str, str]:
        spec, how = self.weights.spec, self._classify.preprocessing
        names = ", ".join(self.classes_[:6]) + (f", ... ({len(self.classes_)})" if len(self.classes_) > 6 else "")
        facts = {"network": spec.name, "weights": self.weights.origin, "classes": names, "input": how.words()}
        if self.run is not None and (result := RunDir(self.run).result).exists():
            known = read_json(result)
            if "accuracy" in known:
                low, high = known["accuracy_interval"]
                facts["accuracy"] = (
                    f"{known['accuracy']:.1f} % of {known['n_test_images']:,} test images (95 % interval {low:.1f} to "
                    f"{high:.1f} %)"
                )
        return facts

    def __repr__(self) -> str:
        """What it is, in a few lines."""
        return "Classifier\n" + "\n".join(f"  {name}: {text}" for name, text in self._facts().items())

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(text)}</td></tr>'
            for name, text in self._facts().items()
        )
        return f"<table><caption>reslab.Classifier</caption>{rows}</table>"


AS_OPTIONS = {"train": "trains", "stage_decay": "decay", "batch_size": "batch"}
"""What the command's options are called that are not named after the fields of `Choice`, which they mean here too."""


def choice(**choices: Any) -> Choice:
    """What a person chose. Raises `InputError` for a field that does not exist."""
    try:
        return Choice(**{AS_OPTIONS.get(name, name): value for name, value in choices.items()})
    except TypeError as why:
        known = ", ".join(Choice.__dataclass_fields__)
        raise InputError(f"{str(why).split(') ')[-1]}; the choices are {known}") from None


def _each(images: Many) -> Iterable[AnyImage]:
    if isinstance(images, str | os.PathLike):
        path = Path(images)
        return images_below(path, Unused(), []) if path.is_dir() else [path]
    if isinstance(images, Image.Image):
        return [images]
    if isinstance(images, np.ndarray | torch.Tensor):
        if images.ndim == 4:
            return iter(images)
        if images.ndim == 1:  # of paths
            return list(images)
        return [images]
    return images


def _preprocessing(weights: Weights) -> Preprocessing:
    """What the weights say; of those that say nothing ImageNet's constants."""
    if weights.preprocessing is not None:
        return weights.preprocessing
    if weights.spec.in_channels != 3:
        raise InputError(f"{weights.origin} does not say how its images were normalised, and nothing is usual for grey")
    mean, std = IMAGENET
    size = weights.spec.size
    return Preprocessing(mean=mean, std=std, crop=size, resize=round(min(size) / 0.875) if min(size) >= 128 else None)
