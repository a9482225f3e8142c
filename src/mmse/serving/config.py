"""The settings of a server: where it listens, how much it takes on, and what it writes down."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from mmse.core.config import require
from mmse.serving.middleware.addresses import parse_networks
from mmse.serving.tokens import MIN_LENGTH

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder of what workers share; the metrics library reads it on import."""
_HOST = re.compile(r"https?://[A-Za-z0-9.*-]+(:\d+)?")


@dataclass(frozen=True)
class ServeConfig:
    """The options of `mmse serve`, and the settings that are not options.

    At most `queue_size` searches wait in a worker (the option `--waiting`), up to `max_batch` are answered at once, and
    a search is given up after `timeout_ms`. `requests_per_s` is for one client address, 0 for no limit.
    With neither a `token` for everything nor a `token_file` (`mmse.serving.tokens`) the server takes no writes. A
    worker keeps the vectors of `cached_queries` queries and, of each version, answers of `answer_cache_mb` megabytes of
    JSON. It looks for a newer version and for other tokens every `look_every_s`, and for edits by other processes every
    `refresh_every_s`. It reads the files of each version beside its searches; with `verify` all are read before the
    server starts as well, and a damaged one keeps it from starting. `log_exposures` writes what searches show to the
    events. The page shows pictures from `image_hosts` and from no other host. Pages of `cors_origins` (`*`: any) may
    read answers in a browser. `X-Forwarded-For` counts where it comes from `proxies`, addresses or networks. With a
    `user_salt_file` the ids of shoppers and visits are hashed before anything is looked up or written
    (`mmse.schema.user_ids`).
    """

    path: Path
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    user_salt_file: Path | None = None
    queue_size: int = 64
    max_batch: int = 8
    timeout_ms: int = 1_000
    request_timeout_s: float = 30.0
    requests_per_s: int = 1_000
    search_bytes: int = 256 * 1024
    write_bytes: int = 32 * 1024 * 1024
    cached_queries: int = 20_000
    answer_cache_mb: int = 64
    look_every_s: float = 0.25
    refresh_every_s: float = 0.1
    verify: bool = False
    events: Path | None = None
    log_exposures: bool = False
    image_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    access_log: bool = True
    log_queries: bool = False
    otlp_endpoint: str | None = None

    def __post_init__(self) -> None:
        require(0 <= self.port < 65_536, "port", self.port, "0 to 65535")
        require(self.workers >= 1, "workers", self.workers, "at least 1")
        long_enough = self.token is None or len(self.token) >= MIN_LENGTH
        require(long_enough, "token", "shorter", f"at least {MIN_LENGTH} characters")
        require(
            self.token is None or self.token_file is None, "token", "given", "a token or a file of tokens, not both"
        )
        require(self.queue_size >= 1, "waiting", self.queue_size, "at least 1 search")
        require(self.max_batch >= 1, "max_batch", self.max_batch, "at least 1 search")
        require(1 <= self.timeout_ms <= 60_000, "timeout_ms", self.timeout_ms, "1 to 60000")
        require(self.requests_per_s >= 0, "requests_per_s", self.requests_per_s, "0 (no limit) or more")
        for host in self.image_hosts:
            require(bool(_HOST.fullmatch(host)), "image_hosts", host, "such as https://images.example.com")
        for origin in self.cors_origins:
            require(
                origin == "*" or bool(_HOST.fullmatch(origin)), "cors_origins", origin, "such as https://shop.example"
            )
        parse_networks(self.proxies)
        require(self.cached_queries >= 0, "cached_queries", self.cached_queries, "0 or more")
        require(self.answer_cache_mb >= 0, "answer_cache_mb", self.answer_cache_mb, "0 (no cache) or more")
