"""What goes wrong with what a spec asks for, and with how it is said."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .finding import Finding, quote, return_only
from .read import Spec

_FEW_WORDS, _MANY_WORDS = 5, 250
_ORDER = r"(?:^|[.;:!?\n][ \t]*|\b(?:and|then|also|please|plus|,)[ \t]+)"

_RANGE = (
    r"(?:\b(?:from|between|of)?[ \t]*\d+(?:\.\d+)?[ \t]*(?:-|–|to|and|\.\.\.?)[ \t]*\d+(?:\.\d+)?"
    r"(?![\d:.,]*\d)|\bout of (?:5|10|100)\b)"
)
_PROBABILITY = r"(?:confidence|probability|likelihood|how likely)"
_SCORE = re.compile(
    rf"\b(?:score|rate|rating|grade|{_PROBABILITY})\b[^.?!;\n]{{0,60}}?{_RANGE}"
    rf"|{_RANGE}[ \t]+(?:score|rating|scale)"
    r"|\b(?:return|output|give|answer|add|assign|print)\b[^.?!;\n]{0,30}\b"
    rf"(?:(?:{_PROBABILITY}|numeric(?:al)?)[ \t]+(?:score|rating|value)|{_PROBABILITY})\b",
    re.IGNORECASE,
)

_JOBS = {
    "label": r"classify|categori[sz]e|label|tag|triage|decide (?:whether|if)|detect (?:whether|if)",
    "extract": r"extract|pull out|list (?:all|the|every|its)",
    "translate": r"translate",
    "summarize": r"summari[sz]e|write a (?:short |brief |one-line )?summary",
    "answer": r"(?:draft|write|compose) (?:a|an) (?:\w+ )?(?:reply|answer|response|e-?mail)",
    "correct": r"proofread|(?:correct|fix) (?:the|all|any) (?:spelling|grammar|typos|mistakes)",
}
_WITHIN = re.compile(r"\b(?:that|which|who|whether|if|when)\b[^.;:\n]*$", re.IGNORECASE)
_JOB = {
    job: re.compile(rf"{_ORDER}(?P<verb>(?:{verbs})\b)", re.IGNORECASE)
    for job, verbs in _JOBS.items()
}

_MORE = (
    r"(?:any|anything|extra|more|other|further|explanations?|comments?|notes?|introductions?|"
    r"preambles?|prose|text|words?|markdown|code (?:fences?|blocks?)|backticks|quotes|"
    r"quotation marks)"
)
# "do not …": verbs, what they take, and how it is said of what is wanted; {rest} is what they take.
_NEGATIONS = (
    (r"explain|justify|elaborate|comment", r"[^.;:,\n()]*", "{only}"),
    (
        r"add|include|output|print|return(?:ing)?|write|say|give|use",
        rf"[ \t]+{_MORE}\b[^.;:,\n()]*",
        "{only}",
    ),
    (
        r"change|alter|modify|touch|edit|rephrase|reword|translate",
        r"[ \t]+[^.;:,\n()]+",
        "Say what stays: Leave {rest} alone",
    ),
    (
        r"guess|invent|assume|make up|hallucinate",
        r"[^.;:,\n()]*",
        "Say what to write then: NONE if it is not said",
    ),
)
_NEGATIVE = [
    (
        re.compile(
            rf"{_ORDER}(?P<said>(?:do not|don['’]t|never|avoid|refrain from)[ \t]+(?:{verbs})\b"
            rf"(?P<rest>{rest}))",
            re.IGNORECASE,
        ),
        better,
    )
    for verbs, rest, better in _NEGATIONS
]

_REASON = (
    r"(?:a|an|the|your)? ?(?:short |brief |one-sentence |one-line )?"
    r"(?:reason(?:s|ing)?|justification|explanation|rationale)\b(?! (?:for|of|why) the)"
)
_REASONS = re.compile(
    rf"{_ORDER}(?P<said>explain (?:why|your|the (?:reason|choice|answer|label|decision))|"
    rf"justify your|(?:give|add|include|state|write|provide) (?:me )?{_REASON}|"
    r"think step by step|show your reasoning|why\b(?=[.;,\n]|$))"
    rf"|\b(?P<along>with {_REASON})",
    re.IGNORECASE,
)
_NO = re.compile(
    r"\b(?:no|not|never|without|don['’]t|nor|any|skip|leave out|omit)\b[^.;,\n]*$", re.IGNORECASE
)

_FORMAT = re.compile(
    rf"{_ORDER}(?:extract|return|get|give|pull out|list|summari[sz]e|output|report|write)\b[^.\n]*?"
    r"\b(?:as|in|into|to|return|output)[ \t]+"
    r"(?:(?:a|an|valid|one|single|one-line|compact|only|just)[ \t]+)*"
    r"(?P<format>JSON|XML|YAML|CSV)\b(?![ \t]+(?:in|from|to|with))",
    re.IGNORECASE,
)
_SHOWN = re.compile(
    r"[{<|=]|\w:(?:[ \t]|$)|"
    r"\b(?:keys?|fields?|columns?|properties|attributes|tags?|elements?|array|list|numbers?|header|"
    r"schema|named|called|as (?:they|it) (?:are|is)|same)\b|"
    r"\b(?:a|this|the|each|of|from|broken|malformed|invalid|repaired|nested|flat|whole) "
    r"(?:JSON|XML|YAML|CSV)",
    re.IGNORECASE,
)
_PARTS = re.compile(
    r"\b(?:extract|return|get|find|give|pull out|list|read)(?: me)?(?: the| its| each)? "
    r"(?P<parts>\w+(?:, (?:the )?\w+)*,? and (?:the )?\w+)",
    re.IGNORECASE,
)
_INLINE = re.compile(
    r"->|→|=>|\be\.?g\.|\bfor (?:example|instance)\b|\bexamples?\b|\bsuch as\b|\blike\b|\binput\b|"
    r"[\"”][ \t]*(?:is|are|=|means|gives)[ \t]|\bbecomes?\b|\bturns? into\b",
    re.IGNORECASE,
)


def check_reasons(spec: Spec) -> Iterator[Finding]:
    """Find a label that is to come with its reason."""
    labels = spec.labels or spec.named
    for match in _REASONS.finditer(spec.task) if labels else ():
        asked = match["said"] or match["along"]
        if not _NO.search(spec.task[: match.end() - len(asked)]):
            yield Finding(
                "reasons",
                f"{quote(asked)} asks for more than a label, and a program of labels says no more",
                f"{return_only(labels)}. A program of its own may give reasons",
            )
            return


def check_score(spec: Spec) -> Iterator[Finding]:
    """Find a number asked for as a judgement."""
    match = _SCORE.search(spec.task)
    if not match or spec.labels or spec.named:
        return
    better = f"Name levels, and say when each is meant: {return_only(('high', 'medium', 'low'))}"
    if re.search(_PROBABILITY, match[0], re.IGNORECASE):
        better = "Ask for a label alone: each label comes with its probability"
    yield Finding(
        "numeric-score",
        f"{quote(match[0])} asks for a number, and a small model's numbers mean little",
        better,
    )


def check_jobs(spec: Spec) -> Iterator[Finding]:
    """Find orders of two kinds."""
    orders = [
        (match for match in job.finditer(spec.task) if not _WITHIN.search(spec.task[: match.end()]))
        for job in _JOB.values()
    ]
    found = [match for one in orders if (match := next(one, None))]
    found.sort(key=lambda match: match.start("verb"))
    if len(found) > 1:
        starts = [match.start("verb") for match in found]
        ends = [*(match.start() for match in found[1:]), len(spec.task)]
        jobs = [
            quote(re.split(r"[.;\n]", spec.task[start:end])[0].strip(" ,"), 40)
            for start, end in zip(starts, ends, strict=True)
        ]
        yield Finding(
            "several-jobs",
            f"it asks for {len(jobs)} things at once: {', '.join(jobs)}",
            "Make a program of each, and run one after the other",
        )


def check_negative(spec: Spec) -> Iterator[Finding]:
    """Find what the output is not to be, in place of what it is."""
    labels = spec.labels or spec.named
    only = return_only(labels) if labels else "Say what is wanted alone: Return ONLY the …"
    for pattern, better in _NEGATIVE:
        if match := pattern.search(spec.task):
            rest = re.sub(r"^anything\b", "everything", match["rest"].strip(), flags=re.IGNORECASE)
            yield Finding(
                "negative",
                f"{quote(match['said'])} says what is not wanted, and a small model may miss the "
                "negation",
                better.format(only=only, rest=rest),
            )
            return


def check_format(spec: Spec) -> Iterator[Finding]:
    """Find a format that is named, and not shown."""
    match = _FORMAT.search(spec.task)
    if not match or spec.pairs or _SHOWN.search(spec.task):
        return
    name, parts = match["format"].upper(), _PARTS.search(spec.task)
    keys = ["first key", "second key"]
    if parts:
        keys = re.split(r",? and (?:the )?|, (?:the )?", parts["parts"])
    shown = {
        "JSON": "{" + ", ".join(f'"{key}": "…"' for key in keys) + "}",
        "XML": "".join(f"<{key}>…</{key}>" for key in keys),
        "YAML": ", ".join(f"{key}: …" for key in keys),
        "CSV": ",".join(keys),
    }
    yield Finding(
        "format-not-shown",
        f"{name} is asked for, and nothing shows what is in it",
        f"Show it: {shown[name]}",
    )


def check_examples(spec: Spec) -> Iterator[Finding]:
    """Find a task without any example."""
    if spec.pairs or _INLINE.search(spec.task):
        return
    outputs = (spec.labels or spec.named or ("…", "…"))[:2]
    shown = ["Input: …", f"Output: {outputs[0]}", "Input: …", f"Output: {outputs[1]}"]
    yield Finding(
        "no-examples",
        "no input is shown with its output, and 3 to 5 pairs often do more than rules",
        "Add them below the task, a line each:\n" + "\n".join(shown),
    )


def check_length(spec: Spec) -> Iterator[Finding]:
    """Find a task of very few words, or of very many."""
    num = len(spec.task.split())
    if num < _FEW_WORDS and not spec.pairs:
        yield Finding(
            "short",
            f"it has {num} word{'' if num == 1 else 's'}",
            "Say what comes in, what to do with it, and the exact form of the output",
        )
    elif num > _MANY_WORDS:
        yield Finding(
            "long",
            f"the task has {num} words, and a small model follows few rules at once",
            f"Say it in {_MANY_WORDS} words or fewer; show the rest as examples",
        )
