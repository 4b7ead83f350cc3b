"""moto's S3 server with AWS's own idea of who may do what: `python s3_under_policy.py -H HOST -p PORT`.

moto can enforce IAM, but not so that a right policy works: it takes a DeleteObjects for one `s3:DeleteObject` on the
bucket, never asks for `s3:DeleteObjectVersion`, and takes a HEAD of a version for `s3:GetObject`. So this asks for
the actions of AWS's Service Authorization Reference, key by key. An access key is under a policy once one was given
to it with `PUT /_policies/<access key>`; any other is an administrator's. Signatures are not checked. With `?terse`
a delete that is refused for an object lock does not say so, as not every S3 server does. `DELETE /_objects?bucket=…`
empties buckets, and `PUT /_objects?bucket=…` puts an object under each of a list of keys, so that a test need not do
so request by request.

It runs as a script, without the packages of this repository.
"""

import argparse
import json
import re
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from moto.s3.utils import _VersionedKeyStore
from werkzeug.serving import run_simple

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

ACCOUNT = "123456789012"
NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
POLICIES = "/_policies/"
OBJECTS = "/_objects"
A_FILE = b"%PDF-1.4"
LOCK_SAID = b"Access Denied because object protected by object lock."
ACCESS_KEY = re.compile(r"Credential=([^/%]+)(?:/|%2F)")
"""In the header that signs a request, or in a link that was signed."""
OF_BUCKET = {
    ("GET", "versioning"): "s3:GetBucketVersioning",
    ("GET", "versions"): "s3:ListBucketVersions",
    ("GET", "uploads"): "s3:ListBucketMultipartUploads",
    ("GET", ""): "s3:ListBucket",
    ("HEAD", ""): "s3:ListBucket",
}
OF_OBJECT = {
    ("GET", False): "s3:GetObject",
    ("GET", True): "s3:GetObjectVersion",
    ("HEAD", False): "s3:GetObject",
    ("HEAD", True): "s3:GetObjectVersion",
    ("DELETE", False): "s3:DeleteObject",
    ("DELETE", True): "s3:DeleteObjectVersion",
    ("PUT", False): "s3:PutObject",
}
OF_UPLOAD = {
    ("POST", frozenset({"uploads"})): "s3:PutObject",
    ("PUT", frozenset({"partNumber", "uploadId"})): "s3:PutObject",
    ("POST", frozenset({"uploadId"})): "s3:PutObject",
    ("DELETE", frozenset({"uploadId"})): "s3:AbortMultipartUpload",
}
"""By the request's parameters: begin an upload, send a part, complete it, abort it."""
OF_LOCK = {"retention": "s3:GetObjectRetention", "legal-hold": "s3:GetObjectLegalHold"}
LOCK_HEADERS = {
    "x-amz-object-lock-mode": "s3:GetObjectRetention",
    "x-amz-object-lock-retain-until-date": "s3:GetObjectRetention",
    "x-amz-object-lock-legal-hold": "s3:GetObjectLegalHold",
}
"""S3 leaves them out of its answer for those who may not see them."""


class Policy:
    """An IAM policy of Allow statements, without conditions: what the product's is."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._statements = document["Statement"]
        for statement in self._statements:
            if statement["Effect"] != "Allow" or statement.keys() - {"Sid", "Effect", "Action", "Resource"}:
                raise ValueError("only Allow statements of actions and resources are understood here")

    def allows(self, action: str, resource: str) -> bool:
        return any(
            _matches(statement["Action"], action) and _matches(statement["Resource"], resource)
            for statement in self._statements
        )


def keep_many_versions() -> None:
    """Have this process's moto not compare each version of a key with each other: of a thousand that takes a minute."""

    def setlist(store: Any, key: str, versions: Iterable[Any]) -> None:
        kept = list(versions)
        of_kept = {id(version) for version in kept}
        for version in store.getlist(key, []):
            if id(version) not in of_kept and hasattr(version, "dispose"):
                version.dispose()
        dict.__setitem__(store, key, kept)

    _VersionedKeyStore.setlist = setlist


def _empty(name: str) -> None:
    """Take every version, marker and unfinished upload from the bucket, if there is one."""
    bucket = s3_backends[ACCOUNT]["aws"].buckets.get(name)
    if bucket is None:
        return
    versions = [version for versions in list(dict.values(bucket.keys)) for version in versions]
    for one in [*versions, *bucket.multiparts.values()]:
        if hasattr(one, "dispose"):  # a delete marker has nothing
            one.dispose()
    bucket.keys.clear()
    bucket.multiparts.clear()


def _fill(name: str, keys: Iterable[str]) -> None:
    """Put an object under each of the keys."""
    backend = s3_backends[ACCOUNT]["aws"]
    for key in keys:
        backend.put_object(name, key, A_FILE)


def _matches(patterns: str | list[str], value: str) -> bool:
    listed = [patterns] if isinstance(patterns, str) else patterns
    return any(re.fullmatch(re.escape(one).replace(r"\*", ".*").replace(r"\?", "."), value) for one in listed)


