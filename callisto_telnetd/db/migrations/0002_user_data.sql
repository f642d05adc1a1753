-- The appliance's user data: mailboxes, voice and fax messages, greetings, call records; and what a repair set aside.
-- Recordings are files under media/, named by the SHA-256 of their content.

CREATE TABLE mailbox (
    number INTEGER PRIMARY KEY NOT NULL REFERENCES user (number),
    pin_hash TEXT NOT NULL DEFAULT '',
    language TEXT NOT NULL DEFAULT 'en',
    quota_s INTEGER NOT NULL DEFAULT 1800
) STRICT;

CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    mailbox INTEGER NOT NULL REFERENCES mailbox (number),
    kind TEXT NOT NULL,
    at TEXT NOT NULL,
    caller TEXT NOT NULL DEFAULT '',
    length_ms INTEGER NOT NULL,
    heard INTEGER NOT NULL DEFAULT 0,
    recording TEXT NOT NULL,
    transcript TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE INDEX message_mailbox ON message (mailbox, id);

CREATE TABLE greeting (
    mailbox INTEGER NOT NULL REFERENCES mailbox (number),
    occasion TEXT NOT NULL,
    at TEXT NOT NULL,
    length_ms INTEGER NOT NULL,
    recording TEXT NOT NULL,
    PRIMARY KEY (mailbox, occasion)
) STRICT, WITHOUT ROWID;

CREATE TABLE call_record (
    id INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    caller TEXT NOT NULL,
    called TEXT NOT NULL,
    user INTEGER REFERENCES user (number),
    result TEXT NOT NULL,
    ring_ms INTEGER NOT NULL,
    talk_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX call_record_user ON call_record (user, id);

-- Rows that a repair found and that their table does not take; content is the row as JSON.
CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    origin TEXT NOT NULL,
    reason TEXT NOT NULL,
    content TEXT NOT NULL
) STRICT;
