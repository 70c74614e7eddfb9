"""A proxy as a LangChain ``Runnable``: texts in, result rows out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_falconer.cancellation import run_in_thread
from langchain_falconer.errors import ProxyError
from langchain_falconer.records import Record

if TYPE_CHECKING:
    from langchain_falconer.model.proxy import Proxy

_CHUNK_TEXTS = 64
Texts = Sequence[str | Document]


class ProxyRunnable(Runnable[Texts, list[Record]]):
    """Runs the plan of a proxy over texts, or LangChain documents; record ids are positions in the input.

    ``batch`` computes all its inputs in common encoder passes; ``stream`` yields the records of 64 texts at a time. On
    an event loop the encoder works in a thread. Texts are in no trace.

    Args:
        proxy: The proxy.
    """

    def __init__(self, proxy: Proxy) -> None:
        self.name = "proxy"
        self._proxy = proxy

    def invoke(self, input: Texts, config: RunnableConfig | None = None, **kwargs: Any) -> list[Record]:  # noqa: A002
        """Return the record of each text."""
        return self._records(_texts(input))

    async def ainvoke(self, input: Texts, config: RunnableConfig | None = None, **kwargs: Any) -> list[Record]:  # noqa: A002
        """As :meth:`invoke`."""
        return await run_in_thread(lambda: self.invoke(input))

    def batch(
        self,
        inputs: list[Texts],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[list[Record]]:
        """Return the records of several inputs, whose texts share encoder passes."""
        if return_exceptions:  # of each input its own
            return super().batch(inputs, config, return_exceptions=True, **kwargs)
        texts = [_texts(one) for one in inputs]
        answers = iter(self._proxy.answers(list(chain.from_iterable(texts))))
        return [[self._proxy.record(str(i), text, next(answers)) for i, text in enumerate(own)] for own in texts]

    async def abatch(
        self,
        inputs: list[Texts],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[list[Record]]:
        """As :meth:`batch`."""
        return await run_in_thread(lambda: self.batch(inputs, config, return_exceptions=return_exceptions))

    def stream(self, input: Texts, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[list[Record]]:  # noqa: A002
        """Yield the records in lists, as they are computed."""
        texts = _texts(input)
        for first in range(0, len(texts), _CHUNK_TEXTS):
            yield self._records(texts[first : first + _CHUNK_TEXTS], first)

    async def astream(
        self,
        input: Texts,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[list[Record]]:
        """As :meth:`stream`; nothing is computed ahead of its consumer."""
        chunks = self.stream(input)
        while (records := await run_in_thread(lambda: next(chunks, None))) is not None:
            yield records

    def _records(self, texts: list[str], first: int = 0) -> list[Record]:
        answers = self._proxy.answers(texts)
        return [
            self._proxy.record(str(i), text, own)
            for i, (text, own) in enumerate(zip(texts, answers, strict=True), start=first)
        ]


def _texts(items: Texts) -> list[str]:
    texts = [item.page_content if isinstance(item, Document) else item for item in items]
    if isinstance(items, str) or not all(isinstance(text, str) for text in texts):
        raise ProxyError("a proxy runs over a list of texts or documents; pass a list of strings or Documents")
    return texts
