"""Buffers under faults, through the real binary: kills amid everything, 64 connections of one
user, queues that are full.

Several writers add, edit and delete at once, each in a session of its own, and keep what
they were told.  The server is killed in the middle and started again with other buffer
settings.  Then each session is what was acknowledged, with the one request that was not
answered done or not done.
"""

import http.client
import os
import random
import threading

import pytest
from harness import PATIENCE_S, Server

SEED = int(os.environ.get("MEMFUSE_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
WRITERS = 6
SESSION_MESSAGES = 80  # one listing shows at most 100

LIVES = [
    ["buffer.round_buffer.max_size=2"],
    ["buffer.enabled=false"],
    ["buffer.round_buffer.max_tokens=12", "user.active_max=1"],
    ["buffer.hybrid_buffer.max_size=1", "buffer.flush_interval_ms=10"],
    ["buffer.query.cache_size=0"],
    [],
]


class Writer(threading.Thread):
    """One of the writers above.  `state` is what was acknowledged: [[id, text]], in order."""

    def __init__(self, name, session, progress):
        super().__init__(daemon=True)
        self.label, self.session, self.progress = name, session, progress
        self.random = random.Random(f"{SEED}-{name}")
        self.state, self.dead = [], []
        self.maybe = None  # the state if the request under way happened
        self.words = 0
        self.server = None
        self.problem = None

    def again(self, server):
        """A thread runs once: the same writer in a new one."""
        other = Writer(self.label, self.session, self.progress)
        other.__dict__.update({k: v for k, v in self.__dict__.items() if not k.startswith("_")})
        other.server = server
        other.start()
        return other

    def run(self):
        try:
            with self.server.api() as api:
                while True:
                    self.step(api)
                    self.progress.release()
        except (OSError, http.client.HTTPException):
            pass  # killed: what this is about
        except Exception as problem:  # noqa: BLE001 - shown by the checker
            self.problem = problem

    def text(self):
        self.words += 1
        return f"{self.label}x{self.words} keeps a word" + " and more" * self.random.choice((0, 0, 3, 60))

    def step(self, api):
        path = f"/sessions/{self.session}/messages"
        dice = self.random.random()
        if not self.state or (dice < 0.6 and len(self.state) < SESSION_MESSAGES):
            texts = [self.text() for _ in range(self.random.randint(1, 3))]
            self.maybe = [*self.state, *([None, text] for text in texts)]
            body = {"messages": [{"role": "user", "content": text} for text in texts]}
            reply = api.post(path, body)
            assert reply.status == 201, reply
            self.state += [list(pair) for pair in zip(reply.data["message_ids"], texts, strict=True)]
        elif dice < 0.8 and len(self.state) < SESSION_MESSAGES:
            at = self.random.randrange(len(self.state))
            old, new = self.state[at], [self.state[at][0], self.text()]
            self.maybe = [*self.state[:at], new, *self.state[at + 1 :]]
            body = {"message_ids": [old[0]], "new_messages": [{"role": "user", "content": new[1]}]}
            assert api.put(path, body).status == 200
            self.state[at] = new
            self.dead.append(old[1])
        else:
            at = self.random.randrange(len(self.state))
            old = self.state[at]
            self.maybe = self.state[:at] + self.state[at + 1 :]
            assert api.delete(path, {"message_ids": [old[0]]}).status == 200
            del self.state[at]
            self.dead.append(old[1])
        self.maybe = None

    def settle(self, api, user):
        assert self.problem is None, self.problem
        shown = [[m["id"], m["content"]] for m in api.messages(self.session, order="asc", limit=100)]
        if [text for _, text in shown] != [text for _, text in self.state]:
            assert self.maybe is not None, (self.label, shown, self.state)
            assert [text for _, text in shown] == [text for _, text in self.maybe]
            gone = {text for _, text in self.state} - {text for _, text in shown}
            self.dead += gone
        else:
            assert shown == self.state
        self.state, self.maybe = shown, None
        window = api.texts(self.session, order="asc", limit=100, buffer_only="true")
        rest = api.texts(self.session, order="asc", limit=100, buffer_only="false")
        assert rest + window == [text for _, text in self.state]
        for message_id, text in self.random.sample(self.state, min(5, len(self.state))):
            hits = api.query(user, text.split()[0], store_type="keyword", top_k=3)
            assert [h["id"] for h in hits] == [message_id], text
        for text in self.dead[-5:]:
            assert api.query(user, text.split()[0], store_type="keyword", top_k=3) == [], text


def test_kills_amid_adds_edits_and_deletes_with_changing_buffers(tmp_path):
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    progress = threading.Semaphore(0)
    writers, users = [], []
    for life, settings in enumerate(LIVES):
        with Server(tmp_path / "data", settings=settings) as server:
            with server.api() as api:
                if not users:
                    agent = api.agent("agent")
                    users = [api.user(f"user {i}") for i in range(2)]
                    sessions = [api.session(users[i % 2], agent) for i in range(WRITERS)]
                    writers = [Writer(f"w{i}", s, progress) for i, s in enumerate(sessions)]
                for i, writer in enumerate(writers):
                    writer.settle(api, users[i % 2])
            if life == len(LIVES) - 1:
                with server.api() as api:
                    for user in users:
                        api.flush(user)
                    stored = api.get("/status").data["store"]
                    assert stored["messages"] == sum(len(w.state) for w in writers)
                break
            writers = [writer.again(server) for writer in writers]
            for _ in range(chance.randint(30, 150)):
                assert progress.acquire(timeout=PATIENCE_S), "the writers stand still"
            server.kill()
            for writer in writers:
                writer.join(PATIENCE_S)
                assert not writer.is_alive()


@pytest.mark.parametrize("settings", [[], ["buffer.enabled=false"], ["user.active_max=1"]])
def test_one_user_writes_from_64_connections(tmp_path, settings):
    connections, adds, sessions_count = 64, 11, 8
    with Server(tmp_path / "data", settings=settings) as server, server.api() as api:
        user, other, agent = api.user("u"), api.user("other"), api.agent("a")
        sessions = [api.session(user, agent) for _ in range(sessions_count)]
        problems = []

        def write(number):
            try:
                with server.api() as own:
                    for i in range(adds):
                        own.add(sessions[number % sessions_count], f"c{number}n{i} from a connection")
                        if i == adds // 2:
                            own.query(other, "somebody else")
            except Exception as problem:  # noqa: BLE001 - shown below
                problems.append((number, problem))

        threads = [threading.Thread(target=write, args=(i,)) for i in range(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert not problems, problems[0]
        for s, session in enumerate(sessions):
            words = [text.split()[0] for text in api.texts(session, order="asc", limit=100)]
            assert len(words) == adds * connections // sessions_count
            for number in range(s, connections, sessions_count):
                own = [word for word in words if word.startswith(f"c{number}n")]
                assert own == [f"c{number}n{i}" for i in range(adds)], "order of a connection"
        api.flush(user)
        assert api.get("/status").data["store"]["messages"] == connections * adds
        stats = api.get(f"/chunks/stats?user_id={user}").data
        assert stats["total_chunks"] == stats["by_store"]["vector"] == connections * adds


@pytest.mark.parametrize("setting", ["store.queue_max=1", "server.queue_max=1"])
def test_a_full_queue_says_so_and_keeps_exactly_what_it_acknowledged(tmp_path, setting):
    with Server(tmp_path / "data", model=False, settings=[setting, "server.workers=2"]) as server:
        refused = 0
        kept = {}
        lock = threading.Lock()
        with server.api() as api:
            user, agent = api.user("u"), api.agent("a")
            sessions = [api.session(user, agent) for _ in range(32)]

            def write(number, round_number):
                nonlocal refused
                with server.api() as own:
                    for i in range(3):
                        text = f"r{round_number}c{number}n{i}"
                        body = {"messages": [{"role": "user", "content": text}]}
                        reply = own.post(f"/sessions/{sessions[number]}/messages", body)
                        assert reply.status in (201, 503), reply
                        with lock:
                            if reply.status == 201:
                                kept.setdefault(number, []).append(text)
                            else:
                                assert int(reply.headers["Retry-After"]) >= 1
                                refused += 1

            for round_number in range(25):
                threads = [threading.Thread(target=write, args=(i, round_number)) for i in range(32)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(PATIENCE_S)
                if refused > 0:
                    break
            assert refused > 0, "the queue was never full"
            assert kept, "everything was refused"
            for number, session in enumerate(sessions):
                assert api.texts(session, order="asc", limit=100) == kept.get(number, [])


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_at_each_commit_loses_nothing_and_all_is_embedded_later(tmp_path, moment):
    """The commits of a few adds and of the vectors that follow, one kill at each of them."""
    kills = 0
    for hit in range(4, 16):
        server = Server(
            tmp_path / str(hit),
            settings=["buffer.hybrid_buffer.max_size=1"],
            env={"MEMFUSE_FAULT": f"store.commit.{moment}:{hit}:kill"},
        )
        kept, session, user = [], None, None
        try:
            server.start()
            with server.api() as api:
                user = api.user("u")
                session = api.session(user, api.agent("a"))
                for i in range(6):
                    api.add(session, f"word{i} is kept")
                    kept.append(f"word{i} is kept")
                api.flush(user)
        except (OSError, http.client.HTTPException):
            kills += 1
        server.kill()
        server.env = {}
        if session is None:
            continue
        with server, server.api() as api:
            texts = api.texts(session, order="asc", limit=100)
            assert texts[: len(kept)] == kept and len(texts) <= len(kept) + 1
            api.flush(user)
            stats = api.get(f"/chunks/stats?user_id={user}").data
            assert stats["by_store"]["vector"] == stats["total_chunks"] == len(texts)
    assert kills >= 5, "the fault point was hardly met"
