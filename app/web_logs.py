"""Gunicorn's logger: the web process logs as the workers do, in the form of LOG_FORMAT, with gunicorn's own lines."""

import logging
from typing import Any

from gunicorn.glogging import Logger

from app import config, logs


class WebLogger(Logger):
    """Passes gunicorn's lines on to the root logger, which `logs.configure` sets up."""

    def setup(self, cfg: Any) -> None:
        """Gunicorn calls it before anything else is logged. Where settings are wrong, `on_starting` says so."""
        super().setup(cfg)
        try:
            logs.configure(config.load())
        except config.SettingsError:
            return
        for own in (self.error_log, self.access_log):
            own.handlers = []
            own.propagate = True
            own.setLevel(logging.NOTSET)
