"""Schemathesis on the OpenAPI: what it makes up of the description is answered as the description says."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from .listening import listening
from .sample import ExplainedColours, Patches

schemathesis = pytest.importorskip("schemathesis", reason="no schemathesis: pip install schemathesis")


CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    "response_headers_conformance",
)  # fmt: skip


@pytest.fixture(scope="module", params=[ExplainedColours, Patches])
def described(request: pytest.FixtureRequest) -> Iterator[Any]:
    with listening(request.param()) as port:
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")


def test_answers_are_as_they_are_described(described: Any) -> None:
    schemathesis.checks.load_all_checks()
    wanted = [schemathesis.checks.CHECKS.get_one(name) for name in CHECKS]
    statuses = Counter[int]()
    for found in described.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=25, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(case=operation.as_strategy())
        def answered(case: Any) -> None:
            statuses[case.call_and_validate(checks=wanted).status_code] += 1

        answered()
    assert statuses.keys() > {200, 422}
    assert max(statuses) < 500
