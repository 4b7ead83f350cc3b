"""The trail of what people did stays for 30 days, whoever they are, and no hold is lifted without a record of it.

Owners of the tables are not held to it: they could change the rule itself.
"""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

POLICIES = (
    "ALTER TABLE retention.ops_actions ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY all_is_read ON retention.ops_actions FOR SELECT USING (true)",
    "CREATE POLICY all_is_recorded ON retention.ops_actions FOR INSERT WITH CHECK (true)",
    "CREATE POLICY only_the_old_goes ON retention.ops_actions FOR DELETE "
    "USING (acted_at < clock_timestamp() - interval '30 days')",
)
# At the commit: the record may be written before the hold goes, or after.
ON_RECORD = """
CREATE FUNCTION retention.require_record_of_lift() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE')
        OR EXISTS (SELECT FROM retention.ops_actions
                   WHERE action IN ('lift', 'resume') AND xmin = pg_current_xact_id()::xid)
    THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'a hold is lifted with a record of who lifted it' USING ERRCODE = 'insufficient_privilege';
END
$$
"""
TRIGGER = """
CREATE CONSTRAINT TRIGGER require_record_of_lift AFTER DELETE ON retention.holds
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION retention.require_record_of_lift()
"""


def upgrade() -> None:
    for statement in (*POLICIES, ON_RECORD, TRIGGER):
        op.execute(statement)
    op.execute("REVOKE EXECUTE ON FUNCTION retention.require_record_of_lift() FROM PUBLIC")


def downgrade() -> None:
    op.execute("DROP TRIGGER require_record_of_lift ON retention.holds")
    op.execute("DROP FUNCTION retention.require_record_of_lift()")
    for name in ("all_is_read", "all_is_recorded", "only_the_old_goes"):
        op.execute(f"DROP POLICY {name} ON retention.ops_actions")
    op.execute("ALTER TABLE retention.ops_actions DISABLE ROW LEVEL SECURITY")
