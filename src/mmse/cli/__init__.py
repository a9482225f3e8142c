"""The command line: the only place that prints, reads the environment, and turns failures into exit codes."""

from mmse.cli.main import main

__all__ = ["main"]
