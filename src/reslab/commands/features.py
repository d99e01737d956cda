"""``reslab features``."""

import io
import json

import numpy as np
from rich.console import Console

from reslab.commands.execution import start
from reslab.commands.options.features import Options
from reslab.commands.subject import checked, seen
from reslab.commands.targets import check_target
from reslab.errors import writing
from reslab.probes.attribution import features
from reslab.runs.files import write_bytes

SUFFIXES = (".npz", ".parquet")


def run(options: Options) -> None:
    """Writes what leaves named stages, with the labels, a row for each image."""
    checked(options.looking, least=1)
    check_target("--out", options.out, SUFFIXES, force=options.force)
    execution = start(options.device, options.threads)
    found = seen(options.weights, options.looking, execution, any_classes=True)
    Console(stderr=True).print(f"labels: {found.said}", highlight=False, markup=False, soft_wrap=True)
    sample = found.sample(
        options.looking, execution.device, split=options.looking.split, count=options.looking.images, least=1
    )
    arrays = {name: tensor.numpy() for name, tensor in features(found.net, sample, options.stages).items()}
    arrays["label"] = sample.labels.cpu().numpy()
    content = _npz(arrays) if options.out.suffix == ".npz" else _parquet(arrays)
    with writing(f"--out {options.out}"):
        write_bytes(options.out, content)
    if options.json:
        shapes_of = {name: list(array.shape) for name, array in arrays.items()}
        print(json.dumps({"out": str(options.out), "images": len(sample), "shapes": shapes_of}, indent=2))
        return
    shapes = ", ".join(f"{name} {'x'.join(map(str, array.shape[1:])) or 'number'}" for name, array in arrays.items())
    print(f"{options.out}: {len(sample):,} images, each {shapes}")


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _parquet(arrays: dict[str, np.ndarray]) -> bytes:
    """A column for each stage, its numbers of an image as a list in the order (C, H, W)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {}
    for name, array in arrays.items():
        if array.ndim == 1:
            columns[name] = pa.array(array)
        else:
            flat = pa.array(np.ascontiguousarray(array).reshape(-1))
            columns[name] = pa.FixedSizeListArray.from_arrays(flat, int(np.prod(array.shape[1:])))
    table = pa.table(columns)
    shapes = {f"shape.{name}": "x".join(map(str, array.shape[1:])) for name, array in arrays.items()}
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(shapes), buffer)
    return buffer.getvalue()
