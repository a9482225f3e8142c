"""A server with a salt: nothing that it writes or looks up has an id, and it says where its versions do not fit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmse.core.folder_copy import rewrite_files
from mmse.core.run_folder import SERVING
from mmse.dataset.serving_data import INTERACTIONS
from mmse.schema.http import Health, SearchAnswer
from mmse.schema.user_ids import SALT, UserSalt
from mmse.serving.config import ServeConfig
from mmse.serving.events.export import export_table
from serving.conftest import TOKEN, WRITER, worker
from serving.test_api import decode


def test_a_server_hashes_at_the_door(small_run: Path, tmp_path: Path) -> None:
    (tmp_path / "salt").write_text("a salt of these tests")
    salt, run = UserSalt.read(tmp_path / "salt"), Path(shutil.copytree(small_run, tmp_path / "run"))
    interactions = pq.read_table(run / SERVING / INTERACTIONS)
    person = interactions["user_id"][0].as_py()
    search = {"query": "a", "user_id": person, "session_id": "visit 1"}
    config = ServeConfig(run, token=TOKEN, log_exposures=True, user_salt_file=tmp_path / "salt")
    with worker(ServeConfig(run)) as service:
        plain_scores = [hit.score for hit in decode(service.post("/v1/search", json={"query": "a"}), SearchAnswer).hits]
    with worker(config) as service:
        (problem,) = decode(service.get("/v1/health"), Health).problems
        assert "are not hashed, and this server hashes them" in problem

    ids = pa.array([salt.hash_id(user) for user in interactions["user_id"].to_pylist()])
    hashed = interactions.set_column(0, interactions.schema.field(0), ids.cast(pa.string())).sort_by(
        [("user_id", "ascending"), ("timestamp", "ascending")]
    )
    writers = {INTERACTIONS: lambda target: pq.write_table(hashed, target)}
    rewrite_files(run / SERVING, SERVING, writers, lambda _, counts: counts | {SALT: salt.fingerprint})
    with worker(config) as service:
        assert decode(service.get("/v1/health"), Health).problems == []
        answers = [
            decode(service.post("/v1/search", json=search), SearchAnswer),
            decode(service.get("/v1/search", params={"q": "a", "user_id": person}), SearchAnswer),
        ]
        shown = {"type": "exposure", "request_id": "r1", "query": "a", "items": ["x"], "user_id": person}
        assert service.post("/v1/events", json={"events": [shown]}, headers=WRITER).status_code == 202
        batch = service.post("/v1/search/batch", json={"searches": [search]}).json()
        assert service.post("/v1/assignments", json={"units": [{"user_id": person}]}).status_code == 200
        vectors = [
            service.post("/v1/embed", json={"queries": ["a"], "user_id": user}).json()["vectors"]
            for user in (person, salt.hash_id(person))
        ]
    scores = [hit.score for hit in answers[0].hits]
    assert scores != plain_scores, "the history counts"
    assert scores == [hit.score for hit in answers[1].hits]
    assert scores == [hit["score"] for hit in batch["outcomes"][0]["answer"]["hits"]]
    assert vectors[0] == vectors[1]
    export_table(run / "events", tmp_path / "log.parquet")
    log = pq.read_table(tmp_path / "log.parquet")
    assert set(log["user_id"].to_pylist()) == {salt.hash_id(person)}
    assert set(log["session_id"].to_pylist()) == {salt.hash_id("visit 1"), None}

    with worker(ServeConfig(run)) as service:
        (problem,) = decode(service.get("/v1/health"), Health).problems
        assert "are hashed with a salt, and this server has none" in problem
