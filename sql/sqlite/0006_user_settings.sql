-- 0006_user_settings.sql - settings in which a user differs from everybody else.
--
-- One row per key; `value` is the text a settings file would have.

CREATE TABLE user_settings(
    user_id BLOB NOT NULL REFERENCES users(id),
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    updated_us INTEGER NOT NULL,
    PRIMARY KEY(user_id, key)
) STRICT, WITHOUT ROWID;
