"""Names of data sets, and whether there is such a one. Importable without torch."""

from pathlib import Path

from reslab.errors import InputError, nearest

KNOWN: dict[str, str] = {
    "digits": "1,797 scanned digits of 8x8 pixels from scikit-learn, embedded: no download",
    "cifar10": "60,000 colour images of 32x32 pixels in 10 classes, fetched once and cached",
    "cifar100": "60,000 colour images of 32x32 pixels in 100 classes, fetched once and cached",
    "synthetic": "2,560 random 32x32 images whose class can be learnt, for throughput and tests",
}
"""What `reslab.data.sources.load` takes beside paths, with a line of description each."""


TABLES = (".csv", ".tsv", ".parquet")
"""Endings of tables of paths and labels (`reslab.data.layouts.table`)."""


def existing(source: str) -> Path:
    """The folder that ``source`` names; an error tells a misspelt name from a missing path."""
    try:
        path = Path(source).expanduser()
    except RuntimeError as why:
        raise InputError(f"{source}: expected a folder, found no such user; give the path in full") from why
    if source and (path.is_dir() or (path.is_file() and path.suffix.lower() in TABLES)):
        return path
    if source and path.exists():
        raise InputError(
            f"{path}: expected a folder, or a table of paths and labels ({', '.join(TABLES)}), found another file; "
            "give the folder that it lies in"
        )
    if "/" in source or "\\" in source or source.startswith((".", "~")):
        parent = next((p for p in path.parents if p.is_dir()), Path())
        raise InputError(f"{path}: expected a folder, found nothing there ({parent} exists); check the path")
    raise InputError(
        f"unknown data set '{source}': expected {', '.join(sorted(KNOWN))} or the path of a folder, "
        f"found no such name or folder; {nearest(source, KNOWN)}"
    )
