-- The views of docs/receiver.md, for both databases. AT(s) makes the type of reading.t of a Unix second, SEC(t) the
-- opposite. MOMENT(m) is the Unix second of a moment in an item, NUM(v) a value as a number, SHOW(s) a Unix second for
-- people. SERIES(m) joins the numbers 0 to m.

CREATE VIEW place AS
SELECT g.gateway, g.recipient, d.sender, d.id AS place, d.body ->> 'type' AS type, d.body ->> 'label' AS label
FROM directory d JOIN sender g ON g.id = d.sender WHERE d.list = 'places';

-- A withdrawn basis has an end in the directory; until that item arrives, its retraction states it.
CREATE VIEW basis AS
SELECT d.sender, d.id AS basis, d.place, d.channels, d.step, d.since, d.body ->> 'purpose' AS purpose,
    d.body ->> 'occupancy' AS occupancy,
    CASE WHEN x.arrived IS NOT NULL AND d.body ->> 'withdrawn' IS NULL AND SEC(x.arrived) < coalesce(d.until, 9999999999)
        THEN SEC(x.arrived) ELSE d.until END AS until,
    x.arrived AS withdrawn_at, d.body ->> 'duty' AS duty, MOMENT(d.body ->> 'recorded') AS recorded,
    CASE WHEN x.arrived IS NOT NULL OR d.body ->> 'withdrawn' IS NOT NULL THEN 1 ELSE 0 END AS withdrawn
FROM directory d LEFT JOIN (SELECT sender, basis, min(arrived) AS arrived FROM retraction
    WHERE basis IS NOT NULL AND channel IS NULL AND reason = 'withdrawn' AND until IS NULL GROUP BY sender, basis) x
    ON x.sender = d.sender AND x.basis = d.id
WHERE d.list = 'bases';

-- The valid version of each slot. A row with `last` stands for all slots from t to there.
CREATE VIEW readings AS
SELECT g.gateway, g.recipient, s.place, p.label, s.channel, s.kind, s.step, r.t, SHOW(SEC(r.t)) AS at,
    NUM(r.value) AS value, o.unit, r.q, r.why, r.flags, r.ver, r.delay, r.dwellings, r.last,
    nullif(o.meter, '') AS meter, nullif(o.occupancy, '') AS occupancy, o.basis, r.series
FROM reading r JOIN series s ON s.id = r.series JOIN source o ON o.id = r.source JOIN sender g ON g.id = s.sender
LEFT JOIN place p ON p.sender = s.sender AND p.place = s.place
WHERE NOT EXISTS (SELECT 1 FROM reading n WHERE n.series = r.series AND n.t = r.t AND n.ver > r.ver);

-- The slots that are owed: platform.md has the same in words ("Owed"). `begin`: when the time begins that a slot is for.
CREATE VIEW owed AS
SELECT e.sender, e.place, e.channel, e.kind, e.step, e.day, e.first + n.n * e.step AS slot
FROM (SELECT f.*, CASE WHEN f.step >= 86400 THEN 0 ELSE (f.day_until - 1 - f.first) / f.step END AS more,
        CASE WHEN f.kind NOT IN ('INT', 'AVG') THEN 0 WHEN f.step < 86400 THEN f.step ELSE f.first - (SELECT max(p.since)
            FROM calendar p WHERE p.zone = f.zone AND p.period = CASE WHEN f.step < 2592000 THEN 'day' ELSE 'month' END
            AND p.since < f.first) END AS lasts
    FROM (SELECT d.sender, d.place, trim(d.channels, ',') AS channel, d.body ->> 'kind' AS kind, d.step, d.since, d.until,
            c.name AS day, c.until AS day_until, c.zone, g.last_slot,
            CASE WHEN d.step >= 86400 THEN c.since
                ELSE ((CASE WHEN d.since > c.since THEN d.since ELSE c.since END) + d.step - 1) / d.step * d.step
                END AS first
        FROM directory d JOIN sender g ON g.id = d.sender
        JOIN calendar c ON c.zone = g.zone AND c.period = 'day' AND c.since <= g.last_slot AND c.until > d.since
            AND (d.until IS NULL OR c.since < d.until)
        WHERE d.list = 'series' AND d.step > 0 AND d.body ->> 'kind' <> 'EVT'
            AND (d.step < 2592000 OR c.name LIKE '%-01')
            AND NOT EXISTS (SELECT 1 FROM directory r WHERE r.sender = d.sender AND r.list = 'bases' AND r.id = 'rest'
                AND r.place = d.place)) f
    WHERE f.first >= f.since AND f.first < f.day_until) e
