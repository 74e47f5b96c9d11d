-- wgsyncd's own schema beside the tables of NexaVPN, version 1. `wgsyncd init-db` runs this file with an admin's account,
-- in one transaction and as often as needed. It changes none of the application's tables. Times of wgsyncd's own tables
-- are UNIX seconds, and a date is a day in the configured zone. Bytes are the server's view: rx is what it received.
--
-- Own tables. A node reads and writes the rows of its own nodes only (row level security):
--   nodes        node, role, gateways                  (init-db alone writes it, a node reads its own rows)
--   node_states  node, revision, approved_plan, accounting_since, adopted, spool_position, receipt, machine, host, boot,
--                uptime, heartbeat, interfaces
--   boots        node, boot, first_seen, last_seen, uptime
--   interfaces   node, interface, epoch, sampled_at
--   peers        node, interface, public_key, row_id, device, owner, address, config_digest, state, epoch, rx, tx,
--                latest_handshake, sampled_at
--   conditions   node, type, subject, name, reason, since
--   buckets      node, device, start, rx, tx
--   days         node, device, day, rx, tx
--   totals       node, device, rx, tx, seen, connected, open_bucket, open_day, open_rx, open_tx
--   quarantine   id, node, interface, row_id, device, rx, tx, since, until
--   removals     id, node, uptime, removed, demanded, peers, access
--   unwritten    id, node, event_type, entity_type, entity_id, status, message, metadata, happened_at
--
-- Views of the application's tables. They show what belongs to the gateways of the node that is logged in:
--   gateways, wireguard_peers, devices, users, ip_allocations, policies, policy_targets, policy_destinations, groups,
--   group_memberships
--   audit_logs    the node's own rows. New ones must name one of its gateways and one of its nodes in metadata
--   moved_devices id: devices with a record of a peer of the node, if another gateway has them now
--   device_times  id, last_seen_at, last_connected_at: what a node writes about devices
-- A node may update device_times.last_seen_at and .last_connected_at, and gateways.last_sync_at.
--
-- usage: the bytes of each device on all nodes, for the application.

DO $roles$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'wgsyncd_owner') THEN
        CREATE ROLE wgsyncd_owner NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'wgsyncd_node') THEN
        CREATE ROLE wgsyncd_node NOLOGIN;
    END IF;
    IF NOT pg_has_role(current_user, 'wgsyncd_owner', 'MEMBER') THEN
        EXECUTE format('GRANT wgsyncd_owner TO %I', current_user);
    END IF;
END
$roles$;

CREATE SCHEMA IF NOT EXISTS wgsyncd AUTHORIZATION wgsyncd_owner;

-- The owner's rights on the application's tables. The views give nodes a part of them.
GRANT USAGE ON SCHEMA public TO wgsyncd_owner;
GRANT SELECT (id, name, endpoint, public_key, listen_port, vpn_cidr, dns_servers, is_active, deleted_at, last_sync_at),
      UPDATE (last_sync_at)
    ON public.gateways TO wgsyncd_owner;
GRANT SELECT (id, user_id, gateway_id, name, platform, app_version, public_key, status, last_seen_at, last_connected_at,
              approved_at, revoked_at, created_at, deleted_at),
      UPDATE (last_seen_at, last_connected_at)
    ON public.devices TO wgsyncd_owner;
GRANT SELECT (id, device_id, gateway_id, public_key, assigned_ip, preshared_key_ciphertext, allowed_ips, created_at,
              deleted_at)
    ON public.wireguard_peers TO wgsyncd_owner;
GRANT SELECT (gateway_id, device_id, address, status, released_at) ON public.ip_allocations TO wgsyncd_owner;
GRANT SELECT (id, username, is_active, deleted_at) ON public.users TO wgsyncd_owner;
GRANT SELECT (id, name, priority, effect, is_active, full_tunnel, deleted_at) ON public.policies TO wgsyncd_owner;
GRANT SELECT (id, policy_id, target_type, target_id) ON public.policy_targets TO wgsyncd_owner;
GRANT SELECT (id, policy_id, destination) ON public.policy_destinations TO wgsyncd_owner;
GRANT SELECT (id, name, deleted_at) ON public.groups TO wgsyncd_owner;
GRANT SELECT (id, group_id, user_id) ON public.group_memberships TO wgsyncd_owner;
GRANT SELECT (id, event_type, entity_type, entity_id, status, message, metadata, created_at),
      INSERT (id, event_type, entity_type, entity_id, status, message, metadata, created_at)
    ON public.audit_logs TO wgsyncd_owner;

SET LOCAL ROLE wgsyncd_owner;

CREATE TABLE IF NOT EXISTS wgsyncd.schema_version (
    version integer NOT NULL PRIMARY KEY
);
INSERT INTO wgsyncd.schema_version SELECT 1 WHERE NOT EXISTS (SELECT FROM wgsyncd.schema_version);

