"""Schemathesis over the whole of the API's description: no 5xx, and every answer as it is documented."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import CHECKS
from schemathesis.config import SchemathesisConfig
from schemathesis.core import NotSet
from schemathesis.generation import GenerationMode

from mmse.serving.config import ServeConfig
from mmse.serving.tokens import SCOPES
from mmse.serving.versions.publish import publish
from serving.conftest import WRITER, RunningServer, worker

EXAMPLES = 12
"""Requests of each kind (that fit the description, that do not) to each route and method."""

CONFORMANCE = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
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


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # the worker's threads do, beside the strategy
def test_tokens_are_asked_for_as_documented(small_run: Path, tmp_path: Path) -> None:
    publish(tmp_path / "site", small_run)
    tokens = {scope: f"a-token-for-{scope}-only" for scope in SCOPES}
    (tmp_path / "tokens").write_text("".join(f"{scope} {token}\n" for scope, token in tokens.items()))
    with worker(ServeConfig(tmp_path / "site", token_file=tmp_path / "tokens", requests_per_s=0)) as client:
        schema: Any = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
        statuses = Counter[int]()
        for operation in (operation.ok() for operation in schema.get_all_operations()):
            accesses = operation.definition.raw.get("security", [])
            scopes = {scope for access in accesses for scope in access.get("token", [])}
            assert {"401", "403"} <= operation.definition.raw["responses"].keys() or not scopes
            for scope, token in [("", ""), ("", "wrong"), *tokens.items()]:
                status = _ask_once(client, operation, token)
                statuses[status] += 1
                is_refused = status in (401, 403)
                assert is_refused == (bool(scopes) and scope not in scopes), (operation.label, scope, status)
                assert not is_refused or status == (403 if scope else 401), (operation.label, scope, status)
        assert statuses[401] >= 30
        assert statuses[403] >= 30
        assert statuses[200] >= 30


def _ask_once(client: Any, operation: Any, token: str) -> int:
    """The status of one request that fits the description, with a token; the answer is as documented."""
    statuses: list[int] = []

    @settings(max_examples=1, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
    def ask(case: Any) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        body = None if isinstance(case.body, NotSet) else case.body
        answer = client.request(case.method, case.formatted_path, params=case.query, json=body, headers=headers)
        case.validate_response(answer, checks=[CHECKS.get_one(name) for name in CONFORMANCE])
        statuses.append(answer.status_code)

    ask()
    return statuses[0]


def _searches(body: Any) -> list[dict[str, Any]]:
    if not isinstance(body, dict):
        return []
    searches = body.get("searches")
    return (
        [body, *(search for search in searches if isinstance(search, dict))] if isinstance(searches, list) else [body]
    )
