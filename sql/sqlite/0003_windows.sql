-- 0003_windows.sql - how far each recent window has been emptied.
--
-- Messages up to `num` of a session are outside of its recent window, whatever the limits
-- say.  A session_id of sixteen zero bytes stands for every session of the user.

CREATE TABLE windows(
    user_id BLOB NOT NULL REFERENCES users(id),
    session_id BLOB NOT NULL,
    num INTEGER NOT NULL,
    PRIMARY KEY(user_id, session_id)
) STRICT, WITHOUT ROWID;
