-- `wgsyncd init-db` runs these statements to bring tables of version 1 or 2 to version 3. Before them it renames the old
-- tables of peers, buckets and days: their names get `_2` at the end. Then it creates the new tables with `_3` at the end.
-- Afterwards it gives the new tables their final names and drops the old ones. If it was interrupted, a second run
-- completes it. No table has the name wgsyncd_peers meanwhile, so an older daemon that still runs can post nothing.

-- From here on, the database refuses each commit of an older daemon that still runs: it names columns of before.
ALTER TABLE wgsyncd_nodes
    CHANGE COLUMN IF EXISTS seq      revision         BIGINT UNSIGNED NOT NULL,
    CHANGE COLUMN IF EXISTS approved approved_plan    VARCHAR(64)     NULL,
    CHANGE COLUMN IF EXISTS begun    accounting_since DOUBLE          NOT NULL,
    CHANGE COLUMN IF EXISTS spool    spool_position   VARCHAR(64)     NOT NULL DEFAULT '';

ALTER TABLE wgsyncd_nodes
    ADD COLUMN IF NOT EXISTS accounting_since DOUBLE NOT NULL AFTER approved_plan, -- version 1 has none
    ADD COLUMN IF NOT EXISTS adopted   TINYINT      NOT NULL DEFAULT 1 AFTER accounting_since, -- older nodes removed foreign peers from the start
    ALTER adopted SET DEFAULT 0,
    ADD COLUMN IF NOT EXISTS spool_position VARCHAR(64) NOT NULL DEFAULT '' AFTER adopted,
    ADD COLUMN IF NOT EXISTS receipt   VARCHAR(16)  NOT NULL DEFAULT '' AFTER spool_position,
    ADD COLUMN IF NOT EXISTS machine   VARCHAR(64)  NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS host      VARCHAR(255) NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS boot      VARCHAR(36)  NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS uptime    DOUBLE       NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS heartbeat DOUBLE       NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS interfaces TEXT        NOT NULL DEFAULT '';

UPDATE wgsyncd_nodes SET accounting_since = UNIX_TIMESTAMP() WHERE accounting_since = 0;

ALTER TABLE wgsyncd_conditions
    CHANGE COLUMN IF EXISTS kind   type   VARCHAR(32)  NOT NULL,
    CHANGE COLUMN IF EXISTS label  name   VARCHAR(64)  NOT NULL,
    CHANGE COLUMN IF EXISTS detail reason VARCHAR(255) NOT NULL;

START TRANSACTION;

DELETE FROM wgsyncd_peers_3;

-- Builds before 0.1.0 wrote the state with other words.
INSERT INTO wgsyncd_peers_3 (node, interface, public_key, row_id, device, contract, address, config_digest, state, epoch,
                             rx, tx, latest_handshake, sampled_at)
    SELECT node, interface, public_key, row_id, device, contract, address, config,
           CASE state WHEN 'adding' THEN 'arrives' WHEN 'restoring' THEN 'returns' ELSE state END, epoch, rx, tx,
           handshake, sampled_at
    FROM wgsyncd_peers_2 ORDER BY node, interface, row_id;

DELETE FROM wgsyncd_buckets_3;

-- The device of a row is the device that its bytes were posted to. If no record says so, it is the row's device of now.
-- Bytes of a deleted row are kept as bytes of the device "row ID".
INSERT INTO wgsyncd_buckets_3 (device, start, rx, tx)
    SELECT COALESCE(p.device, d.device_id, CONCAT('row ', b.row_id)) AS device, b.start,
           LEAST(SUM(b.rx), 18446744073709551615), LEAST(SUM(b.tx), 18446744073709551615)
    FROM wgsyncd_buckets_2 b
    LEFT JOIN (SELECT row_id, MAX(device) AS device FROM wgsyncd_peers_2 GROUP BY row_id) p ON p.row_id = b.row_id
    LEFT JOIN customer_devices d ON d.id = b.row_id
    GROUP BY 1, 2;

DELETE FROM wgsyncd_days_3;

INSERT INTO wgsyncd_days_3 (device, day, rx, tx)
    SELECT COALESCE(p.device, d.device_id, CONCAT('row ', b.row_id)) AS device, b.day,
           LEAST(SUM(b.rx), 18446744073709551615), LEAST(SUM(b.tx), 18446744073709551615)
    FROM wgsyncd_days_2 b
    LEFT JOIN (SELECT row_id, MAX(device) AS device FROM wgsyncd_peers_2 GROUP BY row_id) p ON p.row_id = b.row_id
    LEFT JOIN customer_devices d ON d.id = b.row_id
    GROUP BY 1, 2;

COMMIT;

UPDATE wgsyncd_schema SET version = 3;
