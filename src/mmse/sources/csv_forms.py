"""How a CSV file is written: separator, quotes, escapes, header; declared, or found from its beginning.

The header tells the separator. Quotes and escapes are those with which the fewest lines of the beginning are no rows;
where several do, what RFC 4180 says: quotes are `"`, doubled inside a value.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmse.core.config import require
from mmse.core.errors import TableError

if TYPE_CHECKING:
    import _csv

SEPARATORS = (",", ";", "\t", "|", "^", "~", "\x01", "\x1f")
_SEPARATOR_LINE = re.compile(r"\s*\"?sep=.\"?\s*$", re.IGNORECASE)
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$")
"""Lines end as in files: the other ends that Python knows, such as U+2028, stand in values."""
_LINES_BEFORE = 20
"""So many lines are looked at for the header that comes after lines of another kind."""


@dataclass(frozen=True)
class CsvConfig:
    r"""`[items.csv]`, `[events.csv]` of shop.toml; `None` is what the file itself tells.

    `separator` stands between values, `quote` around them ("" for never), `escape` before a quote inside of them: the
    quote itself, or "\\". `nulls` are texts that mean no value, `names` the columns of files without a header line,
    `skip` the number of lines before the header.
    """

    separator: str | None = None
    quote: str | None = None
    escape: str | None = None
    nulls: tuple[str, ...] = ("\\N",)
    names: tuple[str, ...] = ()
    skip: int = 0

    def __post_init__(self) -> None:
        n_bytes = 1 if self.separator is None else len(self.separator.encode())
        require(1 <= n_bytes <= 4, "separator", self.separator, "one to four bytes")
        require(self.quote in (None, "", '"', "'"), "quote", self.quote, "\", ' or nothing")
        require(self.escape in (None, "", "\\", self.quote or '"'), "escape", self.escape, "\\ or the quote")
        require(len(set(self.names)) == len(self.names), "names", self.names, "each name once")
        require(self.skip >= 0, "skip", self.skip, "a number of lines")


@dataclass(frozen=True)
class CsvForm:
    """How a file is written, and the `names` of its columns; `n_lines_before` counts those before the first row."""

    names: tuple[str, ...] = ()
    separator: str = ","
    quote: str = '"'
    escape: str = '"'
    n_lines_before: int = 0
    has_header: bool = True


def find_form(file: str, text: str, config: CsvConfig, *, is_end: bool) -> CsvForm:
    """The form of `file`, which begins with `text`; `is_end` says that this is all of it.

    Raises `TableError` where its first line does not name the columns.
    """
    lines = _LINE.findall(text)
    n_before = config.skip + bool(lines[config.skip :] and _SEPARATOR_LINE.match(lines[config.skip]))
    body = "".join(lines[n_before:])
    separator = config.separator or _separator(file, next(iter(lines[n_before:]), ""))
    quote, escape = _quoting(body, separator, config, is_end=is_end)
    if config.names:
        return CsvForm(config.names, separator, quote, escape, n_before, has_header=False)
    names = _read_names(file, *_as_plain(body, CsvForm((), separator, quote, escape)))
    if len(names) <= 1 and config.skip == 0 and n_before == 0:
        _check_lines_above(file, names, lines)
    return CsvForm(_checked_names(file, names), separator, quote, escape, n_before)


def plain_text(text: str, form: CsvForm) -> str:
    r"""`text`, in which a backslash escapes, as plain CSV with doubled quotes; a value `\N` becomes empty.

    `text` must not end between a backslash and what it escapes.
    """
    mark = re.escape(form.separator)
    text = re.sub(rf"(^|{mark})\\N(?=$|\r|{mark})", r"\1", text, flags=re.MULTILINE)
    without_quotes = dict.fromkeys("\n\r" + form.separator, " ") | {"\\": "\\", form.quote: form.quote}
    if not form.quote:
        without_quotes |= dict.fromkeys("tnr0", " ")
        return re.sub(r"\\(\r\n|.)", lambda match: without_quotes.get(match[1][0], match[1]), text, flags=re.DOTALL)
    within_quotes = {form.quote: form.quote * 2} | {
        character: character for character in ("\\", "\n", "\r", form.separator)
    }
    pattern = rf"(?<![^{mark}\r\n]){form.quote}(?:[^{form.quote}\\]|\\.)*{form.quote}|\\(?:\r\n|.)"

    def plain(match: re.Match[str]) -> str:
        if match[0].startswith("\\"):
            return without_quotes.get(match[0][1], match[0])
        return re.sub(r"\\(.)", lambda inner: within_quotes.get(inner[1], inner[0]), match[0], flags=re.DOTALL)

    return re.sub(pattern, plain, text, flags=re.DOTALL)


def row_lines(lines: Iterator[str], form: CsvForm) -> Iterator[str]:
    """The first of `lines` and those after it that belong to the same row, since a quote is open at their beginning."""
    is_open = False
    for number, line in enumerate(lines):
        if number and not is_open:
            return
        yield line
        is_open = _ends_open(line, form, is_open=is_open)


def _ends_open(line: str, form: CsvForm, *, is_open: bool) -> bool:
    """Whether a quote is open at the end of `line`; after what is no CSV the rest of the line does not count."""
    at = 0
    if not is_open and line.startswith(form.quote):
        at, is_open = 1, True
    while True:
        end = line.find(form.quote if is_open else form.separator, at)
        if end < 0:
            return is_open
        at = end + 1
        if is_open and line[at : at + 1] == form.quote:
            at += 1
            continue
        if is_open and not line.startswith(form.separator, at):
            return False
        at = at + len(form.separator) if is_open else end + len(form.separator)
        is_open = line.startswith(form.quote, at)
        at += is_open


def _separator(file: str, header: str) -> str:
    """The separator of the header line: the most frequent one in it; of a .tsv the tab, if there is one."""
    header = _unquoted(header)
    if file.lower().removesuffix(".gz").endswith((".tsv", ".tab")) and "\t" in header:
        return "\t"
    return max(SEPARATORS, key=header.count)


def _quoting(body: str, separator: str, config: CsvConfig, *, is_end: bool) -> tuple[str, str]:
    """The quote and the escape with which the fewest lines are no rows."""
    quotes = _possible_quotes(body, separator) if config.quote is None else (config.quote,)
    forms = [(quote, escape) for escape_mark in ("", "\\") for quote in quotes for escape in (escape_mark or quote,)]
    if config.escape is not None:
        forms = [form for form in forms if (form[1] == "\\") == (config.escape == "\\")]
    if len(forms) == 1 or len(separator) > 1:
        return forms[0]
    n_bad = {}
    for form in forms:
        n_bad[form] = _n_bad(body, CsvForm(config.names, separator, *form), is_end=is_end)
        if n_bad[form] == 0:
            return form
    return min(n_bad, key=lambda form: n_bad[form])


def _possible_quotes(body: str, separator: str) -> tuple[str, ...]:
    """The quotes that the values of the beginning may have: none only where no whole values stand in quotes."""
    if _wraps(body, separator, '"'):
        return ('"',)
    return ("'",) if _wraps(body, separator, "'") else ('"', "")


def _wraps(body: str, separator: str, quote: str) -> bool:
    """Whether whole values of the beginning stand in quotes, in a third of the lines at least."""
    mark = re.escape(separator)
    lines = [line.rstrip() for line in _LINE.findall(body)[:1000]]
    pattern = re.compile(f"(?:^|{mark}){quote}[^{quote}]*{quote}(?:{mark}|$)")
    return sum(pattern.search(line) is not None for line in lines) > len(lines) / 3


def _n_bad(body: str, form: CsvForm, *, is_end: bool) -> int:
    """How many lines are no rows with as many values as the first one."""
    reader = _reader(*_as_plain(body, form))
    n_bad, n_values, line = 0, len(form.names), 0
    while True:
        try:
            row = next(reader)
            if len(row) != (n_values := n_values or len(row)) and row:
                n_bad += reader.line_num - line
        except StopIteration:
            return n_bad
        except csv.Error as error:
            n_lines = reader.line_num - line
            n_bad += n_lines
            if "unexpected end" in str(error):
                return n_bad if is_end else n_bad - n_lines
        line = reader.line_num


def _as_plain(body: str, form: CsvForm) -> tuple[str, CsvForm]:
    """`body` and its form, without backslashes."""
    if form.escape != "\\":
        return body, form
    return plain_text(body, form), CsvForm(form.names, form.separator, form.quote, form.quote)


def _read_names(file: str, body: str, form: CsvForm) -> list[str]:
    """The values of the header; of a bad one DuckDB would take the rows away as well."""
    if len(form.separator) > 1:
        return next(iter(_LINE.findall(body)), "").rstrip("\r\n").split(form.separator)
    try:
        names = next(_reader(body, form), [])
        if form.quote and any(_is_open(name, form.quote) for name in names):
            raise csv.Error("a quote behind a blank does not end where its name does")
        return names
    except csv.Error as error:
        raise TableError(
            f"The first line of {file} should name its columns, and is not valid CSV ({error}): {body[:100]!r}.",
            "Mend that line; or say how the file is written: csv = {separator = …, quote = …, escape = …}.",
        ) from error


def _is_open(name: str, quote: str) -> bool:
    """Whether a name begins with a quote behind blanks that does not end it: DuckDB reads on and takes rows away."""
    text, mark = name.strip(), re.escape(quote)
    is_whole = re.fullmatch(f"{mark}(?:[^{mark}]|{mark}{mark})*{mark}", text)
    return name != text and text.startswith(quote) and not is_whole


def _reader(body: str, form: CsvForm) -> _csv.Reader:
    return csv.reader(
        io.StringIO(body, newline=""),
        delimiter=form.separator,
        quotechar=form.quote or None,
        quoting=csv.QUOTE_MINIMAL if form.quote else csv.QUOTE_NONE,
        strict=True,
    )


def _check_lines_above(file: str, names: list[str], lines: list[str]) -> None:
    """Raises `TableError` where the first line has one column and a later one has more."""
    for number, line in enumerate(lines[1:_LINES_BEFORE], 1):
        if any(_unquoted(line).count(separator) for separator in SEPARATORS):
            raise TableError(
                f"The first line of {file} has one column, {(names or [''])[0]!r}, and line {number + 1} has more: "
                f"{line.strip()[:100]!r}.",
                f"Remove what stands above the line that names the columns, or say csv = {{skip = {number}}}.",
            )


def _checked_names(file: str, names: list[str]) -> tuple[str, ...]:
    """The names of columns; those without one, as pandas writes its index, are numbered."""
    names = [name.lstrip("\ufeff") for name in names]
    names = [name if name.strip() else f"unnamed {number}" for number, name in enumerate(names, 1)]
    if not names or len(set(names)) < len(names) or all(name.startswith("unnamed ") for name in names):
        raise TableError(
            f"The first line of {file} should name its columns, each once; found: {', '.join(names) or 'nothing'}.",
            "Write a header line with a name for each column, or name them: csv = {names = […]}.",
        )
    return tuple(names)


def _unquoted(line: str) -> str:
    return re.sub(r'"[^"]*"', "", line)
