"""Which layout a data set has, and its annotations read and looked at."""

from collections.abc import Sequence
from pathlib import Path

from reslab.detect.annotations.coco import files_of, read_coco
from reslab.detect.annotations.stated import look
from reslab.detect.annotations.types import Annotations
from reslab.detect.annotations.voc import is_voc, read_voc
from reslab.detect.annotations.yolo import is_yolo, read_yolo
from reslab.errors import InputError


def read(root: str | Path, classes: Sequence[str] | None = None) -> Annotations:
    """Reads a data set for detection, in whichever of the three layouts it lies.

    Args:
        root: a folder as Pascal VOC, COCO or YOLO have them, or a COCO JSON file.
        classes: those to read, in this order; without it, those that have boxes in the split ``train``.

    Raises:
        InputError: nothing is there, no layout fits, or what is there cannot be used.
    """
    root = Path(root).expanduser()
    if not root.exists():
        raise InputError(f"expected images with boxes at {root}, but nothing is there")
    if root.is_file():
        if root.suffix.lower() != ".json":
            raise InputError(f"expected a folder or a COCO JSON file, got {root}")
        return look(read_coco(root), classes)
    if is_voc(root):
        return look(read_voc(root), classes)
    if is_yolo(root):
        return look(read_yolo(root), classes)
    if files_of(root):
        return look(read_coco(root), classes)
    raise InputError(
        f"expected Pascal VOC (Annotations/*.xml), COCO (annotations/*.json or train/*.json) or YOLO (data.yaml or "
        f"labels/*.txt) in {root}, but found none of them"
    )
