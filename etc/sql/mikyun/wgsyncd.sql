-- wgsyncd's own tables. Applied by an admin's account: `wgsyncd init-db`, or mariadb mikyun_cloud < wgsyncd.sql.
-- Safe to run twice. Times are UNIX seconds unless the column is a DATE (in the configured zone); bytes are the server's
-- view (rx = received from the peer) whatever `mikyun.perspective` says.

CREATE TABLE IF NOT EXISTS wgsyncd_schema (
    version INT NOT NULL PRIMARY KEY
) ENGINE = InnoDB;

-- One row per server. seq grows by one in every transaction of its daemon: a commit whose answer was lost is settled by
-- looking at it, and of two daemons that took themselves for the same node one would be refused.
CREATE TABLE IF NOT EXISTS wgsyncd_nodes (
    node     VARCHAR(64)     NOT NULL PRIMARY KEY,
    seq      BIGINT UNSIGNED NOT NULL,
    approved CHAR(12)        NULL,     -- id of the set of removals that an admin let through the guard
    begun    DOUBLE          NOT NULL, -- when the books were begun: before that bytes are an opening balance
    spool    VARCHAR(32)     NOT NULL DEFAULT '' -- name of the spooled samples that were booked last: once, not again
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- The life of each interface's counters (boot id, interface index) and when they were last read.
CREATE TABLE IF NOT EXISTS wgsyncd_interfaces (
    node       VARCHAR(64) NOT NULL,
    interface  VARCHAR(15) NOT NULL,
    epoch      VARCHAR(80) NOT NULL,
    sampled_at DOUBLE      NOT NULL,
    PRIMARY KEY (node, interface)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- The baselines: what was last accounted of each peer, and for whom.
CREATE TABLE IF NOT EXISTS wgsyncd_peers (
    node       VARCHAR(64)     NOT NULL,
    interface  VARCHAR(15)     NOT NULL,
    public_key BINARY(32)      NOT NULL,
    row_id     BIGINT          NULL,     -- customer_devices.id; NULL: a foreign peer about to be removed
    device     VARCHAR(64)     NOT NULL,
    contract   VARCHAR(32)     NOT NULL,
    address    VARCHAR(64)     NOT NULL,
    config     BINARY(8)       NOT NULL, -- digest of the peer's configuration as last seen
    state      VARCHAR(10)     NOT NULL, -- arrives, returns, present
    epoch      VARCHAR(80)     NOT NULL,
    rx         BIGINT UNSIGNED NOT NULL,
    tx         BIGINT UNSIGNED NOT NULL,
    handshake  BIGINT          NOT NULL, -- UNIX nanoseconds, 0 = never
    sampled_at DOUBLE          NOT NULL,
    PRIMARY KEY (node, interface, public_key),
    KEY (row_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- As it was written before 0.1.0.
UPDATE wgsyncd_peers SET state = 'arrives' WHERE state = 'adding';
UPDATE wgsyncd_peers SET state = 'returns' WHERE state = 'restoring';

-- What stands: rejected rows, parent conflicts, a tripped guard, missing interfaces. Audited when it starts and ends.
CREATE TABLE IF NOT EXISTS wgsyncd_conditions (
    node    VARCHAR(64)  NOT NULL,
    kind    VARCHAR(32)  NOT NULL,
    subject VARCHAR(64)  NOT NULL,
    label   VARCHAR(64)  NOT NULL,
    detail  VARCHAR(255) NOT NULL,
    since   DOUBLE       NOT NULL,
    PRIMARY KEY (node, kind, subject)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- Under the 24 h columns: bytes per device and bucket (its first second).
CREATE TABLE IF NOT EXISTS wgsyncd_buckets (
    row_id BIGINT          NOT NULL,
    start  BIGINT          NOT NULL,
    rx     BIGINT UNSIGNED NOT NULL,
    tx     BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (row_id, start),
    KEY (start)
) ENGINE = InnoDB;

-- Under the month columns: bytes per device and day.
CREATE TABLE IF NOT EXISTS wgsyncd_days (
    row_id BIGINT          NOT NULL,
    day    DATE            NOT NULL,
    rx     BIGINT UNSIGNED NOT NULL,
    tx     BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (row_id, day),
    KEY (day)
) ENGINE = InnoDB;

-- Deltas that cannot be true: kept here, not booked.
CREATE TABLE IF NOT EXISTS wgsyncd_quarantine (
    id        BIGINT          NOT NULL AUTO_INCREMENT PRIMARY KEY,
    node      VARCHAR(64)     NOT NULL,
    interface VARCHAR(15)     NOT NULL,
    row_id    BIGINT          NULL,
    device    VARCHAR(64)     NOT NULL,
    rx        BIGINT UNSIGNED NOT NULL,
    tx        BIGINT UNSIGNED NOT NULL,
    since     DOUBLE          NOT NULL,
    until     DOUBLE          NOT NULL,
    KEY (row_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- What wgsyncd itself wrote into admin_logs, for `wgsyncd explain`: its account may read this, and nothing else of the
-- trail, which is the application's and may name people. (Read with the rights of whoever makes it.)
CREATE OR REPLACE SQL SECURITY DEFINER VIEW wgsyncd_audit AS
    SELECT id, action_type, target_type, target_id, message, created_at FROM admin_logs WHERE action_type IN (
        'device_activated', 'qr_expired', 'peer_added', 'peer_removed', 'peer_updated', 'peer_moved',
        'foreign_peer_removed', 'row_rejected', 'row_accepted', 'parent_conflict', 'parent_conflict_cleared',
        'guard_tripped', 'guard_approved', 'interface_restored', 'interface_missing', 'usage_anomaly',
        'spool_set_aside', 'quarantine_released', 'quarantine_dropped', 'config_reloaded',
        'config_rejected', 'daemon_started', 'daemon_stopped');

-- Tables of version 1, which had neither.
ALTER TABLE wgsyncd_nodes ADD COLUMN IF NOT EXISTS begun DOUBLE NOT NULL DEFAULT 0;
ALTER TABLE wgsyncd_nodes ADD COLUMN IF NOT EXISTS spool VARCHAR(32) NOT NULL DEFAULT '';
UPDATE wgsyncd_nodes SET begun = UNIX_TIMESTAMP() WHERE begun = 0;

INSERT INTO wgsyncd_schema (version)
    SELECT 2 FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM wgsyncd_schema);
