"""What the paper's ways of testing add to a trained detector: box refinement, several scales, both.

    python benchmarks/detect_looks.py RUN BCCD --scales 208 240 304 --out results/detect/looks.json

RUN is a run of ``reslab detect train``, or one of its checkpoints. Each way finds boxes in the same test images, in
fp32. ``ahead``: points of mAP ahead of a single look, the 2.5 %, 50 % and 97.5 % quantiles of a bootstrap over the
images, whose draws are the same for all ways.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reslab import runs
from reslab.detect.annotations import read
from reslab.detect.average_precision import matched_classes, mean, of_classes, voc
from reslab.detect.find import find_in
from reslab.detect.looks import Looks
from reslab.detect.saved import load_detector

RESAMPLES = 1000


def main() -> None:
    """Reads the words of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--scales", type=int, nargs="+", default=[208, 240, 304])
    parser.add_argument("--trained", default="", help="a word on how, for the record")
    parser.add_argument("--out", type=Path, default=Path("results/detect/looks.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    detector, scales = load_detector(options.run), tuple(options.scales)
    data = read(options.data, detector.spec.classes)
    pictures, n = data.pictures("test"), len(data.classes)
    ways = {
        "once": Looks(), "refine": Looks(refine=True), "scales": Looks(scales=scales),
        "refine and scales": Looks(refine=True, scales=scales),
    }  # fmt: skip
    random = np.random.default_rng(0)
    draws = [random.multinomial(len(pictures), np.full(len(pictures), 1 / len(pictures))) for _ in range(RESAMPLES)]
    rows: dict[str, dict[str, Any]] = {}
    drawn = {}
    for name, looks in ways.items():
        before = time.process_time()
        found = find_in(detector, pictures, looks=looks)
        spent = (time.process_time() - before) / len(pictures)
        rows[name] = {"cpu_seconds_an_image": round(spent, 3)}
        for overlap in (0.5, 0.75):
            matched = matched_classes(pictures, found, n, overlap, "voc10")
            drawn[name, overlap] = np.array([mean(of_classes(matched, "voc10", d.astype(float))) for d in draws])
            figure = voc(pictures, found, n, "voc10", overlap=overlap, resamples=0)
            ahead = 100 * (drawn[name, overlap] - drawn["once", overlap])
            rows[name][f"map{round(100 * overlap)}"] = {
                "map": round(figure.value, 4), "classes": [round(value, 4) for value in figure.classes],
                "ahead": [round(float(each), 2) for each in np.nanquantile(ahead, (0.025, 0.5, 0.975))],
            }  # fmt: skip
        print(name, rows[name], flush=True)
    about = runs.made(torch=torch.__version__, threads=1)
    runs.write_json(options.out, {
        "what": (__doc__ or "").split("\n\n")[0], **about, "trained": options.trained, "classes": data.classes,
        "network": detector.spec.net.name, "short": detector.spec.short, "images": len(pictures), "scales": scales,
        "ways": rows,
    })  # fmt: skip


if __name__ == "__main__":
    main()
