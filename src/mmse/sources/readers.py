"""The readers by the name that `format` in shop.toml has for them; a new kind of source is a line here."""

from __future__ import annotations

from mmse.sources.file_readers import FILE_READERS
from mmse.sources.relation import Reader

READERS: dict[str, Reader] = {**FILE_READERS}
