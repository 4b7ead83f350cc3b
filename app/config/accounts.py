"""Settings of accounts, of sessions and of the emails that go to users."""

from typing import Annotated

from pydantic import BaseModel, Field

from app.config.kinds import Bucket, Networks, PositiveInt, PositiveSeconds


class AccountSettings(BaseModel):
    """What is done for users."""

    accounts_enabled: bool = Field(
        True, description="Whether accounts are deleted, exported and warned; `false` where there is no such table."
    )
    s3_bucket_user_files: Bucket | None = Field(
        None, description="Bucket of the users' own files, under `users/<id>/`; unset: users have none."
    )
    s3_bucket_exports: Bucket | None = Field(
        None, description="Bucket of the exports of users' data, another than the users' own; unset: no exports."
    )
    account_items_in_request: PositiveInt = Field(
        1000, description="An account with fewer dependent rows and files is deleted inside the request."
    )
    account_request_seconds: PositiveSeconds = Field(
        2, description="Seconds that a request may spend on deleting an account before it leaves it to a worker."
    )
    account_rows_per_batch: PositiveInt = Field(
        1000, description="Rows of a child table that one transaction of an account's deletion touches."
    )
    account_retry_seconds: PositiveSeconds = Field(
        30, description="Seconds before a deletion or export that failed goes on; doubled each time up to an hour."
    )
    export_kept_days: Annotated[int, Field(gt=0, le=7)] = Field(
        7, description="Days that an export can be fetched; at most 7, for which S3 lets a link be signed."
    )
    export_deadline_hours: PositiveInt = Field(
        24, description="Hours that the deletion of an account waits for an export that was asked for before it."
    )
    never_completed_days: PositiveInt = Field(
        30, description="Days after which an account that was never completed is marked for deletion."
    )
    inactive_warn_days: PositiveInt = Field(60, description="Days without a visit after which a user is warned.")
    inactive_delete_days: PositiveInt = Field(
        90, description="Days without a visit after which a warned user is marked for deletion."
    )
    inactive_notice_days: PositiveInt = Field(30, description="Days that must lie between the warning and the mark.")
    inactive_warning_attempts: PositiveInt = Field(
        5,
        description="Failed warnings after which a user counts as warned: a dead address must not keep an account.",
    )
    deletion_records_kept_days: PositiveInt = Field(
        365, description="Days that the record of a complete deletion is kept. It holds ids, times and counts."
    )
    retain_emails: bool = Field(False, description="Whether the address of a deleted account is kept.")

    sessions_enabled: bool = Field(True, description="Whether dead sessions are removed every hour.")
    sessions_per_step: PositiveInt = Field(5000, description="Dead sessions in one step, so in one transaction.")
    anonymous_session_hours: PositiveInt = Field(24, description="Hours after which a session without a user is dead.")
    session_days: PositiveInt = Field(30, description="Days after which a new session of a user expires.")
    login_attempts_per_account: PositiveInt = Field(
        10,
        description="Attempts to log in with one address before it has to wait; a successful one ends the count. The "
        "ops page allows a name half as many.",
    )
    login_attempts_per_client: PositiveInt = Field(
        100,
        description="Failed attempts to log in from one client's address before it has to wait. The ops page allows a "
        "fifth of them.",
    )
    login_attempts_minutes: PositiveInt = Field(
        15, description="Minutes from the first of these attempts until they are forgotten."
    )
    trusted_proxies: Networks = Field(
        (),
        description="Addresses or networks, with commas between them, of proxies in front of the web process: theirs "
        "is the word on where a request comes from (`X-Forwarded-For`).",
    )

    emails_per_second: PositiveSeconds = Field(
        14, description="Emails a second, over all processes together; SES's own default limit."
    )
    email_sender: str = Field("no-reply@localhost.test", description="Sender of the product's own emails.")
    site_url: str = Field("http://localhost:8080", description="The front end's address, for links in emails.")
    aws_endpoint_url_sesv2: str | None = Field(
        None, description="URL of an SES server other than AWS's own; unset means AWS."
    )
