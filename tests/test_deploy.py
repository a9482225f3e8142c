"""deploy/ and docs/serving.md fit the server (metrics, options, routes, errors) and are well formed."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client import Counter, Gauge, Histogram
from typer.main import get_command

from mmse.cli.main import app
from mmse.schema import http, http_admin, http_events
from mmse.serving.observability import metrics

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
PAGE = (ROOT / "docs" / "serving.md").read_text("utf-8")
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/mmse.json").read_text("utf-8"))
PROMETHEUS_LABELS = {"instance", "job", "le"}
"""Labels that Prometheus itself adds, and the one of a histogram's buckets."""

VALUES: dict[str, set[str]] = {
    "stage": set(metrics.SPANS),
    "reason": {"overloaded", "deadline", "rate"},
    "result": {"hit", "miss", "done", "refused"},
    "route": {"/v1/search", "/metrics|/v1/health.*"},
    "status": {"500"},
    "arm": {"live"},
}


def series_of_server() -> dict[str, set[str]]:
    """The name of every series that the server has, with its labels."""
    found: dict[str, set[str]] = {"up": set()}
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            endings = {Counter: ("_total",), Gauge: ("",), Histogram: ("_bucket", "_sum", "_count")}[type(metric)]
            found |= {metric._name + ending: set(metric._labelnames) for ending in endings}
    return found


def documents() -> Iterator[tuple[Path, Any]]:
    for path in sorted(DEPLOY.rglob("*.y*ml")):
        for document in yaml.safe_load_all(path.read_text("utf-8")):
            yield path, document


def panels() -> list[Any]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def alerts() -> list[Any]:
    rules = yaml.safe_load((DEPLOY / "alerts.yml").read_text("utf-8"))
    return [rule for group in rules["groups"] for rule in group["rules"]]


def expressions() -> dict[str, str]:
    """Every query of dashboard and alerts."""
    shown = {f"{one['title']}, {t['refId']}": t["expr"] for one in panels() for t in one["targets"]}
    return shown | {alert["alert"]: alert["expr"] for alert in alerts()}


@pytest.mark.parametrize(("where", "query"), expressions().items(), ids=lambda v: v[:30])
def test_queries_ask_for_what_the_server_has(where: str, query: str) -> None:
    series = series_of_server()
    selectors = re.findall(r"\b(mmse_\w+|up)\b(?:\{([^}]*)\})?", query)
    assert selectors, where
    labels = set(PROMETHEUS_LABELS)
    for name, within in selectors:
        assert name in series, f"{where}: the server has no {name}"
        labels |= series[name]
        for label, value in re.findall(r'(\w+)\s*[=!]~?\s*"([^"]*)"', within):
            assert label in series[name] | PROMETHEUS_LABELS, f"{where}: {name} has no label {label}"
            assert label in PROMETHEUS_LABELS or value in VALUES[label], f"{where}: no {label} is {value}"
    for by in re.findall(r"(?:by|on)\s*\(([^)]*)\)", query):
        assert {label.strip() for label in by.split(",")} <= labels, f"{where}: {by}"


def test_every_metric_is_shown_or_watched() -> None:
    asked = " ".join(expressions().values())
    for name in {re.sub(r"_(bucket|sum|count)$", "", series) for series in series_of_server()}:
        assert name in asked, f"{name} is on no panel and in no alert"


def test_panels_have_queries_units_and_room() -> None:
    taken: set[tuple[int, int]] = set()
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in panels():
        assert panel["targets"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    for panel in DASHBOARD["panels"]:
        position = panel["gridPos"]
        cells = {(position["x"] + x, position["y"] + y) for x in range(position["w"]) for y in range(position["h"])}
        assert not cells & taken, f"{panel['title']} lies upon another panel"
        assert position["x"] + position["w"] <= 24
        taken |= cells


def test_alerts_say_what_is_wrong_and_how_much_it_matters() -> None:
    for alert in alerts():
        assert alert["labels"]["severity"] in {"page", "ticket"}
        assert set(alert["annotations"]) == {"summary", "description"}


def test_every_alert_has_a_test_that_it_fires_and_one_that_it_does_not() -> None:
    cases = yaml.safe_load((DEPLOY / "alerts_test.yml").read_text("utf-8"))["tests"]
    for alert in alerts():
        expected = [
            one["exp_alerts"] for case in cases for one in case["alert_rule_test"] if one["alertname"] == alert["alert"]
        ]
        assert any(expected), alert["alert"]
        assert not all(expected), alert["alert"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Prometheus) is not installed")
@pytest.mark.parametrize("command", ["check config prometheus.yml", "test rules alerts_test.yml"])
def test_prometheus_takes_them(command: str) -> None:
    subprocess.run(["promtool", *command.split()], cwd=DEPLOY, check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Prometheus) is not installed")
def test_prometheus_can_read_the_dashboard(tmp_path: Path) -> None:
    queries = [query.replace("$__rate_interval", "1m").replace("$instance", ".*") for query in expressions().values()]
    rules = [{"record": f"q:{n}", "expr": query} for n, query in enumerate(queries)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "shown", "rules": rules}]}), "utf-8")
    subprocess.run(["promtool", "check", "rules", "rules.yml"], cwd=tmp_path, check=True, capture_output=True)