-- Which role runs which node, and which gateways the node serves. A role sees the gateways of all its nodes.
CREATE TABLE IF NOT EXISTS wgsyncd.nodes (
    node     text   NOT NULL PRIMARY KEY,
    role     name   NOT NULL,
    gateways uuid[] NOT NULL -- gateways.id
);

-- Each transaction of a node's daemon adds one to revision. So the daemon can find out whether a commit succeeded if its
-- answer was lost. machine, boot and heartbeat say which server runs the node now.
CREATE TABLE IF NOT EXISTS wgsyncd.node_states (
    node             text             NOT NULL PRIMARY KEY,
    revision         bigint           NOT NULL,
    approved_plan    text             NULL,               -- id of the set of removals that an admin approved
    accounting_since double precision NOT NULL,           -- when the node state was created
    adopted          boolean          NOT NULL DEFAULT false, -- whether an admin let wgsyncd remove peers that no row names
    spool_position   text             NOT NULL DEFAULT '', -- of the spooled samples that were posted last
    receipt          text             NOT NULL DEFAULT '', -- of the last transaction with queued audit rows: it took place
    machine          text             NOT NULL DEFAULT '', -- machine, network namespace and state directory of the daemon
    host             text             NOT NULL DEFAULT '', -- the machine's host name, for people
    boot             text             NOT NULL DEFAULT '', -- the boot id of that machine
    uptime           double precision NOT NULL DEFAULT 0, -- seconds since that boot, at the last transaction or heartbeat
    heartbeat        double precision NOT NULL DEFAULT 0, -- when the daemon last said that it lives. 0: it has stopped
    interfaces       text             NOT NULL DEFAULT '' -- what the daemon serves, as name/name
) WITH (fillfactor = 50);

-- Each boot in which a node wrote. So a boot that comes back (a restored virtual machine) is noticed.
CREATE TABLE IF NOT EXISTS wgsyncd.boots (
    node       text             NOT NULL,
    boot       text             NOT NULL,
    first_seen double precision NOT NULL,
    last_seen  double precision NOT NULL,
    uptime     double precision NOT NULL, -- seconds since the boot at last_seen, suspended time included
    PRIMARY KEY (node, boot)
);

-- Each interface has an epoch of its counters (boot id and interface index) and the time of the last sample.
CREATE TABLE IF NOT EXISTS wgsyncd.interfaces (
    node       text             NOT NULL,
    interface  text             NOT NULL,
    epoch      text             NOT NULL,
    sampled_at double precision NOT NULL,
    PRIMARY KEY (node, interface)
);

-- The record of each peer has the counters that were posted last (the baseline), and the device that got their bytes. The
-- updated columns have no index and the pages have room, so that the server updates a row within its page (HOT).
CREATE TABLE IF NOT EXISTS wgsyncd.peers (
    node             text             NOT NULL,
    interface        text             NOT NULL,
    public_key       bytea            NOT NULL,
    row_id           uuid             NULL,     -- devices.id; NULL: a foreign peer about to be removed
    device           text             NOT NULL, -- devices.id; of a foreign peer its name for people
    owner            text             NOT NULL, -- username
    address          text             NOT NULL,
    config_digest    bytea            NOT NULL, -- of the peer's configuration as last seen
    state            text             NOT NULL, -- arrives, returns, present
    epoch            text             NOT NULL,
    rx               bigint           NOT NULL,
    tx               bigint           NOT NULL,
    latest_handshake bigint           NOT NULL, -- UNIX nanoseconds, 0 = never, -1 = not since the counters began at zero
    sampled_at       double precision NOT NULL,
    PRIMARY KEY (node, interface, public_key)
) WITH (fillfactor = 50);
CREATE INDEX IF NOT EXISTS peers_device ON wgsyncd.peers (device);

-- Conditions are rejected rows, a tripped guard, missing interfaces and others. Each is audited when it starts and when
-- it ends.
CREATE TABLE IF NOT EXISTS wgsyncd.conditions (
    node    text             NOT NULL,
    type    text             NOT NULL,
    subject text             NOT NULL,
    name    text             NOT NULL,
    reason  text             NOT NULL,
    since   double precision NOT NULL,
    PRIMARY KEY (node, type, subject)
);

-- Buckets hold the bytes of each device by the bucket's first second, days by the day. Old ones are deleted. Totals hold
-- all bytes, and beside them the open piece: the newest bytes, until their bucket or day ends. Then they are moved to
-- buckets and days. So the bytes of a device at a time are the sum of its buckets (or days) and its open piece. Each node
-- has rows of its own, because each node posts what its own kernel counted. The updated columns of totals have no index
-- and the pages have room, so that the server updates a row within its page (HOT).
CREATE TABLE IF NOT EXISTS wgsyncd.buckets (
    node   text   NOT NULL,
    device uuid   NOT NULL, -- devices.id
    start  bigint NOT NULL,
    rx     bigint NOT NULL,
    tx     bigint NOT NULL,
    PRIMARY KEY (node, device, start)
) WITH (fillfactor = 70);
CREATE INDEX IF NOT EXISTS buckets_start ON wgsyncd.buckets (start);