SERIES(e.more)
WHERE e.first + n.n * e.step <= e.last_slot AND (e.until IS NULL OR e.first + n.n * e.step < e.until)
AND EXISTS (SELECT 1 FROM basis b WHERE b.sender = e.sender AND b.basis <> 'rest' AND b.withdrawn = 0
    AND (b.basis <> 'common' OR e.place NOT LIKE 'D%')
    AND coalesce(b.place, e.place) = e.place
    AND (b.channels IS NULL OR b.channels LIKE '%,' || e.channel || ',%')
    AND e.step >= coalesce(b.step, CASE WHEN b.duty IS NULL THEN 0 ELSE 2592000 END)
    AND b.since <= e.first + n.n * e.step - e.lasts
    AND (b.recorded IS NULL OR b.recorded < e.first + n.n * e.step)
    AND (b.until IS NULL OR e.first + n.n * e.step - CASE WHEN e.lasts > 0 THEN 1 ELSE 0 END < b.until)
    AND (b.occupancy IS NULL AND b.duty IS NULL OR EXISTS (SELECT 1 FROM directory h WHERE h.sender = e.sender
        AND h.list = 'occupancies' AND h.id = coalesce(b.occupancy, h.id) AND h.place = e.place
        AND h.since <= e.first + n.n * e.step - e.lasts
        AND (h.until IS NULL OR e.first + n.n * e.step - CASE WHEN e.lasts > 0 THEN 1 ELSE 0 END < h.until))));

-- Owed slots of which no row states anything.
CREATE VIEW missing AS
SELECT g.gateway, g.recipient, p.label, o.place, o.channel, o.kind, o.step, o.day, o.slot, SHOW(o.slot) AS at
FROM owed o JOIN sender g ON g.id = o.sender
LEFT JOIN place p ON p.sender = o.sender AND p.place = o.place
LEFT JOIN series s ON s.sender = o.sender AND s.place = o.place AND s.channel = o.channel AND s.kind = o.kind
    AND s.step = o.step
WHERE NOT EXISTS (SELECT 1 FROM reading r WHERE r.series = s.id AND r.t = AT(o.slot))
AND NOT EXISTS (SELECT 1 FROM reading r WHERE r.series = s.id AND r.last >= o.slot AND r.t < AT(o.slot)
    AND r.t > AT(o.slot - 2678400));

CREATE VIEW completeness AS
SELECT g.gateway, g.recipient, p.label, w.place, w.channel, w.kind, w.step, w.day, w.owed, w.owed - coalesce(m.missing, 0)
    AS delivered
FROM (SELECT sender, place, channel, kind, step, day, count(*) AS owed FROM owed
    GROUP BY sender, place, channel, kind, step, day) w
JOIN sender g ON g.id = w.sender
LEFT JOIN place p ON p.sender = w.sender AND p.place = w.place
LEFT JOIN (SELECT gateway, recipient, place, channel, kind, step, day, count(*) AS missing FROM missing
    GROUP BY gateway, recipient, place, channel, kind, step, day) m
    ON m.gateway = g.gateway AND m.recipient = g.recipient AND m.place = w.place AND m.channel = w.channel
    AND m.kind = w.kind AND m.step = w.step AND m.day = w.day;

-- What the indexes of a series are made of: its own rows, and the indexes at exchanges of meters (step 0).
CREATE VIEW index_part AS
SELECT s.id, s.sender, s.place, s.channel, s.kind, s.step, s.id AS part, 0 AS exchange FROM series s
WHERE s.kind = 'REG' AND s.step > 0
UNION ALL
SELECT s.id, s.sender, s.place, s.channel, s.kind, s.step, x.id, 1 FROM series s JOIN series x
    ON x.sender = s.sender AND x.place = s.place AND x.channel = s.channel AND x.kind = s.kind AND x.step = 0
