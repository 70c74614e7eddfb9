"""A server of typed decisions (``POST /v1/systemone``) as a chat model: called and paid as an LLM is.

The last message is the body of a request, in JSON, and the reply is the body of a response (``annotate/decisions.py``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, ClassVar

import httpx
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable, RunnableLambda
from pydantic import PrivateAttr

from langchain_falconer.errors import LLMError
from langchain_falconer.llm.output_modes import OutputMode

PREFIX = "systemone:"
_PATH = "/v1/systemone"
_DEFAULT_MODEL = "jev-latest"
"""What the first server of this protocol calls its newest model; local servers ignore the name."""


class SystemOneChatModel(BaseChatModel):
    """A server that answers typed questions with probabilities, and writes no text.

    The key is ``$TYPESAFE_API_KEY``; local servers need none.

    Attributes:
        url: Address of the server, with or without ``/v1/systemone``; ``#NAME`` behind it names the model.
        timeout: Seconds that a reply may take.

    Raises:
        LLMError: The address is none.
    """

    url: str
    timeout: float = 120.0
    output_modes: ClassVar[tuple[OutputMode, ...]] = ("json_schema",)

    _client: httpx.Client = PrivateAttr()
    _endpoint: httpx.URL = PrivateAttr()
    _model: str = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Read the address."""
        try:
            url = httpx.URL(self.url)
        except httpx.InvalidURL:
            url = httpx.URL()
        if url.scheme not in ("http", "https") or not url.host:
            raise LLMError(f"'{PREFIX}' is followed by the address of a server, such as {PREFIX}http://127.0.0.1:8100")
        self._model = url.fragment or _DEFAULT_MODEL
        base = url.path.rstrip("/").removesuffix(_PATH).removesuffix("/v1")
        self._endpoint = url.copy_with(path=f"{base}{_PATH}", fragment=None)
        key = os.environ.get("TYPESAFE_API_KEY")
        self._client = httpx.Client(timeout=self.timeout, headers={"Authorization": f"Bearer {key}"} if key else None)

    @property
    def base_url(self) -> str:
        """Address of the server without credentials."""
        return str(self._endpoint.copy_with(userinfo=b""))

    @property
    def _llm_type(self) -> str:
        return "systemone"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        place = self.base_url.removesuffix(_PATH)
        return {"ls_provider": "systemone", "ls_model_name": f"{place}#{self._model}", "ls_model_type": "chat"}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        body = {"model": self._model, **json.loads(str(messages[-1].content))}
        response = self._client.post(self._endpoint, json=body)
        response.raise_for_status()
        usage = response.json().get("usage") or {}
        read, written = (int(usage.get(name) or 0) for name in ("input_tokens", "output_tokens"))
        message = AIMessage(
            response.text,
            usage_metadata={"input_tokens": read, "output_tokens": written, "total_tokens": read + written},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def with_structured_output(  # type: ignore[override]
        self, schema: Mapping[str, object], *, method: str = "json_schema", include_raw: bool = False, **kwargs: Any
    ) -> Runnable[Any, Any]:
        """Return a runnable from messages to the reply, as it is; ``method`` and schema are those of the protocol."""
        return self | RunnableLambda(lambda raw: {"raw": raw})
