-- wgsyncd's own tables as version 2 made them. The test of the migration begins with them.

CREATE TABLE IF NOT EXISTS wgsyncd_schema (
    version INT NOT NULL PRIMARY KEY
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS wgsyncd_nodes (
    node     VARCHAR(64)     NOT NULL PRIMARY KEY,
    seq      BIGINT UNSIGNED NOT NULL,
    approved CHAR(12)        NULL,     -- id of the set of removals that an admin approved
    begun    DOUBLE          NOT NULL, -- when the books were begun: before that bytes are an opening balance
    spool    VARCHAR(32)     NOT NULL DEFAULT '' -- name of the spooled samples that were booked last: once, not again
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS wgsyncd_interfaces (
    node       VARCHAR(64) NOT NULL,
    interface  VARCHAR(15) NOT NULL,
    epoch      VARCHAR(80) NOT NULL,
    sampled_at DOUBLE      NOT NULL,
    PRIMARY KEY (node, interface)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

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

CREATE TABLE IF NOT EXISTS wgsyncd_conditions (
    node    VARCHAR(64)  NOT NULL,
    kind    VARCHAR(32)  NOT NULL,
    subject VARCHAR(64)  NOT NULL,
    label   VARCHAR(64)  NOT NULL,
    detail  VARCHAR(255) NOT NULL,
    since   DOUBLE       NOT NULL,
    PRIMARY KEY (node, kind, subject)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS wgsyncd_buckets (
    row_id BIGINT          NOT NULL,
    start  BIGINT          NOT NULL,
    rx     BIGINT UNSIGNED NOT NULL,
    tx     BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (row_id, start),
    KEY (start)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS wgsyncd_days (
    row_id BIGINT          NOT NULL,
    day    DATE            NOT NULL,
    rx     BIGINT UNSIGNED NOT NULL,
    tx     BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (row_id, day),
    KEY (day)
) ENGINE = InnoDB;

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

INSERT INTO wgsyncd_schema (version)
    SELECT 2 FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM wgsyncd_schema);
