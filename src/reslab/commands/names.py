"""What can be told to be wrong before PyTorch is there: a misspelt name is answered within a second.

Recipes, studies and networks are imported where one is named: what serves an artefact names none, and starts sooner.
"""

from collections.abc import Sequence
from pathlib import Path

from reslab.data import names as data_names
from reslab.errors import InputError
from reslab.weights.names import is_hub

PREDICTIONS = ".npz"
"""What `reslab eval` takes in place of weights, and looks for by itself."""


def check(
    *,
    recipe: str | None = None,
    study: str | None = None,
    net: str | None = None,
    data: str | None = None,
    weights: Sequence[str] = (),
) -> None:
    """Raises `InputError` for a name that nothing has. What is silent here is looked at again where it is used."""
    if recipe is not None:
        from reslab import recipes

        recipes.find(recipe)
    if study is not None:
        from reslab import studies

        studies.find(study)
    if net is not None:
        from reslab.nets.catalog import resolve_any

        resolve_any(net)
    for source in weights:
        if not source.endswith(PREDICTIONS) and not is_hub(source) and _missing(source):
            raise InputError(f"expected weights at {Path(source).expanduser()}, but there is no such file")
    if data is not None and data not in data_names.KNOWN and _missing(data):
        data_names.existing(data)


def _missing(path: str) -> bool:
    try:
        return not Path(path).expanduser().exists()
    except (RuntimeError, OSError, ValueError):
        return False  # what no file can be called is said where it is read
