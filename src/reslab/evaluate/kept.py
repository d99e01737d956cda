"""Results that stay in the folder of the run whose weights were evaluated."""

import logging
from pathlib import Path
from typing import Any

from reslab.errors import InputError
from reslab.evaluate.predictions import SUFFIX, About, Predictions, load, save
from reslab.runs import RunDir
from reslab.runs.files import write_json

_log = logging.getLogger("reslab")


def place(run: RunDir, about: About) -> Path:
    """Where the predictions of an evaluation lie: ``eval/<protocol>-<key>.npz``."""
    return run.eval / f"{about.protocol.called.replace(' ', '-')}-{about.key()}{SUFFIX}"


def find(run: RunDir, about: About) -> Predictions | None:
    """The predictions of such an evaluation, if it was made before; a damaged file is warned of."""
    path = place(run, about)
    if not path.is_file():
        return None
    try:
        found = load(path)
    except InputError as why:
        _log.warning("%s; it is computed again", why)
        return None
    return found if found.about.key() == about.key() else None


def keep(run: RunDir, predictions: Predictions, result: dict[str, Any]) -> Path | None:
    """Writes predictions and, beside them as JSON, the result; warns where nothing can be written."""
    path = place(run, predictions.about)
    try:
        save(predictions, path)
        write_json(path.with_suffix(".json"), result)
    except OSError as why:
        _log.warning("the result is not kept: cannot write in %s (%s)", run.eval, why.strerror or why)
        return None
    return path
