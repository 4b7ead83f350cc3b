SET lock_timeout = '5s';

SET statement_timeout = '15min';

BEGIN;

CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL, 
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

-- Running upgrade  -> 0001

CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE TYPE notification_type AS ENUM ('email', 'sms', 'letter');

CREATE TABLE key_types (
    name VARCHAR NOT NULL, 
    CONSTRAINT key_types_pkey PRIMARY KEY (name)
);

CREATE TABLE notification_history (
    service_id UUID, 
    key_type VARCHAR NOT NULL, 
    notification_status VARCHAR, 
    id UUID NOT NULL, 
    job_id UUID, 
    job_row_number INTEGER, 
    template_id UUID NOT NULL, 
    template_version INTEGER NOT NULL, 
    api_key_id UUID, 
    notification_type notification_type NOT NULL, 
    created_at TIMESTAMP WITHOUT TIME ZONE NOT NULL, 
    sent_at TIMESTAMP WITHOUT TIME ZONE, 
    sent_by VARCHAR, 
    updated_at TIMESTAMP WITHOUT TIME ZONE, 
    reference VARCHAR, 
    billable_units INTEGER DEFAULT '0' NOT NULL, 
    client_reference VARCHAR, 
    international BOOLEAN DEFAULT 'false' NOT NULL, 
    phone_prefix VARCHAR, 
    rate_multiplier NUMERIC, 
    created_by_id UUID, 
    postage VARCHAR, 
    document_download_count INTEGER, 
    CONSTRAINT notification_history_pkey PRIMARY KEY (id)
);

CREATE INDEX ix_notification_history_created_at ON notification_history (created_at);

CREATE INDEX ix_notification_history_reference ON notification_history (reference);

CREATE INDEX ix_notification_history_service_id_composite ON notification_history (service_id, key_type, notification_type, created_at);

CREATE TABLE notification_status_types (
    name VARCHAR NOT NULL, 
    CONSTRAINT notification_status_types_pkey PRIMARY KEY (name)
);

CREATE TABLE services (
    id UUID NOT NULL, 
    name VARCHAR NOT NULL, 
    active BOOLEAN DEFAULT 'true' NOT NULL, 
    created_at TIMESTAMP WITHOUT TIME ZONE NOT NULL, 
    updated_at TIMESTAMP WITHOUT TIME ZONE, 
    CONSTRAINT services_pkey PRIMARY KEY (id), 
    CONSTRAINT services_name_key UNIQUE (name)
);

CREATE TABLE notifications (
    "to" VARCHAR NOT NULL, 
    normalised_to VARCHAR, 
    service_id UUID, 
    key_type VARCHAR NOT NULL, 
    notification_status VARCHAR, 
    _personalisation VARCHAR, 
    reply_to_text VARCHAR, 
    unsubscribe_link VARCHAR, 
    id UUID NOT NULL, 
    job_id UUID, 
    job_row_number INTEGER, 
    template_id UUID NOT NULL, 
    template_version INTEGER NOT NULL, 
    api_key_id UUID, 
    notification_type notification_type NOT NULL, 
    created_at TIMESTAMP WITHOUT TIME ZONE NOT NULL, 
    sent_at TIMESTAMP WITHOUT TIME ZONE, 
    sent_by VARCHAR, 
    updated_at TIMESTAMP WITHOUT TIME ZONE, 
    reference VARCHAR, 
    billable_units INTEGER DEFAULT '0' NOT NULL, 
    client_reference VARCHAR, 
    international BOOLEAN DEFAULT 'false' NOT NULL, 
    phone_prefix VARCHAR, 
    rate_multiplier NUMERIC, 
    created_by_id UUID, 
    postage VARCHAR, 
    document_download_count INTEGER, 
    CONSTRAINT notifications_pkey PRIMARY KEY (id), 
    CONSTRAINT notifications_key_type_fkey FOREIGN KEY(key_type) REFERENCES key_types (name), 
    CONSTRAINT notifications_notification_status_fkey FOREIGN KEY(notification_status) REFERENCES notification_status_types (name), 
    CONSTRAINT notifications_service_id_fkey FOREIGN KEY(service_id) REFERENCES services (id)
);

CREATE INDEX ix_notifications_client_reference ON notifications (client_reference);

CREATE INDEX ix_notifications_client_reference_trgm ON notifications USING gin (client_reference gin_trgm_ops);

CREATE INDEX ix_notifications_created_at ON notifications (created_at);

CREATE INDEX ix_notifications_job_id ON notifications (job_id);

CREATE INDEX ix_notifications_normalised_to_trgm ON notifications USING gin (normalised_to gin_trgm_ops);

CREATE INDEX ix_notifications_not_delivered ON notifications (service_id, created_at) WHERE notification_status IS DISTINCT FROM 'delivered';

CREATE INDEX ix_notifications_notification_type_composite ON notifications (notification_type, notification_status, created_at);

CREATE INDEX ix_notifications_reference ON notifications (reference);

CREATE INDEX ix_notifications_service_created_at ON notifications (service_id, created_at);

CREATE INDEX ix_notifications_service_id_notification_type_created_at ON notifications (service_id, notification_type, created_at);

CREATE INDEX ix_notifications_template_id ON notifications (template_id);

CREATE TABLE service_data_retention (
    id UUID NOT NULL, 
    service_id UUID NOT NULL, 
    notification_type notification_type NOT NULL, 
    days_of_retention INTEGER NOT NULL, 
    created_at TIMESTAMP WITHOUT TIME ZONE NOT NULL, 
    updated_at TIMESTAMP WITHOUT TIME ZONE, 
    CONSTRAINT service_data_retention_pkey PRIMARY KEY (id), 
    CONSTRAINT service_data_retention_service_id_fkey FOREIGN KEY(service_id) REFERENCES services (id), 
    CONSTRAINT uix_service_data_retention UNIQUE (service_id, notification_type)
);

CREATE INDEX ix_service_data_retention_service_id ON service_data_retention (service_id);

INSERT INTO key_types (name) VALUES ('normal');

INSERT INTO key_types (name) VALUES ('team');

INSERT INTO key_types (name) VALUES ('test');

INSERT INTO notification_status_types (name) VALUES ('cancelled');

INSERT INTO notification_status_types (name) VALUES ('created');

INSERT INTO notification_status_types (name) VALUES ('sending');

