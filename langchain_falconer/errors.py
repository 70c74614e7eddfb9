"""What may be caught, as one tree. Every message is one sentence that names the fix.

FalconerError
├── PlanError           a plan that does not hold together (names step and field)
│   └── PlannerError    the LLM gave no usable plan, even after one repair round
├── CorpusError         texts that cannot be read (names file, line and column)
├── AnnotationError     a person's annotations, or the annotation store, that cannot be used
│   └── BudgetError     a cap on calls, tokens or USD leaves too little to go on with
├── LLMError            the LLM could not be loaded, reached or made to answer
├── ProxyError          a proxy that cannot be trained, loaded, exported or asked
├── RunError            a run that cannot start or go on
└── SettingsError       settings that contradict each other
"""

from __future__ import annotations


class FalconerError(Exception):
    """Base of every error that Falconer raises on purpose."""


class PlanError(FalconerError):
    """A plan that does not hold together."""


class PlannerError(PlanError):
    """The LLM gave no usable plan."""


class CorpusError(FalconerError):
    """Texts that cannot be read."""


class AnnotationError(FalconerError):
    """Annotations that cannot be used."""


class BudgetError(AnnotationError):
    """A cap on calls, tokens or USD leaves too little to go on with."""


class LLMError(FalconerError):
    """The LLM could not be loaded, reached or made to answer."""


class ProxyError(FalconerError):
    """A proxy that cannot be trained, loaded, exported or asked."""


class RunError(FalconerError):
    """A run that cannot start or go on."""


class SettingsError(FalconerError):
    """Settings that contradict each other."""
