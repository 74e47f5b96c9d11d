-- Triggers on the application's tables that tell the nodes at once that something has changed. An admin applies them with
-- `wgsyncd init-db --triggers`. They fire once a statement, and only for columns that wgsyncd reads. So they do not fire
-- for last_seen_at. Without them a node looks for changes every 250 ms.

CREATE OR REPLACE FUNCTION wgsyncd.tell_nodes() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $body$
BEGIN
    PERFORM pg_notify('wgsyncd', '');
    RETURN NULL;
END
$body$;

DO $triggers$
DECLARE
    name text;
    columns text;
BEGIN
    FOR name, columns IN VALUES
        ('gateways', 'name, public_key, listen_port, vpn_cidr, dns_servers, is_active, deleted_at'),
        ('devices', 'user_id, gateway_id, name, public_key, status, approved_at, revoked_at, deleted_at'),
        ('wireguard_peers', 'device_id, gateway_id, public_key, assigned_ip, preshared_key_ciphertext, allowed_ips, '
                            'deleted_at'),
        ('ip_allocations', 'gateway_id, device_id, address, status, released_at'),
        ('users', 'username, is_active, deleted_at'),
        ('policies', 'name, priority, effect, is_active, full_tunnel, deleted_at'),
        ('policy_targets', 'policy_id, target_type, target_id'),
        ('policy_destinations', 'policy_id, destination'),
        ('groups', 'name, deleted_at'),
        ('group_memberships', 'group_id, user_id')
    LOOP
        EXECUTE format('DROP TRIGGER IF EXISTS wgsyncd_tell_nodes ON public.%I', name);
        EXECUTE format('CREATE TRIGGER wgsyncd_tell_nodes AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF %s ON public.%I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION wgsyncd.tell_nodes()', columns, name);
    END LOOP;
END
$triggers$;
