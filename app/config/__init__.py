"""Settings, from the environment only: typed, documented, and refused at start with a sentence when wrong.

A module per subject: `platform` (what the pipeline works on), `night`, `archive`, `accounts`, `operation`.
`kinds` has the kinds of values, `settings` puts the classes together and loads them.
"""

from app.config.kinds import psycopg2_url
from app.config.settings import Settings, SettingsError, load

__all__ = ["Settings", "SettingsError", "load", "psycopg2_url"]
