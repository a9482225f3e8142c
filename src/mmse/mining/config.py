"""What shop.toml says of mining."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmse.core.config import plain_values, require
from mmse.mining.shoppers import STRANGERS, is_day
from mmse.schema.user_ids import UserSalt


@dataclass(frozen=True)
class MineConfig:
    """`[mine]` of shop.toml.

    The latest `valid_share` and `test_share` of the requests are held back; train is cut into `periods` of equal size.
    `shards` is the number of files per slice, by default one per 3 million rows of the log; a shard has to fit in
    memory. `memory_limit` bounds DuckDB; `threads` `None` means every core. Position bias is learned from at most
    `max_bias_pairs` pairs of query and item. A query counts as another try of the one before, which took nothing, if
    the same shopper asks it within `reformulation_minutes`; 0 mines no reformulations and no corrections. A correction
    of a spelling is one that `correction_shoppers` different shoppers made. `leave_out` names what `mmse doctor` finds
    and mining leaves out: `bots` (their requests) and `guest` (an id that is everybody: its
    requests stay, without a shopper); and days, all of whose requests are left out, by their dates (UTC). With `since`,
    a date, rows before the beginning of that day (UTC) are not read, as if the log began there. `dataset` is the folder
    that the engine `adopt` takes, relative to shop.toml, and `user_salt_file` the file with whose salt the ids of
    shoppers and visits are hashed (`mmse.schema.user_ids`). `master` is that of the engine `spark`, such as `local[2]`
    or `spark://host:7077`, and `spark` has further settings of Spark; of both no dataset depends.
    """

    valid_share: float = 0.1
    test_share: float = 0.1
    periods: int = 8
    shards: int | None = None
    memory_limit: str = "1500MB"
    threads: int | None = None
    max_bias_pairs: int = 200_000
    reformulation_minutes: float = 10.0
    correction_shoppers: int = 3
    leave_out: tuple[str, ...] = ()
    since: str | None = None
    dataset: str | None = None
    user_salt_file: str | None = None
    master: str = "local[*]"
    spark: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(0 <= self.valid_share < 1, "valid_share", self.valid_share, "a share between 0 and 1")
        require(0 <= self.test_share < 1, "test_share", self.test_share, "a share between 0 and 1")
        held_back = self.valid_share + self.test_share
        require(held_back < 1, "valid_share + test_share", held_back, "less than 1, so that train is left something")
        require(1 <= self.periods <= 99, "periods", self.periods, "1 to 99")
        require(self.shards is None or 1 <= self.shards <= 999, "shards", self.shards, "1 to 999, or none")
        require(self.threads is None or self.threads >= 1, "threads", self.threads, "1 or more, or none")
        require(self.max_bias_pairs >= 0, "max_bias_pairs", self.max_bias_pairs, "0 or more")
        minutes = self.reformulation_minutes
        require(0 <= minutes <= 1440, "reformulation_minutes", minutes, "0 to 1440, a day")
        require(self.correction_shoppers >= 1, "correction_shoppers", self.correction_shoppers, "1 or more")
        require(bool(self.master.strip()), "master", self.master, 'a master of Spark, such as "local[2]"')
        require(self.since is None or is_day(self.since), "since", self.since, "a day such as 2026-11-29")
        for kind in self.leave_out:
            is_known = kind in STRANGERS or is_day(kind)
            require(is_known, "leave_out", kind, f"a list of {', '.join(STRANGERS)} and of days such as 2026-11-29")

    def read_salt(self, base: Path) -> UserSalt | None:
        """The salt of the shop whose shop.toml lies in `base`; raises `UsageError` where it cannot be read."""
        return None if self.user_salt_file is None else UserSalt.read(base / self.user_salt_file)

    def to_manifest(self) -> dict[str, Any]:
        """The config in the form of a manifest: all but where it runs."""
        return {name: value for name, value in plain_values(self).items() if name not in ("master", "spark")}
