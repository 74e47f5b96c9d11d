-- The views through which a node reads and writes the application's tables. `wgsyncd init-db` makes them, and
-- `wgsyncd init-db --drop-views` drops them, because the server refuses to drop or retype a column of a view. Their owner
-- has rights on the columns. What a view shows depends on session_user, which SET ROLE does not change.
-- security_barrier: no function of a statement sees a row that the view does not show.

SET LOCAL ROLE wgsyncd_owner;

CREATE OR REPLACE VIEW wgsyncd.gateways WITH (security_barrier) AS
    SELECT id, name, endpoint, public_key, listen_port, vpn_cidr, dns_servers, is_active, deleted_at, last_sync_at
    FROM public.gateways
    WHERE id = ANY (ARRAY(SELECT unnest(gateways) FROM wgsyncd.nodes WHERE role = session_user))
    WITH CASCADED CHECK OPTION;

CREATE OR REPLACE VIEW wgsyncd.wireguard_peers WITH (security_barrier) AS
    SELECT id, device_id, gateway_id, public_key, assigned_ip, preshared_key_ciphertext, allowed_ips, created_at,
           deleted_at
    FROM public.wireguard_peers
    WHERE gateway_id = ANY (ARRAY(SELECT unnest(gateways) FROM wgsyncd.nodes WHERE role = session_user));

-- A device is shown if a row of wireguard_peers names it at one of the gateways, also if devices.gateway_id disagrees.
CREATE OR REPLACE VIEW wgsyncd.devices WITH (security_barrier) AS
    SELECT id, user_id, gateway_id, name, platform, app_version, public_key, status, last_seen_at, last_connected_at,
           approved_at, revoked_at, created_at, deleted_at
    FROM public.devices
    WHERE id IN (
        SELECT device_id FROM public.wireguard_peers
        WHERE gateway_id = ANY (ARRAY(SELECT unnest(gateways) FROM wgsyncd.nodes WHERE role = session_user)));

CREATE OR REPLACE VIEW wgsyncd.users WITH (security_barrier) AS
    SELECT id, username::text AS username, is_active, deleted_at
    FROM public.users WHERE id IN (SELECT user_id FROM wgsyncd.devices);

CREATE OR REPLACE VIEW wgsyncd.ip_allocations WITH (security_barrier) AS
    SELECT gateway_id, device_id, address, status, released_at
    FROM public.ip_allocations
    WHERE gateway_id = ANY (ARRAY(SELECT unnest(gateways) FROM wgsyncd.nodes WHERE role = session_user));

CREATE OR REPLACE VIEW wgsyncd.group_memberships WITH (security_barrier) AS
    SELECT id, group_id, user_id FROM public.group_memberships WHERE user_id IN (SELECT id FROM wgsyncd.users);

CREATE OR REPLACE VIEW wgsyncd.groups WITH (security_barrier) AS
    SELECT id, name, deleted_at FROM public.groups WHERE id IN (SELECT group_id FROM wgsyncd.group_memberships);

-- A target with an unknown type reaches nobody. It is shown, so that a node can say that the policy is faulty.
CREATE OR REPLACE VIEW wgsyncd.policy_targets WITH (security_barrier) AS
    SELECT id, policy_id, target_type, target_id
    FROM public.policy_targets
    WHERE target_id IN (SELECT id FROM wgsyncd.devices) AND target_type = 'device'
       OR target_id IN (SELECT id FROM wgsyncd.users) AND target_type = 'user'
       OR target_id IN (SELECT id FROM wgsyncd.groups) AND target_type = 'group'
       OR target_type NOT IN ('device', 'user', 'group');

-- A policy without any target is shown, too: it reaches nobody, and a node can say so.
CREATE OR REPLACE VIEW wgsyncd.policies WITH (security_barrier) AS
    SELECT id, name, priority, effect, is_active, full_tunnel, deleted_at
    FROM public.policies
    WHERE id IN (SELECT policy_id FROM wgsyncd.policy_targets
                 UNION ALL
                 SELECT p.id FROM public.policies p
                 WHERE NOT EXISTS (SELECT FROM public.policy_targets t WHERE t.policy_id = p.id));

CREATE OR REPLACE VIEW wgsyncd.policy_destinations WITH (security_barrier) AS
    SELECT id, policy_id, destination FROM public.policy_destinations
    WHERE policy_id IN (SELECT policy_id FROM wgsyncd.policy_targets);

-- The columns of devices that a node writes, for devices of its gateways and of no gateway.
CREATE OR REPLACE VIEW wgsyncd.device_times WITH (security_barrier) AS
    SELECT id, last_seen_at, last_connected_at
    FROM public.devices
    WHERE gateway_id IS NULL
       OR gateway_id = ANY (ARRAY(SELECT unnest(gateways) FROM wgsyncd.nodes WHERE role = session_user))
    WITH CASCADED CHECK OPTION;

-- Of the devices that the node's records of peers name: the ids of those that another gateway has now.
CREATE OR REPLACE VIEW wgsyncd.moved_devices WITH (security_barrier) AS
    SELECT id FROM public.devices
    WHERE deleted_at IS NULL
      AND gateway_id <> ALL (ARRAY(SELECT unnest(gateways) FROM wgsyncd.nodes WHERE role = session_user))
      AND id IN (SELECT p.row_id FROM wgsyncd.peers p JOIN wgsyncd.nodes n ON n.node = p.node
                 WHERE n.role = session_user);

-- A node's own audit rows. It inserts only rows that name one of its gateways and one of its nodes.
CREATE OR REPLACE VIEW wgsyncd.audit_logs WITH (security_barrier) AS
    SELECT id, event_type, entity_type, entity_id, status, message, metadata, created_at
    FROM public.audit_logs
    WHERE event_type LIKE 'gateway.%'
      AND metadata ->> 'gateway_id' = ANY (
          ARRAY(SELECT unnest(gateways)::text FROM wgsyncd.nodes WHERE role = session_user))
      AND metadata ->> 'node' = ANY (ARRAY(SELECT node FROM wgsyncd.nodes WHERE role = session_user))
    WITH CASCADED CHECK OPTION;

GRANT SELECT ON wgsyncd.gateways, wgsyncd.wireguard_peers, wgsyncd.devices, wgsyncd.users, wgsyncd.ip_allocations,
                wgsyncd.policies, wgsyncd.policy_targets, wgsyncd.policy_destinations, wgsyncd.groups,
                wgsyncd.group_memberships, wgsyncd.audit_logs, wgsyncd.device_times, wgsyncd.moved_devices
    TO wgsyncd_node;
GRANT UPDATE (last_sync_at) ON wgsyncd.gateways TO wgsyncd_node;
GRANT UPDATE (last_seen_at, last_connected_at) ON wgsyncd.device_times TO wgsyncd_node;
GRANT INSERT ON wgsyncd.audit_logs TO wgsyncd_node;

RESET ROLE;
