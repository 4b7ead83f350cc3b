"""moto's S3 server, which is an SES server too, in a child process, on 127.0.0.1 and a free port.

A stand-in that is more lenient than S3 (it takes any credentials, and more than 1,000 keys in a delete), with
versions, delete markers and object locks. It keeps everything in memory: a restart loses it.
"""

import json
import os
import secrets
import signal
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.request import ProxyHandler, build_opener

import boto3
import botocore.session
from botocore.config import Config

from dev.environment import isolated_environment
from dev.processes import HOST, Child, StartError, answers, free_port
from dev.signals import endings_wait

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.literals import BucketLocationConstraintType

REGION = "eu-west-1"
MOTO = ("-m", "moto.server")
SECONDS_TO_ANSWER = 60


@dataclass(frozen=True)
class SentEmail:
    """An email that the server took, as it remembers it."""

    to: str
    subject: str
    html: str


class EmbeddedS3:
    """One server, its log beside `directory`. `start()` is `launch()` and `wait_ready()`.

    `server` is what Python runs, with moto's own options: the tests put policies in front of moto.
    """

    def __init__(self, directory: Path, server: Sequence[str | Path] = MOTO) -> None:
        self.directory = directory
        self._server_code = server
        self.port = free_port()
        self.log = directory.with_name(directory.name + ".log")
        self._access_key = "LOCAL" + secrets.token_hex(8).upper()
        self._secret_key = secrets.token_hex(20)
        self._server: Child | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What points boto3, without arguments, at this server and at nothing else."""
        return {
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_ENDPOINT_URL_SESV2": self.url,
            "AWS_ACCESS_KEY_ID": self._access_key,
            "AWS_SECRET_ACCESS_KEY": self._secret_key,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "NO_PROXY": f"{HOST},localhost",
        }

    @property
    def process(self) -> Child:
        if self._server is None:
            raise StartError("The S3 server hasn't been started")
        return self._server

    def start(self) -> "EmbeddedS3":
        self.launch()
        self.wait_ready()
        return self

    def launch(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with endings_wait():
            self._server = Child(
                "moto",
                # -P, and a folder of its own: no file where we were called from can pass for a library's module.
                [sys.executable, "-P", *self._server_code, "-H", HOST, "-p", str(self.port)],
                log=self.log,
                # Dummy credentials here too: what moto itself asks of boto can't find any others.
                env=isolated_environment() | self.environment | {"PYTHONWARNINGS": "ignore"},
                cwd=self.directory,
                death_signal=signal.SIGKILL,
            )

    def wait_ready(self, timeout_seconds: float = 30) -> None:
        self.process.wait_until(lambda: answers(self.port), timeout_seconds)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it; `launch` starts it again on the same port, empty."""
        if self._server:
            self._server.stop(how)

    def restart(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.stop(how)
        self.start()

    def client(self) -> "S3Client":
        """A client of this server, whatever profile or proxy the shell names. Close it after use."""
        client: S3Client = self._client("s3")
        return client

    def verify_sender(self, address: str) -> None:
        """Let emails be sent from the address. SES takes them from verified senders only."""
        with closing(self._client("sesv2")) as ses:
            ses.create_email_identity(EmailIdentity=address)

    def sent_emails(self) -> list[SentEmail]:
        """What was sent through this server, in order. Slow when it holds many files."""
        with build_opener(ProxyHandler({})).open(f"{self.url}/moto-api/data.json", timeout=SECONDS_TO_ANSWER) as answer:
            remembered = json.load(answer).get("ses", {}).get("Message", [])
        return [
            SentEmail(", ".join(email["destinations"]["ToAddresses"]), email["subject"], email["body"])
            for email in remembered
        ]

    def _client(self, service: str) -> Any:
        nothing = {"profile": (None, None, None, None), "config_file": (None, None, os.devnull, None)}
        session: Any = boto3.Session(
            self._access_key,
            self._secret_key,
            region_name=REGION,
            botocore_session=botocore.session.Session(session_vars=nothing),
        )
        return session.client(service, endpoint_url=self.url, config=Config(proxies={}))

    def create_buckets(self, names: Iterable[str], versioned: Iterable[str] = ()) -> None:
        """Make the buckets `names`; those in `versioned`, which must be among them, keep versions."""
        with closing(self.client()) as s3:
            region = cast("BucketLocationConstraintType", REGION)
            for name in names:
                s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": region})
            for name in versioned:
                s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
