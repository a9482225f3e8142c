"""The step that mines, and its engines: DuckDB, Spark, or a dataset that something else made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmse.core import artifact
from mmse.core.artifact import Manifest
from mmse.core.config import plain_values
from mmse.core.errors import UsageError
from mmse.core.run_folder import RunFolder
from mmse.dataset.adoption import adopt_dataset
from mmse.dataset.contract import dataset_files
from mmse.mining.bare_catalogue import mine_catalogue
from mmse.mining.mine import mine_log
from mmse.pipeline.step import StepContext, StepEngine
from mmse.schema.user_ids import SALT
from mmse.shop import Shop
from mmse.sources.duckdb_session import Session, open_session
from mmse.sources.file_readers import is_url
from mmse.sources.tables import EventsConfig, fingerprint, open_event_sources, open_items


def fingerprint_tables(shop: Shop, run: RunFolder) -> dict[str, str]:
    """The fingerprints of the shop's tables, as they are now."""
    with open_session(memory_limit=shop.mine.memory_limit, threads=shop.mine.threads) as database:
        inputs = {"items": open_items(database.connection, shop.items, shop.base).fingerprint()}
        if shop.events is not None:
            inputs["events"] = _fingerprint_events(shop, shop.events, database)
            salt = shop.mine.read_salt(shop.base)
            inputs |= {SALT: salt.fingerprint} if salt else {}
        return inputs


def _fingerprint_events(shop: Shop, events: EventsConfig, database: Session) -> str:
    """Starts Spark only where it mines and a file is one that Hadoop alone reaches."""
    sources = [part.source for part in events.sources] or [events.source]
    if shop.engines.get("mine") == "spark" and any(map(is_url, sources)):
        from mmse.mining.spark.step import fingerprint_events_on_spark

        return fingerprint_events_on_spark(events, shop.mine, shop.base)
    return fingerprint(open_event_sources(database.connection, events, shop.base))


def configure_mining(shop: Shop) -> dict[str, Any]:
    """What the dataset depends on besides the tables."""
    sections = ("items", "mine") if shop.events is None else ("items", "events", "mine")
    return {section: plain_values(getattr(shop, section)) for section in sections} | {"mine": shop.mine.to_manifest()}


def _mine(context: StepContext) -> Manifest:
    shop, report = context.shop, context.listener.part
    if shop.events is None:
        return mine_catalogue(shop.items, shop.mine, context.target, base=shop.base, progress=report)
    return mine_log(shop.items, shop.events, shop.mine, context.target, base=shop.base, progress=report)


def _mine_on_spark(context: StepContext) -> Manifest:
    from mmse.mining.spark.step import mine_log_on_spark

    shop, report = context.shop, context.listener.part
    if shop.events is None:
        return _mine(context)
    return mine_log_on_spark(shop.items, shop.events, shop.mine, context.target, base=shop.base, progress=report)


def _adopt(context: StepContext) -> Manifest:
    source, config = _adopted(context.shop), context.shop.mine
    return adopt_dataset(
        source,
        context.target,
        context.config,
        context.inputs,
        columns=context.shop.items.extra,
        vectors=context.shop.items.vectors,
        memory_limit=config.memory_limit,
        threads=config.threads,
    )


def _fingerprint_adopted(shop: Shop, run: RunFolder) -> dict[str, str]:
    return {"dataset": artifact.fingerprint_of_files(dataset_files(_adopted(shop)))}


def _adopted(shop: Shop) -> Path:
    if shop.mine.dataset is None:
        raise UsageError(
            f"{shop.path} [mine]: the engine 'adopt' needs the folder to adopt.", 'Add dataset = "…" below [mine].'
        )
    return shop.base / shop.mine.dataset


MINING_ENGINES = {
    "duckdb": StepEngine(_mine),
    "spark": StepEngine(_mine_on_spark),
    "adopt": StepEngine(_adopt, _fingerprint_adopted),
}
