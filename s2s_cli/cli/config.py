"""`s2s config`."""

from __future__ import annotations

import sys

import typer

from s2s_cli.cli.app import ConfigOption, SetOption, app, examples

config_app = typer.Typer(help="Look at configs.", no_args_is_help=True)
app.add_typer(config_app, name="config")


@config_app.command("show", epilog=examples("s2s config show --config configs/demo.yaml --set model.dropout=0.1"))
def config_show(config: ConfigOption, set_: SetOption = None) -> None:
    """Print the resolved config: every key, its value, its meaning."""
    from s2s_cli.config_file import dump_config, load_config

    sys.stdout.write(dump_config(load_config(config, set_ or []), comments=True))


@config_app.command("schema", epilog=examples("s2s config schema > s2s.schema.json"))
def config_schema() -> None:
    """Print the JSON schema of a config, for editors."""
    import json

    from s2s_cli.config_file import schema

    print(json.dumps(schema(), indent=2))
