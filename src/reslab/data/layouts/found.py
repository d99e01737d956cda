"""The images of a folder by split, not decoded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reslab.data.formats import Unused
from reslab.data.stored import Stored

TESTS = ("test", "val", "validation", "valid")
"""Names of the split that is tested on, the first that is there with its classes."""
FLAT_TESTS = ("val", "validation", "valid", "test")
"""The same where the images lie flat beside a list of labels; and of runs that an earlier version began."""


@dataclass(frozen=True)
class Asked:
    """Options of the caller about a folder."""

    labels: Path | None = None
    """the list of the classes of images that lie flat, if it has another name or place than is usual"""
    namings: Sequence[Sequence[str]] = ()
    """names that a network's outputs are known by, the likeliest first, for lists that number the classes"""
    tests: Sequence[str] = TESTS
    """names of the split that is tested on, the first that is there with its classes"""
    oriented: bool | None = None
    """whether a camera's orientation is applied; None: as is usual for the layout"""
    cache_dir: Path | None = None
    """where the names of many files are kept"""


@dataclass(frozen=True)
class Found:
    """The images of a data set."""

    root: Path
    train: Stored | None
    """None: there are only images to evaluate on"""
    test: Stored | None
    """None: there are none of its own, and some of the training images are to be held out"""
    said: str
    """where the test images come from, in words; may be empty"""
    files: Callable[[], Mapping[str, Path]] | None = None
    """whose content the decoded images are of, by the names that count; None: too many to look into"""
    unused: Unused = field(default_factory=Unused)
    remarks: tuple[str, ...] = ()
    """other notes about where the images come from"""
    grey: bool = False
    """whether images without any colour stay of one channel"""
    usual_size: int | None = None
    """pixels of a side that images of many sizes become if nothing is said; None: something has to be"""
    validation: Stored | None = None
    """those of a validation split beside the test split; what has no use for them says so, see `said`"""

    @property
    def splits(self) -> tuple[Stored, ...]:
        """All that there are, in this order: to train on, to choose by, to test on."""
        return tuple(split for split in (self.train, self.validation, self.test) if split is not None)

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, in the order of the labels."""
        some = self.train if self.train is not None else self.test
        assert some is not None
        return some.classes
