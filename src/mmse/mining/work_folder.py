"""The files that are needed only while mining, below the folder that is being written."""

from __future__ import annotations

from pathlib import Path

from mmse.sources.file_locations import files_in


class WorkFolder:
    """Checked events by shard, then each shard's requests and rows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events = path / "events"
        self.requests = path / "requests"
        self.requests.mkdir(parents=True, exist_ok=True)

    def shards(self) -> list[str]:
        """The names of the shards that are merged."""
        return sorted(path.stem.removeprefix("rows-") for path in self.requests.glob("rows-*.parquet"))

    def event_folders(self) -> list[Path]:
        """The folders of the shards that are not merged, without that of the rejected rows."""
        return sorted(path for path in self.events.glob("shard=*") if not path.name.startswith("shard=-"))

    def all_events(self) -> str:
        """SQL of DuckDB for the good rows of every shard."""
        return f"read_parquet({files_in(self.events, 'shard=[0-9]*/*.parquet')}, hive_partitioning = false)"

    def all_requests(self) -> str:
        """SQL of DuckDB for the requests of every shard."""
        return f"read_parquet({files_in(self.requests, 'requests-*.parquet')})"
