"""Makes a finished run one of the weights that come with Reslab: the file, its line in the index, its card.

    python scripts/ship_weights.py runs/resnet20 resnet20-cifar10 --data path/to/cifar10 --about "The paper's."

What is shipped is evaluated as it is stored. The card says how it was trained, and how to train it again.
"""

import argparse
import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from reslab import runs
from reslab.data.loader import Eval
from reslab.data.sources import load as load_data
from reslab.data.transforms import Normalizer
from reslab.evaluate.metrics import evaluate
from reslab.evaluate.protocols import TestTime
from reslab.runs import RunDir
from reslab.runs.files import write_bytes, write_json, write_text
from reslab.weights import shipped
from reslab.weights.files import to_bytes
from reslab.weights.load import Weights, load

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
LIMIT = 8_000_000
"""Bytes of all of them together."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--data", required=True)
    parser.add_argument("--about", required=True, help="a sentence on what the weights are for")
    options = parser.parse_args()

    run = RunDir(options.run)
    weights = load(options.run)
    stored = {name: _stored(name, tensor, DTYPES[options.dtype]) for name, tensor in weights.tensors.items()}
    recipe, result = runs.read_json(run.recipe), runs.read_json(run.result)
    content = to_bytes(stored, weights.as_header())
    target = shipped.FOLDER / f"{options.name}.safetensors"
    others = sum(path.stat().st_size for path in shipped.FOLDER.glob("*.safetensors") if path != target)
    if others + len(content) > LIMIT:
        raise SystemExit(f"{others + len(content):,} bytes in all, more than {LIMIT:,}; choose a smaller --dtype")
    with TemporaryDirectory() as folder:  # what cannot be evaluated takes nothing's place
        trial = Path(folder) / target.name
        write_bytes(trial, content)
        errors = {kind: _error(load(trial), options.data, kind) for kind in ("none", "flip-shift")}
    entry = shipped.Shipped(
        net=weights.spec.name,
        data=recipe["data"]["name"],
        recipe=recipe["name"],
        dtype=options.dtype,
        sha256=hashlib.sha256(content).hexdigest(),
        test_error=errors["none"],
        test_error_flip_shift=errors["flip-shift"],
    )
    card = _card(options.name, options.about, entry, recipe, result, runs.read_json(run.env), len(content))
    index = {name: known.model_dump() for name, known in shipped.index().items()} | {options.name: entry.model_dump()}
    write_bytes(target, content)
    write_json(shipped.FOLDER / shipped.INDEX, dict(sorted(index.items())))
    write_text(shipped.FOLDER / f"{options.name}.md", card)
    print(f"{target}: {len(content):,} bytes, test error {entry.test_error:.2f} %")


def _stored(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """In the type of the file. The statistics of BN are few, and stay what they are."""
    return tensor if not tensor.is_floating_point() or "running_" in name else tensor.to(dtype)


def _error(weights: Weights, data: str, test_time: TestTime) -> float:
    preprocessing = weights.preprocessing
    assert preprocessing is not None
    normalizer = Normalizer.from_values(preprocessing.mean, preprocessing.std)
    images = Eval(load_data(data).test, normalizer, batch=500, device=torch.device("cpu"))
    return evaluate(weights.network().eval(), images, test_time=test_time).top1_error


def _card(
    name: str, about: str, entry: shipped.Shipped, recipe: dict[str, Any], result: dict[str, Any],
    env: dict[str, Any], size: int,
) -> str:  # fmt: skip
    gpu = env["gpu"] if env["gpu"] != "none" else env["cpu"]
    rows = {
        "network": f"{entry.net}, {result['params']:,} parameters",
        "trained by": f"`reslab train {entry.recipe} --net {entry.net} --data {entry.data} --seed {recipe['seed']}`, "
        f"{recipe['iterations']:,} iterations of {recipe['global_batch']}; all fields: its recipe.json",
        "recipe": recipe["cite"],
        "trained on": "all training images; the test images chose nothing (the last iterate)"
        if recipe["select"] == "last"
        else "selected on held-out images",
        "precision": f"{recipe['precision']} in training, {entry.dtype} in the file ({size:,} bytes)",
        "machine": f"{gpu}, {env['threads']} of {env['cores']} cores, torch {env['torch']}",
        "time": f"{result['seconds'] / 60:.1f} minutes, waiting for other work on the machine included",
        "test error": f"{entry.test_error:.2f} % of {result['n_test_images']:,} images, one look at each "
        f"(this seed, these weights as stored)",
        "with flips and shifts": f"{entry.test_error_flip_shift:.2f} %",
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return (
        f"# {name}\n\n{about}\n\n| | |\n| --- | --- |\n{table}\n\n"
        "Classes and preprocessing are in the file. Trained on small photographs of ten kinds of thing: it says "
        "nothing of use about any other picture.\n"
    )


if __name__ == "__main__":
    main()
