"""`reslab detect train` beside torchvision's detector trained as its reference script does, for so many seconds of CPU.

Both start from random weights, learn from the splits train and val of a folder with boxes, and are evaluated once, at
the end, on its test split by the same code. Each is a process of one thread; the iterations of each follow, before it
starts, from the seconds of a few steps.

- torchvision: ``fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)`` and ``references/detection/train.py``
  (0.29): SGD of momentum 0.9, weight decay 1e-4 on all parameters, 0.02 for 16 images (here 0.005 for 4), in the first
  epoch a linear warm-up from a thousandth over all its steps or 1,000, a tenth of the rate from 16/26 and again from
  22/26 of the training, mirroring, fp32. Without weights all stages and BN are trained, as torchvision has it.
  Three things differ, to its gain: the short side is 240 as ours is, since 800 would leave it a tenth of the steps;
  anchors are as small as ours, since at this size its own overlap a fifth of the platelets by 0.5 (the record has the
  shares of each class); images are decoded once.
- reslab: ResNet-18, a pyramid of 64 channels, 128 regions an image, bf16 where the processor has it, and short sides
  drawn from 208 to 304 in training.

    python benchmarks/detect_reference.py plan BCCD --folder runs/reference --seconds 3000 3000   # ours, theirs
    python benchmarks/detect_reference.py train BCCD --folder runs/reference --side reslab       # goes on after a stop
    python benchmarks/detect_reference.py train BCCD --folder runs/reference --side torchvision
    python benchmarks/detect_reference.py record BCCD --folder runs/reference --out results/detect/reference.json
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from reslab import runs
from reslab.commands.detect import recipe_of
from reslab.commands.options.detect import Train
from reslab.detect.annotations import Annotations, Picture, read
from reslab.detect.detections import Detections
from reslab.detect.feed import decoded, target
from reslab.detect.loop import train
from reslab.detect.recipe import DetectRecipe
from reslab.detect.trainer import Trainer, learnt_from
from reslab.detect.worth import worth
from reslab.train.device import Execution

SHORT, LONG, BATCH = 240, 1000, 4
ANCHORS = (16.0, 32.0, 64.0, 128.0, 256.0)
USUAL = (32.0, 64.0, 128.0, 256.0, 512.0)
SCALES = (208, 240, 272, 304)
SAVED_EVERY = 240.0
SIDES = ("reslab", "torchvision")


def recipe(data: Annotations, iterations: int, seed: int) -> DetectRecipe:
    """Ours, as the command would read it."""
    options = Train(
        net="resnet18", short=SHORT, anchors=ANCHORS, channels=64, regions=128, scales=SCALES, trainval=True,
        batch=BATCH, iterations=iterations, seed=seed,
    )  # fmt: skip
    return recipe_of(options, data)


class Peer:
    """torchvision's detector and the loop of its reference script."""

    def __init__(self, pictures: tuple[Picture, ...], classes: int, iterations: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.pictures, self.iterations, self.seed = pictures, iterations, seed
        self.model = fasterrcnn_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=classes + 1, min_size=SHORT, max_size=LONG,
            rpn_anchor_generator=anchors(ANCHORS),
        )  # fmt: skip
        self.optimizer = torch.optim.SGD(
            [p for p in self.model.parameters() if p.requires_grad], lr=0.02 * BATCH / 16, momentum=0.9,
            weight_decay=1e-4,
        )  # fmt: skip
        self.rate = 0.02 * BATCH / 16
        self.epoch = len(pictures) // BATCH  # incomplete batches are dropped
        self.done, self.cpu = 0, 0.0
        self._kept: dict[int, Tensor] = {}
        self.losses: list[float] = []
        self.model.train()

    def lr(self, i: int) -> float:
        """The rate of a step, counted from 0."""
        warm = min(1000, self.epoch - 1)
        factor = 1.0 if i >= warm else 0.001 + 0.999 * i / warm
        return self.rate * factor * 0.1 ** sum(i >= round(self.iterations * part / 26) for part in (16, 22))

    def step(self) -> float:
        """One step; its loss."""
        epoch, place = divmod(self.done, self.epoch)
        order = torch.randperm(len(self.pictures), generator=torch.Generator().manual_seed(1000 * self.seed + epoch))
        images, targets = [], []
        for index in order[place * BATCH : (place + 1) * BATCH].tolist():
            pixels = self._kept.setdefault(index, decoded(self.pictures[index]))
            flipped = bool(torch.rand(()) < 0.5)
            image = pixels.float() / 255
            images.append(image.flip(2) if flipped else image)
            targets.append(target(self.pictures[index], flipped=flipped))
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr(self.done)
        loss: Tensor = sum(self.model(images, targets).values())
        if not loss.isfinite():
            raise RuntimeError(f"torchvision's loss is not finite at step {self.done}")
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.done += 1
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """All that it needs to go on."""
        state = {
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "done": self.done,
            "cpu": self.cpu, "random": torch.get_rng_state(), "losses": self.losses,
        }  # fmt: skip
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def restore(self, path: Path) -> None:
        """Goes on from a file of `save`."""
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        self.done, self.cpu, self.losses = state["done"], state["cpu"], state["losses"]

    @torch.no_grad()
    def find(self, pictures: tuple[Picture, ...]) -> list[Detections]:
        """The boxes that it finds."""
        self.model.eval()
        found = []
        for picture in pictures:
            [each] = self.model([decoded(picture).float() / 255])
            found.append(Detections(each["boxes"].double().numpy(), each["scores"].double().numpy(),
                                    each["labels"].numpy() - 1))  # fmt: skip
        return found


