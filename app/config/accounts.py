"""Settings of accounts, of sessions and of the emails that go to users."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, field_validator

from app.config.kinds import Bucket, Names, Networks, PositiveInt, PositiveSeconds, Sender, ShareOrOff


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
    export_kept_days: Annotated[int, Field(gt=0, le=30)] = Field(7, description="Days that an export can be fetched.")
    export_every_hours: Annotated[int, Field(ge=0)] = Field(
        1, description="Hours for which a request for an export is answered with the last one, if that did not fail."
    )
    export_link: str | None = Field(
        None,
        description="Where the email about an export leads: a URL with `{token}`, which fetches the export without a "
        "log-in, or `{id}`, for a page of the front end that asks the API for it. Unset: SITE_URL and "
        "`/exports/{token}`, which the API answers.",
    )
    export_files_megabytes: PositiveInt = Field(
        1000,
        description="Megabytes of the user's own files that an export holds at most. What is left out is said in the "
        "export's manifest and in the email.",
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
        description="Warnings that a user's own address may refuse before no more are sent. Such an account is not "
        "deleted for inactivity.",
    )
    inactive_share: ShareOrOff = Field(
        0.05,
        description="The largest share of the active users that one night may warn, or mark for deletion, before an "
        "operator accepts it. `off` switches the check off.",
    )
    inactive_share_least: PositiveInt = Field(
        10, description="So many users a night may be warned, or marked for deletion, whatever share they are."
    )
    warnings_refused_share: ShareOrOff = Field(
        0.2,
        description="The largest share of a night's warnings that users' addresses may refuse before the warnings "
        "stop, once more than `INACTIVE_SHARE_LEAST` were refused. `off` switches the check off.",
    )
    subscription_statuses_ended: Names = Field(
        ("canceled", "cancelled", "expired", "incomplete_expired"),
        description="Statuses of a subscription, with commas between them, that do not protect an account from "
        "warnings and deletion for inactivity. Any other status protects it.",
    )
    deletion_records_kept_days: PositiveInt = Field(
        365,
        description="Days that the record of a complete deletion, or of an export that has ended, is kept. It holds "
        "ids, times and counts.",
    )
    retain_emails: bool = Field(False, description="Whether the address of a deleted account is kept.")

    sessions_enabled: bool = Field(True, description="Whether dead sessions are removed every hour.")
    sessions_per_step: PositiveInt = Field(5000, description="Dead sessions in one step, so in one transaction.")
    anonymous_session_hours: PositiveInt = Field(24, description="Hours after which a session without a user is dead.")
    session_days: PositiveInt = Field(30, description="Days after which a new session of a user expires.")
    sessions_per_user: PositiveInt = Field(
        20, description="Sessions that a user has at most; one more log-in ends the oldest."
    )
    anonymous_requests_per_minute: PositiveInt = Field(
        600,
        description="Requests without a session that each web process answers one client in a minute; then 429. A "
        "client is an IPv4 address, or an IPv6 network of 64 bits.",
    )
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

    @field_validator("export_link")
    @classmethod
    def _leads_somewhere(cls, link: str | None) -> str | None:
        if link is not None and not (
            link.startswith(("https://", "http://")) and ("{token}" in link or "{id}" in link)
        ):
            raise ValueError("it must be a URL with {token} or {id} in it")
        return link

    emails_per_second: PositiveSeconds = Field(
        14, description="Emails a second, over all processes together; SES's own default limit."
    )
    email_sender: Sender = Field(
        "no-reply@localhost.test", description="Sender of the product's own emails: an address, or `Name <address>`."
    )
    product_name: str = Field("Notifications", description="What emails call the platform.")
    email_contact: str | None = Field(
        None,
        description="Where users can ask about an email: an address or a URL; unset: the front end's address.",
    )
    email_languages: Names = Field(
        ("en",),
        description="Languages of the warning about inactivity, with commas between them. One email holds all of "
        "them, in this order. There are templates for `en`, `fr` and `de`.",
    )
    email_templates: Path | None = Field(
        None,
        description="Directory of templates of your own, such as `cy.toml`, which are taken before the product's.",
    )
    site_url: str = Field("http://localhost:8080", description="The front end's address, for links in emails.")
    aws_endpoint_url_sesv2: str | None = Field(
        None, description="URL of an SES server other than AWS's own; unset means AWS."
    )
