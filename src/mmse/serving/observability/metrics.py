"""Counts and times of all worker processes of a server, for Prometheus."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from mmse.serving.config import METRICS_FOLDER

SPANS = ("queue", "encode", "vector", "words", "rank", "hits", "respond")
_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_SHORT = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0015, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0)

requests = Counter("mmse_requests", "Requests answered.", ("route", "status"))
request_seconds = Histogram(
    "mmse_request_seconds", "Seconds from the head of a request to its answer.", ("route",), buckets=_SECONDS
)
span_seconds = Histogram("mmse_stage_seconds", "Seconds that each part of a search took.", ("stage",), buckets=_SHORT)
batch_searches = Histogram("mmse_batch_searches", "Searches in one batch.", buckets=(1, 2, 4, 8, 16, 32, 64))
queue_length = Gauge("mmse_waiting", "Searches waiting in the queue.", multiprocess_mode="livesum")
refusals = Counter("mmse_refused", "Requests refused.", ("reason",))
no_good_match = Counter("mmse_no_good_match", "Searches without a likely enough hit.")
cut_hits = Counter("mmse_cut_hits", "Hits that a cut-off removed from the requested k.")
query_cache = Counter("mmse_query_cache", "Look-ups in the cache of query vectors.", ("result",))
answer_cache = Counter("mmse_answer_cache", "Look-ups in the cache of answers.", ("result",))
answer_cache_saved_seconds = Counter(
    "mmse_answer_cache_saved_seconds", "Seconds that cached answers had taken to find."
)
items = Gauge("mmse_items", "Items in the live version.", multiprocess_mode="mostrecent")
index_age_seconds = Gauge(
    "mmse_index_age_seconds", "Seconds since the live index was made.", multiprocess_mode="mostrecent"
)
version_info = Gauge(
    "mmse_version_info", "1 for each version in service.", ("version", "arm"), multiprocess_mode="livemax"
)
damaged_versions = Gauge(
    "mmse_damaged_versions", "Versions whose files are damaged, of those read.", multiprocess_mode="livemax"
)
edits = Counter("mmse_edits", "Edits of items.")
events = Counter("mmse_events", "Events received.", ("type",))
exposures_dropped = Counter("mmse_exposures_dropped", "Exposures that could not be logged.")
swaps = Counter("mmse_swaps", "Versions that went into service or were refused.", ("result",))

spans = {stage: span_seconds.labels(stage) for stage in SPANS}

for _metric, _names in (
    (refusals, ("overloaded", "deadline", "rate")),
    (swaps, ("done", "refused")),
    (events, ("exposure", "click", "cart", "order")),
    (query_cache, ("hit", "miss")),
    (answer_cache, ("hit", "miss")),
):
    for _name in _names:
        _metric.labels(_name).inc(0)  # present from the start, so that the first count is a rise


def exposition() -> bytes:
    """All metrics in Prometheus' text format, summed over the workers."""
    if METRICS_FOLDER not in os.environ:
        return generate_latest()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
