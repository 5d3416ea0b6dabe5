"""The API held to its own description by schemathesis: whatever is sent, no 500, and what is described is answered."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from fake_gallery import FakeRetriever

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 40
"""Of each route; some routes are slow for what they do with a file."""


def examine(client: Any) -> set[str]:
    """Send examples to every route; return their names."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app, headers={"Host": "localhost"})
    tried: set[str] = set()
    for found in schema.get_all_operations():
        operation = found.ok()

        @hypothesis.settings(
            max_examples=EXAMPLES,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy())
        def send(case: Any) -> None:
            case.call_and_validate(session=client, base_url="http://localhost", checks=CHECKS)

        send()
        tried.add(operation.label)
    return tried


@pytest.mark.parametrize("uploads", [True, False])
def test_whatever_is_asked_the_answer_is_as_described(serve_gallery: Callable[..., Any], uploads: bool) -> None:
    tried = examine(serve_gallery(False, **({} if uploads else {"extract": None})))
    assert {"GET /search", "POST /search/video", "GET /similar/{video_id}", "GET /thumbnails/{video_id}"} <= tried


def test_a_defect_would_be_found(
    serve_gallery: Callable[..., Any], gallery: FakeRetriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(gallery, "search", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        examine(serve_gallery(False))
