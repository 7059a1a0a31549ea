-- 0002_content_keys.sql - vectors can be found by the key of their text.
--
-- `content` is a keyed hash of the text, the model and its numbers (base/content_key.h);
-- NULL: unknown, as for every vector stored before.  It stands in the vector's own row, so
-- it leaves with it.

ALTER TABLE chunks ADD COLUMN content BLOB;
CREATE INDEX chunks_by_content ON chunks(content) WHERE content IS NOT NULL;

-- Random numbers of this store that nobody else knows.
CREATE TABLE secrets(
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO secrets(name, value) VALUES('content', randomblob(16));
