-- The reference schema of mikyun_cloud has four tables and a view, which belong to the web application. Tests, the demo and
-- new installations use it. wgsyncd never applies it to a database that has these tables.

CREATE TABLE contracts (
    id                  BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
    contract_number     INT UNSIGNED          UNIQUE,
    contract_id         VARCHAR(32)  NOT NULL UNIQUE,
    vpn_subnet          VARCHAR(32)           DEFAULT '10.251.0.0/24',
    next_child_ip       VARCHAR(32),
    customer_name       VARCHAR(128),
    customer_email      VARCHAR(255),
    customer_phone      VARCHAR(64),
    plan_name           VARCHAR(64),
    storage_quota_gb    INT          NOT NULL DEFAULT 200,
    max_devices         INT          NOT NULL DEFAULT 3,
    max_files           INT          NOT NULL DEFAULT 10000,
    bandwidth_profile   VARCHAR(64),
    contract_status     VARCHAR(16)  NOT NULL DEFAULT 'active',
    identity_passphrase TEXT,
    nc_password         VARCHAR(255),
    nc_quota_gb         INT          NOT NULL DEFAULT 200,
    opt_video_call      TINYINT      NOT NULL DEFAULT 0,
    created_at          DATETIME     NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at          DATETIME     NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    KEY (customer_email),
    KEY (contract_status)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE customer_devices (
    id                   BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
    contract_id          VARCHAR(32)  NOT NULL,
    device_id            VARCHAR(64)  NOT NULL UNIQUE,
    wg_iface             VARCHAR(32),
    wg_ip                VARCHAR(64)           UNIQUE,
    public_key           TEXT                  UNIQUE,
    private_key          TEXT,
    preshared_key        TEXT,
    device_role          VARCHAR(16)           DEFAULT 'child',
    is_parent            TINYINT      NOT NULL DEFAULT 0,
    status               VARCHAR(16)  NOT NULL DEFAULT 'issued',
    device_name          VARCHAR(128),
    platform             VARCHAR(64),
    app_version          VARCHAR(64),
    issued_at            DATETIME,
    qr_expires_at        DATETIME,
    first_handshake_at   DATETIME,
    last_handshake_at    DATETIME,
    activated_at         DATETIME,
    parent_changed_at    DATETIME,
    parent_changed_by    VARCHAR(64),
    parent_change_reason VARCHAR(255),
    paused_at            DATETIME,
    pause_reason         VARCHAR(255),
    rx_bytes_total       BIGINT                DEFAULT 0,
    tx_bytes_total       BIGINT                DEFAULT 0,
    rx_bytes_24h         BIGINT                DEFAULT 0,
    tx_bytes_24h         BIGINT                DEFAULT 0,
    rx_bytes_month       BIGINT                DEFAULT 0,
    tx_bytes_month       BIGINT                DEFAULT 0,
    storage_quota_gb     INT                   DEFAULT 0,
    nc_user              VARCHAR(255),
    nc_password          VARCHAR(255),
    nc_quota_gb          INT,
    nc_enabled           TINYINT               DEFAULT 1,
    created_at           DATETIME     NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at           DATETIME     NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    deleted_at           DATETIME,
    KEY (contract_id),
    KEY (status),
    KEY (first_handshake_at),
    KEY (last_handshake_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE admin_logs (
    id          BIGINT      NOT NULL AUTO_INCREMENT PRIMARY KEY,
    action_type VARCHAR(64),
    target_type VARCHAR(64),
    target_id   VARCHAR(64),
    message     TEXT,
    created_at  DATETIME    NOT NULL DEFAULT CURRENT_TIMESTAMP
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE contract_notes (
    id          BIGINT      NOT NULL AUTO_INCREMENT PRIMARY KEY,
    contract_id VARCHAR(32) NOT NULL,
    note        TEXT,
    created_at  DATETIME    NOT NULL DEFAULT CURRENT_TIMESTAMP,
    KEY (contract_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE VIEW v_parent_conflicts AS
    SELECT contract_id, COUNT(*) AS parent_count
    FROM customer_devices
    WHERE is_parent = 1 AND deleted_at IS NULL
    GROUP BY contract_id
    HAVING COUNT(*) > 1;