WHERE s.kind = 'REG' AND s.step > 0;

-- The steps between consecutive indexes of a period (a value at its beginning and at its end belong to it). From the last
-- index of a meter to the first one of the next meter nothing flows. Without both, another meter breaks the sum, as do
-- another unit and an index that fell. A roll-over adds the modulus: of the meter, of the series, or else the next power
-- of ten.
CREATE VIEW index_step AS
SELECT w.*, CASE
    WHEN w.before IS NULL THEN NULL
    WHEN w.unit <> w.unit_before OR w.flags LIKE '%RST%' THEN NULL
    WHEN w.exchange = 1 AND w.exchange_before = 1 AND w.slot = w.slot_before + 1 THEN 0
    WHEN w.meter <> w.meter_before THEN NULL
    WHEN w.exchange = 0 AND w.exchange_before = 0 AND w.flags LIKE '%EXCH%' THEN NULL
    WHEN w.slot = w.since THEN 0
    WHEN w.flags LIKE '%ROLL%' AND w.value < w.before THEN w.value - w.before + coalesce(
        (SELECT max(CAST(m.body -> 'modulus' ->> w.channel AS numeric)) FROM directory m WHERE m.sender = w.sender
            AND m.list = 'installations' AND m.place = w.place AND m.body ->> 'meter' = w.meter),
        (SELECT max(CAST(m.body ->> 'modulus' AS numeric)) FROM directory m WHERE m.sender = w.sender
            AND m.list = 'series' AND m.id = w.place || '/' || w.channel || '/' || w.kind || '/' || w.step),
        CAST('1' || substr('000000000000000000', 1, length(CAST(CAST(floor(w.before) AS bigint) AS text))) AS numeric))
    WHEN w.value < w.before THEN NULL
    ELSE w.value - w.before END AS amount
FROM (SELECT s.sender, s.place, s.channel, s.kind, s.step, c.period, c.name, c.since, c.until, s.id AS series,
        SEC(r.t) AS slot, NUM(r.value) AS value, r.q, r.flags, o.unit, o.meter, s.exchange,
        lag(NUM(r.value)) OVER w AS before, lag(o.meter) OVER w AS meter_before, lag(o.unit) OVER w AS unit_before,
        lag(SEC(r.t)) OVER w AS slot_before, lead(SEC(r.t)) OVER w AS slot_after, lag(s.exchange) OVER w AS exchange_before
    FROM index_part s JOIN sender g ON g.id = s.sender
    JOIN calendar c ON c.zone = g.zone AND c.since <= g.last_slot AND c.until > g.first_slot
    JOIN reading r ON r.series = s.part AND r.t >= AT(c.since) AND r.t <= AT(c.until)
    JOIN source o ON o.id = r.source
    WHERE r.value IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM reading n WHERE n.series = r.series AND n.t = r.t AND n.ver > r.ver)
    WINDOW w AS (PARTITION BY s.sender, s.place, s.channel, s.kind, s.step, c.period, c.name, c.since, c.until, s.id
        ORDER BY r.t, s.exchange DESC)) w;

CREATE VIEW series_consumption AS
SELECT sender, place, channel, kind, step, period, name, since, until, max(unit) AS unit, sum(amount) AS amount,
    max(CASE WHEN slot_before IS NULL OR slot_after IS NULL OR flags <> 'UNPR'
        THEN CASE q WHEN 'V' THEN 0 WHEN 'R' THEN 1 WHEN 'C' THEN 2 WHEN 'K' THEN 3 WHEN 'S' THEN 4 ELSE 5 END END) AS rank,
    sum(CASE WHEN amount IS NOT NULL THEN slot - slot_before ELSE 0 END) AS covered,
    sum(CASE WHEN amount IS NULL AND before IS NOT NULL THEN 1 ELSE 0 END) AS breaks
