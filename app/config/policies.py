"""Settings of policies that are data."""

from typing import Annotated

from pydantic import BaseModel, Field

from app.config.kinds import PositiveInt


class PolicySettings(BaseModel):
    """A team's own policies, and how they are done."""

    retention_policies: str | None = Field(
        None,
        description="File of your own policies, in TOML: docs/policies.md. Read when a process starts; unset: only "
        "those that are built in. What is wrong in it is said by `flask retention policies`, and stops nothing else.",
    )
    policy_scan_rows: Annotated[int, Field(ge=0)] = Field(
        100_000,
        description="Rows up to which a policy's table needs no index for the age, so that it may be read whole.",
    )
    policy_rows_per_batch: PositiveInt = Field(
        5000, description="Rows in one batch of a policy, so in one transaction; a tenth of them where rows have files."
    )
