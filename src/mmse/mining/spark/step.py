"""The mining step on Spark, with a session of its own."""

from __future__ import annotations

from pathlib import Path

from mmse.core.artifact import Manifest
from mmse.core.progress import Progress
from mmse.mining.config import MineConfig
from mmse.mining.mine import mine_log
from mmse.mining.spark.cluster import open_spark
from mmse.mining.spark.engine import spark_engine
from mmse.sources.config import EventsConfig, ItemsConfig
from mmse.sources.duckdb_session import open_session
from mmse.sources.tables import fingerprint


def mine_log_on_spark(
    items: ItemsConfig, events: EventsConfig, config: MineConfig, target: Path, *, base: Path, progress: Progress
) -> Manifest:
    """What `mine_log` does, on the master of `config`."""
    with open_spark(config.master, config.spark) as spark:
        return mine_log(items, events, config, target, base=base, progress=progress, engine=spark_engine(spark))


def fingerprint_events_on_spark(events: EventsConfig, config: MineConfig, base: Path) -> str:
    """The fingerprint of events of which some are at a path of Hadoop."""
    with (
        open_spark(config.master, config.spark) as spark,
        open_session(memory_limit=config.memory_limit, threads=config.threads) as session,
    ):
        return fingerprint(spark_engine(spark).open_events(session, events, base))
