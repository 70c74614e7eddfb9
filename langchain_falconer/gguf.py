"""A LangChain chat model for a GGUF file, run in this process by llama-cpp-python."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, convert_to_openai_messages
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable, RunnableLambda
from pydantic import PrivateAttr

from langchain_falconer.errors import LLMError


class GGUFChatModel(BaseChatModel):
    """A chat model that llama.cpp runs, one request at a time; a grammar enforces structured output.

    Attributes:
        path: Path of the GGUF file.
        temperature: Sampling temperature.
        max_tokens: Maximum number of tokens per reply.
        context_tokens: Size of the context window, in tokens.

    Raises:
        LLMError: The file is missing or not a model, or the extra ``local`` is not installed.
    """

    path: str
    temperature: float = 0.0
    max_tokens: int = 1024
    context_tokens: int = 8192

    _llama: Any = PrivateAttr()
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    def model_post_init(self, context: Any) -> None:
        """Load the file at once, so that a bad one fails before any work begins."""
        self._llama = _load(Path(self.path).expanduser(), self.context_tokens)

    @property
    def _llm_type(self) -> str:
        return "gguf"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": "gguf", "ls_model_name": Path(self.path).name, "ls_model_type": "chat"}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with self._lock:
            completion = self._llama.create_chat_completion(
                convert_to_openai_messages(messages),
                stop=stop or [],
                temperature=self.temperature,
                max_tokens=self.max_tokens,
                response_format=kwargs.get("response_format"),
            )
        choice, used = completion["choices"][0], completion["usage"]
        message = AIMessage(
            choice["message"]["content"] or "",
            response_metadata={"finish_reason": choice["finish_reason"]},
            usage_metadata={
                "input_tokens": used["prompt_tokens"],
                "output_tokens": used["completion_tokens"],
                "total_tokens": used["total_tokens"],
            },
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def with_structured_output(  # type: ignore[override]
        self, schema: Mapping[str, object], *, method: str = "json_schema", include_raw: bool = False, **kwargs: Any
    ) -> Runnable[Any, Any]:
        """Return a runnable whose replies fit a JSON schema by llama.cpp's grammar, the only supported ``method``."""
        if method != "json_schema" or not include_raw:
            raise ValueError("a GGUF model supports only method='json_schema' with include_raw=True")
        bound = self.bind(response_format={"type": "json_object", "schema": schema})
        return bound | RunnableLambda(lambda raw: {"raw": raw})


def _load(path: Path, context_tokens: int) -> Any:
    if not path.is_file():
        raise LLMError(f"{path} is not a GGUF file; check the path after gguf:", model=f"gguf:{path}")
    try:
        from llama_cpp import Llama
    except ImportError as error:
        raise LLMError(
            "gguf: models need llama-cpp-python; pip install 'langchain-falconer[local]'", model=f"gguf:{path}"
        ) from error

    class UnpackedLlama(Llama):  # type: ignore[misc]
        """A ``Llama`` without repacked weight buffers: llama.cpp's AMX path crashes the process on some machines.

        ``Llama`` has no argument for it, but sets the parameters as an attribute before it loads.
        """

        @property
        def model_params(self) -> Any:
            return self._params

        @model_params.setter
        def model_params(self, params: Any) -> None:
            params.use_extra_bufts = False
            self._params = params

    try:
        return UnpackedLlama(str(path), n_ctx=context_tokens, verbose=False)
    except (ValueError, OSError) as error:
        raise LLMError(
            f"{path} could not be loaded as a GGUF model ({error}); check the file", model=f"gguf:{path}"
        ) from error