def commands() -> dict[str, list[str]]:
    """Every `mmse serve …` of deploy/, by where it stands."""
    found = {}
    for path, document in documents():
        for arguments in _arguments(document):
            found[path.name] = arguments
    shell = (DEPLOY / "systemd/mmse.service").read_text("utf-8")
    found["mmse.service"] = re.findall(r"^ExecStart=\S+/mmse (.*)$", shell, re.MULTILINE)[0].split()
    shell = (DEPLOY / "Dockerfile").read_text("utf-8")
    found["Dockerfile"] = json.loads(re.findall(r"^CMD (\[.*\])$", shell, re.MULTILINE)[0])
    return found


def _arguments(node: Any) -> Iterator[list[str]]:
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list):
        if node[:1] == ["serve"]:
            yield node
        for one in node:
            yield from _arguments(one)


def test_the_server_takes_the_options_that_it_is_started_with() -> None:
    serve = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    known = {option for parameter in serve.params for option in parameter.opts}
    assert set(commands()) == {"compose.yaml", "deployment.yaml", "mmse.service", "Dockerfile"}
    for where, arguments in commands().items():
        options = {argument.split("=")[0] for argument in arguments if argument.startswith("--")}
        assert options <= known, f"{where}: {options - known}"
        assert "--log-json" in options, where


def test_probes_and_scrapes_ask_routes_that_exist() -> None:
    from mmse.serving.routes import ROUTES

    routes = {path for handler in ROUTES for path in handler.paths}
    for path in sorted(DEPLOY.rglob("*")):
        if path.is_file() and path.suffix != ".json" and not path.name.startswith("alerts"):
            for asked in re.findall(r"(?:path: |:8000)(/(?:v1|metrics)[\w/]*)", path.read_text("utf-8")):
                assert asked in routes, f"{path.name}: {asked}"


def test_all_runs_as_the_same_user_who_is_not_root() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text("utf-8")
    pod = next(d for p, d in documents() if p.name == "deployment.yaml")["spec"]["template"]["spec"]
    (user,) = re.findall(r"^USER (\d+):\d+$", dockerfile, re.MULTILINE)
    assert pod["securityContext"]["runAsUser"] == int(user) > 0
    assert f"--uid {user}" in dockerfile
    assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"]


def test_torch_is_the_pinned_one_and_comes_first() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text("utf-8")
    pinned = next(
        line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if line.startswith("torch==")
    )
    installs = re.findall(r"pip install --constraint constraints.txt (.+?)(?: \\)?$", dockerfile, re.MULTILINE)
    assert installs[0] == pinned
    assert installs[1].strip('"').startswith(".")


def test_what_the_image_is_made_of_is_let_through() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY ((?!--from).+) \S+$", (DEPLOY / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert {name for names in copied for name in names.split()} == kept
    for name in kept:
        assert (ROOT / name).exists()


def test_ports_are_open_to_this_machine_alone() -> None:
    compose = next(document for path, document in documents() if path.name == "compose.yaml")
    ports = [port for service in compose["services"].values() for port in service["ports"]]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_files_that_are_mounted_exist() -> None:
    compose = next(document for path, document in documents() if path.name == "compose.yaml")
    for service in compose["services"].values():
        for volume in service["volumes"]:
            if volume.startswith("./"):
                assert (DEPLOY / volume.split(":")[0]).exists(), volume


@pytest.mark.parametrize("name", ["kubernetes", "kubernetes/batch"])
def test_the_kustomization_lists_every_file(name: str) -> None:
    folder = DEPLOY / name
    listed = re.findall(r"- (\w+\.yaml)", (folder / "kustomization.yaml").read_text("utf-8"))
    assert {*listed, "kustomization.yaml"} == {path.name for path in folder.iterdir() if path.is_file()}