FROM index_step GROUP BY sender, place, channel, kind, step, period, name, since, until, series
UNION ALL
SELECT s.sender, s.place, s.channel, s.kind, s.step, c.period, c.name, c.since, c.until, max(o.unit), sum(NUM(r.value)),
    max(CASE r.q WHEN 'V' THEN 0 WHEN 'R' THEN 1 WHEN 'C' THEN 2 WHEN 'K' THEN 3 WHEN 'S' THEN 4 ELSE 5 END),
    sum(CASE WHEN s.step >= 86400 THEN c.until - c.since ELSE s.step END), 0
FROM series s JOIN sender g ON g.id = s.sender
JOIN calendar c ON c.zone = g.zone AND c.since <= g.last_slot AND c.until > g.first_slot
JOIN reading r ON r.series = s.id AND r.t > AT(c.since) AND r.t <= AT(c.until)
JOIN source o ON o.id = r.source
WHERE s.kind = 'INT' AND r.value IS NOT NULL AND (s.step < 86400 OR c.period = 'day')
AND NOT EXISTS (SELECT 1 FROM reading n WHERE n.series = r.series AND n.t = r.t AND n.ver > r.ver)
GROUP BY s.sender, s.place, s.channel, s.kind, s.step, c.period, c.name, c.since, c.until, r.series;

-- For each dwelling, channel and period the best series: complete, then without break, then the finest.
CREATE VIEW consumption AS
SELECT g.gateway, g.recipient, b.place, p.label, p.type, b.channel, b.period, b.name,
    round(b.amount, 6) AS amount, b.unit, substr('VRCKSE', b.rank + 1, 1) AS q,
    b.covered = b.until - b.since AS complete, b.covered, b.until - b.since AS length, b.breaks, b.kind, b.step
FROM (SELECT c.*, row_number() OVER (PARTITION BY sender, place, channel, period, name
        ORDER BY CASE WHEN covered = until - since THEN 0 WHEN covered > 0 THEN 1 ELSE 2 END, breaks, covered DESC, step) AS best
    FROM series_consumption c) b
JOIN sender g ON g.id = b.sender LEFT JOIN place p ON p.sender = b.sender AND p.place = b.place
WHERE b.best = 1 AND b.covered > 0;

CREATE VIEW daily AS
SELECT gateway, recipient, place, label, channel, name AS day, amount, unit, q, complete, length / 3600 AS hours, breaks,
    kind, step FROM consumption WHERE period = 'day';

CREATE VIEW monthly AS
SELECT gateway, recipient, place, label, channel, name AS month, amount, unit, q, complete, length / 3600 AS hours,
    breaks, kind, step FROM consumption WHERE period = 'month';

-- Who may see what until when.
CREATE VIEW access AS
SELECT g.gateway, g.recipient, b.basis, b.purpose, b.place, p.label, b.occupancy, trim(b.channels, ',') AS channels, b.step,
    SHOW(b.since) AS since, SHOW(b.until) AS until, SHOW(SEC(b.withdrawn_at)) AS withdrawn_at
FROM basis b JOIN sender g ON g.id = b.sender LEFT JOIN place p ON p.sender = b.sender AND p.place = b.place;

-- Retractions in the order in which they were stored: a copy of the rows elsewhere must follow them.
CREATE VIEW retractions AS
SELECT x.change, g.gateway, g.recipient, x.id, x.place, p.label, x.channel, x.occupancy, x.basis, x.meter,
    SHOW(x.since) AS since, SHOW(x.until) AS until, x.ver, x.reason, x.removed,
    SHOW(SEC(x.arrived)) AS arrived
FROM retraction x JOIN sender g ON g.id = x.sender LEFT JOIN place p ON p.sender = x.sender AND p.place = x.place;

-- Numbers of batches that have not arrived, within each epoch.
CREATE VIEW gaps AS
SELECT g.gateway, g.recipient, b.epoch, b.before + 1 AS first, b.seq - 1 AS last
FROM (SELECT sender, epoch, seq, coalesce(lag(seq) OVER (PARTITION BY sender, epoch ORDER BY seq), 0) AS before
    FROM batch) b
JOIN sender g ON g.id = b.sender WHERE b.seq > b.before + 1;
