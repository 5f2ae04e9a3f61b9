-- What is stored. docs/receiver.md describes each table.
CREATE TABLE sender (
    id integer PRIMARY KEY,
    gateway text NOT NULL, recipient text NOT NULL,
    batches integer NOT NULL DEFAULT 0,
    zone text NOT NULL DEFAULT 'UTC',
    first_slot integer, last_slot integer,
    status text, status_at integer,
    UNIQUE (gateway, recipient));
CREATE TABLE epoch (
    sender integer NOT NULL, epoch text NOT NULL, rank integer NOT NULL, last_seq integer,
    PRIMARY KEY (sender, epoch)) WITHOUT ROWID;
CREATE TABLE batch (
    sender integer NOT NULL, epoch text NOT NULL, seq integer NOT NULL, sha256 text NOT NULL,
    void text, lane text, kept text, created text,
    slots integer NOT NULL, bytes integer NOT NULL, arrived integer NOT NULL DEFAULT (unixepoch()),
    PRIMARY KEY (sender, epoch, seq)) WITHOUT ROWID;
CREATE TABLE series (
    id integer PRIMARY KEY,
    sender integer NOT NULL, place text NOT NULL, channel text NOT NULL, kind text NOT NULL, step integer NOT NULL,
    UNIQUE (sender, place, channel, kind, step));
CREATE TABLE source (
    id integer PRIMARY KEY,
    series integer NOT NULL REFERENCES series, unit text NOT NULL, meter text NOT NULL,
    occupancy text NOT NULL, basis text NOT NULL,
    UNIQUE (series, unit, meter, occupancy, basis));
-- value: the digits of the meter; a number of SQLite would lose some
CREATE TABLE reading (
    t integer NOT NULL, ver integer NOT NULL DEFAULT 0, series integer NOT NULL, source integer NOT NULL,
    last integer, delay integer, dwellings integer, change integer NOT NULL,
    q text NOT NULL, again integer NOT NULL, value text, why text, flags text,
    PRIMARY KEY (series, t, ver)) WITHOUT ROWID;
-- a row without value may stand for all slots up to `last`, within one month of UTC; `series + 0`:
-- who asks for it gets this index, and never the key, which would lead through a month of rows
CREATE INDEX reading_span ON reading ((series + 0), last) WHERE last IS NOT NULL;
-- the present change: an export ends it
CREATE TABLE feed (change integer NOT NULL);
INSERT INTO feed VALUES (1);
CREATE TABLE directory (
    sender integer NOT NULL, list text NOT NULL, id text NOT NULL, rank integer NOT NULL, seq integer NOT NULL,
    place text, channels text, step integer, since integer, until integer, body text NOT NULL,
    PRIMARY KEY (sender, list, id)) WITHOUT ROWID;
CREATE TABLE retraction (
    change integer NOT NULL,
    sender integer NOT NULL, id text NOT NULL, place text NOT NULL,
    channel text, occupancy text, basis text, meter text,
    since integer NOT NULL, until integer, ver integer NOT NULL, reason text NOT NULL,
    epoch text NOT NULL, seq integer NOT NULL, removed integer NOT NULL,
    arrived integer NOT NULL DEFAULT (unixepoch()),
    PRIMARY KEY (sender, id));
CREATE INDEX retraction_place ON retraction (sender, place);
CREATE INDEX retraction_batch ON retraction (sender, epoch, seq);
CREATE TABLE refused (
    sender integer NOT NULL, epoch text NOT NULL, seq integer NOT NULL, id text NOT NULL,
    PRIMARY KEY (sender, epoch, seq, id)) WITHOUT ROWID;
CREATE TABLE tally (
    gateway text NOT NULL, what text NOT NULL, n integer NOT NULL, last_at integer NOT NULL, words text NOT NULL,
    PRIMARY KEY (gateway, what)) WITHOUT ROWID;
CREATE TABLE building (
    gateway text NOT NULL, recipient text NOT NULL, sha256 text NOT NULL, made text NOT NULL, revision integer NOT NULL,
    content blob NOT NULL, arrived integer NOT NULL DEFAULT (unixepoch()),
    PRIMARY KEY (gateway, recipient, sha256));
CREATE TABLE object (
    n integer PRIMARY KEY AUTOINCREMENT,
    gateway text NOT NULL, recipient text NOT NULL, body text NOT NULL, sha256 text NOT NULL, jti text, typ text,
    expires integer, sent integer NOT NULL DEFAULT 0, outcome text);
CREATE INDEX object_gateway ON object (gateway, recipient, n);
CREATE TABLE calendar (
    zone text NOT NULL, period text NOT NULL, name text NOT NULL, since integer NOT NULL, until integer NOT NULL,
    PRIMARY KEY (zone, period, since)) WITHOUT ROWID;
CREATE TABLE number (n integer PRIMARY KEY);
WITH RECURSIVE counted (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM counted WHERE n < 90000)
INSERT INTO number SELECT n FROM counted;
-- the hash of the views as they are
CREATE TABLE made (views text NOT NULL);