INSERT INTO notification_status_types (name) VALUES ('sent');

INSERT INTO notification_status_types (name) VALUES ('delivered');

INSERT INTO notification_status_types (name) VALUES ('pending');

INSERT INTO notification_status_types (name) VALUES ('failed');

INSERT INTO notification_status_types (name) VALUES ('technical-failure');

INSERT INTO notification_status_types (name) VALUES ('temporary-failure');

INSERT INTO notification_status_types (name) VALUES ('permanent-failure');

INSERT INTO notification_status_types (name) VALUES ('pending-virus-check');

INSERT INTO notification_status_types (name) VALUES ('validation-failed');

INSERT INTO notification_status_types (name) VALUES ('virus-scan-failed');

INSERT INTO notification_status_types (name) VALUES ('returned-letter');

INSERT INTO alembic_version (version_num) VALUES ('0001') RETURNING alembic_version.version_num;

COMMIT;

BEGIN;

-- Running upgrade 0001 -> 0002

CREATE SCHEMA retention;

CREATE TABLE retention.accepted_missing (
    night DATE NOT NULL, 
    bucket VARCHAR NOT NULL, 
    accepted_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    accepted_by VARCHAR NOT NULL, 
    CONSTRAINT accepted_missing_pkey PRIMARY KEY (night, bucket)
);

CREATE TABLE retention.deferred_buckets (
    service_id UUID NOT NULL, 
    bucket VARCHAR NOT NULL, 
    kind VARCHAR NOT NULL, 
    cutoff TIMESTAMP WITH TIME ZONE NOT NULL, 
    reason VARCHAR NOT NULL, 
    attempts INTEGER NOT NULL, 
    first_failed_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    last_failed_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    next_attempt_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT deferred_buckets_pkey PRIMARY KEY (service_id, bucket, kind)
);

CREATE INDEX ix_deferred_buckets_next_attempt_at ON retention.deferred_buckets (next_attempt_at);

CREATE TABLE retention.deferred_letters (
    notification_id UUID NOT NULL, 
    service_id UUID NOT NULL, 
    kind VARCHAR NOT NULL, 
    cutoff TIMESTAMP WITH TIME ZONE NOT NULL, 
    reason VARCHAR NOT NULL, 
    attempts INTEGER NOT NULL, 
    first_failed_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    last_failed_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    next_attempt_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    needs_person BOOLEAN NOT NULL, 
    CONSTRAINT deferred_letters_pkey PRIMARY KEY (notification_id)
);

CREATE INDEX ix_deferred_letters_next_attempt_at ON retention.deferred_letters (next_attempt_at);

CREATE INDEX ix_deferred_letters_service_id ON retention.deferred_letters (service_id, next_attempt_at);

CREATE TABLE retention.holds (
    scope VARCHAR NOT NULL, 
    reason VARCHAR NOT NULL, 
    placed_by VARCHAR NOT NULL, 
    placed_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT holds_pkey PRIMARY KEY (scope)
);

CREATE TABLE retention.intents (
    id BIGINT GENERATED ALWAYS AS IDENTITY, 
    chain_id BIGINT, 
    step INTEGER, 
    service_id UUID NOT NULL, 
    kind VARCHAR NOT NULL, 
    looked_in VARCHAR NOT NULL, 
    from_created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    to_created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    written_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT intents_pkey PRIMARY KEY (id)
);

CREATE INDEX ix_intents_service_id ON retention.intents (service_id, kind);

CREATE TABLE retention.letter_looks (
    id BIGINT GENERATED ALWAYS AS IDENTITY, 
    night DATE NOT NULL, 
    bucket VARCHAR NOT NULL, 
    looked INTEGER NOT NULL, 
    missing INTEGER NOT NULL, 
    CONSTRAINT letter_looks_pkey PRIMARY KEY (id)
);

CREATE INDEX ix_letter_looks_night ON retention.letter_looks (night, bucket);

CREATE TABLE retention.runs (
    night DATE NOT NULL, 
    started_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT runs_pkey PRIMARY KEY (night)
);

CREATE TABLE retention.steps (
    id BIGINT GENERATED ALWAYS AS IDENTITY, 
    night DATE NOT NULL, 
    chain_id BIGINT, 
    task_id VARCHAR, 
    notification_type VARCHAR NOT NULL, 
    service_id UUID NOT NULL, 
    cutoff TIMESTAMP WITH TIME ZONE NOT NULL, 
    stage VARCHAR NOT NULL, 
    slice INTEGER NOT NULL, 
    step INTEGER NOT NULL, 
    started_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    seconds DOUBLE PRECISION NOT NULL, 
    outcome VARCHAR NOT NULL, 
    chosen INTEGER NOT NULL, 
    moved INTEGER NOT NULL, 
    deleted INTEGER NOT NULL, 
    files_deleted INTEGER NOT NULL, 
    without_file INTEGER NOT NULL, 
    deferred INTEGER NOT NULL, 
    not_final INTEGER, 
    min_created_at TIMESTAMP WITH TIME ZONE, 
    max_created_at TIMESTAMP WITH TIME ZONE, 
    CONSTRAINT steps_pkey PRIMARY KEY (id)
);

CREATE INDEX ix_steps_night ON retention.steps (night, notification_type);

CREATE INDEX ix_steps_service_id ON retention.steps (service_id, started_at);

CREATE INDEX ix_steps_started_at ON retention.steps (started_at);

CREATE TABLE retention.chains (
    id BIGINT GENERATED ALWAYS AS IDENTITY, 
    night DATE NOT NULL, 
    notification_type VARCHAR NOT NULL, 
    service_id UUID NOT NULL, 
    cutoff TIMESTAMP WITH TIME ZONE NOT NULL, 
    stage VARCHAR NOT NULL, 
    slice INTEGER DEFAULT '0' NOT NULL, 
    slice_from TIMESTAMP WITH TIME ZONE, 
    slice_before TIMESTAMP WITH TIME ZONE, 
    step INTEGER DEFAULT '0' NOT NULL, 
    lower_bound TIMESTAMP WITH TIME ZONE, 
    rows_per_step INTEGER, 
    state VARCHAR DEFAULT 'waiting' NOT NULL, 
    reason VARCHAR, 
    missing_in VARCHAR, 
    due_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    sent_at TIMESTAMP WITH TIME ZONE, 
    wakes INTEGER DEFAULT '0' NOT NULL, 
    attempts INTEGER DEFAULT '0' NOT NULL, 
    setbacks INTEGER DEFAULT '0' NOT NULL, 
    lease_token UUID, 
    lease_holder VARCHAR, 
    lease_until TIMESTAMP WITH TIME ZONE, 
    last_error VARCHAR, 
    created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    ended_at TIMESTAMP WITH TIME ZONE, 
    CONSTRAINT chains_pkey PRIMARY KEY (id), 
    CONSTRAINT ck_chains_stage CHECK (stage IN ('real', 'test', 'deferred')), 
    CONSTRAINT ck_chains_state CHECK (state IN ('waiting', 'resting', 'ended')), 
    CONSTRAINT chains_night_fkey FOREIGN KEY(night) REFERENCES retention.runs (night), 
    CONSTRAINT chains_identity_key UNIQUE (night, notification_type, service_id, cutoff, stage, slice)
);

