-- The account of wgsyncd may do this and nothing else. An administrator runs it in the database mikyun_cloud. The account
-- must exist. This statement creates one:
--   CREATE USER 'wgsyncd'@'localhost' IDENTIFIED VIA unix_socket
-- {account} stands for the account. `wgsyncd init-db --grants ACCOUNT` fills it in, and it leaves out optional columns that
-- the tables do not have.

GRANT SELECT (contract_id, contract_status, max_devices, bandwidth_profile)
    ON contracts TO {account};

GRANT SELECT (id, contract_id, device_id, wg_iface, wg_ip, public_key, preshared_key, device_role, is_parent, status,
              device_name, platform, app_version, issued_at, qr_expires_at, first_handshake_at, last_handshake_at,
              activated_at, paused_at, rx_bytes_total, tx_bytes_total, rx_bytes_24h, tx_bytes_24h, rx_bytes_month,
              tx_bytes_month, created_at, updated_at, deleted_at),
      UPDATE (status, first_handshake_at, last_handshake_at, activated_at, rx_bytes_total, tx_bytes_total, rx_bytes_24h,
              tx_bytes_24h, rx_bytes_month, tx_bytes_month, updated_at)
    ON customer_devices TO {account};

GRANT INSERT (action_type, target_type, target_id, message, created_at) ON admin_logs TO {account};

GRANT SELECT ON v_parent_conflicts TO {account};

GRANT SELECT ON wgsyncd_schema TO {account};
GRANT SELECT, INSERT, UPDATE ON wgsyncd_nodes TO {account};
GRANT SELECT, INSERT, UPDATE, DELETE ON wgsyncd_boots TO {account};
GRANT SELECT, INSERT, UPDATE, DELETE ON wgsyncd_interfaces TO {account};
GRANT SELECT, INSERT, UPDATE, DELETE ON wgsyncd_peers TO {account};
GRANT SELECT, INSERT, UPDATE, DELETE ON wgsyncd_conditions TO {account};
GRANT SELECT, INSERT, UPDATE, DELETE ON wgsyncd_buckets TO {account};
GRANT SELECT, INSERT, UPDATE, DELETE ON wgsyncd_days TO {account};
GRANT SELECT, INSERT, UPDATE (node), DELETE ON wgsyncd_quarantine TO {account};
GRANT SELECT, INSERT, DELETE ON wgsyncd_moves TO {account};
GRANT SELECT, INSERT, UPDATE, DELETE ON wgsyncd_removals TO {account};
GRANT SELECT, INSERT, UPDATE, DELETE ON wgsyncd_unwritten TO {account};
GRANT SELECT, INSERT, UPDATE, DELETE ON wgsyncd_set_aside TO {account};
GRANT SELECT ON wgsyncd_audit TO {account};
