"""The templates of reports: HTML files that hold all they need, with every value escaped."""

from __future__ import annotations

from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def page_environment(package: str, folder: str, *sources: tuple[str, str]) -> Environment:
    """The environment of the templates in `folder` of `package`; a name that no one gives a template is an error.

    Each of `sources`, a package and a file in it, is text that templates may put into a page as it is, under the name
    of the file with an underscore for the dot.
    """
    environment = Environment(
        loader=PackageLoader(package, folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for owner, path in sources:
        file = resources.files(owner).joinpath(path)
        environment.globals[file.name.replace(".", "_")] = Markup(file.read_text("utf-8"))  # noqa: S704 - our own file
    return environment
