"""Supplies training images: from memory, or from worker processes that decode photographs."""

import torch
from torch import Tensor
from torch.nn import functional as F

from reslab.data.images import Dataset, ImageSet
from reslab.data.loader import Batches, Eval, check, split
from reslab.data.photographs import PhotographBatches, PhotographEval
from reslab.data.sources import AnyDataset, Photographs
from reslab.data.spec import Augment
from reslab.data.stored import Stored
from reslab.data.transforms import Normalizer, coloured
from reslab.errors import InputError
from reslab.train.device import Execution, cores
from reslab.train.recipe import Recipe
from reslab.train.schedule import side
from reslab.weights.preprocessing import Preprocessing

EVAL_BATCH = 500
PHOTOGRAPHS = 100
"""Photographs of an evaluation at a time."""
RESIZE = 256 / 224
"""Of an evaluation's shorter side to its crop (He 2015, section 3.4; Krizhevsky 2012)."""


def feed_of(recipe: Recipe, data: AnyDataset, execution: Execution) -> "InMemory | OnDisk":
    """The feed of a recipe. Raises `InputError` where recipe and data do not go together."""
    check(data.info, recipe.data)
    if isinstance(data.train, ImageSet):
        assert isinstance(data.test, ImageSet)
        assert data.validation is None or isinstance(data.validation, ImageSet)
        return InMemory(recipe, Dataset(data.info, data.train, data.test, data.validation), execution)
    assert not isinstance(data.test, ImageSet)
    assert not isinstance(data.validation, ImageSet)
    return OnDisk(recipe, Dataset(data.info, data.train, data.test, data.validation), execution)


def share_of_commonest(labels: Tensor) -> float:
    """Share of labels (N,) that is of the most frequent one, 0 to 1."""
    return float(labels.bincount().max()) / len(labels)


