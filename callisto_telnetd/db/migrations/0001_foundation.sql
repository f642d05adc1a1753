-- The appliance's foundation: accounts, audit, system variables and their changes, and the telephony users.
-- Times are text of the appliance's clock, ISO 8601 with the offset to UTC.

CREATE TABLE account (
    name TEXT PRIMARY KEY NOT NULL,
    password_hash TEXT NOT NULL,
    created_at TEXT NOT NULL,
    last_access_at TEXT,
    last_access_source TEXT,
    last_access_door TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    event TEXT NOT NULL,
    who TEXT NOT NULL,
    door TEXT NOT NULL,
    source TEXT NOT NULL,
    detail TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE TABLE variable (
    name TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- old and new: NULL is the default; batch: the id of the first change that was made together with this one.
CREATE TABLE variable_change (
    id INTEGER PRIMARY KEY,
    batch INTEGER NOT NULL,
    at TEXT NOT NULL,
    name TEXT NOT NULL,
    old TEXT,
    new TEXT,
    who TEXT NOT NULL,
    door TEXT NOT NULL,
    source TEXT NOT NULL,
    note TEXT NOT NULL DEFAULT '',
    undoes INTEGER REFERENCES variable_change (id)
) STRICT;

CREATE INDEX variable_change_name ON variable_change (name, id);

-- What the appliance remembers of itself: its clock, the last check of the database.
CREATE TABLE state (
    key TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE user (
    number INTEGER PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    phone TEXT NOT NULL DEFAULT ''
) STRICT;

-- A change of a variable stands in the audit in the same transaction, or not at all.
CREATE TRIGGER variable_change_audit AFTER INSERT ON variable_change
BEGIN
    INSERT INTO audit (at, event, who, door, source, detail)
    VALUES (
        new.at, 'variable changed', new.who, new.door, new.source,
        new.name || ' = ' || coalesce(new.new, 'default') || ' (was ' || coalesce(new.old, 'default') || ')'
    );
END;
