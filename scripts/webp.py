"""Makes a Parquet data set smaller, in parts of a size that travels: its images as lossless WebP, nothing lost.

    python scripts/webp.py path/to/cifar10 --out cifar10-webp --parts 2 --most 60

Part k of n lies in OUT/part-k-of-n; all their files in one folder are the data set again, which Reslab reads as it is:
images, labels, class names and their order are those of the source. CIFAR-10 takes 99 MiB instead of 132. Each image
is decoded again and compared.
"""

import argparse
import io
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

QUALITY, METHOD = 50, 2
"""How hard the encoder tries: what made the smallest files of 1,000 images of CIFAR-10; more takes longer."""
AT_ONCE = 2000
"""Images that lie together in a file."""


def smaller(encoded: bytes) -> bytes:
    """The same pixels as lossless WebP; as they came, if that is no smaller."""
    image = Image.open(io.BytesIO(encoded))
    if image.mode not in ("RGB", "RGBA"):  # grey images would come back as colour
        return encoded
    target = io.BytesIO()
    image.save(target, "WEBP", lossless=True, quality=QUALITY, method=METHOD, exact=True)
    made = target.getvalue()
    again = Image.open(io.BytesIO(made))
    same = again.mode == image.mode and np.array_equal(np.asarray(again), np.asarray(image))
    return made if same and len(made) < len(encoded) else encoded


def column_of_images(table: pa.Table) -> str:
    """Which column holds encoded images."""
    for field in table.schema:
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            return str(field.name)
    raise SystemExit(f"expected a column of images (a struct with 'bytes'), got {', '.join(table.schema.names)}")


def converted(table: pa.Table, pool: ProcessPoolExecutor) -> pa.Table:
    name = column_of_images(table)
    images = table[name].combine_chunks()
    made = list(pool.map(smaller, images.field("bytes").to_pylist(), chunksize=200))
    fields = {field.name: images.field(field.name) for field in images.type} | {"bytes": pa.array(made, pa.binary())}
    whole = pa.StructArray.from_arrays(list(fields.values()), names=list(fields))
    column = table.schema.get_field_index(name)
    return table.set_column(column, table.schema.field(column).with_type(whole.type), whole)


def shared_out(sizes: dict[str, int], parts: int) -> list[dict[str, tuple[int, int]]]:
    """Which rows of each split a part holds, so many of all in each: first of the splits in their order."""
    total, done = sum(sizes.values()), 0
    edges = [round(total * k / parts) for k in range(parts + 1)]
    found: list[dict[str, tuple[int, int]]] = [{} for _ in range(parts)]
    for split, size in sizes.items():
        for part, (low, high) in enumerate(pairwise(edges)):
            start, stop = max(low, done) - done, min(high, done + size) - done
            if start < stop:
                found[part][split] = (start, stop)
        done += size
    return found


def convert(source: Path, out: Path, parts: int, most: float, workers: int) -> list[float]:
    """Writes the parts; MiB of each."""
    files = sorted(source.glob("*.parquet"))
    if not files:
        raise SystemExit(f"expected Parquet files in {source}, found none")
    tables: dict[str, pa.Table] = {}
    for file in files:
        split = file.name.partition("-")[0].removesuffix(".parquet")
        one = pq.read_table(file)
        tables[split] = pa.concat_tables([tables[split], one]) if split in tables else one
    order = sorted(tables, key=lambda split: -tables[split].num_rows)
    with ProcessPoolExecutor(workers) as pool:
        made = {split: converted(tables[split], pool) for split in order}
    chosen = shared_out({split: made[split].num_rows for split in order}, parts)
    sizes = []
    for part, rows in enumerate(chosen):
        folder = out / f"part-{part + 1}-of-{parts}"
        folder.mkdir(parents=True, exist_ok=True)
        for split, (start, stop) in rows.items():
            holders = [k for k, each in enumerate(chosen) if split in each]
            name = f"{split}-{holders.index(part):05d}-of-{len(holders):05d}.parquet"
            # The images are compressed already; what their headers have in common is a hundredth.
            pq.write_table(
                made[split].slice(start, stop - start), folder / name, row_group_size=AT_ONCE, compression="zstd",
                compression_level=19, use_dictionary=False,
            )  # fmt: skip
        sizes.append(sum(path.stat().st_size for path in folder.glob("*.parquet")) / 2**20)
        print(f"{folder}: {sizes[-1]:.1f} MiB")
    if max(sizes) > most:
        raise SystemExit(f"expected parts of at most {most:g} MiB, got {max(sizes):.1f}: take more --parts")
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", type=int, default=2)
    parser.add_argument("--most", type=float, default=60, help="MiB that a part may have")
    parser.add_argument("--workers", type=int, default=1, help="processes that encode")
    given = parser.parse_args()
    convert(given.source, given.out, given.parts, given.most, given.workers)


if __name__ == "__main__":
    main()
