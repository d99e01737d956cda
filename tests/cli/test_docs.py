"""Commands that the documents show are commands that there are."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from reslab.cli import app

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(text: str) -> Iterator[str]:
    """What stands in blocks of code, each in one line."""
    inside = [block for kind, block in re.findall(r"```(\w*)\n(.*?)```", text, re.DOTALL) if kind == "sh"]
    for line in "\n".join(inside).replace("\\\n", " ").splitlines():
        found = re.search(r"(?:^|-m )(reslab (?!:).*)", line.strip())
        if found:
            yield found[1]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_can_be_parsed(document: Path) -> None:
    for command in commands(document.read_text()):
        words = shlex.split(command, comments=True)[1:]
        app.parse_args(words, exit_on_error=False, print_error=False)


def test_there_are_some() -> None:
    assert sum(len(list(commands(document.read_text()))) for document in DOCUMENTS) > 40
