-- Which start of which process owns the file: one that finds another here ends.
CREATE TABLE owner (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    instance TEXT NOT NULL
);

CREATE TABLE address (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    is_queue INTEGER NOT NULL DEFAULT 0 CHECK (is_queue IN (0, 1))
);

-- Bodies: written once for all subscriptions, never updated.
CREATE TABLE message (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    address INTEGER NOT NULL REFERENCES address (id),
    id BLOB NOT NULL,
    kind TEXT NOT NULL,
    key TEXT,
    headers TEXT NOT NULL,
    content_type TEXT,
    stated_at INTEGER NOT NULL,
    is_text INTEGER NOT NULL,
    payload BLOB NOT NULL
);
CREATE INDEX message_by_address ON message (address);

-- Everything of the address up to low is settled; nothing above delivered_to was handed out.
CREATE TABLE subscription (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    address INTEGER NOT NULL REFERENCES address (id),
    name TEXT NOT NULL,
    is_ordered INTEGER CHECK (is_ordered IN (0, 1)),
    low INTEGER NOT NULL,
    delivered_to INTEGER NOT NULL,
    UNIQUE (address, name)
);

-- What is out of the ordinary. 'settled' and 'retry' mean something above low only; 'again' is a
-- dead letter that was reposted.
CREATE TABLE exception (
    subscription INTEGER NOT NULL REFERENCES subscription (id),
    seq INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('settled', 'retry', 'again', 'dead', 'deferred')),
    deliveries INTEGER NOT NULL DEFAULT 0,
    available_at INTEGER,
    reason TEXT,
    detail TEXT,
    at INTEGER,
    PRIMARY KEY (subscription, seq)
) WITHOUT ROWID;
CREATE INDEX exception_that_keeps_a_body ON exception (seq)
    WHERE state IN ('again', 'dead', 'deferred');

CREATE INDEX exception_that_is_dead ON exception (seq, subscription) WHERE state = 'dead';

-- Who reposted or discarded which dead letter, when and why.
CREATE TABLE act (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    act TEXT NOT NULL CHECK (act IN ('repost', 'discard')),
    reference TEXT NOT NULL,
    message_id BLOB NOT NULL,
    reason TEXT
);
