"""Small data sets for detection, generated: bright rectangles on noise, in any of the three layouts."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Corners = tuple[str, float, float, float, float]


def picture(path: Path, boxes: Sequence[Corners] = (), size: tuple[int, int] = (40, 60), seed: int = 0) -> Path:
    """A picture of height and width ``size``; each class has a colour."""
    pixels = np.random.default_rng(seed).integers(0, 60, (*size, 3), dtype=np.uint8)
    for name, x1, y1, x2, y2 in boxes:
        pixels[int(y1) : int(y2), int(x1) : int(x2)] = (220, 40, 40) if name == "cat" else (40, 220, 40)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def xml(boxes: Sequence[Corners], size: tuple[int, int] = (40, 60), difficult: bool = False) -> str:
    """VOC's text; corners as they are to stand there."""
    objects = "".join(
        f"<object><name>{name}</name><difficult>{int(difficult)}</difficult><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, x1, y1, x2, y2 in boxes
    )
    return (
        f"<annotation><size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>{objects}"
        "</annotation>"
    )


def voc(root: Path, splits: Mapping[str, Mapping[str, Sequence[Corners]]], size: tuple[int, int] = (40, 60)) -> Path:
    """A folder as Pascal VOC has it."""
    (root / "Annotations").mkdir(parents=True)
    (root / "ImageSets/Main").mkdir(parents=True)
    for split, pictures in splits.items():
        (root / f"ImageSets/Main/{split}.txt").write_text("".join(f"{name}\n" for name in pictures))
        for seed, (name, boxes) in enumerate(pictures.items()):
            edges = [(kind, x1 - 1, y1 - 1, x2, y2) for kind, x1, y1, x2, y2 in boxes]
            picture(root / f"JPEGImages/{name}.png", edges, size, seed)
            (root / f"Annotations/{name}.xml").write_text(xml(boxes, size))
    return root


def coco(root: Path, boxes: Sequence[tuple[int, int, Sequence[float]]], **changed: Any) -> Path:
    """A COCO file with the pictures 1 and 2 and the classes 1 (cat) and 5 (dog); boxes as (picture, class, xywh)."""
    content: dict[str, Any] = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 40, "width": 60} for i in (1, 2)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 5, "name": "dog"}],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": list(b), "iscrowd": 0}
            for n, (i, c, b) in enumerate(boxes)
        ],
    }
    for number in (1, 2):
        picture(root / f"{number}.png")
    (root / "train.json").write_text(json.dumps(content | changed))
    return root / "train.json"


def yolo(root: Path, texts: dict[str, str], names: str = "names: [cat, dog]\n") -> Path:
    """A folder as YOLO has it, with ``data.yaml``."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "data.yaml").write_text("train: images/train\n" + names)
    for name, text in texts.items():
        picture(root / f"images/train/{name}.png")
        (root / "labels/train").mkdir(parents=True, exist_ok=True)
        (root / f"labels/train/{name}.txt").write_text(text)
    return root


def squares(n: int, first: int = 0, size: tuple[int, int] = (40, 60)) -> dict[str, list[Corners]]:
    """Names and boxes of pictures with one or two rectangles each, of sizes and places of chance."""
    made: dict[str, list[Corners]] = {}
    for i in range(first, first + n):
        draw = np.random.default_rng(i)
        x, y = int(draw.integers(1, size[1] // 2 - 14)), int(draw.integers(1, size[0] - 20))
        made[f"{i:03}"] = [("cat" if i % 2 else "dog", x, y, x + 13, y + 15)]
        if i % 3:
            made[f"{i:03}"].append(("dog" if i % 2 else "cat", x + size[1] // 2, y, x + size[1] // 2 + 12, y + 17))
    return made
