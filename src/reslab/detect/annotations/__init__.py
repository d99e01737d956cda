"""Pictures with boxes, from Pascal VOC, COCO JSON and YOLO text, as one frozen type."""

from reslab.detect.annotations.find import read
from reslab.detect.annotations.types import Annotations, Box, Kind, Picture, Problem

__all__ = ["Annotations", "Box", "Kind", "Picture", "Problem", "read"]
