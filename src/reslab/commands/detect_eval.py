"""``reslab detect eval``."""

import json
from pathlib import Path

from reslab import runs
from reslab.commands.detect import show_look, show_worth
from reslab.commands.detect_ready import made_ready
from reslab.commands.options.detect import Eval
from reslab.commands.targets import PAGES, check_target
from reslab.detect import page
from reslab.detect.annotations import read
from reslab.detect.detections import as_coco_results
from reslab.detect.feed import decoded
from reslab.detect.looks import Looks
from reslab.detect.worth import worth
from reslab.errors import InputError


def run(options: Eval) -> Path | None:
    """Measures a detector, prints its figures, and returns the path of their page, if one was written."""
    if options.data is None:
        raise InputError("name the images: reslab detect eval DETECTOR DATA")
    if options.resamples < 0:
        raise InputError(f"--resamples takes 0 (no intervals) or more, got {options.resamples}")
    if options.open and options.page is None:
        raise InputError("--open opens the page: name it, --page FILE.html")
    looks = Looks(options.refine, options.scales)
    check_target("--out", options.out, (".json",), force=options.force)
    check_target("--page", options.page, PAGES, force=options.force)
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
    data = read(options.data, ready.spec.classes)
    show_look(data)
    pictures = data.pictures(options.split)
    found = ready.find(map(decoded, pictures))
    if options.out is not None:
        runs.write_json(options.out, as_coco_results(found))
    result = worth(
        pictures, found, ready.spec.classes, resamples=options.resamples, score=options.score, kind=ready.spec.kind
    )
    result |= {
        "split": options.split, "refine": options.refine, "scales": options.scales, "also": options.also,
        "precision": ready.precision, "device": ready.device,
    }  # fmt: skip
    if options.page is not None:
        page.write(options.page, ready.spec, data, options.split, found, result)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show_worth(result)
    return options.page
