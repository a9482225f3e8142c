"""What shop.toml says of the two tables: `[items]`, `[events]` and `[[events.sources]]`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mmse.core.config import require
from mmse.schema.columns import EVENT_COLUMNS, ITEM_COLUMNS, MADE_BY_MINING, ColumnType, TableColumns
from mmse.schema.filters import Kind
from mmse.sources import encodings
from mmse.sources.csv_forms import CsvConfig
from mmse.sources.mapping import ComparisonValue, MappedValue, check_comparison, check_value
from mmse.sources.readers import READERS
from mmse.sources.times import is_pattern

_DEFAULT_EVENTS = "events/*.parquet"


@dataclass(frozen=True)
class ItemsConfig:
    """`[items]` of shop.toml.

    `source` is a file, folder, glob or URL, relative to shop.toml; `format` names a reader, `None` for what the files'
    names say; `columns` maps our name to the shop's (`mmse.sources.mapping`);
    `text`, `categorical` and `numeric` name further columns to keep, `vectors` columns of lists of numbers, such as of
    pictures, `display` columns that hits carry and nothing else reads, such as a link, `ignore` columns to leave out.
    `decimal_mark` is what stands before the decimals of a number, `None` to find it from the whole column.
    `path_separator` stands between the levels of a category, `None` to find it from the whole column; `list_separators`
    has what stands between several values in one text, by column ("" for one value); `category_lists` says whether a
    list of categories has the `levels` of one path or several `paths`, `None` to find it. `encoding` is that of CSV and
    JSON files, `None` for UTF-8; `csv` says how CSV is written. Mining stops if a larger share of the rows than
    `max_rejected_share` is bad.
    """

    source: str = "items.parquet"
    columns: dict[str, MappedValue] = field(default_factory=dict)
    text: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    vectors: tuple[str, ...] = ()
    display: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    decimal_mark: str | None = None
    path_separator: str | None = None
    list_separators: dict[str, str] = field(default_factory=dict)
    category_lists: str | None = None
    encoding: str | None = None
    csv: CsvConfig = field(default_factory=CsvConfig)
    max_rejected_share: float = 0.05
    format: str | None = None

    def __post_init__(self) -> None:
        _check(self.source, self.max_rejected_share)
        _check_reading(self.format, self.encoding)
        require(self.decimal_mark in (None, ".", ","), "decimal_mark", self.decimal_mark, '"." or ","')
        for name in self.ignore:
            optional = [name for name in ITEM_COLUMNS.names if name not in ITEM_COLUMNS.required_names]
            require(name in optional, "ignore", name, f"one of {', '.join(optional)}")
        for name in self.extra:
            require(name not in MADE_BY_MINING, "columns", name, f"another name: mine makes {name} itself")
            require(
                not re.search(r'["\x00]', name) and bool(name), "columns", name, "a column name without quotation marks"
            )
        overlap = set(self.numeric) & {*self.text, *self.categorical}
        require(not overlap, "numeric", sorted(overlap), "columns that are not also text or categorical")
        overlap = set(self.display) & {*self.text, *self.categorical, *self.numeric, *self.vectors, *ITEM_COLUMNS.names}
        require(not overlap, "display", sorted(overlap), "columns that are nothing else: the others are shown, too")
        self._check_vectors()
        self._check_lists()
        names = (*ITEM_COLUMNS.names, *self.extra)
        cure = "name further columns in text, categorical, numeric, vectors or display"
        _check_mapping(self.columns, names, ITEM_COLUMNS, cure)

    def _check_vectors(self) -> None:
        expectation = "columns that are not also text, categorical, numeric or of the contract"
        overlap = set(self.vectors) & {*self.text, *self.categorical, *self.numeric, *ITEM_COLUMNS.names}
        require(not overlap, "vectors", sorted(overlap), expectation)
        for name in self.vectors:
            require("." not in name, "vectors", name, "a name without a dot; [items.columns] maps it to the shop's")

    def _check_lists(self) -> None:
        expectation = f"columns of texts: {', '.join(self.several_names)}"
        for name in self.list_separators:
            require(name in self.several_names, "list_separators", name, expectation)
        require(self.path_separator != "", "path_separator", self.path_separator, "a text, such as /")
        forms = (None, "levels", "paths")
        require(self.category_lists in forms, "category_lists", self.category_lists, '"levels" or "paths"')

    @property
    def several_names(self) -> tuple[str, ...]:
        """The columns of texts of which an item may have several."""
        usual = (column.name for column in ITEM_COLUMNS if column.filter in (Kind.PATH, Kind.NAME))
        return tuple(dict.fromkeys((*usual, *self.text, *self.categorical)))

    @property
    def extra(self) -> tuple[str, ...]:
        """The declared columns that are not in the contract, each once, in the order of their declaration."""
        names = dict.fromkeys((*self.text, *self.categorical, *self.numeric, *self.vectors, *self.display))
        return tuple(name for name in names if name not in ITEM_COLUMNS)


@dataclass(frozen=True)
class EventSource:
    """`[[events.sources]]` of shop.toml: one of several sources of the events, such as impressions, clicks or orders.

    The fields are those of `EventsConfig`; what is `None`, or a `csv` that says nothing, is as `[events]` says.
    `columns` come before those of `[events]`, which hold for the sources that have them.
    """

    source: str
    columns: dict[str, MappedValue] = field(default_factory=dict)
    format: str | None = None
    only: ComparisonValue | None = None
    encoding: str | None = None
    csv: CsvConfig = field(default_factory=CsvConfig)
    empty_means_no: bool | None = None
    max_rejected_share: float | None = None
    time_format: str | None = None
    first_position: int | None = None

    def __post_init__(self) -> None:
        _check(self.source, self.max_rejected_share or 0.0)
        _check_reading(self.format, self.encoding)
        _check_events_mapping(self.columns, self.only)
        _check_forms(self.time_format, self.first_position)


@dataclass(frozen=True)
class EventsConfig:
    """`[events]` of shop.toml: one row per item shown; the fields are those of `ItemsConfig`.

    `time_format` is the form of the times in text, a pattern of strptime, where it is none of the known ones;
    `first_position` is that of a page's first item in the log. With `empty_means_no`, a row that does not say whether
    its item was clicked or ordered says no. Rows that do not meet `only`, a comparison, are not read. `sources` are the
    sources of the rows where there are several; a click, a cart or an order without a `request_id` belongs to the last
    request that showed the item to the same shopper within `attribution_hours`.
    """

    source: str = _DEFAULT_EVENTS
    columns: dict[str, MappedValue] = field(default_factory=dict)
    empty_means_no: bool = False
    encoding: str | None = None
    csv: CsvConfig = field(default_factory=CsvConfig)
    max_rejected_share: float = 0.05
    format: str | None = None
    only: ComparisonValue | None = None
    time_format: str | None = None
    first_position: int = 1
    sources: tuple[EventSource, ...] = ()
    attribution_hours: float = 24.0

    def __post_init__(self) -> None:
        _check(self.source, self.max_rejected_share)
        _check_reading(self.format, self.encoding)
        _check_events_mapping(self.columns, self.only)
        _check_forms(self.time_format, self.first_position)
        require(self.attribution_hours > 0, "attribution_hours", self.attribution_hours, "a number above 0")
        alone = not self.sources or self.source == _DEFAULT_EVENTS
        require(alone, "source", self.source, "left out where [[events.sources]] name the files")

    def of_source(self, source: EventSource) -> EventsConfig:
        """The config of one of `sources` by itself."""
        given = {name: value for name, value in vars(source).items() if value not in (None, CsvConfig())}
        return replace(self, sources=(), **given)


def _check(source: str, max_rejected_share: float) -> None:
    require(bool(source.strip()), "source", source, "a file, a folder, a glob or a URL")
    require(0 <= max_rejected_share <= 1, "max_rejected_share", max_rejected_share, "a share between 0 and 1")


def _check_reading(format_: str | None, encoding: str | None) -> None:
    require(format_ is None or format_ in READERS, "format", format_, f"one of {', '.join(READERS)}")
    known = encoding is None or encodings.is_known(encoding)
    require(known, "encoding", encoding, 'an encoding such as "utf-8", "windows-1252" or "utf-16"')


def _check_forms(time_format: str | None, first_position: int | None) -> None:
    require(first_position in (None, 0, 1), "first_position", first_position, "0 or 1")
    expectation = 'a pattern such as "%d/%m/%Y %H:%M:%S"'
    require(time_format is None or is_pattern(time_format), "time_format", time_format, expectation)


def _check_events_mapping(columns: Mapping[str, MappedValue], only: ComparisonValue | None) -> None:
    _check_mapping(columns, EVENT_COLUMNS.names, EVENT_COLUMNS, "use a known name")
    if only is not None:
        check_comparison("only", only)


def _check_mapping(
    columns: Mapping[str, MappedValue], names: tuple[str, ...], contract: TableColumns, cure: str
) -> None:
    for name, value in columns.items():
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f" (nearest: {close[0]})" if close else ""
        require(name in names, "columns", name, f"one of {', '.join(names)}{hint}; or {cure}")
        column = contract.get(name)
        check_value(name, value, is_flag=column is not None and column.type is ColumnType.FLAG)
