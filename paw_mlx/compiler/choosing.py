"""Which of several programs is the best: by cases, or by what they agree on.

Cases choose, or they report; no case does both. Between equals the first is kept, and with few
cases a difference counts only where McNemar's exact test tells it from chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ..cases import Case, deal, group_by_output, take_in_turn
from ..errors import OptionError
from ..evaluation import Report, compare, judge
from ..interpreter.interpreter import Interpreter
from ..program import Program
from ..progress import Progress
from ..runner import DEFAULT_MAX_TOKENS, Options
from ..words import counted

FEW = 20  # cases to choose by: below, a difference has to be more than chance
_MOST_SHOTS, _SHOT_SHARE = 8, 4  # cases that may be shown: at most, and a quarter of the first part
_AGREEMENT_TOKENS = 128  # of an output that is only compared


class Parts(NamedTuple):
    """Cases by what they are for: to be shown in prompts, to choose by, to report on."""

    shots: list[Case]
    choosing: list[Case]
    rest: list[Case]


def divide_cases(cases: Sequence[Case], seed: int, *, shown: bool) -> Parts:
    """Divide cases into halves with the same outputs; of the first some to be shown, if `shown`.

    All cases of one input are in one part. OptionError for fewer than two inputs.
    """
    by_input: dict[str, list[Case]] = {}
    for case in cases:
        by_input.setdefault(case.input, []).append(case)
    if len(by_input) < 2:
        raise OptionError(
            f"choosing takes cases of 2 inputs at least, and there is {len(by_input)}",
            hint="Half of them choose, and what is chosen is reported on the other half.",
        )
    choosing, rest = deal([same[0] for same in by_input.values()], 2, seed)
    num_shots = min(_MOST_SHOTS, len(choosing) // _SHOT_SHARE) if shown else 0
    shots = take_in_turn(group_by_output(choosing), num_shots)
    judged = [case for case in choosing if case not in shots]
    whole = [[each for case in part for each in by_input[case.input]] for part in (judged, rest)]
    return Parts(shots, *whole)


def choose_program(
    runner: Interpreter,
    programs: Sequence[Program],
    cases: Sequence[Case],
    inputs: Sequence[str],
    report: Progress,
) -> tuple[int, list[float]]:
    """Return the place of the best program, and the score of each, 0 to 1.

    The score is the accuracy on cases; or without any, the share of the inputs on which a program
    says what most say.
    """
    asked = cases or [Case(text, "") for text in inputs]
    # A token is a byte at least: what is longer than any right output is wrong already.
    limit = max(len(case.output.encode()) for case in cases) + 1 if cases else _AGREEMENT_TOKENS
    reports = []
    for number, program in enumerate(programs, 1):
        report(f"judging candidate {number} of {len(programs)} on {counted(len(asked), 'input')}")
        options = Options(min(limit, DEFAULT_MAX_TOKENS))
        reports.append(judge(runner.function(program), asked, options))
    return _by_cases(reports) if cases else _by_agreement(reports)


def _by_cases(reports: Sequence[Report]) -> tuple[int, list[float]]:
    """Return the place of the most accurate, the first of equals, and all accuracies."""
    place, few = 0, len(reports[0].judged) < FEW
    for number, each in enumerate(reports):
        if few:
            is_better = compare(reports[place], each).verdict == "better"
        else:
            is_better = each.num_correct > reports[place].num_correct
        place = number if is_better else place
    return place, [each.accuracy for each in reports]


def _by_agreement(reports: Sequence[Report]) -> tuple[int, list[float]]:
    """Return the place of the one that agrees most with the majority, and all agreements.

    Of several majorities that of the earliest counts; an error agrees with nobody.
    """
    answers = [
        [one.output if one.error is None else None for one in each.judged] for each in reports
    ]
    common = [
        Counter(text for text in said if text is not None).most_common(1)
        for said in zip(*answers, strict=True)
    ]
    majority = [found[0][0] if found else "" for found in common]
    shares = [
        sum(a == b for a, b in zip(said, majority, strict=True)) / len(majority) for said in answers
    ]
    return shares.index(max(shares)), shares
