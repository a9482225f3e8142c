"""The order of the test files: the longest first, so that none is left to one process while the other is idle."""

from __future__ import annotations

LONGEST = (
    "test_trial.py",  # needs no small run, which another process makes meanwhile
    "test_server.py",
    "test_pipeline.py",
    "test_cycle.py",
    "test_spark.py",  # where pyspark is installed
    "test_no_log.py",
    "test_kills.py",
    "test_distributed.py",
    "test_web.py",
    "test_answers.py",
    "test_vectors.py",
    "test_value_sets.py",
    "test_published_data.py",
    "test_readme.py",
    "test_robust_verdicts.py",
    "test_schemathesis.py",
    "test_cli.py",
)
"""The files that take longest; the others come after them as they are found."""


def rank(file_name: str) -> int:
    """The place of a test file in the order; files of one rank stay in the order in which they are found."""
    return LONGEST.index(file_name) if file_name in LONGEST else len(LONGEST)