CREATE INDEX ix_chains_due_at ON retention.chains (due_at) WHERE state = 'waiting';

CREATE INDEX ix_chains_reason ON retention.chains (reason) WHERE state = 'resting';

CREATE INDEX ix_chains_service_id ON retention.chains (service_id);

CREATE TABLE retention.run_types (
    night DATE NOT NULL, 
    notification_type VARCHAR NOT NULL, 
    sent_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    fanned_out_at TIMESTAMP WITH TIME ZONE, 
    services INTEGER, 
    rows_without_service INTEGER, 
    CONSTRAINT run_types_pkey PRIMARY KEY (night, notification_type), 
    CONSTRAINT run_types_night_fkey FOREIGN KEY(night) REFERENCES retention.runs (night)
);

UPDATE alembic_version SET version_num='0002' WHERE alembic_version.version_num = '0001';

COMMIT;

BEGIN;

-- Running upgrade 0002 -> 0003

ALTER TABLE retention.chains ADD COLUMN alone_letter UUID;

ALTER TABLE retention.chains ADD COLUMN alone_failures INTEGER DEFAULT '0' NOT NULL;

UPDATE alembic_version SET version_num='0003' WHERE alembic_version.version_num = '0002';

COMMIT;

BEGIN;

-- Running upgrade 0003 -> 0004

CREATE TABLE email_rate (
    id INTEGER NOT NULL, 
    next_slot_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT email_rate_pkey PRIMARY KEY (id), 
    CONSTRAINT ck_email_rate_one_row CHECK (id = 1)
);

CREATE TABLE malformed_flags (
    user_id UUID NOT NULL, 
    noticed_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    CONSTRAINT malformed_flags_pkey PRIMARY KEY (user_id)
);

CREATE TABLE retained_emails (
    id UUID NOT NULL, 
    email_address VARCHAR NOT NULL, 
    retained_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT retained_emails_pkey PRIMARY KEY (id)
);

CREATE TABLE user_deletions (
    user_id UUID NOT NULL, 
    state VARCHAR DEFAULT 'requested' NOT NULL, 
    reason VARCHAR, 
    requested_by VARCHAR DEFAULT 'database' NOT NULL, 
    requested_by_id UUID, 
    requested_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    items INTEGER, 
    rows_done INTEGER DEFAULT '0' NOT NULL, 
    files_done INTEGER DEFAULT '0' NOT NULL, 
    attempts INTEGER DEFAULT '0' NOT NULL, 
    due_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    sent_at TIMESTAMP WITH TIME ZONE, 
    lease_until TIMESTAMP WITH TIME ZONE, 
    lease_token UUID, 
    started_at TIMESTAMP WITH TIME ZONE, 
    completed_at TIMESTAMP WITH TIME ZONE, 
    confirmation_address VARCHAR, 
    confirmation_attempts INTEGER DEFAULT '0' NOT NULL, 
    confirmation_failure VARCHAR, 
    confirmed_at TIMESTAMP WITH TIME ZONE, 
    CONSTRAINT user_deletions_pkey PRIMARY KEY (user_id), 
    CONSTRAINT ck_user_deletions_state CHECK (state IN ('requested', 'running', 'blocked', 'complete'))
);

CREATE INDEX ix_user_deletions_due_at ON user_deletions (due_at) WHERE state IN ('requested', 'running');

CREATE INDEX ix_user_deletions_requested_by_id ON user_deletions (requested_by_id);

CREATE INDEX ix_user_deletions_state ON user_deletions (state, requested_at);

CREATE INDEX ix_user_deletions_unconfirmed ON user_deletions (due_at) WHERE state = 'complete' AND confirmation_address IS NOT NULL;

CREATE TABLE user_exports (
    id UUID NOT NULL, 
    user_id UUID NOT NULL, 
    state VARCHAR DEFAULT 'requested' NOT NULL, 
    failure VARCHAR, 
    requested_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    deadline_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    due_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    attempts INTEGER DEFAULT '0' NOT NULL, 
    lease_until TIMESTAMP WITH TIME ZONE, 
    lease_token UUID, 
    object_key VARCHAR, 
    ready_at TIMESTAMP WITH TIME ZONE, 
    expires_at TIMESTAMP WITH TIME ZONE, 
    email_address VARCHAR, 
    emailed_at TIMESTAMP WITH TIME ZONE, 
    CONSTRAINT user_exports_pkey PRIMARY KEY (id), 
    CONSTRAINT ck_user_exports_state CHECK (state IN ('requested', 'running', 'ready', 'failed', 'expired'))
);

CREATE INDEX ix_user_exports_due_at ON user_exports (due_at) WHERE state IN ('requested', 'running');

CREATE INDEX ix_user_exports_expires_at ON user_exports (expires_at) WHERE state IN ('ready', 'failed');

CREATE INDEX ix_user_exports_unsent ON user_exports (due_at) WHERE state = 'ready' AND email_address IS NOT NULL;

CREATE INDEX ix_user_exports_user_id ON user_exports (user_id);