def pods(kind: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every object of deploy/kubernetes with a pod: its name, its spec, and the spec of the pod."""
    for path, document in documents():
        if "kubernetes" in path.parts and "template" in document.get("spec", {}) and kind in ("", document["kind"]):
            yield document["metadata"]["name"], document["spec"], document["spec"]["template"]["spec"]


def containers(pod: Any) -> list[Any]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def test_the_command_line_takes_what_the_jobs_call() -> None:
    steps = []
    for name, _, pod in pods("Job"):
        for container in containers(pod):
            arguments = [*container.get("command", []), *container["args"]]
            arguments = arguments[arguments.index("mmse") + 1 :] if "mmse" in arguments else arguments
            command = get_command(app)
            while arguments and arguments[0] in getattr(command, "commands", {}):
                command, arguments = command.commands[arguments[0]], arguments[1:]  # type: ignore[attr-defined]
            context = command.make_context(name, list(arguments))  # raises for an option or argument that is not there
            steps.append(str(context.command.name))
            assert context.params.get("folder") == Path("/run/mmse") or context.params["run"] == Path("/run/mmse")
    assert sorted(steps) == ["embed", "embed", "mine", "publish", "run", "train"]


def test_the_jobs_know_how_many_they_are() -> None:
    jobs = {name: (spec, pod) for name, spec, pod in pods("Job")}
    spec, pod = jobs["mmse-embed"]
    assert f"--shard=$(JOB_COMPLETION_INDEX)/{spec['completions']}" in pod["containers"][0]["args"]
    spec, pod = jobs["mmse-train"]
    command = pod["containers"][0]["command"]
    service = next(d for p, d in documents() if p.name == "training.yaml" and d["kind"] == "Service")
    assert f"--nnodes={spec['completions']}" in command
    assert spec["parallelism"] == spec["completions"]
    assert pod["subdomain"] == service["metadata"]["name"]
    assert f"--master-addr=mmse-train-0.{pod['subdomain']}" in command
    assert f"--master-port={service['spec']['ports'][0]['port']}" in command
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": "mmse-train"}
    assert all(spec["completionMode"] == "Indexed" for spec, _ in (jobs["mmse-embed"], jobs["mmse-train"]))


def test_sparks_master_is_where_its_workers_look() -> None:
    found = {d["metadata"]["name"]: d for p, d in documents() if p.name == "spark.yaml"}
    service, master = found["mmse-spark"], found["mmse-spark-master"]
    assert service["spec"]["selector"] == master["spec"]["template"]["metadata"]["labels"]
    address = f"spark://mmse-spark:{service['spec']['ports'][0]['port']}"
    assert address in found["mmse-spark-worker"]["spec"]["template"]["spec"]["containers"][0]["command"]
    assert f'master = "{address}"' in (DEPLOY / "kubernetes/batch/spark.yaml").read_text("utf-8")
    values = next(d for p, d in documents() if p.name == "milvus.yaml")
    assert f'uri = "http://milvus:{values["service"]["port"]}"' in (DEPLOY / "milvus.yaml").read_text("utf-8")


def test_pods_mount_volumes_that_exist_and_run_as_no_root() -> None:
    claims = {d["metadata"]["name"] for _, d in documents() if d.get("kind") == "PersistentVolumeClaim"}
    claims |= {"mmse-shop"}  # is the shop's own
    for name, _, pod in pods():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        used = {v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "persistentVolumeClaim" in v}
        assert used <= claims, name
        assert pod["securityContext"]["runAsUser"] == 10001
        for container in containers(pod):
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys(), name
            assert container["securityContext"]["readOnlyRootFilesystem"], name


@pytest.mark.skipif(find_spec("kubernetes_validate") is None, reason="kubernetes-validate is not installed")
def test_kubernetes_own_schema_takes_the_jobs() -> None:
    import kubernetes_validate

    for path, document in documents():
        if path.parent.name == "batch" and path.name != "kustomization.yaml":
            kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_the_page_has_every_metric_code_and_option() -> None:
    from mmse.serving.failures import STATUS

    for name in {re.sub(r"_(bucket|sum|count)$", "", series) for series in series_of_server()} - {"up"}:
        assert f"| `{name}` |" in PAGE
    rows = re.findall(r"^\| (\d{3}) \| ([^|]+) \|", PAGE, re.MULTILINE)
    assert {code: int(status) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)} == STATUS
    for limit in (f"{http.MAX_K:,}", str(http.MAX_BATCH), str(http.MAX_HISTORY), f"{http_admin.MAX_EDITS:,}"):
        assert f"| {limit} |" in PAGE


def test_what_the_page_tells_to_send_is_what_the_server_reads() -> None:
    kinds: dict[str, Any] = {
        "search": http.SearchRequest,
        "search/batch": http.SearchBatch,
        "embed": http.EmbedRequest,
        "items": http_admin.ItemEdits,
        "events": http_events.EventBatch,
        "versions/live": http_admin.SetLiveRequest,
        "items/kettle-1": dict,
    }
    chunks = re.split(r"^curl ", PAGE.split("## From Python")[0], flags=re.MULTILINE)
    sent = [found.groups() for one in chunks if (found := re.search(r"/v1/([\w/-]+) .*-d '(.*)'\n", one, re.DOTALL))]
    assert {route for route, _ in sent} == set(kinds)
    for route, body in sent:
        msgspec.json.decode(body, type=kinds[route])


def test_the_page_links_to_what_exists() -> None:
    for link in re.findall(r"\]\(([^)#h][^)]*)\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link