def anchors(sides: tuple[float, ...]) -> AnchorGenerator:
    """One side a level, three ratios."""
    return AnchorGenerator(tuple((side,) for side in sides), ((0.5, 1.0, 2.0),) * len(sides))


def met(data: Annotations, sides: tuple[float, ...]) -> dict[str, dict[str, float]]:
    """The share of each class's boxes that overlap an anchor by 0.5 and by 0.7 (where torchvision calls it a hit)."""
    found, labels = [], []
    for picture in learnt_from(data, recipe(data, 1, 0)):
        scale = SHORT / min(picture.height, picture.width)
        size = round(picture.height * scale), round(picture.width * scale)
        size = tuple(-(-side // 32) * 32 for side in size)  # type: ignore[assignment]
        maps = [torch.zeros(1, 1, size[0] // stride, size[1] // stride) for stride in (4, 8, 16, 32, 64)]
        [places] = anchors(sides)(ImageList(torch.zeros(1, 3, *size), [size]), maps)
        boxes = torch.from_numpy(picture.corners()).float() * scale
        if len(boxes):
            found.append(box_iou(boxes, places).amax(1))
            labels.append(torch.from_numpy(picture.labels()))
    best, of = torch.cat(found), torch.cat(labels)
    return {
        name: {f"{share}": round(float((best[of == label] >= share).float().mean()), 4) for share in (0.5, 0.7)}
        for label, name in enumerate(data.classes)
    }


def timed(step: Callable[[], Any], steps: int = 8, idle: int = 2) -> float:
    """The CPU seconds of a step."""
    for _ in range(idle):
        step()
    before = time.process_time()
    for _ in range(steps):
        step()
    return (time.process_time() - before) / steps


def plan(data: Annotations, folder: Path, seconds: dict[str, float], seed: int) -> None:
    """Writes how many iterations each side has."""
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(r := recipe(data, 1000, seed), learnt_from(data, r), Execution(torch.device("cpu")))
    peer = Peer(learnt_from(data, r), len(data.classes), 1000, seed)
    each = {"reslab": timed(trainer.step), "torchvision": timed(peer.step)}
    made = {
        "cpu_seconds": seconds, "seed": seed,
        "cpu_seconds_a_step": {side: round(value, 4) for side, value in each.items()},
        "iterations": {side: int(seconds[side] / value) for side, value in each.items()},
    }  # fmt: skip
    runs.write_json(folder / "plan.json", made)
    print(made)


def train_reslab(data: Annotations, folder: Path, iterations: int, seed: int) -> None:
    """Ours, to the end."""
    spent = folder / "reslab-cpu.json"
    before = runs.read_json(spent)["seconds"] if spent.exists() else 0.0
    start = written = time.process_time()

    def look() -> bool:  # asked after each step
        nonlocal written
        if time.process_time() - written > 20:
            written = time.process_time()
            runs.write_json(spent, {"seconds": before + written - start})
        return False

    train(recipe(data, iterations, seed), data, folder / "reslab", execution=Execution(torch.device("cpu")), stop=look,
          quiet=True)  # fmt: skip
    runs.write_json(spent, {"seconds": before + time.process_time() - start})  # with the test at the end


def train_torchvision(data: Annotations, folder: Path, iterations: int, seed: int) -> None:
    """The peer, to the end, and its figures on the test split."""
    pictures = learnt_from(data, recipe(data, iterations, seed))
    peer = Peer(pictures, len(data.classes), iterations, seed)
    path = folder / "torchvision.pt"
    if path.exists():
        peer.restore(path)
    start, before, saved = time.process_time(), peer.cpu, time.monotonic()
    total, since = 0.0, 0
    while peer.done < iterations:
        total, since = total + peer.step(), since + 1
        peer.cpu = before + time.process_time() - start
        if since == 20:
            peer.losses.append(round(total / since, 4))
            total, since = 0.0, 0
        if time.monotonic() - saved > SAVED_EVERY or peer.done == iterations:
            peer.save(path)
            saved = time.monotonic()
            print(peer.done, peer.cpu, peer.losses[-1:], flush=True)
    test = data.pictures("test")
    result = {"iterations": iterations, "cpu_seconds": peer.cpu, "train_loss_every_20": peer.losses,
              **worth(test, peer.find(test), data.classes)}  # fmt: skip
    runs.write_json(folder / "torchvision.json", result)


def record(data: Annotations, folder: Path, out: Path) -> None:
    """One file of both."""
    ours = dict(runs.read_json(folder / "reslab" / "result.json"))
    ours["cpu_seconds"] = runs.read_json(folder / "reslab-cpu.json")["seconds"]
    peer = dict(runs.read_json(folder / "torchvision.json"))
    lead = 100 * (ours["voc10"]["map"] - peer["voc10"]["map"])
    runs.write_json(
        out,
        {
            "what": (__doc__ or "").split("\n\n")[0],
            **runs.made(torch=torch.__version__, torchvision=torchvision.__version__, threads=1),
            "data": "BCCD: learnt from train and val (292 images), tested on test (72)",
            "note": "one seed; intervals are over the test images alone. Others used the machine too, so that the CPU "
            "seconds of a step, counted for each side, vary.",
            "plan": runs.read_json(folder / "plan.json"),
            "boxes_that_overlap_an_anchor": {"usual": met(data, USUAL), "small": met(data, ANCHORS)},
            "points_ahead_voc10": round(lead, 2),
            "reslab": ours,
            "torchvision": peer,
        },
    )
    for name, each in (("reslab", ours), ("torchvision", peer)):
        print(name, each["voc10"]["map"], each["voc10"]["interval"], each["iterations"], each["cpu_seconds"])


def main() -> None:
    """Reads the words of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("plan", "train", "record"))
    parser.add_argument("data", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("runs/detect-reference"))
    parser.add_argument(
        "--seconds", type=float, nargs=2, default=[3000.0, 3000.0], help=f"of CPU, for {' and '.join(SIDES)}"
    )
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/detect/reference.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = read(options.data)
    if options.what == "plan":
        plan(data, options.folder, dict(zip(SIDES, options.seconds, strict=True)), options.seed)
    elif options.what == "record":
        record(data, options.folder, options.out)
    else:
        planned = runs.read_json(options.folder / "plan.json")
        train_side = train_reslab if options.side == "reslab" else train_torchvision
        train_side(data, options.folder, planned["iterations"][options.side], planned["seed"])


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
