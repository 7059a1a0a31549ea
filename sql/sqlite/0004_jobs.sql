-- 0004_jobs.sql - background work that is owed.
--
-- A job is written in the transaction that makes it necessary.  Those of one user and kind
-- are a lane: one at a time, in the order of `num`.  `state` says where in it a job stands:
--   0 behind another   1 the next of its lane   2 running   3 dead
-- so that finding a job to run never walks over those that have to wait.
--
-- `user_id` is 16 zero bytes for the store's own jobs, and therefore refers to no table.

CREATE TABLE jobs(
    num INTEGER PRIMARY KEY,
    user_id BLOB NOT NULL,
    id BLOB NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    dedupe TEXT,
    priority INTEGER NOT NULL,
    state INTEGER NOT NULL,
    runs INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    due_us INTEGER NOT NULL,
    lease_us INTEGER NOT NULL,
    error TEXT,
    payload TEXT NOT NULL
) STRICT;
CREATE INDEX jobs_by_lane ON jobs(user_id, kind, state, num);
CREATE INDEX jobs_by_user ON jobs(user_id, num);
CREATE INDEX jobs_by_key ON jobs(user_id, kind, dedupe) WHERE dedupe IS NOT NULL;
CREATE INDEX jobs_ready ON jobs(kind, priority, due_us, num) WHERE state = 1;
CREATE INDEX jobs_running ON jobs(lease_us) WHERE state = 2;
