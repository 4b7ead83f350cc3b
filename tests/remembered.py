"""What libraries work out anew for each application and each client is worked out once in a process of the tests.

Each test has an application of its own, and most a client of S3: botocore reads its models, megabytes of JSON, for each
session and asks each of its handlers for its signature; Werkzeug compiles each route; Jinja each template. Merging what
the models' extras say into a model that has it already changes nothing.
"""

import functools
from typing import Any

import boto3
from botocore import hooks
from botocore.loaders import JSONFileLoader, Loader
from flask import Flask
from jinja2 import BytecodeCache
from jinja2.bccache import Bucket
from werkzeug.routing import Rule

SERVICES = ("s3", "sesv2", "sqs")


class InMemory(BytecodeCache):
    """Compiled templates, by name and source."""

    def __init__(self) -> None:
        self._compiled: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._compiled:
            bucket.bytecode_from_string(self._compiled[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._compiled[bucket.key] = bucket.bytecode_to_string()


def once() -> None:
    """From now on; a second time does nothing."""
    if hasattr(JSONFileLoader.load_file, "__wrapped__"):
        return
    _models_are_read_once()
    _handlers_are_looked_at_once()
    _routes_are_compiled_once()
    Flask.jinja_options = {**Flask.jinja_options, "bytecode_cache": InMemory()}


def clients_now() -> None:
    """All that the product's clients need."""
    once()
    for service in SERVICES:
        boto3.Session("key", "secret", region_name="eu-west-2").client(service).close()


def _models_are_read_once() -> None:
    load_file, list_services = JSONFileLoader.load_file, Loader.list_available_services
    files: dict[str, Any] = {}
    services: dict[tuple[str, ...], list[str]] = {}

    @functools.wraps(load_file)
    def load_file_once(loader: JSONFileLoader, file_path: str) -> Any:
        if file_path not in files:
            files[file_path] = load_file(loader, file_path)
        return files[file_path]

    @functools.wraps(list_services)
    def list_services_once(loader: Loader, type_name: str) -> list[str]:
        key = (type_name, *loader.search_paths)
        if key not in services:
            services[key] = list_services(loader, type_name)
        return services[key]

    JSONFileLoader.load_file = load_file_once
    Loader.list_available_services = list_services_once


def _handlers_are_looked_at_once() -> None:
    accepts = hooks.accepts_kwargs
    answers: dict[Any, Any] = {}

    def accepts_kwargs(handler: Any) -> Any:
        function = getattr(handler, "__func__", handler)  # methods are made anew, functions live as long as this does
        if not hasattr(function, "__code__"):
            return accepts(handler)
        if function.__code__ not in answers:
            answers[function.__code__] = accepts(handler)
        return answers[function.__code__]

    hooks.accepts_kwargs = accepts_kwargs
    initialise = hooks.EventAliaser.__init__
    names: dict[str, str] = {}

    @functools.wraps(initialise)
    def with_known_names(aliaser: Any, emitter: Any, aliases: Any = None) -> None:
        initialise(aliaser, emitter, aliases)
        if aliases is None:  # else names mean something else
            aliaser._alias_name_cache = names

    hooks.EventAliaser.__init__ = with_known_names


def _routes_are_compiled_once() -> None:
    compile_builder = Rule._compile_builder
    compiled: dict[Any, Any] = {}

    @functools.wraps(compile_builder)
    def compile_once(rule: Rule, append_unknown: bool = True) -> Any:
        if rule.defaults:
            return compile_builder(rule, append_unknown)
        key = (tuple(rule._trace), append_unknown)
        if key not in compiled:
            compiled[key] = compile_builder(rule, append_unknown)
        return compiled[key]

    Rule._compile_builder = compile_once
