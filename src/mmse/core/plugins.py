"""Objects of a user's own module, which a shop.toml names as `module:NAME`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TypeVar

from mmse.core.errors import UsageError

T = TypeVar("T")


def import_object(reference: str, kind: type[T], setting: str, form: str) -> T:
    """The object `module:NAME`, of `kind`; the module is looked for in the working folder as well.

    `setting` is the key of shop.toml that names it and `form` what to write there, for messages. Raises `UsageError`
    where the module cannot be imported, or has no such object.
    """
    module_name, _, attribute = reference.partition(":")
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except UsageError:
        raise
    except Exception as error:  # the user's module may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(f"{setting} '{reference}': cannot import '{module_name}' ({reason}).", form) from error
    finally:
        sys.path.remove(folder)
    if not hasattr(module, attribute):
        names = [name for name, value in vars(module).items() if isinstance(value, kind) and not name.startswith("_")]
        listing = f"it has {', '.join(names)}" if names else f"it has no {kind.__name__}"
        raise UsageError(f"{setting} '{reference}': '{module_name}' has no '{attribute}'; {listing}.", form)
    value = getattr(module, attribute)
    if not isinstance(value, kind):
        raise UsageError(
            f"{setting} '{reference}': '{attribute}' is a {type(value).__name__}, expected {kind.__name__}.", form
        )
    return value
