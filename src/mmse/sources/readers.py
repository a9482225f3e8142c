"""The readers by the name that `format` in shop.toml has for them; a new kind of source is a line here."""

from __future__ import annotations

from mmse.sources.file_readers import FILE_READERS
from mmse.sources.relation import SourceReader

READERS: dict[str, SourceReader] = {**FILE_READERS}
