"""Gather every generator: importing a module registers them. Say which kind each belongs to."""

from __future__ import annotations

from paw_mlx.benchmarks.generators import (  # noqa: F401  that are imported register what they have
    banks,
    computed,
    extract_parts,
    extract_values,
    json_changes,
    json_objects,
    judgements,
    kinds,
    topics,
    transform_clean,
    transform_lists,
    transform_parts,
    transform_values,
    transform_words,
)
from paw_mlx.benchmarks.generators.core import REGISTRY

# Kinds are what is held out together: those of the hand-written files where they are the same.
# A generator that is not here has its own name for a kind.
KINDS = {
    "abbreviation": "expand",
    "amount-limit": "amount-limit amount-band compare-two",
    "case-format": "upper lower title sentence swap",
    "category": "category-yes-no category-of-several",
    "code-identifiers": "snake kebab camel pascal constant dot words-of",
    "contact-format": "last-first first-last first-initial phone-digits phone-group",
    "counting": "count-words count-items count-letter",
    "csv-fields": "csv-field",
    "currency-format": "currency",
    "date-format": "date-format date-any time-to-24 time-to-12",
    "deduplication": "dedupe",
    "extract-amount": "extract-price",
    "extract-code": "extract-order",
    "extract-contact": "extract-phone extract-mention",
    "extract-date": "extract-date extract-time extract-weekday",
    "extract-item": "extract-colour",
    "extract-link": "extract-email extract-url extract-file extract-ip",
    "extract-name": "extract-person greeted-name signed-name",
    "extract-number": "extract-percent",
    "extract-place": "extract-city",
    "extract-quantity": "extract-quantity amount-of",
    "extract-quote": "extract-quoted in-brackets",
    "extract-span": "extract-hashtag",
    "formality": "formality register",
    "intent": "assistant-intent intent-yes-no",
    "json-build": "json-build json-build-typed",
    "json-edit": "json-filter json-drop json-rename json-set",
    "json-get": "json-get-inner json-pluck",
    "json-repair": "json-repair json-valid",
    "json-to-text": "json-pretty json-values",
    "language-id": "language-few language-many english-or-not",
    "list-filter": "filter-start filter-size",
    "list-format": "join-lines split-lines change-separator and-list number-lines",
    "log-alert": "log-trouble log-severity",
    "log-field": "log-part record-field mail-header",
    "number-format": "thousands ungroup pad ordinal decimal",
    "path-parts": "path-name path-extension path-folder path-stem",
    "pick-word": "first-word last-word nth-word longest-word",
    "question-or-not": "question",
    "redaction": "redact-numbers redact-email redact-name mask-card",
    "relevance-rank": "relevance",
    "reversal": "reverse-words reverse-letters",
    "same-or-different": "same-meaning",
    "sentiment": "sentiment sentiment-pair opinion-or-fact complaint fondness",
    "sorting": "sort-numbers",
    "spacing-repair": "collapse-blanks",
    "tense": "tense tense-yes-no",
    "text-strip": "remove-emoji remove-punctuation markdown-strip html-strip",
    "topic": "topic-yes-no topic-of-two topic-either topic-of-several topic-or-other topic-desk",
    "unit-convert": "minutes",
    "url-parts": "url-host url-last url-scheme url-query mail-user mail-domain",
    "word-table": "replace-words stop-words",
}
_KIND_OF = {name: kind for kind, names in KINDS.items() for name in names.split()}


def kind_of(name: str) -> str:
    """Return the kind of a generator's functions; the generators of one bank share theirs."""
    bank = name.removesuffix("-yes-no").removesuffix("-pair")
    if name in _KIND_OF or bank not in banks.BANKS:
        return _KIND_OF.get(name, name)
    return _KIND_OF.get(bank, bank)


__all__ = ["REGISTRY", "kind_of"]