CREATE TABLE users (
    id UUID NOT NULL, 
    name VARCHAR NOT NULL, 
    email_address VARCHAR NOT NULL, 
    password_hash VARCHAR, 
    flags JSONB DEFAULT '{}' NOT NULL, 
    state VARCHAR DEFAULT 'pending' NOT NULL, 
    platform_admin BOOLEAN DEFAULT 'false' NOT NULL, 
    last_visit_at TIMESTAMP WITH TIME ZONE, 
    free_trial_end TIMESTAMP WITH TIME ZONE, 
    lifetime_deal BOOLEAN DEFAULT 'false' NOT NULL, 
    subscription JSONB, 
    deletion_warning_sent_at TIMESTAMP WITH TIME ZONE, 
    deletion_warning_attempts INTEGER DEFAULT '0' NOT NULL, 
    deletion_warning_failure VARCHAR, 
    deletion_warning_due_at TIMESTAMP WITH TIME ZONE, 
    invited_by_id UUID, 
    created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    updated_at TIMESTAMP WITH TIME ZONE, 
    CONSTRAINT users_pkey PRIMARY KEY (id), 
    CONSTRAINT ck_users_state CHECK (state IN ('pending', 'active', 'inactive')), 
    CONSTRAINT ck_users_deletion_warning_attempts CHECK (deletion_warning_attempts >= 0), 
    CONSTRAINT users_invited_by_id_fkey FOREIGN KEY(invited_by_id) REFERENCES users (id), 
    CONSTRAINT users_email_address_key UNIQUE (email_address)
);

CREATE INDEX ix_users_invited_by_id ON users (invited_by_id);

CREATE INDEX ix_users_last_seen ON users (coalesce(last_visit_at, created_at), id);

CREATE INDEX ix_users_never_completed ON users (created_at, id) WHERE state = 'pending';

CREATE TABLE user_sessions (
    id UUID NOT NULL, 
    token_hash BYTEA NOT NULL, 
    user_id UUID, 
    created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    data JSONB DEFAULT '{}' NOT NULL, 
    CONSTRAINT user_sessions_pkey PRIMARY KEY (id), 
    CONSTRAINT user_sessions_user_id_fkey FOREIGN KEY(user_id) REFERENCES users (id), 
    CONSTRAINT user_sessions_token_hash_key UNIQUE (token_hash)
);

CREATE INDEX ix_user_sessions_anonymous ON user_sessions (created_at, id) WHERE user_id IS NULL;

CREATE INDEX ix_user_sessions_expires_at ON user_sessions (expires_at, id);

CREATE INDEX ix_user_sessions_user_id ON user_sessions (user_id) WHERE user_id IS NOT NULL;

