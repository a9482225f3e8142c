"""The server as its users start it: worker processes, signals, swaps and overload, over real connections."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx

from mmse.client import Client
from mmse.core import locks
from mmse.serving.server import remove_left_folders
from mmse.serving.versions.publish import publish
from mmse.serving.versions.site import Site, rollback
from serving.conftest import NEW_CONNECTIONS, TOKEN, WRITER, RunningServer

MMSE = str(Path(sys.executable).with_name("mmse"))


def test_the_client_speaks_to_the_server(server_url: str) -> None:
    with Client(server_url, token=TOKEN) as client:
        answer = client.search("a", k=3, explain=True)
        assert len(answer.hits) == 3
        assert client.item(answer.hits[0].item_id).item["title"] == answer.hits[0].title
        assert {arm for version in client.versions().served for arm in version.arms} == {"live", "other"}
        assert client.embed(["a"]).dimensions == client.versions().served[0].width


def test_an_edit_is_seen_by_every_worker_and_by_every_version(site: Path, small_run: Path) -> None:
    publish(site, small_run, arm="b")
    with RunningServer(site, workers=2) as url:
        item = {"title": "Zorbak quibble lamp"}
        assert httpx.put(f"{url}/v1/items/a/b", json=item, headers=WRITER).status_code == 200  # ids may hold slashes
        subprocess.run([MMSE, "items", "set", str(site), "a/b", "price=3.5"], check=True, capture_output=True)
        deadline_s = time.monotonic() + 30
        for version in ("live", "b"):
            search, n_seen = f"{url}/v1/search?q=zorbak+quibble&k=1&version={version}", 0
            while n_seen < 20:  # in a row, whichever worker answers
                hit = NEW_CONNECTIONS.get(search).json()["hits"][0]
                n_seen = n_seen + 1 if (hit["item_id"], hit["item"].get("price")) == ("a/b", 3.5) else 0
                assert time.monotonic() < deadline_s, hit


def test_a_swap_under_load_fails_no_request(site: Path, small_run: Path) -> None:
    statuses, versions, end = Counter[int](), Counter[str](), threading.Event()

    def search() -> None:
        with httpx.Client() as client:
            while not end.is_set():
                response = client.get(f"{url}/v1/search", params={"q": "a", "k": 3})
                statuses[response.status_code] += 1
                versions[response.json().get("version", "none")] += 1
                time.sleep(0.02)  # publishing needs the two cores, too

    with RunningServer(site, workers=2) as url:
        threads = [threading.Thread(target=search) for _ in range(4)]
        for thread in threads:
            thread.start()
        publish(site, small_run)
        _until_served(url, "0002")
        rollback(Site.open(site))
        _until_served(url, "0001")
        response = httpx.post(f"{url}/v1/versions/live", json={"version": "0002"}, headers=WRITER, timeout=30)
        assert response.json()["live"] == "0002"
        end.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200}
    assert set(versions) == {"0001", "0002"}


def test_overload_is_refused_cleanly_and_passes(site: Path) -> None:
    statuses, waits = Counter[int](), list[str]()

    def search() -> None:
        with httpx.Client(timeout=30) as client:
            for _ in range(10):
                response = client.post(f"{url}/v1/search/batch", json={"searches": [{"query": "a", "k": 200}] * 8})
                statuses[response.status_code] += 1
                if response.status_code == 503:
                    assert response.json()["error"]["code"] == "overloaded"
                    waits.append(response.headers["retry-after"])

    with RunningServer(site, "--waiting", "4") as url:
        threads = [threading.Thread(target=search) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(statuses) <= {200, 503, 504}
        assert statuses[200] > 0
        assert statuses[503] > 0
        assert set(waits) == {"1"}
        assert httpx.get(f"{url}/v1/search", params={"q": "a"}).status_code == 200
        assert 'mmse_refused_total{reason="overloaded"}' in httpx.get(f"{url}/metrics").text


def test_a_killed_worker_is_replaced(site: Path) -> None:
    server = RunningServer(site)
    with server as url:
        (worker,) = _children(server.process.pid)
        os.kill(worker, signal.SIGKILL)
        deadline_s = time.monotonic() + 60
        while True:
            try:
                if NEW_CONNECTIONS.get(f"{url}/v1/search", params={"q": "a"}).status_code == 200:
                    break
            except httpx.TransportError:
                assert time.monotonic() < deadline_s
                time.sleep(0.1)
        assert _children(server.process.pid) != [worker]


def test_workers_end_with_their_parent(site: Path) -> None:
    server = RunningServer(site, workers=2)
    with server as url:
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(30)
        deadline_s = time.monotonic() + 30
        while True:
            try:
                NEW_CONNECTIONS.get(f"{url}/v1/health/live")
            except httpx.TransportError:
                break
            assert time.monotonic() < deadline_s
            time.sleep(0.1)


def test_a_folder_of_metrics_that_was_left_is_removed(tmp_path: Path) -> None:
    left, used, young, strange = (tmp_path / f"mmse-metrics-{name}" for name in ("left", "used", "young", "strange"))
    for folder in (left, used, young):
        folder.mkdir()
        (folder / locks.LOCK).touch()
        (folder / "counter_1.db").touch()
    strange.mkdir()
    for folder in (left, used, strange):
        os.utime(folder, (0, 0))
    with locks.lock(used / locks.LOCK):
        remove_left_folders(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([used, young, strange])


def test_clients_that_go_and_the_end_leave_a_clean_log(site: Path) -> None:
    broken_bodies = (b"Content-Length: 500\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n")
    server = RunningServer(site, "--log-json")
    with server as url:
        for broken_body in broken_bodies:
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                head = b"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                client.sendall(head + broken_body)
        httpx.get(f"{url}/v1/search", params={"q": "secret words"})
        deadline_s = time.monotonic() + 30
        while (text := NEW_CONNECTIONS.get(f"{url}/metrics").text).count('route="/v1/search",status="400"') < 1:
            assert time.monotonic() < deadline_s, text
            time.sleep(0.05)
    assert 'status="500"' not in text
    assert server.process.returncode == 0
    assert any('"path":"/v1/search"' in line and '"status":200' in line for line in server.log.splitlines())
    assert "secret" not in server.log
    assert "Traceback" not in server.log


def test_a_version_that_cannot_be_opened_ends_the_start(site: Path) -> None:
    ranking = site / "versions" / "0001" / "ranking" / "ranking.json"
    size = ranking.stat().st_size
    ranking.unlink()  # a link: the run keeps its own
    ranking.write_bytes(b"x" * size)
    process = subprocess.run([MMSE, "serve", str(site), "--port", "0"], capture_output=True, text=True, timeout=60)
    assert process.returncode == 1
    assert "ranking.json" in process.stderr
    assert "run its step again" in process.stderr
    assert "Traceback" not in process.stderr


def _until_served(url: str, version: str) -> None:
    deadline_s, n_seen = time.monotonic() + 30, 0
    while n_seen < 10:  # in a row, whichever worker answers
        live = NEW_CONNECTIONS.get(f"{url}/v1/versions").json()["live"]
        n_seen = n_seen + 1 if live == version else 0
        assert time.monotonic() < deadline_s, live


def _children(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children]
