"""Errors as a client sees them."""

from __future__ import annotations

from mmse.core.errors import StoreError
from mmse.serving.failures import STATUS, error_headers, to_problem


def test_a_vector_store_that_does_not_answer_is_no_fault_of_the_server() -> None:
    problem = to_problem(StoreError("The vector store at 10.0.0.7 does not answer.", "Start it."), "r-1")
    assert (problem.code, STATUS[problem.code]) == ("store_fails", 503)
    assert "10.0.0.7" not in problem.message + problem.cure, "addresses are for the log"
    assert "Retry-After" in error_headers(problem)
