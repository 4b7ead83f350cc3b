-- va-notify: 34 columns in notifications, 29 in history. Two statuses more, a nullable recipient, and two tables that
-- point at notifications: one without an action, one that cascades. Letters' folder is the UTC date of sent_at.

CREATE TYPE notification_type AS ENUM ('email', 'sms', 'letter');
CREATE TYPE id_types AS ENUM ('profile-id', 'patient-id', 'file-number');

CREATE TABLE key_types (name varchar PRIMARY KEY);
INSERT INTO key_types VALUES ('normal'), ('team'), ('test');

CREATE TABLE notification_status_types (name varchar PRIMARY KEY);
INSERT INTO notification_status_types VALUES
    ('cancelled'), ('created'), ('sending'), ('sent'), ('delivered'), ('pending'), ('failed'), ('technical-failure'),
    ('temporary-failure'), ('permanent-failure'), ('pending-virus-check'), ('validation-failed'),
    ('virus-scan-failed'), ('returned-letter'), ('pii-check-failed'), ('preferences-declined');

CREATE TABLE services (
    id uuid PRIMARY KEY,
    name varchar(255) NOT NULL UNIQUE,
    active boolean NOT NULL DEFAULT true,
    p2p_enabled boolean DEFAULT false,
    created_at timestamp NOT NULL,
    updated_at timestamp
);

CREATE TABLE service_data_retention (
    id uuid PRIMARY KEY,
    service_id uuid NOT NULL REFERENCES services (id),
    notification_type notification_type NOT NULL,
    days_of_retention integer NOT NULL,
    created_at timestamp NOT NULL,
    updated_at timestamp,
    CONSTRAINT uix_service_data_retention UNIQUE (service_id, notification_type)
);
CREATE INDEX ix_service_data_retention_service_id ON service_data_retention (service_id);

CREATE TABLE notifications (
    id uuid PRIMARY KEY,
    "to" varchar,
    normalised_to varchar,
    job_id uuid,
    job_row_number integer,
    service_id uuid REFERENCES services (id),
    template_id uuid NOT NULL,
    template_version integer NOT NULL,
    api_key_id uuid,
    key_type varchar NOT NULL REFERENCES key_types (name),
    billable_units integer NOT NULL,
    notification_type notification_type NOT NULL,
    created_at timestamp NOT NULL,
    sent_at timestamp,
    sent_by varchar,
    updated_at timestamp,
    notification_status text REFERENCES notification_status_types (name),
    reference varchar,
    client_reference varchar,
    _personalisation varchar,
    international boolean NOT NULL,
    phone_prefix varchar,
    rate_multiplier double precision,
    created_by_id uuid,
    reply_to_text varchar,
    postage varchar,
    status_reason varchar,
    billing_code varchar(256),
    sms_sender_id uuid,
    segments_count integer NOT NULL DEFAULT 0,
    cost_in_millicents double precision NOT NULL DEFAULT 0,
    retry_count integer,
    provider_updated_at timestamp,
    callback_url varchar(255)
);
CREATE INDEX ix_notifications_service_created_at ON notifications (service_id, created_at);
CREATE INDEX ix_notifications_service_id ON notifications (service_id);
CREATE INDEX ix_notifications_created_at ON notifications (created_at);
CREATE INDEX ix_notifications_key_type ON notifications (key_type);
CREATE INDEX ix_notifications_notification_type ON notifications (notification_type);
CREATE INDEX ix_notifications_notification_status ON notifications (notification_status);
CREATE INDEX ix_notifications_reference ON notifications (reference);
CREATE INDEX ix_notifications_client_reference ON notifications (client_reference);
CREATE INDEX ix_notifications_job_id ON notifications (job_id);
CREATE INDEX ix_notifications_template_id ON notifications (template_id);

CREATE TABLE notification_history (
    id uuid PRIMARY KEY,
    job_id uuid,
    job_row_number integer,
    service_id uuid REFERENCES services (id),
    template_id uuid NOT NULL,
    template_version integer NOT NULL,
    api_key_id uuid,
    key_type varchar NOT NULL REFERENCES key_types (name),
    notification_type notification_type NOT NULL,
    created_at timestamp NOT NULL,
    sent_at timestamp,
    sent_by varchar,
    updated_at timestamp,
    reference varchar,
    billable_units integer NOT NULL,
    client_reference varchar,
    international boolean NOT NULL,
    phone_prefix varchar,
    rate_multiplier double precision,
    notification_status text REFERENCES notification_status_types (name),
    created_by_id uuid,
    postage varchar,
    status_reason varchar,
    billing_code varchar(256),
    sms_sender_id uuid,
    segments_count integer NOT NULL DEFAULT 0,
    cost_in_millicents double precision NOT NULL DEFAULT 0,
    retry_count integer,
    provider_updated_at timestamp
);
CREATE INDEX ix_notification_history_service_id ON notification_history (service_id);
CREATE INDEX ix_notification_history_created_at ON notification_history (created_at);

CREATE TABLE scheduled_notifications (
    id uuid PRIMARY KEY,
    notification_id uuid NOT NULL REFERENCES notifications (id),
    scheduled_for timestamp NOT NULL,
    pending boolean NOT NULL DEFAULT true
);
CREATE INDEX ix_scheduled_notifications_notification_id ON scheduled_notifications (notification_id);

CREATE TABLE recipient_identifiers (
    notification_id uuid NOT NULL REFERENCES notifications (id) ON DELETE CASCADE,
    id_type id_types NOT NULL,
    id_value varchar NOT NULL,
    PRIMARY KEY (notification_id, id_type, id_value)
);
