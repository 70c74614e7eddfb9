"""Prompt injection: texts that speak to the LLM are asked about alone, so that they can sway no other text's answer.

The signs are those of the literature (Perez and Ribeiro 2022, arXiv 2211.09527; Greshake et al. 2023, arXiv
2302.12173): orders to drop instructions, forged turns of a chat, talk to a model, and orders about answers or other
texts. A false alarm costs a call; no list of signs is complete, which is why a call that matters asks one text
(``texts_per_call=1``).
"""

from __future__ import annotations

import re
import unicodedata

_INVISIBLE = dict.fromkeys([0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2065), 0xFEFF])
_ANSWER = (
    r"(?:answer|reply|respond|output|return|print|say|write|mark|label|classify|annotate|rate|count|treat|antworte\w*|"
    r"r[eé]pond\w*|responde\w*|rispond\w+|ответь\w*|отвечай\w*)"
)
_ORDER = (
    r"(?:^|[.!?:;,\"'\]>)-]\s*|"
    r"\b(?:please|must|should|shall|will|and|or|then|now|to|just|only|always|et|und)\s+)"
)
_ITEMS = r"(?:texts?|items?|entries|keys?|answers?|labels?|inputs?)"
_OTHER = r"(?:other|next|previous|following|preceding|remaining|neighbou?ring|surrounding)"
_CHANGE = r"(?:answer\w*|label\w*|mark\w*|count|revers\w+|swap\w*|invert\w*|copy|translat\w+)"
_SIGNS = (
    # orders to drop instructions, in some of the languages of the web
    r"\b(?:ignor\w*|disregard\w*|forget\w*|overrid\w*|bypass\w*|neglect\w*|discard|oubli\w+|olvid\w+|vergiss|"
    r"dimentica\w*|esque[cç]\w+|missachte|игнорир\w+|забудь\w*)\b.{0,60}\b(?:instruc\w+|instruktion\w*|istruzion\w+|"
    r"anweisung\w*|consignes?|prompts?|rules?|tasks?|guidelines?|directions?|directives?|orders?|commands?|context|"
    r"told|above|previous\w*|инструкц\w+|указани\w+)\b",
    r"(?:忽略|無視|忽視|无视|忘记|忘記).{0,20}(?:指示|指令|命令|提示|说明|說明|規則|规则)",
    r"\b(?:new|updated|real|actual|hidden|secret) (?:instructions?|rules?|tasks?|system prompt)\b",
    # forged turns of a chat
    r"<\|[^|<>]{1,40}\|>|\[/?inst\]|<</?sys>>|</?(?:system|assistant|instructions?)>|<!--|[\"']role[\"']\s*:",
    r"(?:^|[\n>#*\[-]|[.!?]\s)\s*(?:system|assistant|developer|admin|user|human|ai)\s*(?:prompt|message|note|override)?"
    r"\s*[:\]]",
    r"^\s*#{1,6}\s*(?:instructions?|response|system|task|input|output)\b",
    r"\b(?:task|texts)\s*:\s*(?:answer|\{)|\bend of (?:the )?(?:texts?|input|data|prompt|document)\b",
    # talk to a model or its keeper
    r"\b(?:language model|llms?|chatgpt|gpt-?\d\w*|chatbot|helpful assistant|the ai|system prompt|annotators?|graders?|"
    r"labell?ers?|classifiers?|ai (?:model|assistant|system|annotator|grader))\b",
    r"\byou(?:'re| are) (?:now |no longer )+(?:an? |the )?\w+",
    r"\b(?:automated|automatic) (?:system|tool|agent|reviewer|process)\b",
    r"\bwho(?:ever)? (?:processes|reads|labels) this\b",
    r"\b(?:as|from) (?:the|your) (?:admin\w*|developer|operator|creator|system)\b",
    # orders about answers, and about other texts
    r"\b[\"']?t\d{1,2}[\"']?\s*(?:[:=,]|is\b|as\b|and\b|true\b|false\b)",
    rf"{_ORDER}{_ANSWER}\b.{{0,60}}(?:\b(?:true|false|json|(?:all|each|every) (?:the )?(?:other )?(?:{_ITEMS}|one)|"
    r"everything|empty list|nothing else|tous|alle[ns]?|todos|tutti)\b|\[\])",
    r"\b(?:all|each|every) (?:of the )?(?:answers?|labels?|outputs?|replies|keys?)\b",
    r"(?:回答|答え|输出|輸出|返回).{0,12}(?:true|false|是|否|はい|いいえ)",
    rf"\b{_OTHER} (?:{_ITEMS}|reviews?|messages?)\b.{{0,80}}\b(?:{_CHANGE}|same|instead|true|false|empty)\b",
    rf"\b(?:{_CHANGE}|give|apply)\b.{{0,80}}\b(?:{_OTHER}|whole|every|all) (?:of the )?(?:{_ITEMS}|request|batch)\b",
)
_SIGN = re.compile("|".join(f"(?:{sign})" for sign in _SIGNS), re.IGNORECASE | re.DOTALL | re.MULTILINE)


def addresses_the_llm(text: str) -> bool:
    """Return whether a text shows signs of speaking to the LLM that reads it; letters in disguise are folded first."""
    plain = unicodedata.normalize("NFKC", text).translate(_INVISIBLE)
    return _SIGN.search(plain) is not None
