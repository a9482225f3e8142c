"""Types and array shapes of every function of the project, checked at each call in a test, at little cost.

jaxtyping's import hook (`--jaxtyping-packages`) decorates each function with `jaxtyping.jaxtyped`, which binds the
arguments to the signature and checks them twice, arrays or none: about half of what a run took in a test. `check` has
beartype check the same types once, and opens a scope, in which axes of one name are of one size, only where a hint
names an array.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from types import FunctionType
from typing import Any, get_args, get_type_hints

import jaxtyping
from jaxtyping import AbstractArray

_SCOPE, _jaxtyped = jaxtyping.jaxtyped("context"), jaxtyping.jaxtyped
_CHECK_MARK = "__types_are_checked__"
Decorator = Callable[[Any], Any]


def install() -> None:
    """Has jaxtyping's import hook use `check`, if called before the first import of a package that is to be checked."""
    jaxtyping.jaxtyped = check  # type: ignore[assignment]


def check(*, typechecker: Decorator) -> Decorator:
    """A decorator, as the hook writes it: of functions, and of classes, where a dataclass has its fields checked."""

    def decorate(target: Any) -> Any:
        if not inspect.isclass(target):
            return _check_function(target, typechecker)
        if is_dataclass(target) and not hasattr(target.__init__, _CHECK_MARK):
            target.__init__ = _check_function(target.__init__, typechecker)  # type: ignore[method-assign]
        return target

    return decorate


def _check_function(function: Any, typechecker: Decorator) -> Any:
    if inspect.isgeneratorfunction(function):  # beartype checks its arguments when its first value is asked for
        return _jaxtyped(function, typechecker=typechecker)
    hints = {name: _resolve(hint, function.__globals__) for name, hint in function.__annotations__.items()}
    typed = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    typed.__kwdefaults__ = function.__kwdefaults__
    typed.__module__, typed.__qualname__, typed.__annotations__ = function.__module__, function.__qualname__, hints
    checker = typechecker(typed)
    if any(map(_names_array, hints.values())):
        checker = _open_scope(checker)
    if checker is typed:  # nothing is annotated
        return function
    functools.update_wrapper(checker, function)
    setattr(checker, _CHECK_MARK, True)
    return checker


def _open_scope(checker: Callable[..., Any]) -> Callable[..., Any]:
    """`checker` with sizes of axes of its own."""

    def call(*arguments: Any, **options: Any) -> Any:
        __tracebackhide__ = True
        with _SCOPE:
            return checker(*arguments, **options)

    return call


def _resolve(hint: Any, names: Mapping[str, Any]) -> Any:
    """The type that a hint names; `Any` where it names what only the static checker imports, as jaxtyping has it."""

    def holder() -> None: ...

    holder.__annotations__ = {"hint": hint}
    try:
        return get_type_hints(holder, dict(names), include_extras=True)["hint"]
    except Exception:
        return Any


def _names_array(hint: Any) -> bool:
    if inspect.isclass(hint) and issubclass(hint, AbstractArray):
        return True
    parts = hint if isinstance(hint, list) else get_args(hint)  # a list has the arguments of a Callable
    return any(map(_names_array, parts))
