"""Why an account can't be dealt with as asked: a code for programs and a sentence for people."""

from collections.abc import Sequence
from uuid import UUID


class AccountError(Exception):
    """What was asked is refused, and nothing has changed."""

    code = "account-error"


class UnknownUser(AccountError):
    """There is no such user."""

    code = "unknown-user"

    def __init__(self, user_id: UUID) -> None:
        super().__init__(f"There is no user {user_id}.")


class GhostUser(AccountError):
    """The ghost user, to whom rows of deleted accounts go, is protected."""

    code = "ghost-user"

    def __init__(self) -> None:
        super().__init__("This user stands for all deleted ones and can't be deleted.")


class OnlyManager(AccountError):
    """The user is the only one who can manage these live services."""

    code = "only-manager"

    def __init__(self, service_ids: Sequence[UUID]) -> None:
        self.service_ids = tuple(service_ids)
        listed = ", ".join(map(str, service_ids))
        super().__init__(f"Nobody else can manage these live services: {listed}. Give somebody else the permission.")


class WrongState(AccountError):
    """The account is not in a state in which that can be done."""

    code = "wrong-state"
