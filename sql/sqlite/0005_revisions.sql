-- 0005_revisions.sql - what a message's vectors depend on besides its own text.
--
-- A chunk can be cut from several messages.  When one of them changes, the revision of the
-- others is raised, and a vector made from the old texts is refused because it carries the
-- old revision.

ALTER TABLE messages ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
