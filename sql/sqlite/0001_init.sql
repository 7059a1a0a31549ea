-- 0001_init.sql - the first schema of a memfuse store.
--
-- Ids are 16-byte blobs, times are microseconds since 1970 UTC, text is UTF-8 compared
-- byte by byte.  `seq` and `num` give the order of creation.  Foreign keys have no
-- cascade on purpose: a delete that forgets a table fails instead of leaving rows behind.

CREATE TABLE meta(
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Every num ever deleted is at most this, so a num is never given twice.
INSERT INTO meta(name, value) VALUES('num_high', 0);

CREATE TABLE users(
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    description TEXT,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL
) STRICT;

CREATE TABLE agents(
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    description TEXT,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions(
    seq INTEGER PRIMARY KEY,
    user_id BLOB NOT NULL REFERENCES users(id),
    id BLOB NOT NULL UNIQUE,
    agent_id BLOB NOT NULL REFERENCES agents(id),
    name TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    UNIQUE(user_id, id),
    UNIQUE(user_id, name)
) STRICT;
CREATE INDEX sessions_by_user ON sessions(user_id, seq);
CREATE INDEX sessions_by_agent ON sessions(agent_id, seq);
CREATE INDEX sessions_by_name ON sessions(name, seq);

CREATE TABLE messages(
    num INTEGER PRIMARY KEY,
    user_id BLOB NOT NULL,
    session_id BLOB NOT NULL,
    id BLOB NOT NULL,
    round_id BLOB NOT NULL,
    role INTEGER NOT NULL,
    content TEXT NOT NULL,
    metadata TEXT,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    FOREIGN KEY(user_id, session_id) REFERENCES sessions(user_id, id)
) STRICT;
CREATE UNIQUE INDEX messages_by_id ON messages(id, user_id);
CREATE INDEX messages_by_session ON messages(user_id, session_id, num);

CREATE TABLE knowledge(
    num INTEGER PRIMARY KEY,
    user_id BLOB NOT NULL REFERENCES users(id),
    id BLOB NOT NULL,
    content TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX knowledge_by_id ON knowledge(user_id, id);
CREATE INDEX knowledge_by_num ON knowledge(user_id, num);

-- The encoders that made the vectors of this store.
CREATE TABLE models(
    model_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    dim INTEGER NOT NULL,
    UNIQUE(name, dim)
) STRICT;

-- Clustered by user, so that loading all vectors of one user reads neighbouring pages.
CREATE TABLE chunks(
    user_id BLOB NOT NULL REFERENCES users(id),
    kind INTEGER NOT NULL,
    num INTEGER NOT NULL,
    part INTEGER NOT NULL,
    part_count INTEGER NOT NULL,
    doc_updated_us INTEGER NOT NULL,
    model_id INTEGER NOT NULL,
    vector BLOB NOT NULL,
    PRIMARY KEY(user_id, kind, num, part)
) STRICT, WITHOUT ROWID;

CREATE TABLE backlog(
    user_id BLOB PRIMARY KEY REFERENCES users(id)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency(
    user_id BLOB NOT NULL REFERENCES users(id),
    key TEXT NOT NULL,
    fingerprint INTEGER NOT NULL,
    reply TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    PRIMARY KEY(user_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_by_age ON idempotency(created_us);

CREATE TABLE api_keys(
    seq INTEGER PRIMARY KEY,
    user_id BLOB NOT NULL REFERENCES users(id),
    id BLOB NOT NULL UNIQUE,
    name TEXT,
    hash BLOB NOT NULL,
    permissions TEXT,
    created_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL
) STRICT;
CREATE INDEX api_keys_by_user ON api_keys(user_id, seq);
