"""What a study found, as one frozen value: the only thing that reports are made from.

This module is the single definition of `summary.json`. Errors are per cent throughout, iterations
are counted, times are ISO 8601 and parameters are trainable ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from reslab.errors import InputError

Kind: TypeAlias = Literal["plain", "residual"]
Judgement: TypeAlias = Literal["held", "not held", "not decided"]
Fact: TypeAlias = bool | int | float | str | tuple[bool | int | float | str | None, ...] | None
"""What `data` and `recipe` hold under a key: a scalar, or several of them."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Spread(_Frozen):
    """A figure over seeds: its mean, its sample standard deviation (None for one seed), every value."""

    mean: float
    std: float | None
    values: tuple[float, ...] = Field(min_length=1)

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Mean and sample standard deviation, sqrt(sum (x - mean)^2 / (n - 1)), of at least one value."""
        assert values, "a spread needs at least one value"
        mean = math.fsum(values) / len(values)
        std = None
        if len(values) > 1:
            std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
        return cls(mean=mean, std=std, values=tuple(values))


class Curve(_Frozen):
    """Error in per cent against iterations done; None where one of the two was not measured."""

    iteration: tuple[int, ...]
    train_error: tuple[float | None, ...]
    test_error: tuple[float | None, ...]

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if not len(self.iteration) == len(self.train_error) == len(self.test_error):
            raise ValueError("iteration, train_error and test_error of a curve must have one length")
        if any(b <= a for a, b in zip(self.iteration, self.iteration[1:], strict=False)):
            raise ValueError("iterations of a curve must increase")
        return self


GROUPS: dict[Kind, str] = {"plain": "plain networks", "residual": "residual networks"}


class _InTable(_Frozen):
    """What run and row say of where they stand: in which row, which part of the figure, and where on its axis."""

    label: str
    """of the row; where runs of one network differ in their training, it says in what"""
    group: str
    """the part of the figure and of the table"""
    net: str
    kind: Kind
    depth: int
    x: float | None = None
    """place on the axis of a figure over depth, width, number of members, ..."""

    @model_validator(mode="before")
    @classmethod
    def _before_labels(cls, values: Any) -> Any:
        """Files of the first version named rows by their networks and grouped them by their kind."""
        if isinstance(values, dict) and "label" not in values and "net" in values:
            return {"label": values["net"], "group": GROUPS.get(values.get("kind", ""), ""), **values}
        return values


class Run(_InTable):
    """One training: a network and a seed, its last and best errors in per cent, its curve.

    What is no training by itself, such as an ensemble of several, has neither training error nor curve.
    """

    name: str
    seed: int
    iterations: int
    params: int
    final_train_error: float | None
    final_test_error: float
    best_test_error: float | None
    iterations_to_threshold: int | None
    curve: Curve
    measures: dict[str, float] = {}
    """what the study measured beside the errors, by name"""


class Row(_InTable):
    """One network, trained in one way, over its seeds: a row of the table.

    `n` counts the runs, `reached` those that came under the threshold; `iterations_to_threshold` is the
    spread over these alone. `published` is the paper's test error in per cent, given only where data,
    network and length of training are the paper's.
    """

    n: int = Field(ge=1)
    params: int
    train_error: Spread | None
    test_error: Spread
    best_test_error: Spread | None
    iterations_to_threshold: Spread | None
    reached: int = Field(ge=0)
    published: float | None

    @model_validator(mode="after")
    def _reached_at_most_all(self) -> Self:
        if self.reached > self.n:
            raise ValueError(f"{self.reached} of {self.n} runs cannot have reached the threshold")
        return self

    @classmethod
    def from_runs(cls, runs: Sequence[Run], published: float | None = None) -> Self:
        """The row of one network, trained in one way, from all of its runs."""
        assert runs, "a row needs at least one run"
        assert len({(run.label, run.net) for run in runs}) == 1, "a row is about one network"
        first = runs[0]
        trained = [run.final_train_error for run in runs if run.final_train_error is not None]
        best = [run.best_test_error for run in runs if run.best_test_error is not None]
        reached = [run.iterations_to_threshold for run in runs if run.iterations_to_threshold is not None]
        return cls(
            label=first.label,
            group=first.group,
            net=first.net,
            kind=first.kind,
            depth=first.depth,
            x=first.x,
            n=len(runs),
            params=first.params,
            train_error=Spread.of(trained) if len(trained) == len(runs) else None,
            test_error=Spread.of([run.final_test_error for run in runs]),
            best_test_error=Spread.of(best) if len(best) == len(runs) else None,
            iterations_to_threshold=Spread.of(reached) if reached else None,
            reached=len(reached),
            published=published,
        )


class VerdictPart(_Frozen):
    """One question of the rule, what came of it, and the numbers it rests on, in words."""

    question: str
    verdict: Judgement
    numbers: str
    claim: str = ""
    """the claim of a paper that it is about, by its key in the ledger; none for what is beside"""
    place: str = ""
    """where in which paper"""
    decides: bool = True
    """whether the verdict of the whole study rests on it"""
    speaks_for: float | None = None
    """p-value, over all looks, of what the claim says not being so; none where the runs are too short or too shallow"""
    against: float | None = None
    """p-value of it being so, or as clearly as half of what the paper has"""


class Verdict(_Frozen):
    """The rule, and what it says of the runs."""

    rule: str
    history: tuple[str, ...] = ()
    """when the rule was written down, and each change since; of summaries of earlier versions nothing"""
    parts: tuple[VerdictPart, ...]
    overall: Judgement
    sentence: str


class Summary(_Frozen):
    """A finished study: what was asked, done, measured and judged."""

    study: str
    title: str
    question: str
    paper: str
    command: str
    reslab_version: str
    started: str
    finished: str
    wall_seconds: float = Field(ge=0)
    machine: dict[str, str]
    data: dict[str, Fact]
    recipe: dict[str, Fact]
    how_measured: tuple[str, ...]
    differs_from_paper: tuple[str, ...]
    caveats: tuple[str, ...]
    runs: tuple[Run, ...] = Field(min_length=1)
    rows: tuple[Row, ...] = Field(min_length=1)
    threshold: float | None
    x_label: str | None = None
    """of the axis that runs with an ``x`` are drawn over; None: the figure is of curves alone"""
    verdict: Verdict | None
    """None where runs are compared and no claim is judged"""

    @model_validator(mode="after")
    def _rows_are_the_runs_nets(self) -> Self:
        if {row.label for row in self.rows} != {run.label for run in self.runs}:
            raise ValueError("rows and runs must be about the same networks")
        return self

    @classmethod
    def of(cls, value: Summary | Mapping[str, Any]) -> Summary:
        """A summary from one, or from the plain dict that `summary.json` holds.

        Raises:
            InputError: if the dict is not a summary; the first thing that is wrong is named.
        """
        if isinstance(value, Summary):
            return value
        try:
            return Summary.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "summary"
            raise InputError(
                f"not a study's summary: {where}: {first['msg']}; "
                "give the summary.json that this version of reslab wrote"
            ) from None

    def to_json(self) -> str:
        """The text of `summary.json`: two spaces of indent, keys in the order of this module."""
        return self.model_dump_json(indent=2) + "\n"


def rows_of(runs: Sequence[Run], published: Mapping[str, float] | None = None) -> tuple[Row, ...]:
    """The rows of a table: group by group, in the order in which they first appear; `published` is by label."""
    published = published or {}
    groups = list(dict.fromkeys(run.group for run in runs))
    labels = list(dict.fromkeys(run.label for run in runs))

    def order(run: Run) -> tuple[int, int]:
        return (groups.index(run.group), labels.index(run.label))

    grouped = (list(group) for _, group in groupby(sorted(runs, key=order), key=order))
    return tuple(Row.from_runs(group, published.get(group[0].label)) for group in grouped)