CREATE TABLE IF NOT EXISTS wgsyncd.days (
    node   text   NOT NULL,
    device uuid   NOT NULL, -- devices.id
    day    date   NOT NULL,
    rx     bigint NOT NULL,
    tx     bigint NOT NULL,
    PRIMARY KEY (node, device, day)
) WITH (fillfactor = 70);
CREATE INDEX IF NOT EXISTS days_day ON wgsyncd.days (day);

CREATE TABLE IF NOT EXISTS wgsyncd.totals (
    node      text             NOT NULL,
    device    uuid             NOT NULL, -- devices.id
    rx        bigint           NOT NULL DEFAULT 0,
    tx        bigint           NOT NULL DEFAULT 0,
    seen      double precision NOT NULL DEFAULT 0, -- the latest handshake, 0 = never
    connected double precision NOT NULL DEFAULT 0, -- the first handshake after REJECT_AFTER_TIME without one, 0 = never
    PRIMARY KEY (node, device)
);
ALTER TABLE wgsyncd.totals
    ADD COLUMN IF NOT EXISTS open_bucket bigint NOT NULL DEFAULT 0, -- first second of the open piece's bucket, 0 = none
    ADD COLUMN IF NOT EXISTS open_day    date   NOT NULL DEFAULT '1970-01-01', -- day of the open piece
    ADD COLUMN IF NOT EXISTS open_rx     bigint NOT NULL DEFAULT 0, -- rx and tx have these bytes, too
    ADD COLUMN IF NOT EXISTS open_tx     bigint NOT NULL DEFAULT 0,
    SET (fillfactor = 50);

-- Deltas that cannot be true are kept here and not posted.
CREATE TABLE IF NOT EXISTS wgsyncd.quarantine (
    id        bigint           NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    node      text             NOT NULL,
    interface text             NOT NULL,
    row_id    uuid             NULL,
    device    text             NOT NULL,
    rx        numeric(20)      NOT NULL, -- a counter of 64 bits that cannot be true may have any value
    tx        numeric(20)      NOT NULL,
    since     double precision NOT NULL,
    until     double precision NOT NULL
);

-- The guard's memory: how many peers were removed in the last hour, and when. demanded: how many of them a row demanded
-- by its own values. peers: how many peers the node had before. uptime: seconds since the boot in node_states. Below 0:
-- before that boot. access: so many devices lost all access, and kept their peer.
CREATE TABLE IF NOT EXISTS wgsyncd.removals (
    id       bigint           NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    node     text             NOT NULL,
    uptime   double precision NOT NULL,
    removed  integer          NOT NULL,
    demanded integer          NOT NULL,
    peers    integer          NOT NULL,
    access   boolean          NOT NULL DEFAULT false
);
ALTER TABLE wgsyncd.removals ADD COLUMN IF NOT EXISTS access boolean NOT NULL DEFAULT false;

-- Rows for audit_logs that could not be written yet.
CREATE TABLE IF NOT EXISTS wgsyncd.unwritten (
    id          bigint           NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    node        text             NOT NULL,
    event_type  text             NOT NULL,
    entity_type text             NOT NULL,
    entity_id   uuid             NULL,
    status      text             NOT NULL,
    message     text             NOT NULL,
    metadata    jsonb            NOT NULL,
    happened_at double precision NOT NULL
);

-- A node reads and writes its own rows only. session_user is who logged in, and SET ROLE does not change it. ARRAY lets
-- the server find the names once for each statement.
ALTER TABLE wgsyncd.nodes ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS own_rows ON wgsyncd.nodes;
CREATE POLICY own_rows ON wgsyncd.nodes FOR SELECT TO wgsyncd_node USING (role = session_user);
DO $policies$
DECLARE
    one text;
BEGIN
    FOREACH one IN ARRAY ARRAY['node_states', 'boots', 'interfaces', 'peers', 'conditions', 'buckets', 'days', 'totals',
                               'quarantine', 'removals', 'unwritten'] LOOP
        EXECUTE format('ALTER TABLE wgsyncd.%I ENABLE ROW LEVEL SECURITY', one);
        EXECUTE format('DROP POLICY IF EXISTS own_rows ON wgsyncd.%I', one);
        EXECUTE format('CREATE POLICY own_rows ON wgsyncd.%I TO wgsyncd_node USING '
                       '(node = ANY (ARRAY(SELECT n.node FROM wgsyncd.nodes n WHERE n.role = session_user)))', one);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON wgsyncd.%I TO wgsyncd_node', one);
    END LOOP;
END
$policies$;
GRANT USAGE ON SCHEMA wgsyncd TO wgsyncd_node;
GRANT SELECT ON wgsyncd.schema_version, wgsyncd.nodes TO wgsyncd_node;

-- The bytes of each device on all nodes.
CREATE OR REPLACE VIEW wgsyncd.usage AS
    SELECT device, sum(rx)::bigint AS rx_bytes, sum(tx)::bigint AS tx_bytes FROM wgsyncd.totals GROUP BY device;

RESET ROLE;
