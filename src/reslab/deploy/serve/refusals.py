"""What is answered in place of a result: a status of HTTP and a sentence, which never repeats what was sent."""


class Refused(Exception):
    """A request that cannot be answered, by the fault of the sender (4xx) or because the server ends (503)."""

    def __init__(self, status: int, reason: str, *, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.retry_after = status, reason, retry_after


MOST_LETTERS = 300


def plain(text: str) -> str:
    """One line of printable ASCII: other libraries' messages may hold anything of a file."""
    letters = "".join(letter if " " <= letter <= "~" else "?" for letter in text)
    return letters if len(letters) <= MOST_LETTERS else letters[: MOST_LETTERS - 3] + "..."
