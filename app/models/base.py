"""The declarative base and the naming of constraints."""

from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase

RETENTION_SCHEMA = "retention"


class Base(DeclarativeBase):
    """All tables. Constraint names follow PostgreSQL's own defaults, as the GOV.UK Notify family's do."""

    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "fk": "%(table_name)s_%(column_0_name)s_fkey",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
