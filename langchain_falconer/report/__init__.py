"""The report room: what a run found, what it cost and how far to trust it, as one HTML file and on the terminal."""

from langchain_falconer.report._html import render_html
from langchain_falconer.report._proxies import print_entries, print_entry
from langchain_falconer.report._terminal import print_summary

__all__ = ["print_entries", "print_entry", "print_summary", "render_html"]
