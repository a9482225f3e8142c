"""Public data sets of product search: the tables that are made of their files as published. A new one is an entry.

In the SQL, `{name}` is the rows of a file, and `{name:doc}` the same as JSON objects, `doc`. docs/public_sets.md says
where each is, under which terms, and what it was tried on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from mmse.sources import encodings
from mmse.sources.csv_forms import CsvConfig
from mmse.sources.file_readers import FILE_READERS
from mmse.sources.relation import Relation, SourceFiles
from mmse.sources.sql import literal
from mmse.sources.text_copies import CopiesFolder
from mmse.sources.xml_forms import copy_as_json_lines


@dataclass(frozen=True)
class PublicFile:
    """A file of a set: its name without `.gz`, and what it does not tell of itself; `signs` are columns that it has."""

    name: str
    signs: tuple[str, ...] = ()
    csv: CsvConfig = field(default_factory=CsvConfig)
    encoding: str | None = None


@dataclass(frozen=True)
class PublicSet:
    """A public data set: its `title`, its files by a short name, and SQL for each table that is made of them."""

    title: str
    files: Mapping[str, PublicFile]
    tables: Mapping[str, str]


def _without_header(name: str, *columns: str) -> PublicFile:
    return PublicFile(name, csv=CsvConfig(separator="\t", quote="", escape="", nulls=(), names=columns))


PUBLIC_SETS: dict[str, PublicSet] = {
    "esci": PublicSet(
        "Amazon's Shopping Queries (ESCI), the products of the US",
        {
            "examples": PublicFile("shopping_queries_dataset_examples.parquet"),
            "products": PublicFile("shopping_queries_dataset_products.parquet"),
        },
        {
            "items": """SELECT product_id AS item_id, product_title AS title, product_brand AS brand,
                product_color AS colour, product_description AS description, product_bullet_point AS bullet_points
                FROM {products} WHERE product_locale = 'us'""",
            "judgements": """SELECT query, product_id AS item_id, split, CASE upper(left(esci_label, 1))
                WHEN 'E' THEN 1.0 WHEN 'S' THEN 0.1 WHEN 'C' THEN 0.01 WHEN 'I' THEN 0.0 END::DOUBLE AS relevance
                FROM {examples} WHERE product_locale = 'us'""",
        },
    ),
    "wands": PublicSet(
        "Wayfair's WANDS",
        {
            "product": PublicFile("product.csv", ("product_id", "product_name", "product_class")),
            "query": PublicFile("query.csv", ("query_id", "query", "query_class")),
            "label": PublicFile("label.csv", ("query_id", "product_id", "label")),
        },
        {
            "items": """SELECT doc ->> '$.product_id' AS item_id, doc ->> '$.product_name' AS title,
                coalesce(doc ->> '$."category hierarchy"', doc ->> '$.category_hierarchy') AS category,
                doc ->> '$.product_description' AS description, doc ->> '$.product_features' AS features,
                doc ->> '$.product_class' AS product_class, doc ->> '$.average_rating' AS rating FROM {product:doc}""",
            "judgements": """SELECT query, product_id AS item_id,
                CASE label WHEN 'Exact' THEN 1.0 WHEN 'Partial' THEN 0.5 WHEN 'Irrelevant' THEN 0.0 END::DOUBLE
                    AS relevance
                FROM {label} JOIN {query} USING (query_id)""",
        },
    ),
    "homedepot": PublicSet(
        "Home Depot's search relevance (Kaggle)",
        {
            "train": PublicFile("train.csv", ("product_uid", "search_term", "relevance"), encoding="latin-1"),
            "test": PublicFile("test.csv", ("product_uid", "search_term"), encoding="latin-1"),
            "descriptions": PublicFile("product_descriptions.csv", ("product_uid", "product_description")),
        },
        {
            "items": """SELECT product_uid AS item_id, title, product_description AS description FROM (
                SELECT product_uid, any_value(product_title) AS title FROM (
                    SELECT product_uid, product_title FROM {train} UNION ALL
                    SELECT product_uid, product_title FROM {test}) GROUP BY product_uid)
                LEFT JOIN {descriptions} USING (product_uid) ORDER BY item_id""",
            "judgements": """SELECT search_term AS query, product_uid AS item_id, CAST(relevance AS DOUBLE) AS relevance
                FROM {train}""",
        },
    ),
    "crowdflower": PublicSet(
        "CrowdFlower's search results relevance (Kaggle)",
        {"train": PublicFile("train.csv", ("product_title", "median_relevance", "relevance_variance"))},
        {
            "items": """SELECT min(CAST(id AS BIGINT)) AS item_id, product_title AS title,
                product_description AS description FROM {train} GROUP BY ALL ORDER BY item_id""",
            "judgements": """SELECT query, min(CAST(id AS BIGINT)) OVER (
                    PARTITION BY product_title, product_description) AS item_id,
                CAST(median_relevance AS DOUBLE) AS relevance FROM {train}""",
        },
    ),
    "bestbuy": PublicSet(
        "Best Buy's clicks (ACM hackathon, Kaggle, small)",
        {
            "train": PublicFile("train.csv", ("user", "sku", "query", "click_time", "query_time")),
            "products": PublicFile("small_product_data.xml"),
        },
        {
            "items": "SELECT DISTINCT ON (sku) sku AS item_id, name AS title FROM {products} ORDER BY sku",
            "events": """SELECT md5(concat_ws(chr(31), "user", query, query_time)) AS request_id,
                query_time AS timestamp, query, "user" AS user_id, sku AS item_id, 1 AS position, true AS clicked,
                false AS ordered FROM {train}""",
        },
    ),
    "diginetica": PublicSet(
        "DIGINETICA (CIKM Cup 2016, track 2): requests with typed words, which are numbers",
        {
            "queries": PublicFile("train-queries.csv", ("queryId", "searchstring.tokens", "items")),
            "clicks": PublicFile("train-clicks.csv", ("queryId", "itemId")),
            "purchases": PublicFile("train-purchases.csv", ("sessionId", "itemId", "ordernumber")),
            "products": PublicFile("products.csv", ("itemId", "pricelog2", "product.name.tokens")),
            "categories": PublicFile("product-categories.csv", ("itemId", "categoryId")),
        },
        {
            "items": """SELECT itemId AS item_id, replace("product.name.tokens", ',', ' ') AS title,
                categoryId AS category, pow(2, CAST(pricelog2 AS DOUBLE)) AS price
                FROM {products} LEFT JOIN {categories} USING (itemId)""",
            "events": """WITH shown AS (
                SELECT queryId, sessionId, nullif(userId, 'NA') AS userId,
                    replace("searchstring.tokens", ',', ' ') AS query,
                    CAST(eventdate AS TIMESTAMP) + to_milliseconds(CAST(timeframe AS BIGINT)) AS timestamp,
                    unnest(list_transform(string_split(items, ','),
                        lambda id, place: {'id': id, 'place': place})) AS hit
                  FROM {queries} WHERE "searchstring.tokens" NOT IN ('', 'NA') AND upper("is.test") = 'FALSE')
                SELECT queryId AS request_id, timestamp, query, userId AS user_id, sessionId AS session_id,
                    hit.id AS item_id, hit.place AS position,
                    EXISTS (FROM {clicks} AS c WHERE c.queryId = shown.queryId AND c.itemId = hit.id) AS clicked,
                    EXISTS (FROM {clicks} AS c WHERE c.queryId = shown.queryId AND c.itemId = hit.id) AND EXISTS (
                        FROM {purchases} AS p WHERE p.sessionId = shown.sessionId AND p.itemId = hit.id) AS ordered
                  FROM shown""",
        },
    ),
    "jdsearch": PublicSet(
        "JDsearch: test requests and their candidates, with words that are numbers",
        {
            "release": _without_header(
                "release_data.txt", "query", "ids", "labels", "queries", "products", "types", "intervals"
            ),
            "product": _without_header(
                "product_data.txt",
                *("wid", "name", "brand_id", "brand_name", "c1", "n1", "c2", "n2", "c3", "n3", "c4", "n4", "shop_id"),
            ),
        },
        {
            "items": """SELECT wid AS item_id, replace(name, chr(24), ' ') AS title, brand_id AS brand,
                concat_ws(' > ', c1, c2, c3, c4) AS category, shop_id AS seller FROM {product}""",
            "judgements": """SELECT query, item_id, CAST(label AS DOUBLE) AS relevance FROM (
                SELECT replace(query, chr(24), ' ') AS query, unnest(string_split(ids, '_')) AS item_id,
                    unnest(string_split(labels, '_')) AS label FROM {release})
                WHERE item_id IN (SELECT wid FROM {product})""",
        },
    ),
    "trivago": PublicSet(
        "trivago (RecSys Challenge 2019): click-outs with the hotels that were listed; the query is the city",
        {
            "train": PublicFile("train.csv", ("session_id", "action_type", "reference", "impressions")),
            "metadata": PublicFile("item_metadata.csv", ("item_id", "properties")),
        },
        {
            "items": "SELECT item_id, item_id AS title, replace(properties, '|', ', ') AS properties FROM {metadata}",
            "events": """SELECT concat_ws('/', user_id, session_id, step) AS request_id, timestamp, city AS query,
                    user_id, session_id, hit.id AS item_id, hit.place AS position, hit.id = reference AS clicked,
                    false AS ordered
                  FROM (SELECT *, unnest(list_transform(string_split(impressions, '|'),
                            lambda id, place: {'id': id, 'place': place})) AS hit
                          FROM {train} WHERE action_type = 'clickout item' AND impressions <> '')
                 WHERE hit.id IN (SELECT item_id FROM {metadata})""",
        },
    ),
    "multi_cpr": PublicSet(
        "Multi-CPR (one domain of it, such as e-commerce)",
        {
            "corpus": _without_header("corpus.tsv", "pid", "text"),
            "train_queries": _without_header("train.query.txt", "qid", "query"),
            "dev_queries": _without_header("dev.query.txt", "qid", "query"),
            "train_pairs": _without_header("qrels.train.tsv", "qid", "zero", "pid", "relevance"),
            "dev_pairs": _without_header("qrels.dev.tsv", "qid", "zero", "pid", "relevance"),
        },
        {
            "items": "SELECT pid AS item_id, text AS title FROM {corpus}",
            "judgements": """SELECT query, pid AS item_id, 1.0::DOUBLE AS relevance, 'train' AS split
                FROM {train_pairs} JOIN {train_queries} USING (qid) UNION ALL
                SELECT query, pid, 1.0::DOUBLE, 'dev' FROM {dev_pairs} JOIN {dev_queries} USING (qid)""",
        },
    ),
}


def find_public_set(folder: Path, connection: duckdb.DuckDBPyConnection) -> str | None:
    """The set whose files, with their columns, are in `folder`; `None` where there is none."""
    for name, public in PUBLIC_SETS.items():
        paths = {key: _path_of(folder, file) for key, file in public.files.items()}
        if any(path is None for path in paths.values()):
            continue
        relations = _open_files(public, folder, connection, keys=[k for k, file in public.files.items() if file.signs])
        if all({*public.files[key].signs} <= relation.types.keys() for key, relation in relations.items()):
            return name
    return None


def write_public_set(name: str, folder: Path, connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Writes each table of the set to `folder` as Parquet; gives their numbers of rows. No such file may exist."""
    public = PUBLIC_SETS[name]
    relations = _open_files(public, folder, connection, keys=list(public.files))
    counts = {}
    for table, template in public.tables.items():
        sql = template
        for key, relation in relations.items():
            sql = sql.replace(f"{{{key}:doc}}", relation.as_documents())
            sql = sql.replace(f"{{{key}}}", f"(SELECT * FROM {relation.as_columns()})")
        target = literal(str(folder / f"{table}.parquet"))
        connection.execute(f"COPY ({sql}) TO {target} (FORMAT parquet)")
        ((n_rows,),) = connection.execute(f"SELECT count(*) FROM {target}").fetchall()
        counts[table] = int(n_rows)
    return counts


def _path_of(folder: Path, file: PublicFile) -> Path | None:
    return next((path for path in (folder / file.name, folder / f"{file.name}.gz") if path.is_file()), None)


def _open_files(
    public: PublicSet, folder: Path, connection: duckdb.DuckDBPyConnection, keys: list[str]
) -> dict[str, Relation]:
    relations = {}
    for key in keys:
        file = public.files[key]
        path = str(_path_of(folder, file))
        copies = CopiesFolder()
        if file.encoding:
            copy = copies.path_of(path, 0)
            encodings.copy_as_utf8(path, file.encoding, "exports", copy)
            path = str(copy)
        if file.name.endswith(".xml"):
            copy = copies.path_of(path, 1).with_suffix(".jsonl")
            copy_as_json_lines(path, "exports", copy)
            path = str(copy)
        ending = re.sub(r"\.gz$", "", path).rsplit(".", 1)[-1]
        format_ = {"parquet": "parquet", "jsonl": "json"}.get(ending, "csv")
        relation = FILE_READERS[format_](connection, SourceFiles([path], "exports", f"public_{key}", file.csv))
        relations[key] = Relation(**{**vars(relation), "copies": relation.copies or copies})
    return relations