CREATE FUNCTION user_flags(flags jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
-- The flags as an object, which they are or hold as a JSON string. NULL when they are malformed.
BEGIN
    IF flags IS NULL OR jsonb_typeof(flags) = 'null' THEN
        RETURN '{}';
    END IF;
    IF jsonb_typeof(flags) = 'string' THEN
        flags := (flags #>> '{}')::jsonb;
    END IF;
    RETURN CASE WHEN jsonb_typeof(flags) = 'object' THEN flags END;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    RETURN NULL;
END
$$;

CREATE FUNCTION user_in_deletion(flags jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    -- NULL when the flags are malformed.
    SELECT CASE coalesce(read.flags ->> 'in_deletion', CASE WHEN read.flags IS NOT NULL THEN 'false' END)
               WHEN 'true' THEN true WHEN 'false' THEN false
           END
    FROM (SELECT public.user_flags(flags) AS flags) AS read
$$;

CREATE FUNCTION capture_user_deletion() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp AS $$
-- As the tables' owner, so that whoever may write the flag need not be able to write requests.
BEGIN
    IF public.user_in_deletion(NEW.flags) IS NULL THEN
        INSERT INTO malformed_flags (user_id) VALUES (NEW.id)
        ON CONFLICT (user_id) DO UPDATE SET noticed_at = clock_timestamp();
        RAISE WARNING USING MESSAGE = concat('the flags of user ', NEW.id, ' are malformed: nothing follows');
        RETURN NULL;
    END IF;
    DELETE FROM malformed_flags WHERE user_id = NEW.id;
    IF TG_OP = 'UPDATE'
        AND public.user_in_deletion(NEW.flags) IS NOT DISTINCT FROM public.user_in_deletion(OLD.flags)
    THEN
        RETURN NULL;
    END IF;
    IF public.user_in_deletion(NEW.flags) THEN
        INSERT INTO user_deletions (user_id, confirmation_address) VALUES (NEW.id, NEW.email_address)
        ON CONFLICT (user_id) DO UPDATE
        SET state = 'requested', reason = NULL, requested_by = 'database', requested_by_id = NULL,
            requested_at = clock_timestamp(), due_at = clock_timestamp(), sent_at = NULL, completed_at = NULL,
            items = NULL, rows_done = 0, files_done = 0, attempts = 0, started_at = NULL,
            lease_until = NULL, lease_token = NULL, confirmation_address = excluded.confirmation_address,
            confirmation_attempts = 0, confirmation_failure = NULL, confirmed_at = NULL
        WHERE user_deletions.state IN ('blocked', 'complete');
    ELSE
        -- Taken back before anything was deleted.
        DELETE FROM user_deletions WHERE user_id = NEW.id AND state IN ('requested', 'blocked');
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER capture_user_deletion AFTER INSERT OR UPDATE OF flags ON users
    FOR EACH ROW EXECUTE FUNCTION capture_user_deletion();

CREATE FUNCTION protect_ghost_user() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'the ghost user cannot be deleted' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.id <> OLD.id OR public.user_in_deletion(NEW.flags) IS NOT FALSE OR NEW.state <> OLD.state THEN
        RAISE EXCEPTION 'the ghost user cannot be marked or changed' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER protect_ghost_user BEFORE UPDATE OR DELETE ON users
    FOR EACH ROW WHEN (OLD.id = '00000000-0000-4000-8000-00000000dead') EXECUTE FUNCTION protect_ghost_user();

INSERT INTO users (id, name, email_address, state, created_at) VALUES ('00000000-0000-4000-8000-00000000dead', 'Deleted user', 'deleted-user@invalid', 'inactive', now());

UPDATE alembic_version SET version_num='0004' WHERE alembic_version.version_num = '0003';

COMMIT;

BEGIN;

-- Running upgrade 0004 -> 0005

CREATE TABLE leader_boards (
    id UUID NOT NULL, 
    month VARCHAR NOT NULL, 
    entries JSONB DEFAULT '[]' NOT NULL, 
    CONSTRAINT leader_boards_pkey PRIMARY KEY (id), 
    CONSTRAINT leader_boards_month_key UNIQUE (month)
);

CREATE INDEX ix_leader_boards_entries ON leader_boards USING gin (entries jsonb_path_ops);

CREATE TABLE organisations (
    id UUID NOT NULL, 
    name VARCHAR NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT organisations_pkey PRIMARY KEY (id), 
    CONSTRAINT organisations_name_key UNIQUE (name)
);

CREATE TABLE api_keys (
    id UUID NOT NULL, 
    service_id UUID NOT NULL, 
    name VARCHAR NOT NULL, 
    created_by_id UUID NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT api_keys_pkey PRIMARY KEY (id), 
    CONSTRAINT api_keys_created_by_id_fkey FOREIGN KEY(created_by_id) REFERENCES users (id), 
    CONSTRAINT api_keys_service_id_fkey FOREIGN KEY(service_id) REFERENCES services (id)
);

CREATE INDEX ix_api_keys_created_by_id ON api_keys (created_by_id);

CREATE INDEX ix_api_keys_service_id ON api_keys (service_id);

CREATE TABLE api_keys_history (
    id UUID NOT NULL, 
    version INTEGER NOT NULL, 
    service_id UUID NOT NULL, 
    created_by_id UUID NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT api_keys_history_pkey PRIMARY KEY (id, version), 
    CONSTRAINT api_keys_history_created_by_id_fkey FOREIGN KEY(created_by_id) REFERENCES users (id), 
    CONSTRAINT api_keys_history_service_id_fkey FOREIGN KEY(service_id) REFERENCES services (id)
);

CREATE INDEX ix_api_keys_history_created_by_id ON api_keys_history (created_by_id);

CREATE INDEX ix_api_keys_history_service_id ON api_keys_history (service_id);

CREATE TABLE events (
    id UUID NOT NULL, 
    event_type VARCHAR NOT NULL, 
    service_id UUID NOT NULL, 
    created_by_id UUID, 
    created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT events_pkey PRIMARY KEY (id), 
    CONSTRAINT events_created_by_id_fkey FOREIGN KEY(created_by_id) REFERENCES users (id), 
    CONSTRAINT events_service_id_fkey FOREIGN KEY(service_id) REFERENCES services (id)
);

CREATE INDEX ix_events_created_by_id ON events (created_by_id);

CREATE INDEX ix_events_service_id ON events (service_id);

CREATE TABLE feature_requests (
    id UUID NOT NULL, 
    title VARCHAR NOT NULL, 
    created_by_id UUID, 
    created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT feature_requests_pkey PRIMARY KEY (id), 
    CONSTRAINT feature_requests_created_by_id_fkey FOREIGN KEY(created_by_id) REFERENCES users (id)
);

CREATE INDEX ix_feature_requests_created_by_id ON feature_requests (created_by_id);

CREATE TABLE invited_organisation_users (
    id UUID NOT NULL, 
    email_address VARCHAR NOT NULL, 
    organisation_id UUID NOT NULL, 
    invited_by_id UUID NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT invited_organisation_users_pkey PRIMARY KEY (id), 
    CONSTRAINT invited_organisation_users_invited_by_id_fkey FOREIGN KEY(invited_by_id) REFERENCES users (id), 
    CONSTRAINT invited_organisation_users_organisation_id_fkey FOREIGN KEY(organisation_id) REFERENCES organisations (id)
);

CREATE INDEX ix_invited_organisation_users_invited_by_id ON invited_organisation_users (invited_by_id);

CREATE TABLE invited_users (
    id UUID NOT NULL, 
    email_address VARCHAR NOT NULL, 
    service_id UUID NOT NULL, 
    user_id UUID NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT invited_users_pkey PRIMARY KEY (id), 
    CONSTRAINT invited_users_service_id_fkey FOREIGN KEY(service_id) REFERENCES services (id), 
    CONSTRAINT invited_users_user_id_fkey FOREIGN KEY(user_id) REFERENCES users (id)
);

CREATE INDEX ix_invited_users_service_id ON invited_users (service_id);

CREATE INDEX ix_invited_users_user_id ON invited_users (user_id);

CREATE TABLE jobs (
    id UUID NOT NULL, 
    service_id UUID NOT NULL, 
    original_file_name VARCHAR NOT NULL, 
    created_by_id UUID, 
    created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT jobs_pkey PRIMARY KEY (id), 
    CONSTRAINT jobs_created_by_id_fkey FOREIGN KEY(created_by_id) REFERENCES users (id), 
    CONSTRAINT jobs_service_id_fkey FOREIGN KEY(service_id) REFERENCES services (id)
);

CREATE INDEX ix_jobs_created_by_id ON jobs (created_by_id);

CREATE INDEX ix_jobs_service_id ON jobs (service_id);

CREATE TABLE login_events (
    id UUID NOT NULL, 
    user_id UUID NOT NULL, 
    data JSONB NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT login_events_pkey PRIMARY KEY (id), 
    CONSTRAINT login_events_user_id_fkey FOREIGN KEY(user_id) REFERENCES users (id)
);

CREATE INDEX ix_login_events_user_id ON login_events (user_id);

CREATE TABLE permissions (
    id UUID NOT NULL, 
    service_id UUID NOT NULL, 
    user_id UUID NOT NULL, 
    permission VARCHAR NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT permissions_pkey PRIMARY KEY (id), 
    CONSTRAINT permissions_service_id_fkey FOREIGN KEY(service_id) REFERENCES services (id), 
    CONSTRAINT permissions_user_id_fkey FOREIGN KEY(user_id) REFERENCES users (id), 
    CONSTRAINT uix_service_user_permission UNIQUE (service_id, user_id, permission)
);

CREATE INDEX ix_permissions_service_id_permission ON permissions (service_id, permission);

CREATE INDEX ix_permissions_user_id ON permissions (user_id);

CREATE TABLE service_callback_api (
    id UUID NOT NULL, 
    service_id UUID NOT NULL, 
    url VARCHAR NOT NULL, 
    updated_by_id UUID NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT service_callback_api_pkey PRIMARY KEY (id), 
    CONSTRAINT service_callback_api_service_id_fkey FOREIGN KEY(service_id) REFERENCES services (id), 
    CONSTRAINT service_callback_api_updated_by_id_fkey FOREIGN KEY(updated_by_id) REFERENCES users (id)
);

CREATE INDEX ix_service_callback_api_service_id ON service_callback_api (service_id);

CREATE INDEX ix_service_callback_api_updated_by_id ON service_callback_api (updated_by_id);

CREATE TABLE service_contact_list (
    id UUID NOT NULL, 
    service_id UUID NOT NULL, 
    original_file_name VARCHAR NOT NULL, 
    created_by_id UUID, 
    created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT service_contact_list_pkey PRIMARY KEY (id), 
    CONSTRAINT service_contact_list_created_by_id_fkey FOREIGN KEY(created_by_id) REFERENCES users (id), 
    CONSTRAINT service_contact_list_service_id_fkey FOREIGN KEY(service_id) REFERENCES services (id)
);

CREATE INDEX ix_service_contact_list_created_by_id ON service_contact_list (created_by_id);

CREATE INDEX ix_service_contact_list_service_id ON service_contact_list (service_id);

CREATE TABLE support_tickets (
    id UUID NOT NULL, 
    user_id UUID NOT NULL, 
    message VARCHAR NOT NULL, 
    assigned_to_id UUID, 
    created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT support_tickets_pkey PRIMARY KEY (id), 
    CONSTRAINT support_tickets_assigned_to_id_fkey FOREIGN KEY(assigned_to_id) REFERENCES users (id), 
    CONSTRAINT support_tickets_user_id_fkey FOREIGN KEY(user_id) REFERENCES users (id)
);

CREATE INDEX ix_support_tickets_assigned_to_id ON support_tickets (assigned_to_id);

CREATE INDEX ix_support_tickets_user_id ON support_tickets (user_id);

CREATE TABLE template_folders (
    id UUID NOT NULL, 
    service_id UUID NOT NULL, 
    name VARCHAR NOT NULL, 
    CONSTRAINT template_folders_pkey PRIMARY KEY (id), 
    CONSTRAINT template_folders_service_id_fkey FOREIGN KEY(service_id) REFERENCES services (id)
);

CREATE INDEX ix_template_folders_service_id ON template_folders (service_id);

CREATE TABLE templates (
    id UUID NOT NULL, 
    service_id UUID NOT NULL, 
    name VARCHAR NOT NULL, 
    content VARCHAR NOT NULL, 
    version INTEGER DEFAULT '1' NOT NULL, 
    created_by_id UUID NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT templates_pkey PRIMARY KEY (id), 
    CONSTRAINT templates_created_by_id_fkey FOREIGN KEY(created_by_id) REFERENCES users (id), 
    CONSTRAINT templates_service_id_fkey FOREIGN KEY(service_id) REFERENCES services (id)
);

CREATE INDEX ix_templates_created_by_id ON templates (created_by_id);

CREATE INDEX ix_templates_service_id ON templates (service_id);

CREATE TABLE templates_history (
    id UUID NOT NULL, 
    version INTEGER NOT NULL, 
    service_id UUID NOT NULL, 
    content VARCHAR NOT NULL, 
    created_by_id UUID NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT templates_history_pkey PRIMARY KEY (id, version), 
    CONSTRAINT templates_history_created_by_id_fkey FOREIGN KEY(created_by_id) REFERENCES users (id), 
    CONSTRAINT templates_history_service_id_fkey FOREIGN KEY(service_id) REFERENCES services (id)
);

CREATE INDEX ix_templates_history_created_by_id ON templates_history (created_by_id);

CREATE INDEX ix_templates_history_service_id ON templates_history (service_id);

CREATE TABLE user_to_organisation (
    user_id UUID NOT NULL, 
    organisation_id UUID NOT NULL, 
    CONSTRAINT user_to_organisation_pkey PRIMARY KEY (user_id, organisation_id), 
    CONSTRAINT user_to_organisation_organisation_id_fkey FOREIGN KEY(organisation_id) REFERENCES organisations (id), 
    CONSTRAINT user_to_organisation_user_id_fkey FOREIGN KEY(user_id) REFERENCES users (id)
);

CREATE INDEX ix_user_to_organisation_user_id ON user_to_organisation (user_id);

CREATE TABLE user_to_service (
    user_id UUID NOT NULL, 
    service_id UUID NOT NULL, 
    CONSTRAINT user_to_service_pkey PRIMARY KEY (user_id, service_id), 
    CONSTRAINT user_to_service_service_id_fkey FOREIGN KEY(service_id) REFERENCES services (id), 
    CONSTRAINT user_to_service_user_id_fkey FOREIGN KEY(user_id) REFERENCES users (id)
);

CREATE INDEX ix_user_to_service_service_id ON user_to_service (service_id);

CREATE INDEX ix_user_to_service_user_id ON user_to_service (user_id);

CREATE TABLE verify_codes (
    id UUID NOT NULL, 
    user_id UUID NOT NULL, 
    code_hash VARCHAR NOT NULL, 
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT verify_codes_pkey PRIMARY KEY (id), 
    CONSTRAINT verify_codes_user_id_fkey FOREIGN KEY(user_id) REFERENCES users (id)
);

CREATE INDEX ix_verify_codes_user_id ON verify_codes (user_id);

CREATE TABLE webauthn_credential (
    id UUID NOT NULL, 
    user_id UUID NOT NULL, 
    name VARCHAR NOT NULL, 
    public_key VARCHAR NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT webauthn_credential_pkey PRIMARY KEY (id), 
    CONSTRAINT webauthn_credential_user_id_fkey FOREIGN KEY(user_id) REFERENCES users (id)
);

CREATE INDEX ix_webauthn_credential_user_id ON webauthn_credential (user_id);

CREATE TABLE feature_votes (
    id UUID NOT NULL, 
    feature_request_id UUID NOT NULL, 
    user_id UUID NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT feature_votes_pkey PRIMARY KEY (id), 
    CONSTRAINT feature_votes_feature_request_id_fkey FOREIGN KEY(feature_request_id) REFERENCES feature_requests (id), 
    CONSTRAINT feature_votes_user_id_fkey FOREIGN KEY(user_id) REFERENCES users (id), 
    CONSTRAINT feature_votes_feature_request_id_user_id_key UNIQUE (feature_request_id, user_id)
);

CREATE INDEX ix_feature_votes_user_id ON feature_votes (user_id);

CREATE TABLE user_folder_permissions (
    user_id UUID NOT NULL, 
    template_folder_id UUID NOT NULL, 
    CONSTRAINT user_folder_permissions_pkey PRIMARY KEY (user_id, template_folder_id), 
    CONSTRAINT user_folder_permissions_template_folder_id_fkey FOREIGN KEY(template_folder_id) REFERENCES template_folders (id), 
    CONSTRAINT user_folder_permissions_user_id_fkey FOREIGN KEY(user_id) REFERENCES users (id)
);

CREATE INDEX ix_user_folder_permissions_user_id ON user_folder_permissions (user_id);

UPDATE alembic_version SET version_num='0005' WHERE alembic_version.version_num = '0004';

COMMIT;

BEGIN;

-- Running upgrade 0005 -> 0006

COMMIT;

CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_notifications_created_by_id ON notifications (created_by_id) WHERE created_by_id IS NOT NULL;

CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_notification_history_created_by_id ON notification_history (created_by_id) WHERE created_by_id IS NOT NULL;

BEGIN;

UPDATE alembic_version SET version_num='0006' WHERE alembic_version.version_num = '0005';

COMMIT;

BEGIN;

-- Running upgrade 0006 -> 0007

CREATE UNLOGGED TABLE retention.indexed_folders (
    id BIGINT GENERATED ALWAYS AS IDENTITY, 
    store VARCHAR NOT NULL, 
    bucket VARCHAR NOT NULL, 
    folder VARCHAR NOT NULL, 
    worth_pages INTEGER NOT NULL, 
    begun_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    pages INTEGER DEFAULT '0' NOT NULL, 
    listed_to VARCHAR, 
    files INTEGER DEFAULT '0' NOT NULL, 
    orphans INTEGER DEFAULT '0' NOT NULL, 
    complete BOOLEAN DEFAULT false NOT NULL, 
    attempts INTEGER DEFAULT '0' NOT NULL, 
    lease_token UUID, 
    lease_until TIMESTAMP WITH TIME ZONE, 
    CONSTRAINT indexed_folders_pkey PRIMARY KEY (id), 
    CONSTRAINT indexed_folders_identity_key UNIQUE (store, bucket, folder)
);

CREATE UNLOGGED TABLE retention.indexed_files (
    folder_id BIGINT NOT NULL, 
    reference VARCHAR NOT NULL, 
    rest VARCHAR NOT NULL, 
    CONSTRAINT indexed_files_pkey PRIMARY KEY (folder_id, reference, rest)
);

CREATE TABLE retention.folder_counts (
    night DATE NOT NULL, 
    bucket VARCHAR NOT NULL, 
    folder VARCHAR NOT NULL, 
    listed_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    files INTEGER NOT NULL, 
    orphans INTEGER NOT NULL, 
    CONSTRAINT folder_counts_pkey PRIMARY KEY (night, bucket, folder)
);

UPDATE alembic_version SET version_num='0007' WHERE alembic_version.version_num = '0006';

COMMIT;

BEGIN;

-- Running upgrade 0007 -> 0008

CREATE TABLE login_attempts (
    key BYTEA NOT NULL, 
    attempts INTEGER NOT NULL, 
    ends_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT login_attempts_pkey PRIMARY KEY (key)
);

CREATE INDEX ix_login_attempts_ends_at ON login_attempts (ends_at);

CREATE OR REPLACE FUNCTION capture_user_deletion() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp AS $$
-- As the tables' owner, so that whoever may write the flag need not be able to write requests.
BEGIN
    IF public.user_in_deletion(NEW.flags) IS NULL THEN
        INSERT INTO malformed_flags (user_id) VALUES (NEW.id)
        ON CONFLICT (user_id) DO UPDATE SET noticed_at = clock_timestamp();
        RAISE WARNING USING MESSAGE = concat('the flags of user ', NEW.id, ' are malformed: nothing follows');
        RETURN NULL;
    END IF;
    DELETE FROM malformed_flags WHERE user_id = NEW.id;
    IF TG_OP = 'UPDATE'
        AND public.user_in_deletion(NEW.flags) IS NOT DISTINCT FROM public.user_in_deletion(OLD.flags)
        
        AND (public.user_in_deletion(NEW.flags) IS NOT TRUE
             OR EXISTS (SELECT FROM user_deletions WHERE user_id = NEW.id))

    THEN
        RETURN NULL;
    END IF;
    IF public.user_in_deletion(NEW.flags) THEN
        INSERT INTO user_deletions (user_id, confirmation_address) VALUES (NEW.id, NEW.email_address)
        ON CONFLICT (user_id) DO UPDATE
        SET state = 'requested', reason = NULL, requested_by = 'database', requested_by_id = NULL,
            requested_at = clock_timestamp(), due_at = clock_timestamp(), sent_at = NULL, completed_at = NULL,
            items = NULL, rows_done = 0, files_done = 0, attempts = 0, started_at = NULL,
            lease_until = NULL, lease_token = NULL, confirmation_address = excluded.confirmation_address,
            confirmation_attempts = 0, confirmation_failure = NULL, confirmed_at = NULL
        WHERE user_deletions.state IN ('blocked', 'complete');
    ELSE
        -- Taken back before anything was deleted.
        DELETE FROM user_deletions
        WHERE user_id = NEW.id AND (state IN ('requested', 'blocked') OR (state = 'running' AND rows_done = 0 AND files_done = 0 AND lease_token IS NULL));
    END IF;
    RETURN NULL;
END
$$;

COMMIT;

CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_users_in_deletion ON users (id) WHERE user_in_deletion(flags);

CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_user_deletions_completed_at ON user_deletions (completed_at) WHERE state = 'complete';

CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_user_exports_untold ON user_exports (due_at) WHERE state IN ('ready', 'failed') AND email_address IS NOT NULL;

DROP INDEX CONCURRENTLY IF EXISTS ix_user_exports_unsent;

BEGIN;

UPDATE alembic_version SET version_num='0008' WHERE alembic_version.version_num = '0007';

COMMIT;

BEGIN;

-- Running upgrade 0008 -> 0009

ALTER TABLE retention.steps ADD COLUMN failures JSONB;

ALTER TABLE retention.steps ADD COLUMN counted BOOLEAN DEFAULT true NOT NULL;

ALTER TABLE retention.steps ALTER COLUMN counted SET DEFAULT false;

CREATE INDEX ix_steps_uncounted ON retention.steps (id) WHERE NOT counted;

CREATE TABLE retention.session_batches (
    id BIGINT GENERATED ALWAYS AS IDENTITY, 
    removed_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    sessions INTEGER NOT NULL, 
    CONSTRAINT session_batches_pkey PRIMARY KEY (id)
);

CREATE TABLE retention.totals (
    counter VARCHAR NOT NULL, 
    label VARCHAR NOT NULL, 
    bound FLOAT NOT NULL, 
    amount FLOAT NOT NULL, 
    CONSTRAINT totals_pkey PRIMARY KEY (counter, label, bound)
);

CREATE TABLE retention.heartbeats (
    kind VARCHAR NOT NULL, 
    name VARCHAR NOT NULL, 
    seen_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT heartbeats_pkey PRIMARY KEY (kind, name), 
    CONSTRAINT ck_heartbeats_kind CHECK (kind IN ('relay', 'worker'))
);

UPDATE alembic_version SET version_num='0009' WHERE alembic_version.version_num = '0008';

COMMIT;

BEGIN;

-- Running upgrade 0009 -> 0010

CREATE TABLE retention.audits (
    id BIGINT GENERATED ALWAYS AS IDENTITY, 
    started_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    advanced_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    finished_at TIMESTAMP WITH TIME ZONE, 
    abandoned BOOLEAN DEFAULT false NOT NULL, 
    started_by VARCHAR NOT NULL, 
    deletes BOOLEAN NOT NULL, 
    only_bucket VARCHAR, 
    since DATE, 
    until DATE, 
    step BIGINT DEFAULT '0' NOT NULL, 
    phase VARCHAR DEFAULT 'files' NOT NULL, 
    place VARCHAR, 
    position VARCHAR, 
    refused VARCHAR, 
    files_seen BIGINT DEFAULT '0' NOT NULL, 
    files_without_row BIGINT DEFAULT '0' NOT NULL, 
    files_of_history BIGINT DEFAULT '0' NOT NULL, 
    files_within_retention BIGINT DEFAULT '0' NOT NULL, 
    files_young BIGINT DEFAULT '0' NOT NULL, 
    files_misplaced BIGINT DEFAULT '0' NOT NULL, 
    unrecognised_files BIGINT DEFAULT '0' NOT NULL, 
    deleted_files BIGINT DEFAULT '0' NOT NULL, 
    rows_seen BIGINT DEFAULT '0' NOT NULL, 
    rows_without_file BIGINT DEFAULT '0' NOT NULL, 
    rows_in_mixed_case BIGINT DEFAULT '0' NOT NULL, 
    CONSTRAINT audits_pkey PRIMARY KEY (id), 
    CONSTRAINT ck_audits_phase CHECK (phase IN ('files', 'rows'))
);

CREATE INDEX ix_audits_finished_at ON retention.audits (finished_at);

CREATE INDEX ix_audits_started_at ON retention.audits (started_at);

CREATE TABLE retention.audit_findings (
    id BIGINT GENERATED ALWAYS AS IDENTITY, 
    audit_id BIGINT NOT NULL, 
    kind VARCHAR NOT NULL, 
    bucket VARCHAR, 
    folder VARCHAR, 
    key_sha256 VARCHAR, 
    last_modified TIMESTAMP WITH TIME ZONE, 
    notification_id UUID, 
    found_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT audit_findings_pkey PRIMARY KEY (id), 
    CONSTRAINT ck_audit_findings_kind CHECK (kind IN ('file-of-history', 'file-of-nobody', 'file-misplaced', 'file-within-retention', 'file-unrecognised', 'row-without-file', 'row-in-mixed-case')), 
    CONSTRAINT audit_findings_audit_id_fkey FOREIGN KEY(audit_id) REFERENCES retention.audits (id) ON DELETE CASCADE
);

CREATE INDEX ix_audit_findings_audit_id ON retention.audit_findings (audit_id, kind);

CREATE TABLE retention.audit_deletions (
    id BIGINT GENERATED ALWAYS AS IDENTITY, 
    audit_id BIGINT NOT NULL, 
    bucket VARCHAR NOT NULL, 
    deleted_by VARCHAR NOT NULL, 
    deleted_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    asked INTEGER NOT NULL, 
    files INTEGER, 
    refused INTEGER, 
    code VARCHAR, 
    CONSTRAINT audit_deletions_pkey PRIMARY KEY (id), 
    CONSTRAINT audit_deletions_audit_id_fkey FOREIGN KEY(audit_id) REFERENCES retention.audits (id) ON DELETE CASCADE
);

CREATE INDEX ix_audit_deletions_audit_id ON retention.audit_deletions (audit_id);

CREATE UNLOGGED TABLE retention.audited_letters (
    notification_id UUID NOT NULL, 
    CONSTRAINT audited_letters_pkey PRIMARY KEY (notification_id)
);

COMMIT;

CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_steps_service_id_night ON retention.steps (service_id, night);

DROP INDEX CONCURRENTLY IF EXISTS retention.ix_steps_service_id;

BEGIN;

UPDATE alembic_version SET version_num='0010' WHERE alembic_version.version_num = '0009';

COMMIT;

BEGIN;

-- Running upgrade 0010 -> 0011

CREATE TABLE retention.ops_actions (
    id BIGINT GENERATED ALWAYS AS IDENTITY, 
    acted_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    acted_by VARCHAR NOT NULL, 
    action VARCHAR NOT NULL, 
    service_id UUID, 
    detail VARCHAR, 
    count INTEGER, 
    CONSTRAINT ops_actions_pkey PRIMARY KEY (id)
);

CREATE INDEX ix_ops_actions_acted_at ON retention.ops_actions (acted_at);

CREATE TABLE retention.ops_sessions (
    token_hash BYTEA NOT NULL, 
    name VARCHAR NOT NULL, 
    opened_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    seen_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    CONSTRAINT ops_sessions_pkey PRIMARY KEY (token_hash)
);

ALTER TABLE public.login_attempts SET SCHEMA retention;

UPDATE alembic_version SET version_num='0011' WHERE alembic_version.version_num = '0010';

COMMIT;

BEGIN;

-- Running upgrade 0011 -> 0013

ALTER TABLE retention.indexed_folders ADD COLUMN begun_xmin BIGINT DEFAULT '0' NOT NULL;

UPDATE alembic_version SET version_num='0013' WHERE alembic_version.version_num = '0011';

COMMIT;

