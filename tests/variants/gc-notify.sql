-- gc-notify: 39 columns in notifications, 34 in history. Letters have rows and no files; a scheduled notification's
-- row points at it. document_download_count is in notifications only.

CREATE TYPE notification_type AS ENUM ('email', 'sms', 'letter');
CREATE TYPE notification_feedback_types AS ENUM ('hard-bounce', 'soft-bounce', 'unknown-bounce');
CREATE TYPE notification_feedback_subtypes AS ENUM ('general', 'no-email', 'mailbox-full', 'suppressed');

CREATE TABLE key_types (name varchar PRIMARY KEY);
INSERT INTO key_types VALUES ('normal'), ('team'), ('test');

CREATE TABLE notification_status_types (name varchar PRIMARY KEY);
INSERT INTO notification_status_types VALUES
    ('cancelled'), ('created'), ('sending'), ('sent'), ('delivered'), ('pending'), ('failed'), ('technical-failure'),
    ('temporary-failure'), ('permanent-failure'), ('pending-virus-check'), ('validation-failed'),
    ('virus-scan-failed'), ('returned-letter');

CREATE TABLE services (
    id uuid PRIMARY KEY,
    name varchar(255) NOT NULL UNIQUE,
    active boolean NOT NULL DEFAULT true,
    message_limit bigint NOT NULL DEFAULT 50,
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
    "to" varchar NOT NULL,
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
    document_download_count integer,
    postage varchar,
    queue_name text,
    feedback_type notification_feedback_types,
    feedback_subtype notification_feedback_subtypes,
    feedback_reason varchar,
    ses_feedback_id varchar,
    ses_feedback_date timestamp,
    sms_total_message_price numeric,
    sms_total_carrier_fee numeric,
    sms_iso_country_code varchar,
    sms_carrier_name varchar,
    sms_message_encoding varchar,
    sms_origination_phone_number varchar
);
CREATE INDEX ix_notifications_service_created_at ON notifications (service_id, created_at);
CREATE INDEX ix_notifications_created_at ON notifications (created_at);
CREATE INDEX ix_notifications_reference ON notifications (reference);
CREATE INDEX ix_notifications_client_reference ON notifications (client_reference);
CREATE INDEX ix_notifications_job_id ON notifications (job_id);
CREATE INDEX ix_notifications_template_id ON notifications (template_id);
CREATE INDEX ix_notifications_feedback_type ON notifications (feedback_type);

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
    queue_name text,
    feedback_type notification_feedback_types,
    feedback_subtype notification_feedback_subtypes,
    feedback_reason varchar,
    ses_feedback_id varchar,
    ses_feedback_date timestamp,
    sms_total_message_price numeric,
    sms_total_carrier_fee numeric,
    sms_iso_country_code varchar,
    sms_carrier_name varchar,
    sms_message_encoding varchar,
    sms_origination_phone_number varchar
);
CREATE INDEX ix_notification_history_service_id_created_at ON notification_history (service_id, created_at);
CREATE INDEX ix_notification_history_created_at ON notification_history (created_at);

CREATE TABLE scheduled_notifications (
    id uuid PRIMARY KEY,
    notification_id uuid NOT NULL REFERENCES notifications (id),
    scheduled_for timestamp NOT NULL,
    pending boolean NOT NULL DEFAULT true
);
CREATE INDEX ix_scheduled_notifications_notification_id ON scheduled_notifications (notification_id);
