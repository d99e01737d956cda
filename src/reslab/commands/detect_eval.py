"""``reslab detect eval``."""

import json
from pathlib import Path

import torch

from reslab import runs
from reslab.commands.detect import show_look, show_worth
from reslab.commands.options.detect import Eval
from reslab.commands.targets import PAGES, check_target
from reslab.commands.train import start
from reslab.detect import page
from reslab.detect.annotations import read
from reslab.detect.detections import as_coco_results
from reslab.detect.find import find_in
from reslab.detect.looks import Looks
from reslab.detect.networks import Detector
from reslab.detect.saved import load_detector
from reslab.detect.worth import worth
from reslab.errors import InputError
from reslab.train.device import Execution, resolve_precision
from reslab.train.recipe import Precision


def run(options: Eval) -> Path | None:
    """Measures a detector, prints its figures, and returns the path of their page, if one was written."""
    if options.data is None:
        raise InputError("name the pictures: reslab detect eval DETECTOR DATA")
    if options.resamples < 0:
        raise InputError(f"--resamples takes 0 (no intervals) or more, got {options.resamples}")
    if options.open and options.page is None:
        raise InputError("--open opens the page: name it, --page FILE.html")
    looks = Looks(options.refine, options.scales)
    check_target("--out", options.out, (".json",), force=options.force)
    check_target("--page", options.page, PAGES, force=options.force)
    detector, execution, precision = ready(
        options.detector, options.device, options.threads, options.short, options.score, options.precision
    )
    data = read(options.data, detector.spec.classes)
    show_look(data)
    pictures = data.pictures(options.split)
    found = find_in(detector, pictures, precision=precision, looks=looks)
    if options.out is not None:
        runs.write_json(options.out, as_coco_results(found))
    result = worth(pictures, found, detector.spec.classes, resamples=options.resamples, score=options.score)
    result |= {
        "split": options.split, "refine": options.refine, "scales": options.scales, "precision": precision,
        "device": str(execution.device),
    }  # fmt: skip
    if options.page is not None:
        page.write(options.page, detector.spec, data, options.split, found, result)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show_worth(result)
    return options.page


def ready(
    source: str, device: str | None, threads: int | None, short: int | None, score: float, precision: Precision
) -> tuple[Detector, Execution, Precision]:
    """A detector where it is to run, at the size that was asked for."""
    if not 0 <= score <= 1:
        raise InputError(f"--score takes a score, 0 to 1, got {score:g}")
    if short is not None and short < 1:
        raise InputError(f"--short takes 1 or more pixels, got {short}")
    execution = start(device, threads)
    detector = load_detector(source, torch.device(execution.device))
    if short is not None:
        transform = detector.model.transform
        transform.max_size = round(transform.max_size * short / detector.spec.short)
        transform.min_size = (short,)
    return detector, execution, resolve_precision(precision, execution.device)
