"""``python -m langchain_falconer``: the command ``falconer``."""

from langchain_falconer.cli import main

main()
