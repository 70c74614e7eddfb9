"""The command ``falconer``: one module per group of commands."""

from langchain_falconer.cli.app import app, main

__all__ = ["app", "main"]
