-- The tables of NexaVPN, as its document describes them. The application owns them and `wgsyncd init-db` never creates
-- them. This file serves the tests and the demo.

CREATE EXTENSION IF NOT EXISTS citext;

CREATE TABLE roles (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name        text UNIQUE NOT NULL,
    description text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE users (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    role_id       uuid NOT NULL REFERENCES roles (id),
    username      citext UNIQUE NOT NULL,
    display_name  text NOT NULL,
    email         citext UNIQUE,
    password_hash text NOT NULL,
    is_active     boolean NOT NULL DEFAULT true,
    last_login_at timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    deleted_at    timestamptz
);

CREATE TABLE sessions (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id      uuid NOT NULL REFERENCES users (id),
    ip_address   inet,
    user_agent   text,
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    revoked_at   timestamptz
);

CREATE TABLE refresh_tokens (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    session_id uuid NOT NULL REFERENCES sessions (id),
    user_id    uuid NOT NULL REFERENCES users (id),
    token_hash text NOT NULL,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);

CREATE TABLE gateways (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name         text UNIQUE NOT NULL,
    endpoint     text NOT NULL,
    public_key   text NOT NULL,
    listen_port  integer NOT NULL,
    vpn_cidr     cidr NOT NULL,
    dns_servers  text[] NOT NULL DEFAULT '{}',
    is_active    boolean NOT NULL DEFAULT true,
    last_sync_at timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    deleted_at   timestamptz
);

CREATE TABLE devices (
    id                 uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id            uuid NOT NULL REFERENCES users (id),
    gateway_id         uuid REFERENCES gateways (id),
    name               text NOT NULL,
    platform           text NOT NULL,
    os_version         text NOT NULL DEFAULT '',
    app_version        text NOT NULL DEFAULT '',
    device_fingerprint text NOT NULL,
    public_key         text NOT NULL,
    status             text NOT NULL DEFAULT 'active',
    last_seen_at       timestamptz,
    last_connected_at  timestamptz,
    approved_at        timestamptz,
    revoked_at         timestamptz,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    deleted_at         timestamptz
);
CREATE UNIQUE INDEX ON devices (user_id, device_fingerprint) WHERE deleted_at IS NULL;

CREATE TABLE wireguard_peers (
    id                       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    device_id                uuid NOT NULL REFERENCES devices (id),
    gateway_id               uuid NOT NULL REFERENCES gateways (id),
    public_key               text UNIQUE NOT NULL,
    assigned_ip              inet NOT NULL,
    preshared_key_ciphertext text,
    allowed_ips              cidr[] NOT NULL DEFAULT '{}',
    dns_servers              text[] NOT NULL DEFAULT '{}',
    profile_revision         integer NOT NULL DEFAULT 1,
    last_profile_issued_at   timestamptz,
    created_at               timestamptz NOT NULL DEFAULT now(),
    updated_at               timestamptz NOT NULL DEFAULT now(),
    deleted_at               timestamptz
);

CREATE TABLE ip_allocations (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    gateway_id   uuid NOT NULL REFERENCES gateways (id),
    device_id    uuid REFERENCES devices (id),
    address      inet NOT NULL,
    status       text NOT NULL DEFAULT 'allocated',
    allocated_at timestamptz NOT NULL DEFAULT now(),
    released_at  timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX ON ip_allocations (gateway_id, address);
CREATE UNIQUE INDEX ON ip_allocations (device_id) WHERE status = 'allocated';

CREATE TABLE policies (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name        text UNIQUE NOT NULL,
    description text NOT NULL DEFAULT '',
    priority    integer NOT NULL DEFAULT 100,
    effect      text NOT NULL DEFAULT 'allow',
    is_active   boolean NOT NULL DEFAULT true,
    full_tunnel boolean NOT NULL DEFAULT false,
    created_by  uuid REFERENCES users (id),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    deleted_at  timestamptz
);

CREATE TABLE policy_targets (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    policy_id   uuid NOT NULL REFERENCES policies (id),
    target_type text NOT NULL, -- user, device, group
    target_id   uuid NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE policy_destinations (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    policy_id   uuid NOT NULL REFERENCES policies (id),
    destination cidr NOT NULL,
    description text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE groups (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name        text UNIQUE NOT NULL,
    description text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    deleted_at  timestamptz
);

CREATE TABLE group_memberships (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    group_id   uuid NOT NULL REFERENCES groups (id),
    user_id    uuid NOT NULL REFERENCES users (id),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE audit_logs (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    actor_user_id   uuid REFERENCES users (id),
    actor_device_id uuid REFERENCES devices (id),
    event_type      text NOT NULL,
    entity_type     text NOT NULL,
    entity_id       uuid,
    status          text NOT NULL,
    ip_address      inet,
    message         text NOT NULL,
    metadata        jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at      timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE settings (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    category   text NOT NULL,
    key        text NOT NULL,
    value      jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX ON settings (category, key);
