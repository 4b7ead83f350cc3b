"""Email, through SES. Each takes its turn among all emails of the product; nothing of it is logged but error codes.

SES takes an email, or says at once that it will not. What bounces later was taken. A refusal is held against an address
only if it is known to be about that address. Any other, most of all one that nobody has heard of, is about us.
"""

import re
from dataclasses import dataclass
from email.utils import formataddr, parseaddr
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from app.accounts import email_rate
from app.accounts.tools import tools
from app.config.kinds import PLAIN_ADDRESS

if TYPE_CHECKING:
    from mypy_boto3_sesv2.type_defs import ContentTypeDef

FORM_CODES = frozenset({"BadRequestException", "InvalidParameterValue"})
FORM = re.compile(r"\b(local (address|name)|domain|illegal address|invalid email address)\b", re.IGNORECASE)
"""What SES says of an address's form, with one of those codes. It does not say whose: the sender's or the user's."""
KNOWN_OF_ADDRESS = {"MessageRejected": "address blacklisted"}
"""What SES says of nothing but the user's address: code, and text in lower case."""
MALFORMED = re.compile(r"[^@]*|@.*|.*@|.*[\s\x00-\x1f\x7f].*", re.DOTALL)
"""An address that can't be one. SES is not asked."""
MALFORMED_ADDRESS = "MalformedAddress"
NO_SLOT = "NoSlot"


@dataclass(frozen=True)
class Message:
    """An email in plain text and in HTML."""

    subject: str
    text: str
    html: str


class MailRefused(Exception):
    """SES will never take an email to this address, and is known to mean the address. `code` is SES's or ours."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class MailUnavailable(Exception):
    """No email can be sent at the moment, to whomever. `code` is SES's, the client's error or NoSlot."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def send(to: str, message: Message) -> None:
    """Send it, after waiting up to 15 s for a turn; never call it inside of a transaction.

    Raises MailRefused or MailUnavailable.
    """
    if MALFORMED.fullmatch(to):
        raise MailRefused(MALFORMED_ADDRESS)
    the_tools = tools()
    try:
        email_rate.take_turn(the_tools.settings)
    except email_rate.NoSlot:
        raise MailUnavailable(NO_SLOT) from None
    try:
        the_tools.ses.send_email(
            FromEmailAddress=formataddr(parseaddr(the_tools.settings.email_sender)),
            Destination={"ToAddresses": [to]},
            Content={
                "Simple": {
                    "Subject": _utf8(message.subject),
                    "Body": {"Text": _utf8(message.text), "Html": _utf8(message.html)},
                }
            },
        )
    except ClientError as error:  # `from None`: what SES says about an address repeats it
        raise _meaning(error, to) from None
    except BotoCoreError as error:
        raise MailUnavailable(type(error).__name__) from None


def _utf8(data: str) -> "ContentTypeDef":
    return {"Data": data, "Charset": "UTF-8"}


def _meaning(error: ClientError, to: str) -> MailRefused | MailUnavailable:
    given = error.response.get("Error", {})
    code, says = str(given.get("Code") or "Unknown"), str(given.get("Message", ""))
    if code in KNOWN_OF_ADDRESS and KNOWN_OF_ADDRESS[code] in says.lower():
        return MailRefused(code)
    # The sender's form was checked at start, so that SES means this address, unless nothing can be wrong with it.
    if code in FORM_CODES and FORM.search(says) and not PLAIN_ADDRESS.fullmatch(to):
        return MailRefused(code)
    return MailUnavailable(code)
