"""Puts the application together: the only module that knows all the parts that `create_app` needs."""

from flask import Flask

from app import cli, ops
from app.accounts import languages
from app.accounts.tools import Tools as AccountTools
from app.api import deletions, errors, exports, health, sessions, visitors
from app.api.arguments import LARGEST_BODY_BYTES
from app.archive.tools import Tools as ArchiveTools
from app.config import Settings, SettingsError
from app.errors import BadArgument
from app.observability import error_reports, tracing
from app.ops import health as ready
from app.ops import metrics
from app.policies import registry
from app.policies.tools import Tools as PolicyTools
from app.retention.tools import Tools


def wire_help(app: Flask) -> bool:
    """If a person asks what the commands do, give the application them and nothing that they need to run. Says whether
    that was so.
    """
    if not cli.is_to_help():
        return False
    cli.add_commands(app)
    return True


def wire(app: Flask) -> None:
    """Give the application its tools, commands and pages. Raises SettingsError for templates that can't be used."""
    settings: Settings = app.extensions["settings"]
    try:
        languages.load(settings.email_languages, settings.email_templates)
    except BadArgument as error:
        raise SettingsError(f"EMAIL_LANGUAGES is wrong: {error}.") from None
    error_reports.set_up(app.extensions["settings"])
    tracing.set_up(app.extensions["settings"])
    app.extensions["retention.tools"] = Tools(app.extensions["settings"])
    app.extensions["archive.tools"] = ArchiveTools(app.extensions["settings"])
    app.extensions["accounts.tools"] = AccountTools(app.extensions["settings"])
    app.extensions["policies"] = registry.load(settings.retention_policies)
    app.extensions["policies.tools"] = PolicyTools(settings)
    # A path with two slashes is none of ours. Werkzeug would redirect to one slash, at the Host that the request names.
    app.url_map.merge_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY_BYTES
    errors.register(app)
    visitors.register(app)
    for page in (health, ready, metrics, sessions, deletions, exports):
        app.register_blueprint(page.blueprint)
    ops.register(app)
    cli.register(app)
