"""`memfuse model`: models are fetched whole or not at all, listed, told about and checked."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest
import tiny_model
from harness import BINARY, MODEL_DIR, PATIENCE_S, SOURCE_DIR, clean_environment, run_cli
from model_hub import COMMIT, Hub

REPO = "some-lab/tiny-encoder"
WEIGHTS = "model.safetensors"
FILES = tiny_model.files()
SIZE = len(FILES[WEIGHTS])


@pytest.fixture
def hub():
    with Hub() as running:
        running.add(REPO, FILES)
        yield running


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


def pull(hub, data, *arguments, model=REPO, **options):
    return run_cli("model", "pull", model, "--hub", hub.url, *arguments, data=data, **options)


def good(ran):
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def failure(ran, text, code=1):
    assert ran.returncode == code and ran.stdout == "" and ran.stderr.startswith("memfuse: "), ran
    assert text in ran.stderr


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def check_whole(folder, files=None, source=None):
    """The folder holds what the hub has, its checksums, and packed weights; nothing else."""
    files = files or FILES
    packs = [p.name for p in folder.glob("*.mfpack")]
    assert names(folder) == sorted([*files, "SHA256SUMS", *packs])
    for name, content in files.items():
        assert (folder / name).read_bytes() == content
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    sums = (folder / "SHA256SUMS").read_text()
    assert len([line for line in sums.splitlines() if not line.startswith("#")]) == len(files)
    if source:
        assert sums.startswith(f"# {source}\n")


def nothing_in_place(data):
    models = data / "models"
    assert not models.exists() or all(p.name.startswith(".") for p in models.iterdir())
    assert json.loads(good(run_cli("model", "list", "--json", data=data))) == []


# --- pull ----------------------------------------------------------------------------------------


def test_a_model_is_fetched_and_works(hub, data):
    told = json.loads(good(pull(hub, data, "--json")))
    folder = data / "models" / "tiny-encoder"
    assert told == {
        "name": "tiny-encoder",
        "path": str(folder),
        "source": f"{hub.url}/{REPO}",
        "commit": COMMIT,
        "files": len(FILES),
        "bytes": sum(map(len, FILES.values())),
    }
    check_whole(folder, source=f"{hub.url}/{REPO} at {COMMIT}")
    assert {p.name for p in (data / "models").iterdir()} == {"tiny-encoder", ".pull.lock"}
    assert oct(folder.stat().st_mode & 0o777) == "0o700"
    vector = run_cli("embed", "--model", "tiny-encoder", data=data, stdin="red cats\n")
    assert len(json.loads(good(vector))) == tiny_model.HIDDEN


def test_files_are_of_one_commit(hub, data):
    good(pull(hub, data))
    paths = [path for path, _ in hub.requests_seen if not path.startswith("/store")]
    assert paths[0] == f"/{REPO}/resolve/main/config.json"
    assert all(path.startswith(f"/{REPO}/resolve/{COMMIT}/") for path in paths[1:])


@pytest.mark.parametrize(
    "how", ["--revision v1.2", "--revision refs/pr/3", "URL", "URL/", "URL/tree/v1.2", "URL/tree/refs/pr/3?x=1#y"]
)
def test_revisions_and_urls_are_understood(hub, data, how):
    hub.commit = ""
    for revision in ("v1.2", "refs/pr/3"):
        hub.add(REPO, {**FILES, "tokenizer_config.json": json.dumps({"of": revision}).encode()}, revision)
    if how.startswith("--"):
        ran = pull(hub, data, *how.split())
    else:
        ran = run_cli("model", "pull", how.replace("URL", f"{hub.url}/{REPO}"), data=data)
    good(ran)
    revision = next((r for r in ("v1.2", "refs/pr/3") if r in how), None)
    of = (data / "models/tiny-encoder/tokenizer_config.json").read_bytes()
    assert json.loads(of).get("of") == revision


def test_a_bare_name_is_of_the_usual_owner(hub, data):
    hub.add("sentence-transformers/tiny", FILES)
    good(pull(hub, data, model="tiny"))
    check_whole(data / "models" / "tiny")


def test_the_hub_comes_from_option_setting_or_environment(hub, data):
    unused = "http://127.0.0.1:9"
    for number, (arguments, settings, env) in enumerate(
        [
            ([], [f"model.hub={hub.url}"], {"HF_ENDPOINT": unused}),
            (["--hub", hub.url + "/"], [f"model.hub={unused}"], {"HF_ENDPOINT": unused}),
            ([], [], {"HF_ENDPOINT": hub.url}),
            ([], [], {"MEMFUSE_MODEL_HUB": hub.url, "HF_ENDPOINT": unused}),
        ]
    ):
        name = f"copy{number}"
        good(run_cli("model", "pull", REPO, "--name", name, *arguments, data=data, settings=settings, env=env))
        check_whole(data / "models" / name)


def test_a_model_in_place_is_replaced_only_by_force(hub, data):
    good(pull(hub, data))
    folder = data / "models" / "tiny-encoder"
    (folder / "mark").write_text("mine")
    seen = len(hub.requests_seen)
    failure(pull(hub, data), "--force")
    assert len(hub.requests_seen) == seen and (folder / "mark").exists()
    newer = tiny_model.files(seed=2)
    hub.add(REPO, newer)
    good(pull(hub, data, "--force"))
    check_whole(folder, newer)


def test_only_files_that_exist_are_wanted(hub, data):
    few = {name: FILES[name] for name in ("config.json", "vocab.txt", WEIGHTS)}
    hub.add("a/few", few)
    good(pull(hub, data, model="a/few"))
    check_whole(data / "models" / "few", few)


KINDS = sorted(p.parent for p in (SOURCE_DIR / "tests/data/golden/models").glob("*/reference.json"))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_of_model_is_fetched_told_about_and_checked(hub, data, kind):
    """Tiny models as the reference libraries save them (docs/models.md)."""
    extra = {"reference.json", "unigram.json"}
    files = {name: (kind / name).read_bytes() for name in names(kind) if name not in extra}
    hub.add(f"kinds/{kind.name}", files)
    good(pull(hub, data, model=f"kinds/{kind.name}"))
    folder = data / "models" / kind.name
    assert (folder / WEIGHTS).read_bytes() == files[WEIGHTS]
    ranks = "ForSequenceClassification" in files["config.json"].decode()
    (listed,) = json.loads(good(run_cli("model", "list", "--json", data=data)))
    info = json.loads(good(run_cli("model", "info", kind.name, "--json", data=data)))
    assert listed["usable"] and listed["task"] == info["task"] == ("rank" if ranks else "encode")
    assert listed["kind"] == json.loads(files["config.json"])["model_type"]
    report = json.loads(run_cli("model", "verify", kind.name, "--json", data=data).stdout)
    assert report["files"]["checked"] >= 3 and report["files"]["wrong"] == []
    embedded = run_cli("embed", "--model", kind.name, data=data, stdin="a text\n")
    if ranks:
        assert report["precisions"] == [] and report["passed"]
        failure(embedded, "reranker")
    else:
        assert report["precisions"][0]["cosine_min"] > 0.9
        assert len(json.loads(good(embedded))) == listed["dim"]


# --- encryption ----------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path):
    """A certificate of 127.0.0.1 that only those trust who are told to."""
    file = tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*command.split(), "-keyout", file, "-out", file], check=True, capture_output=True)
    return file


def test_https_is_spoken_with_a_hub_that_is_trusted(certificate, data):
    with Hub(certificate) as hub:
        hub.add(REPO, FILES)
        failure(pull(hub, data), "certificate")
        assert hub.requests_seen == []
        nothing_in_place(data)
        good(pull(hub, data, env={"SSL_CERT_FILE": str(certificate)}))
        check_whole(data / "models" / "tiny-encoder", source=f"{hub.url}/{REPO} at {COMMIT}")


def test_a_redirect_does_not_leave_https(certificate, hub, data):
    with Hub(certificate) as trusted:
        trusted.add(REPO, FILES)
        trusted.linked[WEIGHTS] = {"Location": f"{hub.url}/store/{REPO}/resolve/main/{WEIGHTS}"}
        failure(pull(trusted, data, env={"SSL_CERT_FILE": str(certificate)}), "cannot fetch")
        assert hub.requests_seen == []
        nothing_in_place(data)


# --- broken connections --------------------------------------------------------------------------


def test_a_cut_connection_is_taken_up_where_it_broke(hub, data):
    hub.cuts[WEIGHTS] = [SIZE // 4, 0, SIZE // 4, 10]
    good(pull(hub, data))
    check_whole(data / "models" / "tiny-encoder")
    ranges = [r for path, r in hub.requests_seen if path.startswith("/store")]
    assert ranges == [
        None,
        f"bytes={SIZE // 4}-",
        f"bytes={SIZE // 4}-",
        f"bytes={SIZE // 4 * 2}-",
        f"bytes={SIZE // 4 * 2 + 10}-",
    ]


def test_a_server_that_is_busy_is_asked_again(hub, data):
    hub.statuses["vocab.txt"] = [503, 429]
    good(pull(hub, data))
    check_whole(data / "models" / "tiny-encoder")


def test_a_pull_goes_on_where_an_earlier_one_gave_up(hub, data):
    hub.cuts[WEIGHTS] = [SIZE // 2, 0, 0, 0, 0]
    failure(pull(hub, data), "goes on from here")
    nothing_in_place(data)
    hub.cuts.clear()
    hub.requests_seen.clear()
    good(pull(hub, data))
    assert hub.asked_for(WEIGHTS)[0] == f"bytes={SIZE // 2}-"
    check_whole(data / "models" / "tiny-encoder")


def test_weights_that_were_whole_are_not_sent_again(hub, data):
    spoilt = {**FILES, "vocab.txt": b"[PAD]\n[PAD]\n"}
    hub.add(REPO, spoilt)
    failure(pull(hub, data), "vocab.txt")
    nothing_in_place(data)
    hub.add(REPO, FILES)
    hub.requests_seen.clear()
    good(pull(hub, data))
    assert set(hub.asked_for(WEIGHTS)) == {f"bytes={SIZE}-"}
    check_whole(data / "models" / "tiny-encoder")


@pytest.mark.parametrize("direct", [False, True])
def test_a_part_of_another_version_is_thrown_away(hub, data, direct):
    hub.direct = direct
    hub.cuts[WEIGHTS] = [SIZE // 2, 0, 0, 0, 0]
    failure(pull(hub, data), "goes on from here")
    newer = tiny_model.files(seed=2)
    hub.add(REPO, newer)
    hub.cuts.clear()
    good(pull(hub, data))
    check_whole(data / "models" / "tiny-encoder", newer)


def test_a_part_of_another_model_is_thrown_away(hub, data):
    hub.cuts[WEIGHTS] = [SIZE // 2, 0, 0, 0, 0]
    failure(pull(hub, data), "goes on from here")
    hub.cuts.clear()
    few = {name: tiny_model.files(seed=3)[name] for name in ("config.json", "vocab.txt", WEIGHTS)}
    hub.add("other-lab/tiny-encoder", few)
    good(pull(hub, data, model="other-lab/tiny-encoder"))
    check_whole(data / "models" / "tiny-encoder", few)


def test_a_server_without_ranges_starts_again(hub, data):
    hub.ranges = False
    hub.cuts[WEIGHTS] = [SIZE // 2, 100]
    good(pull(hub, data))
    check_whole(data / "models" / "tiny-encoder")


def test_a_signal_stops_it_and_the_next_goes_on(hub, data):
    gate = threading.Event()
    hub.cuts[WEIGHTS] = [SIZE // 2]
    handler = hub.RequestHandlerClass
    send = handler.send_file

    def send_and_wait(self, name, content):
        if name == WEIGHTS and not hub.cuts.get(WEIGHTS):
            gate.wait(PATIENCE_S)
        return send(self, name, content)

    handler.send_file = send_and_wait
    try:
        command = [str(BINARY), "model", "pull", REPO, "--hub", hub.url, "--data", str(data)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment()
        ) as process:
            deadline = time.monotonic() + PATIENCE_S
            while len(hub.asked_for(WEIGHTS)) < 4:  # the second time by way of the redirect
                assert time.monotonic() < deadline
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == -signal.SIGTERM
    finally:
        gate.set()
        handler.send_file = send
    nothing_in_place(data)
    good(pull(hub, data))
    check_whole(data / "models" / "tiny-encoder")


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "told, reason",
    [
        ({"X_Linked_Etag": '"' + "0" * 64 + '"'}, "SHA-256"),
        ({"X_Linked_Size": str(SIZE + 1)}, "bytes"),
        ({"X_Linked_Size": "1"}, "bytes"),
    ],
)
def test_weights_that_are_not_what_the_hub_says_are_refused(hub, data, told, reason):
    hub.linked[WEIGHTS] = told
    failure(pull(hub, data), reason)
    nothing_in_place(data)
    hub.linked.clear()
    good(pull(hub, data))
    check_whole(data / "models" / "tiny-encoder")


@pytest.mark.parametrize(
    "change, reason",
    [
        ({WEIGHTS: FILES[WEIGHTS][:-4]}, WEIGHTS),
        ({WEIGHTS: b"\xff" * 1000}, WEIGHTS),
        ({WEIGHTS: tiny_model.safetensors(spoil="embeddings.LayerNorm.bias")}, "embeddings.LayerNorm.bias"),
        ({WEIGHTS: b""}, WEIGHTS),
        ({"config.json": b"{"}, "config.json"),
        ({"config.json": b'{"model_type":"gpt2"}'}, "not for memfuse"),
        ({"modules.json": b'[{"path":"../../escape"}]'}, "modules.json"),
        ({"modules.json": b'[{"path":"/etc"}]'}, "modules.json"),
        ({"modules.json": b'[{"path":".hidden"}]'}, "modules.json"),
        ({"modules.json": b"nonsense"}, "modules.json"),
        ({WEIGHTS: None}, "no model.safetensors"),
        ({"vocab.txt": None}, "vocab.txt"),
        ({"config.json": None}, "config.json"),
    ],
)
def test_a_model_that_is_not_sound_never_gets_into_place(hub, data, tmp_path, change, reason):
    hub.add(REPO, {name: content for name, content in {**FILES, **change}.items() if content is not None})
    failure(pull(hub, data), reason)
    nothing_in_place(data)
    assert {p.name for p in tmp_path.iterdir()} == {"data"}
    assert {p.name for p in data.iterdir()} == {"models"}


def test_a_network_that_cannot_run_is_refused_before_its_weights_are_fetched(hub, data):
    hub.add(REPO, {**FILES, "config.json": b'{"model_type":"gpt2"}'})
    failure(pull(hub, data), "not for memfuse")
    assert hub.asked_for(WEIGHTS) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["../x"],
        ["a/b/c"],
        ["a/.b"],
        [""],
        ["a/"],
        ["a b"],
        ["a/b\n"],
        ["https://"],
        ["http:///a/b"],
        ["https://user:secret@example.com/a/b"],
        ["ftp://127.0.0.1/a/b"],
        [REPO, "--revision", "../main"],
        [REPO, "--revision", ""],
        [REPO, "--name", "../x"],
        [REPO, "--name", "a/b"],
        [REPO, "--hub", "127.0.0.1"],
        [REPO, "--hub", "file:///etc"],
        [],
        [REPO, "another"],
    ],
)
def test_names_that_are_none_are_exit_code_2(tmp_path, arguments):
    failure(run_cli("model", "pull", *arguments, cwd=tmp_path), "", code=2)
    assert list(tmp_path.iterdir()) == []


def test_unknown_models_and_revisions_are_told(hub, data):
    failure(pull(hub, data, model="some-lab/none"), "no model 'some-lab/none'")
    failure(pull(hub, data, "--revision", "v9"), "revision 'v9'")
    nothing_in_place(data)


def test_a_hub_out_of_reach_is_told(data):
    ran = run_cli("model", "pull", REPO, "--hub", "http://127.0.0.1:9", data=data)
    failure(ran, "http://127.0.0.1:9/some-lab/tiny-encoder")
    nothing_in_place(data)


def test_a_redirect_leads_nowhere_but_to_the_web(hub, data, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(FILES[WEIGHTS])
    hub.linked[WEIGHTS] = {"Location": f"file://{secret}"}
    failure(pull(hub, data), "cannot fetch")
    nothing_in_place(data)


def test_a_redirect_without_end_is_left(hub, data):
    hub.linked[WEIGHTS] = {"Location": f"/{REPO}/resolve/main/{WEIGHTS}"}
    failure(pull(hub, data), "redirect")
    nothing_in_place(data)


def test_two_pulls_at_once_take_turns(hub, data):
    gate = threading.Event()
    handler = hub.RequestHandlerClass
    send = handler.send_file

    def send_later(self, name, content):
        gate.wait(PATIENCE_S)
        return send(self, name, content)

    handler.send_file = send_later
    try:
        command = [str(BINARY), "model", "pull", REPO, "--hub", hub.url, "--data", str(data)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=clean_environment()) as first:
            deadline = time.monotonic() + PATIENCE_S
            while not hub.requests_seen:
                assert time.monotonic() < deadline
            failure(pull(hub, data), "another pull")
            gate.set()
            assert first.wait(PATIENCE_S) == 0
    finally:
        gate.set()
        handler.send_file = send
    check_whole(data / "models" / "tiny-encoder")


# --- list and info -------------------------------------------------------------------------------


def test_models_are_listed_with_what_they_are(hub, data):
    good(pull(hub, data))
    (data / "models" / "all-MiniLM-L6-v2").symlink_to(MODEL_DIR)
    broken = data / "models" / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    listed = {model["name"]: model for model in json.loads(good(run_cli("model", "list", "--json", data=data)))}
    assert list(listed) == ["all-MiniLM-L6-v2", "broken", "tiny-encoder"]
    tiny, real = listed["tiny-encoder"], listed["all-MiniLM-L6-v2"]
    assert (tiny["kind"], tiny["dim"], tiny["layers"], tiny["window"]) == ("bert", tiny_model.HIDDEN, 2, 32)
    assert tiny["bytes"] == sum(f.stat().st_size for f in (data / "models/tiny-encoder").rglob("*") if f.is_file())
    assert (real["dim"], real["layers"], real["window"]) == (384, 6, 256)
    assert real["precisions"][0] == "fp32" and real["usable"] and real["problem"] is None
    assert not listed["broken"]["usable"] and "config.json" in listed["broken"]["problem"]
    text = good(run_cli("model", "list", data=data)).splitlines()
    assert [line.split()[0] for line in text] == list(listed)
    assert "384 dimensions" in text[0] and "fp32" in text[0] and "not usable" in text[1]


def test_info_tells_what_a_model_is(hub, data):
    good(pull(hub, data))
    info = json.loads(good(run_cli("model", "info", "tiny-encoder", "--json", "--sha256", data=data)))
    assert (info["dim"], info["layers"], info["heads"], info["window"]) == (tiny_model.HIDDEN, 2, 2, 32)
    assert info["vocab"] == len(tiny_model.WORDS) and info["pooling"] == "mean"
    assert info["parameters"] == sum(
        shape[0] * (shape[1] if len(shape) > 1 else 1) for _, shape in tiny_model.shapes()
    )
    sums = {file["name"]: file for file in info["files"]}
    for name, content in FILES.items():
        assert sums[name]["bytes"] == len(content)
        assert sums[name]["sha256"] == sums[name]["recorded"] == hashlib.sha256(content).hexdigest()
    plain = json.loads(good(run_cli("model", "info", "tiny-encoder", "--json", data=data)))
    assert all(file["sha256"] is None for file in plain["files"])


def test_info_measures_the_real_model(data):
    for precision, packed in (("int8", ("mapped", "made")), ("fp32", ("none",))):
        info = json.loads(good(run_cli("model", "info", MODEL_DIR, "--json", "--precision", precision)))
        assert info["precision"] == precision and info["packed"] in packed
        assert (info["dim"], info["layers"], info["heads"], info["inner"]) == (384, 6, 12, 1536)
        assert info["open_ms"] > 0 and info["resident_bytes"] > 1 << 20
    text = good(run_cli("model", "info", MODEL_DIR))
    for wanted in ("6 layers", "12 heads", "mean pooling", "256 in a window", "kernels", "ms", WEIGHTS):
        assert wanted in text
    failure(run_cli("model", "info", "nothing", data=data), "nothing")


# --- verify --------------------------------------------------------------------------------------


@pytest.fixture
def few_sentences(tmp_path):
    """Eighty short ones: with sanitizers, those that are built in take minutes."""
    file = tmp_path / "few sentences"
    file.write_text("".join(f"{thing} number {i}\n" for i in range(1, 41) for thing in ("the train", "a recipe")))
    return file


def test_the_real_model_is_sound(few_sentences):
    report = json.loads(good(run_cli("model", "verify", MODEL_DIR, "--json", "--sentences", few_sentences)))
    assert report["passed"] and report["files"]["wrong"] == []
    int8 = report["precisions"][0]
    assert int8["precision"] == "int8" and int8["sentences"] == 80
    assert int8["cosine_min"] >= 0.99 and int8["cosine_mean"] >= 0.995 and int8["recall_at_10"] >= 0.97


def test_sentences_of_a_file_are_compared_on(tmp_path):
    file = tmp_path / "sentences"
    file.write_text("".join(f"{thing} number {i}\n" for i in range(40) for thing in ("the train", "a recipe")))
    ran = run_cli("model", "verify", MODEL_DIR, "--json", "--sentences", file)
    report = json.loads(ran.stdout)
    assert report["precisions"][0]["sentences"] == 80
    assert ran.returncode == (0 if report["passed"] else 1)
    text = run_cli("model", "verify", MODEL_DIR, "--sentences", file).stdout
    assert "cosine" in text and text.rstrip().endswith("sound")
    file.write_text("only one\n")
    failure(run_cli("model", "verify", MODEL_DIR, "--sentences", file), "two sentences")
    file.write_bytes(b"one\ntwo\xff\n")
    failure(run_cli("model", "verify", MODEL_DIR, "--sentences", file), f"{file}:2: ")
    failure(run_cli("model", "verify", MODEL_DIR, "--sentences", tmp_path / "none"), "none")


def test_a_file_changed_after_the_pull_is_found(hub, data):
    good(pull(hub, data))
    folder = data / "models" / "tiny-encoder"
    before = json.loads(run_cli("model", "verify", "tiny-encoder", "--json", data=data).stdout)
    assert before["files"] == {"checked": len(FILES), "wrong": []}
    (folder / "tokenizer_config.json").write_bytes(b'{"do_lower_case": true }')
    ran = run_cli("model", "verify", "tiny-encoder", "--json", data=data)
    report = json.loads(ran.stdout)
    assert ran.returncode == 1 and not report["passed"]
    assert report["files"] == {"checked": len(FILES), "wrong": ["tokenizer_config.json"]}
    text = run_cli("model", "verify", "tiny-encoder", data=data)
    assert text.returncode == 1 and "tokenizer_config.json differs" in text.stdout and "NOT sound" in text.stdout
    os.remove(folder / "1_Pooling/config.json")
    report = json.loads(run_cli("model", "verify", "tiny-encoder", "--json", data=data).stdout)
    assert report["files"]["wrong"] == ["tokenizer_config.json", "1_Pooling/config.json"]


def test_the_model_of_the_set_up_has_its_checksums(tmp_path, few_sentences):
    """The sums that set-up checks against, put beside the model as set-up does."""
    folder = tmp_path / "model"
    shutil.copytree(MODEL_DIR, folder, ignore=shutil.ignore_patterns("SHA256SUMS"))
    sums = (SOURCE_DIR / "tools/model.sha256").read_text()
    (folder / "SHA256SUMS").write_text(re.sub("all-MiniLM-L6-v2/", "", re.sub(r"(?m)^.*tiktoken\n", "", sums)))
    report = json.loads(good(run_cli("model", "verify", folder, "--json", "--sentences", few_sentences)))
    assert report["passed"] and report["files"] == {"checked": 10, "wrong": []}


def test_bench_is_that_of_the_encoder(data):
    failure(run_cli("model", "bench", "nothing", data=data), "nothing")
    failure(run_cli("model", "bench", MODEL_DIR, "--precision", "int3"), "int3")
