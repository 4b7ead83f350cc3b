"""Structured logs: one event a line, ids and counts only, never a value of a notification's row."""

import logging
from datetime import date

import structlog

from app.config import Settings


def configure(settings: Settings, *, shows: bool = True) -> None:
    """Log events at the settings' level, as JSON or for a console, through the standard library's handlers.

    Unless it `shows` them, only at DEBUG: a person reads what else is written there.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.CallsiteParameterAdder([structlog.processors.CallsiteParameter.PROCESS]),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(default=_as_text)
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler: logging.Handler = logging.StreamHandler()
    if not shows and settings.log_level != "DEBUG":
        handler = logging.NullHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    logging.captureWarnings(True)
    logging.getLogger("botocore").setLevel("WARNING")
    logging.getLogger("kombu").setLevel("WARNING")


def _as_text(value: object) -> str:
    """What JSON has no form of its own for: times in ISO 8601, all else as it is written for programmers."""
    return value.isoformat() if isinstance(value, date) else repr(value)
