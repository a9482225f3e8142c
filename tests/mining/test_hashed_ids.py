"""A log whose shoppers are hashed while it is mined: no id is written, and all else is as without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from mining.toy import log, write_shop
from mmse.core.artifact import read_manifest
from mmse.dataset.serving_data import ServingConfig, write_serving
from mmse.mining.mine import MineConfig, mine_log
from mmse.schema.user_ids import SALT, UserSalt
from mmse.sources.tables import EventsConfig, ItemsConfig

CONFIG: dict[str, Any] = {"periods": 2, "shards": 1, "threads": 1}


@pytest.mark.parametrize("source", ["events.parquet", "events.json"])
def test_no_id_is_written_and_all_else_is_the_same(tmp_path: Path, source: str) -> None:
    rows = log(12)
    rows[0]["user_id"] = None
    bad_row = rows[-1] | {"item_id": "nowhere", "request_id": "bad", "user_id": "user of bad"}
    write_shop(tmp_path, [*rows, bad_row])
    if source.endswith("json"):
        lines = pq.read_table(tmp_path / "events.parquet").to_pylist()
        (tmp_path / source).write_text("".join(json.dumps(line, default=str) + "\n" for line in lines))
    (tmp_path / "salt").write_text("a salt of these tests\n")
    salt, datasets = UserSalt.read(tmp_path / "salt"), {}
    for name, file in (("plain", None), ("hashed", "salt")):
        events = EventsConfig(source, max_rejected_share=0.5)
        mine_log(
            ItemsConfig("items.parquet"),
            events,
            MineConfig(user_salt_file=file, **CONFIG),
            tmp_path / name,
            base=tmp_path,
        )
        datasets[name] = {
            path.relative_to(tmp_path / name): pq.read_table(path, partitioning=None).to_pylist()
            for path in sorted((tmp_path / name).rglob("*.parquet"))
        }
    for path, plain_rows in datasets["plain"].items():
        hashed_rows = datasets["hashed"][path]
        assert "user of" not in str(hashed_rows), path
        if path.name != "rejected.parquet":
            expected = [
                row | ({"user_id": salt.hash_id(row["user_id"])} if "user_id" in row else {}) for row in plain_rows
            ]
            assert sorted(map(str, hashed_rows)) == sorted(map(str, expected)), path
    assert str(salt.hash_id("user of bad")) in str(datasets["hashed"][Path("rejected.parquet")])
    manifest = read_manifest(tmp_path / "hashed", "dataset")
    assert manifest.inputs[SALT] == salt.fingerprint
    assert SALT not in read_manifest(tmp_path / "plain", "dataset").inputs
    assert salt.text not in (tmp_path / "hashed" / "manifest.json").read_text()
    assert write_serving(tmp_path / "hashed", tmp_path / "serving", ServingConfig()).counts[SALT] == salt.fingerprint
