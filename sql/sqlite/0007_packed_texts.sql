-- 0007_packed_texts.sql - texts of old messages as zstd frames.
--
-- A message is plain (`packed` NULL) or packed: then `content` is empty, `packed` the frame,
-- `packed_len` the bytes of the text and `packed_with` the dictionary, 0 for none.

ALTER TABLE messages ADD COLUMN packed BLOB;
ALTER TABLE messages ADD COLUMN packed_len INTEGER;
ALTER TABLE messages ADD COLUMN packed_with INTEGER;

-- Dictionaries are never changed.  Ids are random, so that none is given twice, not even
-- after a rollback; `trained_num` is the newest message there was.
CREATE TABLE text_dictionaries(
    generation INTEGER PRIMARY KEY,
    id INTEGER NOT NULL UNIQUE,
    trained_num INTEGER NOT NULL,
    bytes BLOB NOT NULL
) STRICT;

-- Bytes that packing has saved inside pages since the file was last rewritten.
INSERT INTO meta(name, value) VALUES('packed_saved', 0);

-- Every message up to this num was looked at by the compressor ...
INSERT INTO meta(name, value) VALUES('packed_num', 0);
-- ... but these were edited since and are plain again.
CREATE TABLE texts_again(
    num INTEGER PRIMARY KEY
) STRICT;
