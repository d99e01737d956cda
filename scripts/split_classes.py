"""Parts a Parquet data set by its classes, to pretrain on some and to fine-tune on the others.

    python scripts/split_classes.py path/to/cifar10 --take bird cat dog --out taken --rest others

Images stay as they are, byte for byte, and in their order; labels are numbered anew, the classes keeping their order.
"""

import argparse
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def split(source: Path, take: list[str], taken: Path, rest: Path) -> None:
    for file in sorted(source.glob("*.parquet")):
        table = pq.read_table(file)
        about = json.loads(table.schema.metadata[b"huggingface"])
        names = about["info"]["features"]["label"]["names"]
        if unknown := sorted(set(take) - set(names)):
            raise SystemExit(f"expected classes of {source} ({', '.join(names)}), got {', '.join(unknown)}")
        for folder, chosen in ((taken, take), (rest, [name for name in names if name not in take])):
            kept = [name for name in names if name in chosen]
            numbers = pa.array([kept.index(name) if name in kept else None for name in names], pa.int64())
            label = pc.take(numbers, table["label"])
            about["info"]["features"]["label"]["names"] = kept
            some = table.set_column(table.schema.get_field_index("label"), "label", label)
            some = some.filter(pc.is_valid(label)).replace_schema_metadata({b"huggingface": json.dumps(about).encode()})
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(some, folder / file.name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--take", nargs="+", required=True, help="names of the classes to take out")
    parser.add_argument("--out", type=Path, required=True, help="folder for the classes taken")
    parser.add_argument("--rest", type=Path, required=True, help="folder for the other classes")
    arguments = parser.parse_args()
    split(arguments.source, arguments.take, arguments.out, arguments.rest)