class InMemory:
    """Small images, all on the device as uint8."""

    def __init__(self, recipe: Recipe, data: Dataset, execution: Execution) -> None:
        if not isinstance(recipe.data.augment, Augment):
            raise InputError(f"'{data.info.name}' is in memory: its images are shifted (pad, flip), not cropped")
        fitting, held = data.train, data.validation
        if held is None:
            fitting, held = split(data.train, recipe.data.holdout, recipe.data.holdout_seed)
        normalizer = Normalizer.for_(recipe.data, fitting.images)
        self.preprocessing = Preprocessing(
            mean=normalizer.mean_values(),
            std=normalizer.std_values(),
            crop=recipe.data.size,
            oriented=data.info.oriented,
        )
        self.recipe = recipe
        self.world, device = execution.world, execution.device
        self.batches = Batches(
            fitting, recipe.data, normalizer, batch=recipe.global_batch, seed=recipe.seed, device=device
        )
        self.n = self.batches.n
        # With validation images the test set is read once, at the end; without, its curve is recorded
        # for the figure and chooses nothing.
        part = (self.world.rank, self.world.size)
        self.validation = None if held is None else Eval(held, normalizer, batch=EVAL_BATCH, device=device, part=part)
        self.test = Eval(data.test, normalizer, batch=EVAL_BATCH, device=device, part=part)

    @property
    def training_labels(self) -> Tensor:
        """The class of each training image (N,)."""
        return self.batches.labels

    @property
    def commonest(self) -> float:
        """Share of the training images that is of the most frequent class, 0 to 1: what guessing gets right."""
        return share_of_commonest(self.training_labels)

    def positions(self, iteration: int) -> tuple[Tensor, Tensor]:
        """Which images this rank's share holds, and the epoch of each: what a captured step is given."""
        index, epoch = self.batches.positions(iteration)
        return self.world.share(index), self.world.share(epoch)

    def __call__(self, iteration: int) -> tuple[Tensor, Tensor]:
        """This rank's share of the batch of an iteration: input (N, C, H, W), channels-last, and labels (N,)."""
        images, labels = self.batches.at(*self.positions(iteration))
        rule = self.recipe.resolution
        if rule is not None and (size := side(rule, iteration, self.recipe.iterations)) != images.shape[-1]:
            images = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
        return images, labels

    def some(self, count: int) -> Tensor:
        """So many training images, normalised. A class may lie together, so they are taken evenly from everywhere."""
        every = max(1, len(self.batches.images) // count)
        return self.batches.normalizer(self.batches.images[::every][:count])

    @property
    def damaged(self) -> dict[str, dict[int, str]]:
        """Images that could not be decoded: none gets here."""
        return {}

    def close(self) -> None:
        """Nothing runs beside the training."""


class OnDisk:
    """Photographs, decoded and cropped by processes beside the training, normalised on the device."""

    def __init__(self, recipe: Recipe, data: Photographs, execution: Execution) -> None:
        spec = recipe.data
        if isinstance(spec.augment, Augment):
            raise InputError(
                f"'{data.info.name}' is of photographs: they are cropped (scale-crop, resized-crop), not shifted"
            )
        if spec.normalization not in ("imagenet", "given", "none"):
            raise InputError(
                f"photographs on disk are normalised by ImageNet's constants or not, got '{spec.normalization}'; "
                "--set data.normalization=imagenet"
            )
        if spec.holdout and data.validation is None:
            raise InputError("--holdout is for images in memory; of photographs on disk the validation folder is used")
        self.normalizer = Normalizer.for_(spec, torch.empty(0, 3, 1, 1, dtype=torch.uint8))
        self.normalizer = self.normalizer.to(execution.device)
        resize = round(min(spec.size) * RESIZE) if spec.resize is None else spec.resize
        self.preprocessing = Preprocessing(
            mean=self.normalizer.mean_values(),
            std=self.normalizer.std_values(),
            crop=spec.size,
            resize=resize,
            oriented=data.info.oriented,
        )
        self.device, world = execution.device, execution.world
        self.spec, self.seed = spec.augment, recipe.seed
        share, rule = (world.rank, world.size), recipe.resolution
        workers = max(1, cores() - 1) if execution.workers is None else execution.workers
        self.batches = PhotographBatches(
            data.train, spec.augment, size=spec.size, batch=recipe.global_batch, seed=recipe.seed, share=share,
            workers=workers, most_damaged=execution.most_damaged(len(data.train.labels)),
            side=None if rule is None else lambda iteration: side(rule, iteration, recipe.iterations),
            pinned=self.device.type == "cuda",
        )  # fmt: skip
        self.n, self.labels = self.batches.n, data.train.labels

        def evaluated(images: Stored, *, keep: bool) -> PhotographEval:
            return PhotographEval(
                images, self.normalizer, size=spec.size, resize=resize, batch=PHOTOGRAPHS, device=self.device,
                part=share, workers=workers, most_damaged=execution.most_damaged(len(images.labels)),
                keep=keep,
            )  # fmt: skip

        self.validation = None if data.validation is None else evaluated(data.validation, keep=True)
        self.test = evaluated(data.test, keep=False)

    def __call__(self, iteration: int) -> tuple[Tensor, Tensor]:
        """This rank's share of the batch of an iteration, as of `InMemory`."""
        made = self.batches(iteration)
        wanted = made.wanted
        images = made.images.to(self.device, non_blocking=True).float().div_(255)
        if self.spec.colour.changes:
            index, epoch = (each.to(self.device, non_blocking=True) for each in (wanted.index, wanted.epoch))
            images = coloured(images, index, spec=self.spec.colour, seed=self.seed, epoch=epoch)
        return self.normalizer.normalized(images), made.labels.to(self.device, non_blocking=True)

    @property
    def training_labels(self) -> Tensor:
        """As of `InMemory`."""
        return self.labels.to(self.device)

    @property
    def commonest(self) -> float:
        """As of `InMemory`."""
        return share_of_commonest(self.labels)

    def some(self, count: int) -> Tensor:
        """Not of photographs."""
        raise InputError("a whitening stem is for small images in memory")

    @property
    def damaged(self) -> dict[str, dict[int, str]]:
        """Images that could not be decoded, and why, of both splits; what is added here counts."""
        held = {} if self.validation is None else {"validation": self.validation.damage.found}
        return {"train": self.batches.damage.found, **held, "test": self.test.damage.found}

    def close(self) -> None:
        """Ends the processes beside the training."""
        self.batches.close()
