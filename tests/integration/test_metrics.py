"""GET /metrics, read by the parser of Prometheus's own client; GET /status beside it."""

import subprocess
import urllib.error
import urllib.request

import pytest
from harness import BINARY, SOURCE_DIR, UNKNOWN_ID, Server, run_cli
from prometheus_client.parser import text_string_to_metric_families

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def scrape(server, path="/metrics"):
    """The families of a page, as parsed by prometheus_client, by name."""
    with urllib.request.urlopen(server.url + path, timeout=60) as reply:
        assert reply.status == 200
        assert reply.headers["Content-Type"] == CONTENT_TYPE
        text = reply.read().decode()
    families = list(text_string_to_metric_families(text))
    names = [family.name for family in families]
    assert len(names) == len(set(names)), "a family is told in two places"
    told = [line.split(" ")[2] for line in text.splitlines() if line.startswith("# TYPE ")]
    assert len(told) == len(set(told)), "a family is told in two places"
    samples = [line.rsplit(" ", 1)[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(samples) == len(set(samples)), "a sample is told twice"
    for line in text.splitlines():
        if not line.startswith("#"):
            name = line.split("{")[0].split(" ")[0]
            stems = {name, *(name.removesuffix(tail) for tail in ("_bucket", "_sum", "_count"))}
            assert stems & set(told), f"{name} has no TYPE"
    for family in families:
        assert family.documentation, f"{family.name} has no HELP"
        assert family.type in ("counter", "gauge", "histogram", "summary"), family.name
    return {family.name: family for family in families}


def value(families, name, suffix="", **labels):
    found = [s.value for s in families[name].samples if s.name == name + suffix and s.labels == labels]
    assert len(found) == 1, (name, labels, families[name].samples)
    return found[0]


def test_every_family_is_understood_and_both_paths_answer(server):
    bare, below = scrape(server), scrape(server, "/api/v1/metrics")
    assert set(bare) == set(below)
    for name in (
        "process_cpu_seconds", "process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds",
        "memfuse_operation_duration_seconds", "memfuse_http_requests", "memfuse_writer_commits",
        "memfuse_users_left", "memfuse_pool_busy", "memfuse_breaker_state", "memfuse_errors_noted",
    ):  # fmt: skip
        assert name in bare
    assert value(bare, "process_resident_memory_bytes") > 1e6
    assert value(bare, "memfuse_build_info", version=bare["memfuse_build_info"].samples[0].labels["version"]) == 1


def test_operations_and_routes_count_what_was_done(server, api, user, session):
    before = scrape(server)
    api.add(session, "The harbour lights were green.")
    api.add(session, "The lighthouse keeper is called Marta.")
    for _ in range(3):
        api.query(user, "Who keeps the lighthouse?")
    assert api.get(f"/sessions/{UNKNOWN_ID}/messages").status == 404
    after = scrape(server)

    def grown(name, suffix="", **labels):
        return value(after, name, suffix, **labels) - value(before, name, suffix, **labels)

    assert grown("memfuse_operations_started", "_total", operation="add") == 2
    assert grown("memfuse_operation_duration_seconds", "_count", operation="query") == 3
    assert grown("memfuse_operation_duration_seconds", "_count", operation="query_cached") >= 1
    assert grown("memfuse_operations_refused", "_total", operation="list") == 1
    assert grown("memfuse_store_messages") == 2
    assert value(after, "memfuse_operations_in_flight", operation="add") == 0
    route = {"method": "POST", "route": "/sessions/{session_id}/messages"}
    assert value(after, "memfuse_http_requests", "_total", status="2xx", **route) >= 2
    assert value(after, "memfuse_http_request_duration_seconds", "_count", **route) >= 2


def test_buckets_of_a_histogram_rise_to_its_count(server, api, session):
    api.add(session, "Buckets rise.")
    families = scrape(server)
    seen = 0
    for name in ("memfuse_operation_duration_seconds", "memfuse_http_request_duration_seconds"):
        rows = {}
        for sample in families[name].samples:
            labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
            rows.setdefault(labels, []).append(sample)
        for labels, samples in rows.items():
            buckets = [(float(s.labels["le"]), s.value) for s in samples if s.name.endswith("_bucket")]
            count = [s.value for s in samples if s.name.endswith("_count")]
            assert buckets == sorted(buckets), labels
            assert [v for _, v in buckets] == sorted(v for _, v in buckets), labels
            assert buckets[-1] == (float("inf"), count[0]), labels
            seen += count[0] > 0
    assert seen >= 2


def test_the_page_of_metrics_is_what_the_program_prints():
    made = subprocess.run(
        [SOURCE_DIR / "tools" / "metrics_reference", BINARY], capture_output=True, text=True, check=True
    )
    assert (SOURCE_DIR / "docs" / "metrics.md").read_text() == made.stdout, "docs/metrics.md: run `make docs`"


def numbers(value, path=""):
    """The numbers of nested objects as {"a.b": 1}."""
    found = {}
    for key, inner in value.items():
        name = f"{path}.{key}" if path else key
        if isinstance(inner, dict):
            found.update(numbers(inner, name))
        elif isinstance(inner, (int, float)):
            found[name] = inner
    return found


def test_status_and_metrics_tell_the_same(server, api, user, session):
    api.add(session, "One figure, two doors.")
    api.flush(user)
    status = numbers(api.get("/status").data)
    metrics = scrape(server)
    pairs = {
        "store.messages": value(metrics, "memfuse_store_messages"),
        "store.chunks": value(metrics, "memfuse_store_chunks"),
        "writer.commits": value(metrics, "memfuse_writer_commits", "_total"),
        "embedder.encoded": value(metrics, "memfuse_embedder_encoded", "_total"),
        "users_active.count": value(metrics, "memfuse_users_active"),
        "operations.add.finished": value(metrics, "memfuse_operation_duration_seconds", "_count", operation="add"),
    }
    assert {name: status[name] for name in pairs} == pairs


def test_the_page_is_for_administrators_like_the_status(tmp_path):
    with Server(tmp_path / "data", model=False, settings=["server.api_key_validation=true"]) as guarded:
        with guarded.api_local() as admin:
            alice = admin.user("alice")
            key = admin.post(f"/users/{alice}/api-keys", {"name": "k"}).data["api_key"]["key"]
        for headers, status in (({}, 401), ({"X-API-Key": key}, 403)):
            for path in ("/metrics", "/api/v1/metrics", "/api/v1/status"):
                request = urllib.request.Request(guarded.url + path, headers=headers)
                with pytest.raises(urllib.error.HTTPError) as refused:
                    urllib.request.urlopen(request, timeout=60)
                assert refused.value.code == status, path


def test_without_a_model_its_figures_are_left_out(tmp_path):
    with Server(tmp_path / "data", model=False) as plain:
        families = scrape(plain)
        assert families["memfuse_embedder_texts"].samples == []
        assert families["memfuse_model_info"].samples == []
        assert value(families, "memfuse_store_users") == 0


def test_health_follows_its_settings_and_is_told_everywhere(tmp_path):
    settings = ["health.query_latency_ms.high=0", "health.query_latency_ms.alert=0"]
    with Server(tmp_path / "data", model=False, settings=settings) as running, running.api() as api:
        quiet = api.get("/status").data["health"]
        assert quiet["state"] == "healthy"  # the buffers' memory; all else is unknown
        assert quiet["query_latency_ms"]["state"] == "unknown" and quiet["query_latency_ms"]["value"] is None
        user = api.user("alice")
        for number in range(10):
            api.query(user, f"question {number}")
        health = api.get("/status").data["health"]
        assert health["state"] == "alert"
        assert health["query_latency_ms"]["state"] == "alert" and health["query_latency_ms"]["value"] > 0
        assert health["cache_hit_rate"]["state"] == "unknown"  # ten questions are too few
        families = scrape(running)
        assert value(families, "memfuse_health_state", indicator="query_latency_ms") == 3
        assert value(families, "memfuse_health_state", indicator="cache_hit_rate") == 0
        assert value(families, "memfuse_health_bound", indicator="cache_hit_rate", bound="alert") == 50


@pytest.mark.parametrize(
    "setting, told",
    [
        ("health.transfers.low=101", "must not be above health.transfers.high"),
        ("health.query_latency_ms.alert=99", "must not be above health.query_latency_ms.alert"),
        ("health.cache_hit_rate.alert=81", "must not be above health.cache_hit_rate.low"),
        ("health.cache_hit_rate.low=101", "health.cache_hit_rate.low is '101'; allowed: 0 to 100"),
        ("health.buffer_memory_mb.high=-1", "health.buffer_memory_mb.high is '-1'; allowed: 0 to 1048576"),
        ("health.buffer_memory_mb.high=many", "health.buffer_memory_mb.high is 'many'"),
    ],
)
def test_senseless_ranges_are_refused_by_name(tmp_path, setting, told):
    result = run_cli("serve", "--check-config", settings=[setting], cwd=tmp_path)
    assert result.returncode != 0
    assert told in result.stderr
