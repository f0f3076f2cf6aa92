"""What is published at /openapi.json holds for whatever schemathesis makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import negative_data_rejection, not_a_server_error, unsupported_method
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from .conftest import PATIENCE

if TYPE_CHECKING:
    from .conftest import Served

# Not that well-formed data is accepted: ranges are the library's to check, and 400 is what it says then.
CHECKS = [
    *(not_a_server_error, status_code_conformance, content_type_conformance, negative_data_rejection),
    *(response_headers_conformance, response_schema_conformance, unsupported_method),
]
QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def explore(server: Served, examples: int) -> set[tuple[str, int]]:
    """Call every operation with as many requests of each kind; returns the paths and the statuses that they gave."""
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    seen: set[tuple[str, int]] = set()
    for result in schema.get_all_operations():
        operation = result.ok()
        modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
        for mode in modes if operation.method == "post" else modes[:1]:  # what takes nothing cannot be given it wrong

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(max_examples=examples, deadline=None, suppress_health_check=QUIET, database=None)
            def called(case: schemathesis.Case) -> None:
                if mode is GenerationMode.POSITIVE and isinstance(case.body, dict):  # noqa: B023 - called at once
                    case.body["model"] = server.model
                response = case.call(timeout=PATIENCE)
                case.validate_response(response, checks=CHECKS)
                seen.add((operation.path, response.status_code))  # noqa: B023 - as above

            called()
    return seen


def test_the_published_interface_holds(steady: Served) -> None:
    """No server error, no status, type or body that is not published, no malformed request that passes."""
    seen = explore(steady, examples=3)
    assert {path for path, _ in seen} >= {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"}
    assert {status for _, status in seen} >= {200, 400}
    assert steady.chat().status_code == 200


@pytest.mark.slow
def test_the_published_interface_holds_for_long(steady: Served) -> None:
    """The same, with many more requests."""
    explore(steady, examples=300)
