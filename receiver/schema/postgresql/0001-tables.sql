-- What is stored. docs/receiver.md describes each table.
CREATE TABLE sender (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway text NOT NULL, recipient text NOT NULL,
    batches bigint NOT NULL DEFAULT 0,
    zone text NOT NULL DEFAULT 'UTC',
    first_slot bigint, last_slot bigint,
    status jsonb, status_at timestamptz,
    UNIQUE (gateway, recipient));
CREATE TABLE epoch (
    sender int NOT NULL, epoch text NOT NULL, rank int NOT NULL, last_seq bigint,
    PRIMARY KEY (sender, epoch));
CREATE TABLE batch (
    sender int NOT NULL, epoch text NOT NULL, seq bigint NOT NULL, sha256 text NOT NULL,
    void text, lane text, kept text, created text,
    slots bigint NOT NULL, bytes int NOT NULL, arrived timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sender, epoch, seq));
CREATE TABLE series (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sender int NOT NULL, place text NOT NULL, channel text NOT NULL, kind text NOT NULL, step int NOT NULL,
    UNIQUE (sender, place, channel, kind, step));
CREATE TABLE source (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    series int NOT NULL REFERENCES series, unit text NOT NULL, meter text NOT NULL,
    occupancy text NOT NULL, basis text NOT NULL,
    UNIQUE (series, unit, meter, occupancy, basis));
-- the columns in this order waste no bytes on alignment
CREATE TABLE reading (
    t timestamptz NOT NULL, ver bigint NOT NULL DEFAULT 0, series int NOT NULL, source int NOT NULL,
    last bigint, delay int, dwellings int, change int NOT NULL,
    q "char" NOT NULL, again boolean NOT NULL, value numeric, why text, flags text,
    PRIMARY KEY (series, t, ver)) PARTITION BY RANGE (t);
-- a row without value may stand for all slots up to `last`, within one month of UTC; `series + 0`:
-- who asks for it gets this index, and never the key, which would lead through a month of rows
CREATE INDEX reading_span ON reading ((series + 0), last) WHERE last IS NOT NULL;
-- rows are appended, so a change is in few blocks
CREATE INDEX reading_change ON reading USING brin (change) WITH (pages_per_range = 32, autosummarize = on);
-- the present change: an export ends it
CREATE TABLE feed (change int NOT NULL);
INSERT INTO feed VALUES (1);
CREATE TABLE directory (
    sender int NOT NULL, list text NOT NULL, id text NOT NULL, rank int NOT NULL, seq bigint NOT NULL,
    place text, channels text, step int, since bigint, until bigint, body jsonb NOT NULL,
    PRIMARY KEY (sender, list, id));
CREATE TABLE retraction (
    change int NOT NULL,
    sender int NOT NULL, id text NOT NULL, place text NOT NULL,
    channel text, occupancy text, basis text, meter text,
    since bigint NOT NULL, until bigint, ver bigint NOT NULL, reason text NOT NULL,
    epoch text NOT NULL, seq bigint NOT NULL, removed bigint NOT NULL,
    arrived timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sender, id));
CREATE INDEX retraction_change ON retraction (change);
CREATE INDEX retraction_place ON retraction (sender, place);
CREATE INDEX retraction_batch ON retraction (sender, epoch, seq);
CREATE TABLE refused (
    sender int NOT NULL, epoch text NOT NULL, seq bigint NOT NULL, id text NOT NULL,
    PRIMARY KEY (sender, epoch, seq, id));
CREATE TABLE tally (
    gateway text NOT NULL, what text NOT NULL, n bigint NOT NULL, last_at timestamptz NOT NULL, words text NOT NULL,
    PRIMARY KEY (gateway, what));
CREATE TABLE building (
    gateway text NOT NULL, recipient text NOT NULL, sha256 text NOT NULL, made text NOT NULL, revision bigint NOT NULL,
    content bytea NOT NULL, arrived timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (gateway, recipient, sha256));
CREATE TABLE object (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway text NOT NULL, recipient text NOT NULL, body text NOT NULL, sha256 text NOT NULL, jti text, typ text,
    expires bigint, sent bigint NOT NULL DEFAULT 0, outcome jsonb);
CREATE INDEX object_gateway ON object (gateway, recipient, n);
CREATE TABLE calendar (
    zone text NOT NULL, period text NOT NULL, name text NOT NULL, since bigint NOT NULL, until bigint NOT NULL,
    PRIMARY KEY (zone, period, since));
-- the hash of the views as they are
CREATE TABLE made (views text NOT NULL);
