"""Settings of operation: the ops page, queues, metrics, reports of errors, traces and logs."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, SecretStr, ValidationInfo, field_validator

from app.config.kinds import Key, Names, PositiveInt, PositiveSeconds
from app.config.night import TIME_LIMIT_IN_STEP_BUDGETS


class OperationSettings(BaseModel):
    """Who watches, and how."""

    secret_key: Key | None = Field(
        None,
        description="Signs the cookies of the ops page, and keys the hashes of attempts to log in: 32 random "
        "characters or more, the same in every process.",
    )
    ops_users: dict[str, str] = Field(
        {},
        repr=False,
        description="Who may use the ops page: a JSON object of names and argon2 hashes, as `flask ops hash-password` "
        "prints them.",
    )
    ops_operators: Names = Field(
        (),
        description="Names, with commas between them, who may act on the ops page, whatever their case; others look. "
        "Unset: those of OPS_USERS, and nobody whom a proxy names.",
    )
    ops_viewers: Names = Field(
        (),
        description="Names, with commas between them, who may look at the ops page and do nothing on it, whatever "
        "OPS_OPERATORS says.",
    )
    ops_proxy_header: str | None = Field(
        None,
        description="Header in which TRUSTED_PROXIES name who has logged in with them, such as `X-Forwarded-User`. "
        "They must remove it from what they are sent. Unset: nobody is let in by a header.",
    )
    ops_session_hours: PositiveSeconds = Field(10, description="Hours after which the ops page asks for the password.")
    ops_session_idle_minutes: PositiveSeconds = Field(
        30, description="Minutes without a click after which the ops page asks for the password."
    )
    ops_cookie_secure: bool = Field(
        True, description="Whether the ops page's cookie goes over HTTPS alone; `false` only for plain http at home."
    )

    queue_accounts: str = Field(
        "retention-accounts",
        description="Queue of the work on accounts and sessions, of audits, archives, and policies that are data.",
    )
    queue_nightly: str = Field("retention-nightly", description="Queue of the nightly work.")
    queue_periodic: str = Field("retention-periodic", description="Queue of the dispatcher.")
    visibility_timeout_seconds: PositiveInt = Field(
        900,
        description="Redis and SQS: seconds before an unacknowledged message is handed out again. Above "
        f"{TIME_LIMIT_IN_STEP_BUDGETS} times STEP_BUDGET_SECONDS, when a task is cut: else it runs twice at once.",
    )
    metrics_token: SecretStr | None = Field(
        None,
        min_length=16,
        description="Secret, 16 characters or more, that Prometheus sends as `Authorization: Bearer`; unset: no "
        "`/metrics`.",
    )
    metrics_kept_seconds: Annotated[float, Field(ge=0, le=60)] = Field(
        10, description="Seconds for which a process answers `/metrics` with what it measured last."
    )
    sentry_dsn: SecretStr | None = Field(
        None, description="Where errors are reported, scrubbed, as Sentry's DSN; unset: nowhere."
    )
    sentry_environment: str = Field("production", description="The name of this deployment in reports of errors.")
    otel_exporter_otlp_endpoint: str | None = Field(
        None,
        description="OTLP over HTTP: where traces go, one per chain, without the path; unset: no tracing. The other "
        "`OTEL_…` variables of OpenTelemetry count, too.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level that is logged.")
    log_format: Literal["json", "console"] = Field("json", description="Log lines as JSON, or readable on a console.")

    @field_validator("ops_users")
    @classmethod
    def _users_with_hashes(cls, users: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        for name, kept in users.items():
            if not kept.startswith("$argon2"):
                raise ValueError(f"what is kept for {name!r} is no argon2 hash; make it with: flask ops hash-password")
        if users and info.data.get("secret_key", "refused, and said so") is None:
            raise ValueError("users need SECRET_KEY, which is not set")
        return users

    @field_validator("ops_proxy_header")
    @classmethod
    def _trusted_from_somewhere(cls, header: str | None, info: ValidationInfo) -> str | None:
        if header is None:
            return None
        if not info.data.get("trusted_proxies", True):
            raise ValueError("it needs TRUSTED_PROXIES, or whoever sends the header would be let in")
        if info.data.get("secret_key", "refused, and said so") is None:
            raise ValueError("it needs SECRET_KEY, which is not set")
        return header

    @field_validator("visibility_timeout_seconds")
    @classmethod
    def _above_the_longest_task(cls, seconds: int, info: ValidationInfo) -> int:
        budget = info.data.get("step_budget_seconds")  # missing when it is itself wrong, and said so
        if budget is not None and seconds <= (longest := TIME_LIMIT_IN_STEP_BUDGETS * budget):
            raise ValueError(
                f"it must be above {longest:g}, {TIME_LIMIT_IN_STEP_BUDGETS} times STEP_BUDGET_SECONDS, or the broker "
                "hands out a task that is still running"
            )
        return seconds

    def may_act(self, name: str, *, by_proxy: bool) -> bool:
        """Whether somebody who was let in may do anything on the ops page; upper and lower case are the same."""
        operators, viewers = ({one.casefold() for one in names} for names in (self.ops_operators, self.ops_viewers))
        is_listed = name.casefold() in operators if operators or by_proxy else True
        return is_listed and name.casefold() not in viewers

    @property
    def queues(self) -> tuple[str, ...]:
        """Every queue that a worker may take messages from."""
        return (self.queue_nightly, self.queue_periodic, self.queue_accounts)
