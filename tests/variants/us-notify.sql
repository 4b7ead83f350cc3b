-- us-notify: 31 columns in notifications, 24 in history. Key types and statuses are enums, there are no letters, and
-- history has its last columns in another order: copied by position, a cost would land in the carrier's column.

CREATE TYPE notification_types AS ENUM ('email', 'sms');
CREATE TYPE key_types AS ENUM ('normal', 'team', 'test');
CREATE TYPE notify_statuses AS ENUM (
    'cancelled', 'created', 'sending', 'sent', 'delivered', 'pending', 'failed', 'technical-failure',
    'temporary-failure', 'permanent-failure', 'pending-virus-check', 'validation-failed', 'virus-scan-failed'
);

CREATE TABLE services (
    id uuid PRIMARY KEY,
    name varchar(255) NOT NULL UNIQUE,
    active boolean NOT NULL DEFAULT true,
    total_message_limit integer NOT NULL DEFAULT 250000,
    created_at timestamp NOT NULL,
    updated_at timestamp
);

CREATE TABLE service_data_retention (
    id uuid PRIMARY KEY,
    service_id uuid NOT NULL REFERENCES services (id),
    notification_type notification_types NOT NULL,
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
    key_type key_types NOT NULL,
    billable_units integer NOT NULL,
    notification_type notification_types NOT NULL,
    created_at timestamp NOT NULL,
    sent_at timestamp,
    sent_by varchar,
    updated_at timestamp,
    notification_status notify_statuses,
    reference varchar,
    client_reference varchar,
    _personalisation varchar,
    international boolean NOT NULL,
    phone_prefix varchar,
    rate_multiplier numeric,
    created_by_id uuid,
    reply_to_text varchar,
    document_download_count integer,
    provider_response text,
    queue_name text,
    message_id text,
    carrier text,
    message_cost double precision,
    CONSTRAINT uq_notifications_job_row_number UNIQUE (job_id, job_row_number)
);
CREATE INDEX ix_notifications_service_id_composite
    ON notifications (service_id, notification_type, notification_status, created_at);
CREATE INDEX ix_notifications_service_created_at ON notifications (service_id, created_at);
CREATE INDEX ix_notifications_notification_type_composite
    ON notifications (notification_type, notification_status, created_at);
CREATE INDEX ix_notifications_created_at ON notifications (created_at);
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
    key_type key_types NOT NULL,
    billable_units integer NOT NULL,
    notification_type notification_types NOT NULL,
    created_at timestamp NOT NULL,
    sent_at timestamp,
    sent_by varchar,
    updated_at timestamp,
    notification_status notify_statuses,
    reference varchar,
    client_reference varchar,
    international boolean,
    phone_prefix varchar,
    rate_multiplier numeric,
    created_by_id uuid,
    message_cost double precision,
    document_download_count integer,
    carrier text
);
CREATE INDEX ix_notification_history_service_id_composite
    ON notification_history (service_id, key_type, notification_type, created_at);
CREATE INDEX ix_notification_history_created_at ON notification_history (created_at);
