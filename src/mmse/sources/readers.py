"""The readers by the name that `format` in shop.toml has for them.

A new kind of source is a line here, or a declaration in `mmse.sources.published_formats`.
"""

from __future__ import annotations

from mmse.sources import ga4, ubi
from mmse.sources.file_readers import FILE_READERS
from mmse.sources.published import reader_of
from mmse.sources.published_formats import FORMATS
from mmse.sources.relation import SourceReader

READERS: dict[str, SourceReader] = {
    **FILE_READERS,
    "ubi_queries": ubi.read_queries,
    "ubi_events": ubi.read_events,
    "ga4_lists": ga4.read_lists,
    "ga4_actions": ga4.read_actions,
    **{name: reader_of(form) for name, form in FORMATS.items()},
}
