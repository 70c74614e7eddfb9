"""Capabilities: what a server turned out to support, learned from its replies and remembered for all later calls."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from langchain_falconer.llm.output_modes import OUTPUT_MODES, OutputMode

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

_MAX_MISSES = 3
_LIMIT_FIELDS = ("max_tokens", "max_output_tokens", "num_predict", "max_new_tokens")
_LIMITS = ("max_tokens", "max_completion_tokens")
"""The two names of the output limit in OpenAI's protocol."""
_BOUND = ("parallel_tool_calls", "tool_choice")
"""Parameters that LangChain adds to requests of structured output."""


class Capabilities:
    """The output mode that works, the parameters that are accepted, and the output limit that suffices. Thread-safe.

    Args:
        model: The chat model; never changed, but replaced by a copy with other parameters.
        output_limit: Output limit to assume where the model has none.
    """

    def __init__(self, model: BaseChatModel, output_limit: int) -> None:
        self.model = model
        self.dropped: frozenset[str] = frozenset()
        self.output_mode: OutputMode | None = None
        self._assumed_limit = output_limit
        self._misses = 0
        self._only_works: OutputMode | None = None
        self._lock = threading.Lock()

    # ---- output modes

    @property
    def modes(self) -> tuple[OutputMode, ...]:
        """All output modes in the order to try them, the one that is known to work first."""
        proven, supported = self.output_mode, getattr(self.model, "output_modes", OUTPUT_MODES)
        return supported if proven is None else (proven, *(mode for mode in supported if mode != proven))

    @property
    def has_alternatives(self) -> bool:
        """Whether another mode is worth a try where the proven one fails to answer; not if that failed last time."""
        return self.output_mode is None or self._only_works != self.output_mode

    def hit(self, mode: OutputMode) -> None:
        """Note that a mode gave an object that fits: it is used from now on."""
        with self._lock:
            self.output_mode, self._misses, self._only_works = mode, 0, None

    def miss(self, mode: OutputMode) -> None:
        """Note that a mode gave no object that fits; after several in a row the modes are negotiated anew."""
        with self._lock:
            self._misses += mode == self.output_mode
            if self._misses >= _MAX_MISSES:
                self.output_mode, self._misses = None, 0

    def fail(self, mode: OutputMode) -> None:
        """Note that no other mode worked either where the server failed in this one."""
        with self._lock:
            self._only_works = mode

    # ---- parameters

    @property
    def output_limit(self) -> int:
        """Output limit of a request, in tokens."""
        extra = self._extra_body
        limits = [*(extra.get(name) for name in _LIMITS), *(getattr(self.model, name, None) for name in _LIMIT_FIELDS)]
        return next((limit for limit in limits if isinstance(limit, int) and limit > 0), self._assumed_limit)

    def with_limit(self, tokens: int) -> BaseChatModel | None:
        """Return the model with this output limit; None if it takes none."""
        extra = self._extra_body
        if name := next((name for name in _LIMITS if name in extra), None):
            return self._copy(extra_body={**extra, name: tokens})
        fields = type(self.model).model_fields
        name = next((name for name in _LIMIT_FIELDS if name in fields), None)
        return None if name is None or self.dropped & set(_LIMITS) else self._copy(**{name: tokens})

    def raise_limit(self, tokens: int) -> None:
        """Use this output limit from now on, which a reply turned out to need."""
        with self._lock:
            if tokens > self.output_limit and (model := self.with_limit(tokens)):
                self.model = model

    def drop(self, parameter: str, model: BaseChatModel) -> bool:
        """Leave out a parameter that the server refuses.

        Args:
            parameter: Its name in the request.
            model: Model that sent it.

        Returns:
            Whether the next request differs from the last.
        """
        with self._lock:
            if parameter in self.dropped and model is not self.model:
                return True  # another thread dropped it meanwhile
            changed = self._without(parameter)
            if changed is None and (parameter != "strict" or "strict" in self.dropped):
                return False
            self.model = changed or self.model
            self.dropped |= {parameter}
            return True

    def _without(self, parameter: str) -> BaseChatModel | None:
        """Return the model without a parameter; None if it has no such parameter."""
        fields, extra = type(self.model).model_fields, self._extra_body
        if parameter in _LIMITS and "extra_body" in fields:
            return self._with_other_limit(parameter)
        if extra.pop(parameter, None) is not None:
            return self._copy(extra_body=extra or None)
        if parameter in _BOUND and "disabled_params" in fields:
            disabled = getattr(self.model, "disabled_params", None) or {}
            return None if parameter in disabled else self._copy(disabled_params={**disabled, parameter: None})
        options = dict(getattr(self.model, "model_kwargs", None) or {})
        if options.pop(parameter, None) is not None:
            return self._copy(model_kwargs=options)
        if parameter in fields and getattr(self.model, parameter) is not None:
            return self._copy(**{parameter: None})
        return None

    def _with_other_limit(self, parameter: str) -> BaseChatModel | None:
        """Return the model with its output limit under the other of its two names, or without one if both fail."""
        extra, limit = self._extra_body, getattr(self.model, "max_tokens", None)
        sent = [extra.pop(name) for name in _LIMITS if name in extra]
        if limit is None and not sent:
            return None
        if not sent and not self.dropped & set(_LIMITS):
            (other,) = set(_LIMITS) - {parameter}
            extra[other] = limit
        return self._copy(max_tokens=None, extra_body=extra or None)

    @property
    def _extra_body(self) -> dict[str, Any]:
        return dict(getattr(self.model, "extra_body", None) or {})

    def _copy(self, **changes: Any) -> BaseChatModel:
        return self.model.model_copy(update=changes)
