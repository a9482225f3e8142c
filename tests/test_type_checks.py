"""The checks of types and shapes that every test runs under: what they refuse, and that the project is under them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import jaxtyping
import numpy as np
import pytest
from beartype import beartype
from beartype.roar import BeartypeCallHintParamViolation, BeartypeCallHintReturnViolation
from jaxtyping import Float32, Int64, TypeCheckError

from mmse.catalogue import LiveConfig
from mmse.evaluation.metrics import Relevant, locate, ndcg
from mmse.text.normalise import normalise

if TYPE_CHECKING:
    from decimal import Decimal

Target = TypeVar("Target")


def check(target: Target) -> Target:
    """What the import hook writes above each function and class."""
    decorate: Any = jaxtyping.jaxtyped(typechecker=beartype)
    checker: Target = decorate(target)
    return checker


@check
def scores(queries: Float32[np.ndarray, "n dim"], items: Float32[np.ndarray, "m dim"], k: int = 1) -> Any:
    return queries @ items.T


@check
def first_rows(rows: Int64[np.ndarray, " n"], n: int, *, twice: bool = False) -> Int64[np.ndarray, " n"]:
    return rows[:n]


@check
def count(names: list[str]) -> float:
    return len(names)  # an int, which is no float here


@check
def numbers(rows: Int64[np.ndarray, " n"]) -> Iterator[int]:
    yield from (int(row) for row in rows)


@check
def price(amount: Decimal) -> Decimal:
    return amount


@check
@dataclass(frozen=True)
class Vectors:
    ids: list[str]
    rows: Float32[np.ndarray, "n dim"] | None = None

    @property
    @check
    def width(self) -> int:
        return "many"  # type: ignore[return-value]


def zeros(*shape: int) -> Float32[np.ndarray, "..."]:
    return np.zeros(shape, np.float32)


def test_axes_of_one_name_are_of_one_size_within_a_call() -> None:
    assert scores(zeros(2, 3), zeros(4, 3)).shape == (2, 4)
    assert scores(zeros(2, 5), items=zeros(4, 5), k=2).shape == (2, 4), "another call may have another size"
    with pytest.raises(BeartypeCallHintParamViolation, match="items"):
        scores(zeros(2, 3), zeros(4, 2))
    assert scores(zeros(2, 3), zeros(4, 3)).shape == (2, 4), "a call that was refused leaves no size behind"


def test_a_result_agrees_with_the_arguments() -> None:
    rows = np.arange(3)
    assert len(first_rows(rows, 3, twice=True)) == 3
    with pytest.raises(BeartypeCallHintReturnViolation):
        first_rows(rows, 2)


@pytest.mark.parametrize(
    "call",
    [
        lambda: scores(zeros(2, 3).astype(np.float64), zeros(4, 3)),
        lambda: scores(zeros(2), zeros(4, 3)),
        lambda: scores(zeros(2, 3), zeros(4, 3), 1.0),  # type: ignore[arg-type]
        lambda: first_rows(np.arange(3), 3, twice=1),  # type: ignore[arg-type]
        lambda: count([1]),  # type: ignore[list-item]
        lambda: count(["a"]),
        lambda: numbers(zeros(2)),
        lambda: Vectors("a"),  # type: ignore[arg-type]
        lambda: Vectors(["a"], zeros(2)),
        lambda: Vectors(["a"]).width,
    ],
)
def test_what_is_of_another_type_is_refused(call: Any) -> None:
    with pytest.raises((BeartypeCallHintParamViolation, BeartypeCallHintReturnViolation, TypeCheckError)):
        call()


def test_what_is_right_passes() -> None:
    assert list(numbers(np.arange(2))) == [0, 1]
    assert Vectors(["a"], zeros(2, 3)).ids == ["a"]
    assert price(3) == 3, "a type that only the static checker imports is any"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "call",
    [
        lambda: normalise(3),  # type: ignore[arg-type]
        lambda: LiveConfig(fold_rows="many"),  # type: ignore[arg-type]
        lambda: LiveConfig(fold_share=1),
        lambda: ndcg(zeros(2, 3), 1),  # type: ignore[arg-type]
        lambda: locate(zeros(2, 3), Relevant(np.zeros(3, np.int64), np.zeros(0, np.int64), np.zeros(0))),
    ],
)
def test_the_project_is_checked(call: Any) -> None:
    with pytest.raises(BeartypeCallHintParamViolation):
        call()
