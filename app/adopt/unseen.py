"""Rows of notifications that no choice ever takes, so that they stay for ever, and the statements that count them."""

from collections.abc import Iterator

from app.dao import adoption_sql
from app.dao.catalogue import NOTIFICATIONS, SERVICES, Catalogue, Table
from app.state.findings import Finding, look

NEVER_EQUAL = ("key_type", "notification_type", "created_at")
"""Columns that every choice compares. A row without a service is reported, and a status may be NULL."""


def check(catalogue: Catalogue) -> Iterator[Finding]:
    """Rows of a service that is gone, and rows with a NULL in what the choice compares."""
    live, services = catalogue.tables.get(NOTIFICATIONS), catalogue.tables.get(SERVICES)
    if live is None:
        return
    if services is not None and not _has_services(catalogue, services):
        yield look(
            f"{NOTIFICATIONS}.service_id",
            f"no validated foreign key holds service_id of table {NOTIFICATIONS} to table {SERVICES}: a night goes "
            "service by service, so that rows of one that was removed stay for ever, and nothing reports them",
            "see that there are none, and make the key or validate it: "
            + adoption_sql.count_of_no_service((live.schema, live.name), (services.schema, services.name)),
        )
    for name in NEVER_EQUAL:
        if name in live.columns and live.columns[name].nullable:
            yield look(
                f"{NOTIFICATIONS}.{name}",
                f"column {name} of table {NOTIFICATIONS} may be NULL: a row without it is never chosen and stays for "
                "ever",
                "see that there are none, and make it NOT NULL: "
                + adoption_sql.count_nulls(live.schema, live.name, name),
            )


def _has_services(catalogue: Catalogue, services: Table) -> bool:
    wanted = (("service_id",), services.schema, services.name, ("id",), True)
    return any(
        (key.columns, key.referred_schema, key.referred, key.referred_columns, key.is_validated) == wanted
        for key in catalogue.from_notifications
    )
