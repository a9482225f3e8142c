"""The steps in their order, and how each calls the work that it stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mmse.core import artifact
from mmse.core.artifact import Manifest
from mmse.core.config import plain_values
from mmse.core.errors import ArtifactError
from mmse.core.run_folder import DATASET, INDEX, MAP, MODEL, RANKING, REPORT, SERVING, VECTORS, RunFolder
from mmse.dataset.serving_data import write_serving
from mmse.evaluation.step import evaluate_run, report_config
from mmse.index.embedding import EmbeddingSource
from mmse.index.embedding import embed as embed_catalogue
from mmse.index.embedding_parts import merge_parts
from mmse.index.step import index_catalogue
from mmse.map.projection import draw_map
from mmse.pipeline.mining import MINING_ENGINES, configure_mining, fingerprint_tables
from mmse.pipeline.step import Step, StepContext, StepEngine
from mmse.ranking.step import learn_ranking
from mmse.shop import Shop
from mmse.training.loop import train as train_model


def _keep_serving_data(context: StepContext) -> Manifest:
    return write_serving(context.run.dataset, context.target, context.shop.serving)


def _train(context: StepContext) -> Manifest:
    config, on_step = context.shop.train, context.listener.training
    return train_model(context.run.dataset, context.target, config, resume=context.resume, on_step=on_step)


def _configure_training(shop: Shop) -> dict[str, Any]:
    return shop.train.to_manifest()


def _embed(context: StepContext) -> Manifest:
    return embed_catalogue(context.run.dataset, context.run.model, context.target, context.shop.embed)


def merge_vectors(context: StepContext) -> Manifest:
    """Makes the vectors of parts that `mmse embed --shard` has made, for `make`."""
    run = context.run
    catalogue = EmbeddingSource(run.dataset, run.model, context.shop.embed)
    return merge_parts(catalogue, run.vector_parts, context.target, context.config)


def _embed_on_spark(context: StepContext) -> Manifest:
    from mmse.index.spark_embedding import embed_on_spark
    from mmse.mining.spark.cluster import open_spark

    run, shop, report = context.run, context.shop, context.listener.part
    catalogue = EmbeddingSource(run.dataset, run.model, shop.embed)
    with open_spark(shop.mine.master, shop.mine.spark, "embed the catalogue") as spark:
        return embed_on_spark(spark, catalogue, run.vector_parts, context.target, context.config, report)


def _index(context: StepContext) -> Manifest:
    run, config, report = context.run, context.shop.index, context.listener.part
    return index_catalogue(run.dataset, run.model, run.vectors, context.target, config, report)


def _configure_index(shop: Shop) -> dict[str, Any]:
    return shop.index.to_manifest()


def _configure_ranking(shop: Shop) -> dict[str, Any]:
    return plain_values(shop.ranking) | {"language": shop.index.language, "as_of": shop.embed.as_of}


def _rank(context: StepContext) -> Manifest:
    return learn_ranking(context.run, context.target, context.shop.ranking, context.listener.part)


def _draw_map(context: StepContext) -> Manifest:
    return draw_map(context.run.dataset, context.run.vectors, context.target, context.shop.map)


def _fingerprint_report_inputs(shop: Shop, run: RunFolder) -> dict[str, str]:
    if not run.manifest(DATASET).counts["requests"]["test"]:
        raise ArtifactError(
            f"{run.dataset} has no test request, so there is nothing to evaluate on.",
            "Mine a log in [events] with mine.test_share above 0, or evaluate with --judgements.",
        )
    inputs = run.fingerprints(REPORT)
    for recipe in shop.baselines:
        inputs[recipe] = artifact.read_manifest(run.baselines / recipe, MODEL).fingerprint
    if shop.truth:
        inputs["truth"] = artifact.read_manifest(shop.truth, "truth").fingerprint
    return inputs


def _evaluate(context: StepContext) -> Manifest:
    from mmse.lab.simulator.truth import Truth

    shop, report = context.shop, context.listener.part
    truth = Truth.open(shop.truth) if shop.truth else None
    return evaluate_run(context.run.path, shop.evaluate, inputs=context.inputs, truth=truth, progress=report)


def _configure_report(shop: Shop) -> dict[str, Any]:
    return report_config(shop.evaluate)


def _section(name: str) -> Callable[[Shop], Mapping[str, Any]]:
    return lambda shop: plain_values(getattr(shop, name))


def _lineage(kind: str) -> Callable[[Shop, RunFolder], Mapping[str, str]]:
    return lambda shop, run: run.fingerprints(kind)


def _built_in(make_folder: Callable[[StepContext], Manifest]) -> dict[str, StepEngine]:
    return {"built-in": StepEngine(make_folder)}


_EMBED_ENGINES = {**_built_in(_embed), "spark": StepEngine(_embed_on_spark)}


_STEPS = (
    Step(
        kind=DATASET,
        section="mine",
        purpose="requests by stage, item statistics, histories",
        engines=MINING_ENGINES,
        config=configure_mining,
        inputs=fingerprint_tables,
    ),
    Step(
        kind=SERVING,
        section="serving",
        purpose="what a search needs of the log",
        engines=_built_in(_keep_serving_data),
        config=_section("serving"),
        inputs=_lineage(SERVING),
    ),
    Step(MODEL, "train", "the trained towers", _built_in(_train), _configure_training, _lineage(MODEL)),
    Step(VECTORS, "embed", "the catalogue as vectors", _EMBED_ENGINES, _section("embed"), _lineage(VECTORS)),
    Step(INDEX, "index", "vectors, words, columns to filter by", _built_in(_index), _configure_index, _lineage(INDEX)),
    Step(RANKING, "ranking", "how channels become one list", _built_in(_rank), _configure_ranking, _lineage(RANKING)),
    Step(MAP, "map", "the catalogue as a map", _built_in(_draw_map), _section("map"), _lineage(MAP), extra="map"),
    Step(
        kind=REPORT,
        section="evaluate",
        purpose="the offline evaluation",
        engines=_built_in(_evaluate),
        config=_configure_report,
        inputs=_fingerprint_report_inputs,
    ),
)
STEPS: Mapping[str, Step] = {step.kind: step for step in _STEPS}
"""Every step by the kind of folder that it writes, in the order in which they run."""