class UnderPolicy:
    """The server's application, behind the policies."""

    def __init__(self, server: Application) -> None:
        self._server = server
        self._policies: dict[str, Policy] = {}
        self._terse: set[str] = set()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"].encode("latin-1").decode(errors="replace")
        found = ACCESS_KEY.search(environ.get("HTTP_AUTHORIZATION") or environ.get("QUERY_STRING", ""))
        policy = self._policies.get(found[1]) if found else None
        if path.startswith(POLICIES):
            if policy is not None:
                return _refuse(environ, start_response)
            access_key = path.removeprefix(POLICIES)
            self._policies[access_key] = Policy(json.loads(_body(environ)))
            if "terse" in _query(environ):
                self._terse.add(access_key)
            start_response("204 No Content", [])
            return []
        if path == OBJECTS and policy is None:
            keys = json.loads(_body(environ)) if environ["REQUEST_METHOD"] == "PUT" else None
            for name in parse_qs(environ["QUERY_STRING"])["bucket"]:
                if keys is None:
                    _empty(name)
                else:
                    _fill(name, keys)
            start_response("204 No Content", [])
            return []
        if policy is None:
            return self._server(environ, start_response)
        bucket, _, key = path.lstrip("/").partition("/")
        if bucket and bucket not in s3_backends[ACCOUNT]["aws"].buckets:
            return self._server(environ, start_response)  # S3, too, says NoSuchBucket before AccessDenied
        if not key and environ["REQUEST_METHOD"] == "POST" and "delete" in _query(environ):
            status, answer = self._delete_objects(policy, bucket, environ)
            if found and found[1] in self._terse:
                answer = answer.replace(LOCK_SAID, b"Access Denied")
            start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(answer)))])
            return [answer]
        return self._answer(policy, bucket, key, environ, start_response)

    def _answer(
        self, policy: Policy, bucket: str, key: str, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        method, query = environ["REQUEST_METHOD"], _query(environ)
        resource = f"arn:aws:s3:::{bucket}/{key}" if key else f"arn:aws:s3:::{bucket}"
        if key:
            lock = next(iter(query & OF_LOCK.keys()), None) if method == "GET" else None
            action = OF_LOCK[lock] if lock else OF_OBJECT.get((method, "versionId" in query))
            sub_resource = query & {"acl", "tagging", "retention", "legal-hold", "uploads", "uploadId", "torrent"}
            sub_resource -= {lock}
            of_upload = OF_UPLOAD.get((method, frozenset(query & {"uploads", "uploadId", "partNumber"})))
            if of_upload is not None:
                action, sub_resource = of_upload, sub_resource - {"uploads", "uploadId"}
        else:
            sub_resource = (
                query
                - {"versioning", "versions", "uploads", "list-type", "prefix", "max-keys", "encoding-type"}
                - {
                    *(
                        "start-after",
                        "continuation-token",
                        "key-marker",
                        "version-id-marker",
                        "delimiter",
                        "fetch-owner",
                    )
                }
            )
            action = OF_BUCKET.get((method, next(iter(query & {"versioning", "versions", "uploads"}), "")))
        if not bucket or action is None or sub_resource or not policy.allows(action, resource):
            return _refuse(environ, start_response)
        if key and action == OF_LOCK["retention"]:
            return _retention(bucket, key, environ, start_response)

        def without_what_it_may_not_see(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            seen = [
                (name, value)
                for name, value in headers
                if name.lower() not in LOCK_HEADERS or policy.allows(LOCK_HEADERS[name.lower()], resource)
            ]
            return start_response(status, seen, *more)

        return self._server(environ, without_what_it_may_not_see)

    def _delete_objects(self, policy: Policy, bucket: str, environ: Environ) -> tuple[str, bytes]:
        """Key by key, as S3 does it: an answer of 200 with an error for each key that is refused."""
        root = ElementTree.fromstring(_body(environ))  # noqa: S314 - a client of the tests wrote it
        refused = []
        for entry in root.findall(f"{NAMESPACE}Object"):
            key, version = entry.findtext(f"{NAMESPACE}Key") or "", entry.findtext(f"{NAMESPACE}VersionId")
            action = "s3:DeleteObject" if version is None else "s3:DeleteObjectVersion"
            if not policy.allows(action, f"arn:aws:s3:::{bucket}/{key}"):
                root.remove(entry)
                named = "" if version is None else f"<VersionId>{escape(version)}</VersionId>"
                refused.append(
                    f"<Error><Key>{escape(key)}</Key>{named}<Code>AccessDenied</Code>"
                    "<Message>Access Denied</Message></Error>"
                )
        status, answer = ["200 OK"], b'<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></DeleteResult>'
        if root.find(f"{NAMESPACE}Object") is not None:
            body = ElementTree.tostring(root, default_namespace=NAMESPACE[1:-1]) if refused else _body(environ)
            changed = {**environ, "wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body))}
            answer = b"".join(self._server(changed, lambda line, *_: status.append(line)))
        return status[-1], answer.replace(b"</DeleteResult>", "".join(refused).encode() + b"</DeleteResult>")


def _retention(bucket: str, key: str, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """GetObjectRetention, which moto lacks."""
    version = parse_qs(environ.get("QUERY_STRING", "")).get("versionId", [None])[0]
    found = s3_backends[ACCOUNT]["aws"].get_object(bucket, unquote(key), version_id=version)
    if found is None or found.lock_mode is None:
        status, answer = "404 Not Found", "<Error><Code>NoSuchObjectLockConfiguration</Code></Error>"
    else:
        status = "200 OK"
        answer = f"<Retention><Mode>{found.lock_mode}</Mode></Retention>"
    start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(answer)))])
    return [answer.encode()]


def _query(environ: Environ) -> set[str]:
    return {unquote(part.partition("=")[0]) for part in environ.get("QUERY_STRING", "").split("&") if part} - {"x-id"}


def _body(environ: Environ) -> bytes:
    """The body, left to be read again."""
    body: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = BytesIO(body)
    return body


def _refuse(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    _body(environ)
    answer = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    start_response("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(answer)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-H", dest="host")
    parser.add_argument("-p", dest="port", type=int)
    given = parser.parse_args()
    keep_many_versions()
    server = UnderPolicy(DomainDispatcherApplication(create_backend_app))
    run_simple(given.host, given.port, server, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    main()
