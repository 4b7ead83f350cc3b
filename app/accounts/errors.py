"""Why an account can't be dealt with as asked: a code for programs and a sentence for people."""

from collections.abc import Sequence
from uuid import UUID

from app.state.people import refused_deletions


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


class NotMarked(AccountError):
    """There is a request to delete the account, and the user's own row doesn't say so."""

    code = "not-marked"

    def __init__(self) -> None:
        super().__init__("The user is not marked for deletion: nothing was deleted. Find out who made the request.")


class WrongState(AccountError):
    """The account is not in a state in which that can be done."""

    code = "wrong-state"


class UnplannedReference(AccountError):
    """Foreign keys refer to `users` of which nobody said what becomes of their rows."""

    code = "unplanned-reference"

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        why = refused_deletions(self.columns)
        self.why = f"{why[:1].upper()}{why[1:]}."
        super().__init__(f"{self.why} Nothing was deleted.")
