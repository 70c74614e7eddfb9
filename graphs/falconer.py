"""The Falconer graph as `langgraph dev` serves it: run `langgraph dev` in this folder (FALCONER_LLM names the LLM)."""

import os

from langchain_falconer import create_falconer_graph

graph = create_falconer_graph(os.environ.get("FALCONER_LLM") or None, home=os.environ.get("FALCONER_HOME") or None)
