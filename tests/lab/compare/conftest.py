"""The command line as a test calls it, here as well."""

from __future__ import annotations

from cli.conftest import call

__all__ = ["call"]
