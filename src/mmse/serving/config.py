"""How a server behaves: where it listens, how much it takes on, and when it says no."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from mmse.core.config import require

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable in which the metrics library finds the folder that the workers share, when it is imported."""
_HOST = re.compile(r"https?://[A-Za-z0-9.*-]+(:\d+)?")


@dataclass(frozen=True)
class ServeConfig:
    """What `mmse serve` was told.

    `waiting` searches may wait in a worker beyond those in work, up to `together` are answered at once, and none for
    longer than `timeout_ms`. `requests_per_s` holds for one client address and one worker, 0 for no limit. Without a
    `token` nothing can be written. `look_every_s` is how often a worker looks for a newer version, `refresh_every_s`
    how often for edits that another process made. `log_exposures` writes what searches show to the
    events. The page shows pictures of `image_hosts` and of none else.
    """

    path: Path
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    token: str | None = field(default=None, repr=False)
    waiting: int = 64
    together: int = 8
    timeout_ms: int = 1_000
    request_timeout_s: float = 30.0
    requests_per_s: int = 1_000
    search_bytes: int = 256 * 1024
    write_bytes: int = 32 * 1024 * 1024
    cached_queries: int = 20_000
    look_every_s: float = 0.25
    refresh_every_s: float = 0.1
    events: Path | None = None
    log_exposures: bool = False
    image_hosts: tuple[str, ...] = ()
    access_log: bool = True
    log_queries: bool = False
    otlp_endpoint: str | None = None

    def __post_init__(self) -> None:
        require(0 <= self.port < 65_536, "port", self.port, "0 to 65535")
        require(self.workers >= 1, "workers", self.workers, "at least 1")
        require(self.token is None or len(self.token) >= 16, "token", "shorter", "at least 16 characters")
        require(self.waiting >= 1, "waiting", self.waiting, "at least 1 search")
        require(self.together >= 1, "together", self.together, "at least 1 search")
        require(1 <= self.timeout_ms <= 60_000, "timeout_ms", self.timeout_ms, "1 to 60000")
        require(self.requests_per_s >= 0, "requests_per_s", self.requests_per_s, "0 (no limit) or more")
        for host in self.image_hosts:
            require(bool(_HOST.fullmatch(host)), "image_hosts", host, "such as https://images.example.com")
        require(self.cached_queries >= 0, "cached_queries", self.cached_queries, "0 or more")
