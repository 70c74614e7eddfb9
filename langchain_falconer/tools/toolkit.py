"""The toolkit of all tools, and a subagent for ``deepagents``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from langchain_core.tools import BaseTool, BaseToolkit
from pydantic import ConfigDict, Field

from langchain_falconer.corpus import Place, Url, as_place
from langchain_falconer.falconer import Falconer
from langchain_falconer.tools.corpora import AddDocumentsTool, ListCorporaTool
from langchain_falconer.tools.mining import GetLabelTool, GetSpanTool, MineCorpusTool
from langchain_falconer.tools.results_tool import ReadResultsTool

if TYPE_CHECKING:
    from deepagents import CompiledSubAgent
    from langchain_core.language_models import BaseChatModel

_PROMPT = (
    "You answer questions about large collections of texts. Never read texts one by one: call mine_corpus, get_label "
    "or get_span on a corpus, and read_results for details. Every number that you report must come from a tool, with "
    "the result id behind it."
)
_DESCRIPTION = (
    "Counts, classifies and extracts over whole corpora of texts, cheaply and with measured quality. Name the corpus "
    "and say what to find."
)


class FalconerToolkit(BaseToolkit):
    """The tools of one Falconer, on the corpora that an agent may ask about.

    Attributes:
        falconer: The Falconer whose LLM, home and settings the tools use.
        corpora: Files that may be asked about by name, beside the corpora of the workspace.
        files_folder: The only folder that an agent may add files from; None refuses files.

    Example:
        ``toolkit = FalconerToolkit(llm="openai:gpt-4.1-mini", corpora={"reviews": "reviews.jsonl"})``, then
        ``create_agent(model, tools=toolkit.get_tools())``
    """

    falconer: Falconer = Field(exclude=True, repr=False)
    corpora: dict[str, Path | Url] = Field(default_factory=dict)
    files_folder: Path | None = None

    model_config: ClassVar[ConfigDict] = ConfigDict(arbitrary_types_allowed=True)

    def __init__(
        self,
        falconer: Falconer | None = None,
        *,
        corpora: Mapping[str, str | Place] | None = None,
        files_folder: str | Path | None = None,
        **options: Any,
    ) -> None:
        """Take a Falconer, or ``options``: the arguments to create one (``llm``, ``home``, ``settings`` …)."""
        paths = {name: as_place(path) for name, path in (corpora or {}).items()}
        folder = Path(files_folder) if files_folder is not None else None
        super().__init__(falconer=falconer or Falconer(**options), corpora=paths, files_folder=folder)

    def get_tools(self) -> list[BaseTool]:
        """Return all tools: list, add to, mine and question corpora, and read results."""
        shared: dict[str, Any] = {"falconer": self.falconer, "corpora": self.corpora}
        return [
            ListCorporaTool(**shared),
            AddDocumentsTool(**shared, files_folder=self.files_folder),
            MineCorpusTool(**shared),
            GetLabelTool(**shared),
            GetSpanTool(**shared),
            ReadResultsTool(**shared),
        ]


def create_falconer_subagent(model: str | BaseChatModel, toolkit: FalconerToolkit) -> CompiledSubAgent:
    """Create a subagent of a model with the tools of a toolkit, for ``create_deep_agent(subagents=[…])``."""
    from langchain.agents import create_agent

    runnable = create_agent(model, tools=toolkit.get_tools(), system_prompt=_PROMPT, name="falconer")
    return {"name": "falconer", "description": _DESCRIPTION, "runnable": runnable}
