-- These are wgsyncd's own tables. An administrator's account creates them with `wgsyncd init-db`. A second run changes
-- nothing. Times are UNIX seconds, and a DATE is a day in the configured zone. Bytes are always the
-- server's view: rx is what the server received from the peer. `mikyun.perspective` does not change that.

CREATE TABLE IF NOT EXISTS wgsyncd_schema (
    version INT NOT NULL PRIMARY KEY
) ENGINE = InnoDB;

-- Each server has one row. Every transaction of its daemon adds one to seq. So the daemon can find out whether a commit
-- succeeded if its answer was lost. If two daemons run as the same node, one of them fails.
CREATE TABLE IF NOT EXISTS wgsyncd_nodes (
    node     VARCHAR(64)     NOT NULL PRIMARY KEY,
    seq      BIGINT UNSIGNED NOT NULL,
    approved CHAR(12)        NULL,     -- id of the set of removals that an admin approved
    begun    DOUBLE          NOT NULL, -- when the books were begun: before that bytes are an opening balance
    spool    VARCHAR(32)     NOT NULL DEFAULT '' -- name of the spooled samples that were booked last: once, not again
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- Each interface has an epoch of its counters (boot id and interface index) and the time of the last sample.
CREATE TABLE IF NOT EXISTS wgsyncd_interfaces (
    node       VARCHAR(64) NOT NULL,
    interface  VARCHAR(15) NOT NULL,
    epoch      VARCHAR(80) NOT NULL,
    sampled_at DOUBLE      NOT NULL,
    PRIMARY KEY (node, interface)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- The baseline of each peer has the counters that were accounted last, and the device that they were accounted to.
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

-- Builds before 0.1.0 wrote the state with other words.
UPDATE wgsyncd_peers SET state = 'arrives' WHERE state = 'adding';
UPDATE wgsyncd_peers SET state = 'returns' WHERE state = 'restoring';

-- Conditions are rejected rows, parent conflicts, a tripped guard and missing interfaces. Each is audited when it starts and
-- when it ends.
CREATE TABLE IF NOT EXISTS wgsyncd_conditions (
    node    VARCHAR(64)  NOT NULL,
    kind    VARCHAR(32)  NOT NULL,
    subject VARCHAR(64)  NOT NULL,
    label   VARCHAR(64)  NOT NULL,
    detail  VARCHAR(255) NOT NULL,
    since   DOUBLE       NOT NULL,
    PRIMARY KEY (node, kind, subject)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- Buckets hold the bytes of each device by the bucket's first second. The columns of 24 hours are sums of them.
CREATE TABLE IF NOT EXISTS wgsyncd_buckets (
    row_id BIGINT          NOT NULL,
    start  BIGINT          NOT NULL,
    rx     BIGINT UNSIGNED NOT NULL,
    tx     BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (row_id, start),
    KEY (start)
) ENGINE = InnoDB;

-- Days hold the bytes of each device by day. The columns of the month are sums of them.
CREATE TABLE IF NOT EXISTS wgsyncd_days (
    row_id BIGINT          NOT NULL,
    day    DATE            NOT NULL,
    rx     BIGINT UNSIGNED NOT NULL,
    tx     BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (row_id, day),
    KEY (day)
) ENGINE = InnoDB;

-- Deltas that cannot be true are kept here and not posted.
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

-- This view has the rows of admin_logs that wgsyncd wrote itself. `wgsyncd explain` reads them with the rights of the view's
-- creator. wgsyncd's account may read no other rows, because they are the application's and may name people.
CREATE OR REPLACE SQL SECURITY DEFINER VIEW wgsyncd_audit AS
    SELECT id, action_type, target_type, target_id, message, created_at FROM admin_logs WHERE action_type IN (
        'device_activated', 'qr_expired', 'peer_added', 'peer_removed', 'peer_updated', 'peer_moved',
        'foreign_peer_removed', 'row_rejected', 'row_accepted', 'parent_conflict', 'parent_conflict_cleared',
        'guard_tripped', 'guard_approved', 'interface_restored', 'interface_missing', 'usage_anomaly',
        'spool_corrupt', 'quarantine_released', 'quarantine_dropped', 'config_reloaded',
        'config_rejected', 'daemon_started', 'daemon_stopped');

-- Tables of version 1 did not have these columns.
ALTER TABLE wgsyncd_nodes ADD COLUMN IF NOT EXISTS begun DOUBLE NOT NULL DEFAULT 0;
ALTER TABLE wgsyncd_nodes ADD COLUMN IF NOT EXISTS spool VARCHAR(32) NOT NULL DEFAULT '';
UPDATE wgsyncd_nodes SET begun = UNIX_TIMESTAMP() WHERE begun = 0;

INSERT INTO wgsyncd_schema (version)
    SELECT 2 FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM wgsyncd_schema);
