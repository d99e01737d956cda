"""``reslab detect predict``."""

import json
import sys
from pathlib import Path

from PIL import Image

from reslab import runs
from reslab.commands.detect_ready import made_ready
from reslab.commands.options.detect import Predict
from reslab.commands.targets import check_folder
from reslab.data.decode.whole import Encoded, whole
from reslab.detect.annotations.files import PICTURES
from reslab.detect.detections import Detections, as_coco_results
from reslab.detect.drawn import draw, pixels_of
from reslab.detect.looks import Looks
from reslab.errors import InputError, writing

FOUND = "detections.json"


def run(options: Predict) -> None:
    """Finds objects in pictures; prints them, and draws them where a folder is named."""
    paths = listed(options.pictures)
    looks = Looks(options.refine, options.scales)
    if options.out is not None:
        check_folder("--out", options.out, (FOUND,), force=options.force)
    ready = made_ready(
        options.detector,
        options.device,
        options.threads,
        options.short,
        options.score,
        options.precision,
        looks,
        options.also,
    )
    classes = ready.spec.classes
    found: list[tuple[Path, tuple[int, int], Detections]] = []
    for path in paths:
        try:
            image = whole(Encoded(str(path), path, oriented=True), 3)
        except InputError as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        [each] = ready.find([pixels_of(image)])
        found.append((path, image.size, each))
        shown = each.above(options.score)
        if options.out is not None:
            _write(draw(image, shown, classes), options.out, f"{len(found):04}-{path.stem}.png")
        if not options.json:
            boxes = "; ".join(
                f"{classes[label]} {100 * score:.0f} % at {' '.join(f'{side:.0f}' for side in box)}"
                for box, score, label in zip(shown.boxes, shown.scores, shown.labels, strict=True)
            )
            print(f"{path}: {boxes or 'nothing'}")
    if not found:
        raise InputError("none of the images can be read")
    content = {
        "images": [
            {"id": number, "file_name": path.name, "height": size[1], "width": size[0]}
            for number, (path, size, _) in enumerate(found, 1)
        ],
        "categories": [{"id": label, "name": name} for label, name in enumerate(classes, 1)],
        "annotations": as_coco_results([each for _, _, each in found]),
    }
    if options.out is not None:
        runs.write_json(options.out / FOUND, content)
    if options.json:
        print(json.dumps(content, indent=2))


def listed(given: tuple[Path, ...]) -> list[Path]:
    """The pictures that are named, and those in folders."""
    paths: list[Path] = []
    for each in given:
        inside = sorted(p for p in each.rglob("*") if p.suffix.lower() in PICTURES) if each.is_dir() else [each]
        if not inside or not inside[0].exists():
            raise InputError(f"expected an image or a folder of images at {each}, but there is none")
        paths += inside
    if not paths:
        raise InputError("name images: reslab detect predict DETECTOR IMAGE ...")
    return paths


def _write(image: Image.Image, folder: Path, name: str) -> None:
    with writing(f"--out {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / name)
