"""`notify-retention`, or `python -m app`: the commands of `flask --app app`, for where the package is installed."""

import click
from flask.cli import FlaskGroup, shell_command

from app import create_app
from app.version import VERSION

main = FlaskGroup(
    name="notify-retention",
    help="The retention pipeline of a notifications platform. Settings come from the environment.",
    create_app=create_app,
    add_default_commands=False,
    add_version_option=False,
    load_dotenv=False,
)
main.params.clear()  # Flask's options choose another application
click.version_option(VERSION, prog_name="notify-retention")(main)
main.add_command(shell_command)

if __name__ == "__main__":
    main(prog_name="notify-retention")
