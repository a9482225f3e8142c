"""Schemathesis over the whole of the API's description: no 5xx, and every answer as it is documented."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import CHECKS
from schemathesis.config import SchemathesisConfig
from schemathesis.generation import GenerationMode

from mmse.serving.versions.publish import publish
from serving.conftest import WRITER, RunningServer

EXAMPLES = 25
"""Requests of each kind (that fit the description, that do not) to each route and method."""

DOES_NOT_FIT = 422
"""Of the form described, but asking for what this catalogue does not have, such as a column."""


@pytest.fixture(scope="module")
def schema(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The description of its API by a server whose catalogue the test may spoil."""
    folder = tmp_path_factory.mktemp("fuzzed")
    publish(folder / "site", small_run)
    with RunningServer(folder / "site", "--requests-per-s", "0", "--timeout-ms", "30000") as url:
        fine = {"checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", 404, DOES_NOT_FIT]}}}
        config = SchemathesisConfig.from_dict(fine)
        yield schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_every_answer_is_as_documented(schema: Any, mode: GenerationMode) -> None:
    operations = [operation.ok() for operation in schema.get_all_operations()]
    assert len(operations) >= 19
    if mode is GenerationMode.NEGATIVE:
        operations = [
            operation for operation in operations if list(operation.iter_parameters()) or list(operation.body)
        ]
    for operation in operations:

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            if mode is GenerationMode.POSITIVE:
                for search in _searches(case.body):
                    search.pop("timeout_ms", None)  # within a millisecond nothing is answered
            case.call_and_validate(
                headers=WRITER, timeout=30, excluded_checks=[CHECKS.get_one("ignored_auth")]
            )  # test_api.py has it

        ask()


def _searches(body: Any) -> list[dict[str, Any]]:
    if not isinstance(body, dict):
        return []
    searches = body.get("searches")
    return (
        [body, *(search for search in searches if isinstance(search, dict))] if isinstance(searches, list) else [body]
    )
