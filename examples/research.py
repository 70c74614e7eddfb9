"""Deep research over an archive: the graph of graphs/deep_research.py, on texts of your own.

Run it: OPENAI_API_KEY=… python examples/research.py archive.jsonl "What do happy customers pay?"
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from langchain_falconer import Falconer

sys.path.append(str(Path(__file__).parent.parent / "graphs"))
from deep_research import create_deep_research


def main(archive: str, question: str, falconer: Falconer | None = None) -> dict[str, Any]:
    """Return the report, and the facts behind its numbers."""
    falconer = falconer or Falconer("openai:gpt-4.1-mini")
    print(falconer.add_documents("archive", Path(archive)).model_dump())
    graph = create_deep_research(falconer, archive="archive")
    output: dict[str, Any] = graph.invoke({"question": question})
    print(output["report"])
    return output


if __name__ == "__main__":
    main(*sys.argv[1:])
