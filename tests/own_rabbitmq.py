"""A RabbitMQ of a test's own, where this machine has the server: its alarms and its certificates trouble nobody else.

TEST_RABBITMQ_SERVER names the script that starts one, RabbitMQ's own `rabbitmq-server`; `.ci/on-real-servers` looks for
it. The node's name, ports, cookie and port mapper (epmd) are its own, so that it does not meet one that runs already.
"""

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trustme

from dev.processes import HOST, Child, answers, free_port

SERVER = os.environ.get("TEST_RABBITMQ_SERVER", "")
SECONDS_TO_START, SECONDS_TO_CONTROL = 90, 60
CONFIGURATION = """\
listeners.tcp.1 = {host}:{port}
listeners.ssl.1 = {host}:{tls_port}
ssl_options.certfile = {directory}/certificate.pem
ssl_options.keyfile = {directory}/key.pem
ssl_options.verify = verify_none
loopback_users.guest = true
"""


class OwnRabbitMQ:
    """A node, without and with TLS. `control` is rabbitmqctl on it."""

    def __init__(self, directory: Path, certificate: trustme.LeafCert) -> None:
        self.port, self.tls_port, self._epmd_port, distribution = (free_port() for _ in range(4))
        self._directory = directory
        certificate.private_key_pem.write_to_path(str(directory / "key.pem"))
        for number, blob in enumerate(certificate.cert_chain_pems):
            blob.write_to_path(str(directory / "certificate.pem"), append=number > 0)
        values = {"host": HOST, "port": self.port, "tls_port": self.tls_port, "directory": directory}
        (directory / "rabbitmq.conf").write_text(CONFIGURATION.format(**values))
        (directory / "plugins").write_text("[].\n")
        (directory / "rabbitmq-env.conf").write_text("")
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),  # of the cookie
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_NODENAME": f"test{secrets.token_hex(6)}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_CONF_ENV_FILE": str(directory / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(directory / "data"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_PID_FILE": str(directory / "pid"),
        }

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{HOST}:{self.port}//"

    def control(self, *arguments: str) -> None:
        """Run rabbitmqctl, which must succeed."""
        command = [Path(SERVER).with_name("rabbitmqctl"), *arguments]
        subprocess.run(command, env=self._environment, check=True, capture_output=True, timeout=SECONDS_TO_CONTROL)

    @contextmanager
    def short_of_memory(self) -> Iterator[None]:
        """The memory alarm is set off until the block ends."""
        self.control("set_vm_memory_high_watermark", "0.000001")
        try:
            yield
        finally:
            self.control("set_vm_memory_high_watermark", "0.4")

    @contextmanager
    def running(self) -> Iterator["OwnRabbitMQ"]:
        """It runs until the block ends."""
        own = {"env": self._environment | {"detached": "1"}, "cwd": self._directory}
        children = [Child("epmd", ["epmd"], log=self._directory / "epmd.log", **own)]
        try:
            children[0].wait_until(lambda: answers(self._epmd_port))
            children.append(Child("rabbitmq", [SERVER], log=self._directory / "rabbitmq.log", **own))
            children[1].wait_until(lambda: answers(self.port) and answers(self.tls_port), SECONDS_TO_START)
            yield self
        finally:
            for child in reversed(children):
                child.stop()
