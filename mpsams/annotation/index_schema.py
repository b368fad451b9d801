"""The tables of the index of a project, and the change that each line of the log makes to them."""

from __future__ import annotations

VERSION = 8
TABLES = """
CREATE TABLE items (
    number INTEGER PRIMARY KEY,              -- in the order they were added
    id TEXT NOT NULL UNIQUE,                 -- the beginning of the sha256 of the image
    status TEXT NOT NULL,                    -- new, proposed, in work, accepted, skipped
    priority REAL,                           -- the greater, the sooner it is to be corrected
    modality TEXT NOT NULL,
    image_ending TEXT NOT NULL,
    mask_ending TEXT NOT NULL,
    shape TEXT NOT NULL,                     -- JSON [X, Y, Z], in voxels
    mask TEXT,                               -- sha256 of the file of the last saved mask
    proposal TEXT,                           -- sha256 of the file of the proposed mask
    proposal_pixels INTEGER,                 -- that it outlines; NULL where the log does not say
    proposal_labels TEXT,                    -- JSON, that it outlines of each structure, by label; NULL as above
    kept_labels INTEGER NOT NULL DEFAULT -1, -- bit N is 0 once structure N was removed since it was proposed
    checkpoint TEXT, checkpoint_sha256 TEXT, -- that proposed it
    seconds REAL NOT NULL DEFAULT 0,         -- spent on it in all
    changed TEXT NOT NULL,                   -- when
    image_class TEXT NOT NULL DEFAULT '',    -- of the whole image, as benign; '' where nobody gave one
    class_before TEXT NOT NULL DEFAULT '',   -- what it was before that
    reader TEXT NOT NULL DEFAULT ''          -- who saved the mask last
);
CREATE TABLE names (id TEXT PRIMARY KEY, name TEXT NOT NULL); -- private: what the user's file was called
CREATE TABLE settings (                      -- of the project, such as its classes, with all earlier values
    number INTEGER PRIMARY KEY,              -- in the order of the log; the last value of a name counts
    name TEXT NOT NULL,
    value TEXT NOT NULL                      -- JSON
);
CREATE INDEX settings_of_name ON settings (name, number);
CREATE TABLE state (log_end INTEGER NOT NULL);                -- up to which byte the log is in here
INSERT INTO state VALUES (0);
"""
_UNTOUCHED = "CASE WHEN mask IS NOT NULL THEN 'in work' WHEN proposal IS NOT NULL THEN 'proposed' ELSE 'new' END"
CHANGES = {  # action -> what it does to the row; every line of the log also adds its seconds and its time
    "prioritised": "priority = :priority",
    "proposed": (
        "proposal = :file, proposal_pixels = :pixels, proposal_labels = :labels, kept_labels = -1,"
        " checkpoint = :checkpoint, checkpoint_sha256 = :sha256, priority ="
        " coalesce(:priority, priority), status = CASE status WHEN 'new' THEN 'proposed' ELSE status END"
    ),
    "discarded": (
        "proposal = NULL, proposal_pixels = NULL, proposal_labels = NULL, checkpoint = NULL, checkpoint_sha256 = NULL, "
        "status = CASE status WHEN 'proposed' THEN 'new' ELSE status END"
    ),
    "saved": "mask = :mask, status = 'in work', reader = coalesce(:user, '')",
    "recovered": "mask = :mask, status = 'in work'",
    "missing": "mask = NULL, status = CASE WHEN proposal IS NOT NULL THEN 'proposed' ELSE 'new' END",
    "accepted": "mask = :mask, status = 'accepted', reader = coalesce(:user, '')",
    "skipped": "status = 'skipped'",
    "reopened": f"status = {_UNTOUCHED}",
    "classified": "class_before = image_class, image_class = coalesce(:image_class, '')",
}
COLUMNS = (
    "id, status, priority, modality, image_ending, mask_ending, shape, mask, proposal, checkpoint, checkpoint_sha256,"
    " seconds, changed, image_class, class_before, reader, coalesce((SELECT name FROM names WHERE names.id = items.id),"
    " ''), proposal_pixels, proposal_labels, kept_labels"
)
