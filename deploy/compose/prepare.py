"""Gives the stack of compose.yaml what an administrator gives a real one: roles, a login, and buckets.

Run once after the migrations, as the tables' owner, with LOGIN_PASSWORD; a second time does no harm.
"""

import os
from pathlib import Path

import boto3
import psycopg2
from botocore.exceptions import ClientError
from psycopg2 import sql

ROLES = ("retention_worker", "accounts_worker", "ops_page")
LOGIN = "retention"
THERE_ALREADY = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")
BACKSTOP_DAYS = 540
"""Past every retention and hold; the pipeline itself deletes long before."""
OF_LETTERS = ("S3_BUCKET_LETTERS_PDF", "S3_BUCKET_TEST_LETTERS", "S3_BUCKET_INVALID_PDF", "S3_BUCKET_LETTERS_SCAN")


def grant(database_url: str, password: str, files: Path) -> None:
    """Apply the roles' files in one transaction, and make the login that is a member of all."""
    connection = psycopg2.connect(database_url)
    try:
        with connection, connection.cursor() as cursor:
            for role in ROLES:
                cursor.execute((files / f"{role}.sql").read_text())
            cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", (LOGIN,))
            if cursor.rowcount == 0:
                cursor.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(LOGIN)))
            cursor.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(LOGIN), sql.Literal(password)))
            for role in ROLES:
                cursor.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(LOGIN)))
    finally:
        connection.close()


def make_buckets() -> None:
    """Make the buckets that the environment names; those of letters forget by themselves what is far too old."""
    s3 = boto3.client("s3", region_name=os.environ["AWS_REGION"])
    rule = {
        "ID": "backstop",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "Expiration": {"Days": BACKSTOP_DAYS},
    }
    for name, bucket in sorted(os.environ.items()):
        if not name.startswith("S3_BUCKET_"):
            continue
        try:
            s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": os.environ["AWS_REGION"]})
        except ClientError as error:
            if error.response["Error"]["Code"] not in THERE_ALREADY:
                raise
        if name in OF_LETTERS:
            s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})


if __name__ == "__main__":
    grant(os.environ["DATABASE_URL"], os.environ["LOGIN_PASSWORD"], Path(__file__).parents[1] / "postgres")
    make_buckets()
