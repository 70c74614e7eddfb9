"""The tools ``list_corpora`` and ``add_documents``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from langchain_core.documents import Document
from langchain_core.tools import ToolException
from pydantic import BaseModel, Field

from langchain_falconer.tools.answers import AdditionAnswer, CorporaAnswer
from langchain_falconer.tools.base import MAX_TEXTS, FalconerTool, Text, ToolInput


class ListCorporaInput(ToolInput):
    """Arguments of ``list_corpora``: none."""


class ListCorporaTool(FalconerTool):
    """List the corpora that can be asked about."""

    name: str = "list_corpora"
    description: str = (
        "List the corpora (named collections of texts) that can be searched: name, number of documents, sources. "
        "Call this first when you do not know a corpus name. Takes no arguments."
    )
    args_schema: type[BaseModel] = ListCorporaInput
    answer_type: ClassVar[type] = CorporaAnswer
    read_only: ClassVar[bool] = True

    def answer(self, request: ListCorporaInput) -> Mapping[str, object]:
        """Return the name of each corpus, with its file or its counts."""
        files = [{"name": name, "file": path.name} for name, path in sorted(self.corpora.items())]
        stored = [corpus.describe() for corpus in self.falconer.list_corpora() if corpus.name not in self.corpora]
        return {"corpora": [*files, *stored]}


class DocumentInput(BaseModel):
    """A text and its provenance."""

    text: Text = Field(description="The text.", min_length=1)
    source: Text | None = Field(default=None, description="Who published it, e.g. 'Reuters'.")
    url: Text | None = Field(default=None, description="Its web address.")
    title: Text | None = Field(default=None, description="Its title.")


class AddDocumentsInput(ToolInput):
    """Arguments of ``add_documents``."""

    corpus: Text = Field(description="The corpus to add to, e.g. 'reviews'; made if there is none of this name.")
    documents: list[DocumentInput] = Field(
        default_factory=list,
        description="The documents: each has a text, and where it comes from.",
        max_length=MAX_TEXTS,
    )
    files: list[Text] = Field(
        default_factory=list, description="Names of files to add, where files may be added.", max_length=100
    )


class AddDocumentsTool(FalconerTool):
    """Add documents to a corpus; texts that it holds already are dropped.

    Attributes:
        files_folder: The only folder that files may be added from; None refuses files.
    """

    name: str = "add_documents"
    description: str = (
        "Add documents to a named corpus, so that mine_corpus, get_label and get_span can go through all of them. "
        "Texts that the corpus has already are dropped. Returns how many were added and how many it holds now."
    )
    args_schema: type[BaseModel] = AddDocumentsInput
    answer_type: ClassVar[type] = AdditionAnswer
    files_folder: Path | None = None

    def answer(self, request: AddDocumentsInput) -> Mapping[str, object]:
        """Add documents and files, and return how many were added and how many the corpus holds."""
        corpus = request.corpus
        if corpus in self.corpora:
            raise ToolException(f"'{corpus}' consists of files, which are read-only; choose another corpus name")
        if not request.documents and not request.files:
            raise ToolException("there is nothing to add; give documents, each with a text")
        documents = [
            Document(one.text, metadata={k: v for k, v in one.model_dump(exclude={"text"}).items() if v})
            for one in request.documents
        ]
        paths = [self._resolve(name) for name in request.files]
        reports = [self.falconer.add_documents(corpus, source) for source in (documents, paths) if source]
        facts = reports[-1].model_dump(mode="json")
        for key in ("added", "duplicates", "unreadable"):
            facts[key] = sum(getattr(report, key) for report in reports)
        if facts["documents"]:
            facts["next"] = f"mine_corpus(instruction=..., corpus='{corpus}') asks about all of them"
        return facts

    def _resolve(self, name: str) -> Path:
        """Return the path of a file in the folder. Raises ``ToolException`` for any other path."""
        if self.files_folder is None:
            raise ToolException("files cannot be added here; give documents, each with a text")
        root = self.files_folder.resolve()
        try:
            path = (root / name).resolve()
            is_file = path.is_relative_to(root) and path.is_file()
        except (OSError, ValueError):
            is_file = False
        if not is_file:
            files = sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())[:20]
            raise ToolException(f"there is no file '{name[:80]}' to add; choose from: {', '.join(files) or 'none'}")
        return path
