-- These are wgsyncd's own tables, version 3. An administrator's account creates them with `wgsyncd init-db`, which also
-- brings older tables to this version. A second run changes nothing. Times are UNIX seconds, and a DATE is a day in the
-- configured zone. Bytes are always the server's view: rx is what the server received from the peer.
-- `mikyun.perspective` does not change that.

CREATE TABLE IF NOT EXISTS wgsyncd_schema (
    version INT NOT NULL PRIMARY KEY
) ENGINE = InnoDB;

-- Each node has one row. Every transaction of its daemon adds one to revision. So the daemon can find out whether a commit
-- succeeded if its answer was lost. machine, boot and heartbeat say which server runs the node now.
CREATE TABLE IF NOT EXISTS wgsyncd_nodes (
    node             VARCHAR(64)     NOT NULL PRIMARY KEY,
    revision         BIGINT UNSIGNED NOT NULL,
    approved_plan    VARCHAR(64)     NULL,                -- id of the set of removals that an admin approved
    accounting_since DOUBLE          NOT NULL,            -- when the node state was created
    adopted          TINYINT         NOT NULL DEFAULT 0,  -- whether an admin let wgsyncd remove peers that no row names
    spool_position   VARCHAR(64)     NOT NULL DEFAULT '', -- of the spooled samples that were posted last
    receipt          VARCHAR(16)     NOT NULL DEFAULT '', -- of the last transaction with queued audit rows: it took place
    machine          VARCHAR(64)     NOT NULL DEFAULT '', -- machine, network namespace and state directory of the daemon
    host             VARCHAR(255)    NOT NULL DEFAULT '', -- the machine's host name, for people
    boot             VARCHAR(36)     NOT NULL DEFAULT '', -- the boot id of that machine
    uptime           DOUBLE          NOT NULL DEFAULT 0,  -- seconds since that boot, at the last transaction or heartbeat
    heartbeat        DOUBLE          NOT NULL DEFAULT 0,  -- when the daemon last said that it lives. 0: it has stopped
    interfaces       TEXT            NOT NULL DEFAULT ''  -- what the daemon serves, as name/name
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- Each boot in which a node wrote. So a boot that comes back (a restored virtual machine) is noticed.
CREATE TABLE IF NOT EXISTS wgsyncd_boots (
    node       VARCHAR(64) NOT NULL,
    boot       VARCHAR(36) NOT NULL,
    first_seen DOUBLE      NOT NULL,
    last_seen  DOUBLE      NOT NULL,
    uptime     DOUBLE      NOT NULL, -- seconds since the boot at last_seen, suspended time included
    PRIMARY KEY (node, boot)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- Each interface has an epoch of its counters (boot id and interface index) and the time of the last sample.
CREATE TABLE IF NOT EXISTS wgsyncd_interfaces (
    node       VARCHAR(64) NOT NULL,
    interface  VARCHAR(15) NOT NULL,
    epoch      VARCHAR(80) NOT NULL,
    sampled_at DOUBLE      NOT NULL,
    PRIMARY KEY (node, interface)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- The record of each peer has the counters that were posted last (the baseline), and the device that got their bytes.
-- The newest bytes of the device are here too, until their bucket ends or the peer goes. Then they are moved to
-- wgsyncd_buckets and wgsyncd_days. So the bytes of a device are the sum of these two tables and of its open pieces.
CREATE TABLE IF NOT EXISTS wgsyncd_peers (
    no               BIGINT          NOT NULL AUTO_INCREMENT PRIMARY KEY,
    node             VARCHAR(64)     NOT NULL,
    interface        VARCHAR(15)     NOT NULL,
    public_key       BINARY(32)      NOT NULL,
    row_id           BIGINT          NULL,     -- customer_devices.id; NULL: a foreign peer about to be removed
    device           VARCHAR(64)     CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    contract         VARCHAR(32)     NOT NULL,
    address          VARCHAR(255)    NOT NULL,
    config_digest    BINARY(8)       NOT NULL, -- of the peer's configuration as last seen
    state            VARCHAR(10)     NOT NULL, -- arrives, returns, present
    epoch            VARCHAR(80)     NOT NULL,
    rx               BIGINT UNSIGNED NOT NULL,
    tx               BIGINT UNSIGNED NOT NULL,
    latest_handshake BIGINT          NOT NULL, -- UNIX nanoseconds, 0 = never, -1 = not since the counters began at zero
    sampled_at       DOUBLE          NOT NULL,
    open_bucket      BIGINT          NOT NULL DEFAULT 0,            -- first second of the open piece's bucket, 0 = none is open
    open_day         DATE            NOT NULL DEFAULT '1970-01-01', -- day of the open piece
    open_rx          BIGINT UNSIGNED NOT NULL DEFAULT 0,
    open_tx          BIGINT UNSIGNED NOT NULL DEFAULT 0,
    UNIQUE KEY (node, interface, public_key),
    KEY (device)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- Conditions are rejected rows, parent conflicts, a tripped guard and missing interfaces. Each is audited when it starts
-- and when it ends.
CREATE TABLE IF NOT EXISTS wgsyncd_conditions (
    node    VARCHAR(64)  NOT NULL,
    type    VARCHAR(32)  NOT NULL,
    subject VARCHAR(64)  NOT NULL,
    name    VARCHAR(64)  NOT NULL,
    reason  VARCHAR(255) NOT NULL,
    since   DOUBLE       NOT NULL,
    PRIMARY KEY (node, type, subject)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- Buckets hold the bytes of each device by the bucket's first second. The columns of 24 hours are sums of them. A device
-- is named by its device_id, because an id of customer_devices may be used again for another device.
CREATE TABLE IF NOT EXISTS wgsyncd_buckets (
    device VARCHAR(64)     CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    start  BIGINT          NOT NULL,
    rx     BIGINT UNSIGNED NOT NULL,
    tx     BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (device, start),
    KEY (start)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- Days hold the bytes of each device by day. The columns of the month are sums of them.
CREATE TABLE IF NOT EXISTS wgsyncd_days (
    device VARCHAR(64)     CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    day    DATE            NOT NULL,
    rx     BIGINT UNSIGNED NOT NULL,
    tx     BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (device, day),
    KEY (day)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

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

-- A row that left a node is named here for the node that serves its new interface. So that node finds the row at once.
CREATE TABLE IF NOT EXISTS wgsyncd_moves (
    id        BIGINT      NOT NULL AUTO_INCREMENT PRIMARY KEY,
    interface VARCHAR(64) NOT NULL, -- the row's new wg_iface
    row_id    BIGINT      NOT NULL,
    node      VARCHAR(64) NOT NULL, -- the node that the row left
    moved_at  DOUBLE      NOT NULL,
    KEY (moved_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- The guard's memory: how many peers were removed in the last hour, and when. demanded: how many of them a row demanded
-- by its status, its contract or its new key. peers: how many peers the node had before. uptime: seconds since the boot
-- in wgsyncd_nodes. A claim in another boot changes it. Below 0: before that boot.
CREATE TABLE IF NOT EXISTS wgsyncd_removals (
    id         BIGINT      NOT NULL AUTO_INCREMENT PRIMARY KEY,
    node       VARCHAR(64) NOT NULL,
    uptime     DOUBLE      NOT NULL,
    removed    INT         NOT NULL,
    demanded   INT         NOT NULL,
    peers      INT         NOT NULL,
    KEY (node, uptime)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- Rows for admin_logs that could not be written yet.
CREATE TABLE IF NOT EXISTS wgsyncd_unwritten (
    id          BIGINT      NOT NULL AUTO_INCREMENT PRIMARY KEY,
    node        VARCHAR(64) NOT NULL,
    action_type VARCHAR(64) NOT NULL,
    target_type VARCHAR(64) NOT NULL,
    target_id   VARCHAR(64) NOT NULL,
    message     TEXT        NOT NULL,
    happened_at DOUBLE      NOT NULL,
    KEY (node)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- Bytes and handshakes that a node has set aside, because the row of their device is locked, or because the server refuses
-- to change it. They are in no other table. They are posted when the row can be changed again.
CREATE TABLE IF NOT EXISTS wgsyncd_set_aside (
    node      VARCHAR(64)     NOT NULL,
    device    VARCHAR(64)     CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    start     BIGINT          NOT NULL DEFAULT 0,            -- first second of the bucket, 0 = older than all buckets
    day       DATE            NOT NULL DEFAULT '1970-01-01',
    row_id    BIGINT          NULL,                          -- customer_devices.id
    rx        BIGINT UNSIGNED NOT NULL DEFAULT 0,
    tx        BIGINT UNSIGNED NOT NULL DEFAULT 0,
    handshake DOUBLE          NOT NULL DEFAULT 0,            -- 0 = no newer handshake
    reason    VARCHAR(64)     NOT NULL,                      -- late, locked, refused
    detail    VARCHAR(255)    NOT NULL,                      -- of a refused row: the server's error
    since     DOUBLE          NOT NULL,
    PRIMARY KEY (node, device, start, day)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- This view has the rows of admin_logs that wgsyncd wrote itself. `wgsyncd explain` reads them with the rights of the
-- view's creator. wgsyncd's account may read no other rows, because they are the application's and may name people.
CREATE OR REPLACE SQL SECURITY DEFINER VIEW wgsyncd_audit AS
    SELECT id, action_type, target_type, target_id, message, created_at FROM admin_logs WHERE action_type IN (
        'device_activated', 'qr_expired', 'peer_added', 'peer_removed', 'peer_updated', 'peer_moved',
        'foreign_peer_removed', 'row_rejected', 'row_accepted', 'parent_conflict', 'parent_conflict_cleared',
        'guard_tripped', 'guard_approved', 'interface_restored', 'interface_missing', 'usage_anomaly',
        'spool_corrupt', 'quarantine_released', 'quarantine_dropped', 'config_reloaded',
        'config_rejected', 'daemon_started', 'daemon_stopped', 'node_taken_over', 'node_renamed',
        'node_went_back', 'node_adopted', 'adoption_undone', 'policies_off', 'unknown_profile', 'unknown_profile_cleared',
        'cap_reached', 'cap_ended', 'devices_over_limit', 'devices_over_limit_cleared',
        'bandwidth_changed', 'bandwidths_changed', 'shaping_started', 'shaping_stopped', 'shaping_failed',
        'shaping_restored', 'access_changed', 'ruleset_restored', 'node_active',
        'node_standby');

INSERT INTO wgsyncd_schema (version)
    SELECT 3 FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM wgsyncd_schema);
