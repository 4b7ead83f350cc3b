"""Gunicorn's settings. Wrong settings of ours end it with a sentence each, before a worker is started."""

from app.config import SettingsError, load

worker_class = "app.web_worker.PatientWorker"
logger_class = "app.web_logs.WebLogger"
threads = 8
keepalive = 0  # a connection is for one request
worker_connections = 400
"""Of a worker: below the 1,024 open files that many systems allow a process."""
control_socket_disable = True
"""Nothing of ours uses it, and it would be in the home directory."""


def on_starting(_server: object) -> None:
    try:
        load()
    except SettingsError as error:
        raise RuntimeError(error.message) from None  # the kind that gunicorn prints without a traceback
