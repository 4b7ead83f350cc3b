"""Gunicorn's settings. Wrong settings of ours end it with a sentence each, before a worker is started."""

from app.config import SettingsError, load


def on_starting(_server: object) -> None:
    try:
        load()
    except SettingsError as error:
        raise RuntimeError(error.message) from None  # the kind that gunicorn prints without a traceback
