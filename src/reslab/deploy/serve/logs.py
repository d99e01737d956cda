"""Lines of JSON on standard error: of requests what they cost and what came of them, never what was in them."""

import json
import logging
import sys
from datetime import UTC, datetime

REQUESTS = "reslab.serve"
"""The logger of requests; a record's ``fields`` are its keys."""


class AsJson(logging.Formatter):
    """A record as one object, in one line whatever the text is."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields: dict[str, object] = {"time": when, "level": record.levelname.lower()}
        fields |= getattr(record, "fields", None) or {"message": record.getMessage()}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def to_standard_error() -> None:
    """The log of this server and of what carries it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(AsJson())
    for name, level in ((REQUESTS, logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it quotes what is wrong, and that is said anyway
