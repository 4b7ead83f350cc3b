"""What tests of audits share: files to plant, audits to run, and what is left."""

from datetime import datetime
from typing import Any
from uuid import uuid4

from flask import Flask

from app.dao.audit_dao import Audit
from app.retention import audit
from app.retention.audit_progress import Finding
from app.retention.tools import tools
from tests.factories import days_ago

OLD = days_ago(100)
"""Past every retention that these tests set, unless they say otherwise."""


def all_buckets() -> list[str]:
    """The names of the letter buckets."""
    names = tools().naming.buckets
    return [names.letters, names.test_letters, names.invalid_pdf, names.letters_scan]


def put(s3: Any, bucket: str, key: str, versions: int = 1) -> tuple[str, str]:
    """A file, so often. Returns bucket and key."""
    for _ in range(versions):
        s3.put_object(Bucket=bucket, Key=key, Body=b"%PDF-1.4")
    return bucket, key


def reference() -> str:
    """One as the platform makes them."""
    return uuid4().hex[:16].upper()


def key_of(reference: str, made_at: datetime = OLD, folder: str | None = None) -> str:
    """The key of a letter's file in its day's folder, or in another."""
    folder = tools().naming.folder(made_at) if folder is None else folder
    return f"{folder}NOTIFY.{reference}.D.2.C.{made_at:%Y%m%d%H%M%S}.PDF"


def what(finding: Finding) -> tuple[str, Any]:
    """A finding's kind, and its bucket and key, or its row's id."""
    stored = finding.stored
    return finding.kind, (stored.bucket, stored.key) if stored else finding.notification_id


def run(**scope: Any) -> tuple[Audit, list[tuple[str, Any]]]:
    """An audit from beginning to end, and its findings, sorted."""
    found: list[tuple[str, Any]] = []
    current = audit.begin("me", **scope)
    while current.finished_at is None:
        turn = audit.go_on(current, lambda findings: found.extend(map(what, findings)))
        assert turn.stopped is None
        current = turn.audit
    return current, sorted(found, key=str)


def everything(s3: Any) -> dict[str, list[tuple[str, str]]]:
    """Each version and marker of each bucket."""
    left = {}
    for bucket in all_buckets():
        pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket)
        found = [one for page in pages for one in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]]
        left[bucket] = sorted((one["Key"], one["VersionId"]) for one in found)
    return left


def change_settings(app: Flask, **changes: Any) -> None:
    """From now on the application has these settings."""
    tools_now = app.extensions["retention.tools"]
    app.extensions["retention.tools"] = type(tools_now)(tools_now.settings.model_copy(update=changes))
