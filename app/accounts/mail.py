"""Email, through SES. Each takes its turn among all emails of the product; nothing of it is logged but error codes.

SES takes an email, or says at once that it will not. What bounces later was taken.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from app.accounts import email_rate
from app.accounts.tools import tools

if TYPE_CHECKING:
    from mypy_boto3_sesv2.type_defs import ContentTypeDef

REFUSALS = frozenset({"BadRequestException", "InvalidParameterValue", "MessageRejected"})
"""SES's codes for an email that it will never take."""
OF_EVERYTHING = frozenset(
    {
        "AccountSuspendedException",
        "ConcurrentModificationException",
        "ExpiredTokenException",
        "LimitExceededException",
        "MailFromDomainNotVerifiedException",
        "NotFoundException",
        "SendingPausedException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
"""SES's codes that speak of the account, of the rate or of SES itself; as all do that have one of these statuses."""
STATUSES_OF_EVERYTHING = frozenset({401, 403, 408, 413, 429})
LEAST_STATUS_OF_SES_ITSELF = 500
NOT_VERIFIED = "not verified"
"""In a MessageRejected: the sender's identity, not the recipient, is what SES refuses."""
NO_SLOT = "NoSlot"


@dataclass(frozen=True)
class Message:
    """An email in plain text and in HTML."""

    subject: str
    text: str
    html: str


class MailRefused(Exception):
    """This email to this address was not taken. `code` is SES's; `is_final` when it is known that it never will be."""

    def __init__(self, code: str, *, is_final: bool = True) -> None:
        super().__init__(code)
        self.code = code
        self.is_final = is_final


class MailUnavailable(Exception):
    """No email can be sent at the moment, to whomever. `code` is SES's, the client's error or NoSlot."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def send(to: str, message: Message) -> None:
    """Send it, after waiting up to 15 s for a turn; never call it inside of a transaction.

    Raises MailRefused or MailUnavailable.
    """
    the_tools = tools()
    try:
        email_rate.take_turn(the_tools.settings)
    except email_rate.NoSlot:
        raise MailUnavailable(NO_SLOT) from None
    try:
        the_tools.ses.send_email(
            FromEmailAddress=the_tools.settings.email_sender,
            Destination={"ToAddresses": [to]},
            Content={
                "Simple": {
                    "Subject": _utf8(message.subject),
                    "Body": {"Text": _utf8(message.text), "Html": _utf8(message.html)},
                }
            },
        )
    except ClientError as error:  # `from None`: what SES says about an address repeats it
        raise _meaning(error) from None
    except ParamValidationError as error:  # of this email: it was never sent
        raise MailRefused(type(error).__name__) from None
    except BotoCoreError as error:
        raise MailUnavailable(type(error).__name__) from None


def _utf8(data: str) -> "ContentTypeDef":
    return {"Data": data, "Charset": "UTF-8"}


def _meaning(error: ClientError) -> MailRefused | MailUnavailable:
    said = error.response.get("Error", {})
    code = str(said.get("Code") or "Unknown")
    if code in REFUSALS:
        is_of_sender = NOT_VERIFIED in str(said.get("Message", "")).lower()
        return MailUnavailable(code) if is_of_sender else MailRefused(code)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", LEAST_STATUS_OF_SES_ITSELF))
    if code in OF_EVERYTHING or status in STATUSES_OF_EVERYTHING or status >= LEAST_STATUS_OF_SES_ITSELF:
        return MailUnavailable(code)
    # One that nobody has heard of: taken for the moment's, it would hold up this address for ever.
    return MailRefused(code, is_final=False)
