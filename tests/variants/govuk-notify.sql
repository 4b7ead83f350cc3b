-- govuk-notify: 28 columns in notifications, 23 in history. Statuses are text and never NULL.

CREATE TYPE notification_type AS ENUM ('email', 'sms', 'letter');

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
    restricted boolean NOT NULL DEFAULT false,
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
    notification_status text NOT NULL REFERENCES notification_status_types (name),
    reference varchar,
    client_reference varchar,
    _personalisation varchar,
    international boolean NOT NULL,
    phone_prefix varchar,
    rate_multiplier numeric,
    created_by_id uuid,
    reply_to_text varchar,
    document_download_count integer,
    postage varchar,
    unsubscribe_link varchar,
    CONSTRAINT uq_notifications_job_row_number UNIQUE (job_id, job_row_number)
);
CREATE INDEX ix_notifications_service_id_composite ON notifications (service_id, notification_type, created_at);
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
    service_id uuid,
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
    rate_multiplier numeric,
    notification_status text NOT NULL REFERENCES notification_status_types (name),
    created_by_id uuid,
    postage varchar,
    document_download_count integer
);
CREATE INDEX ix_notification_history_service_id_composite
    ON notification_history (service_id, key_type, notification_type, created_at);
CREATE INDEX ix_notification_history_created_at ON notification_history (created_at);
