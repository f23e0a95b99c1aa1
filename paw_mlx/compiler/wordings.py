"""How a candidate is asked for: what varies between pseudo-programs of one spec.

The first is always the plain one. What others are asked for in other words keeps the shape that
the compiler was trained on, and its rules.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ..cases import Case

TEMPERATURE = 0.7  # of all but the first


@dataclass(frozen=True)
class Draw:
    """How one pseudo-program is drawn; `number` 0 is the plain one, greedy.

    `labels` are what the outputs may be, if that is settled, and `shots` cases that may be shown.
    """

    number: int = 0
    seed: int = 0
    labels: tuple[str, ...] = ()
    shots: tuple[Case, ...] = ()

    @property
    def temperature(self) -> float:
        """What the pseudo-compiler samples at: 0, greedily, for the plain one."""
        return TEMPERATURE if self.number else 0.0

    @property
    def chance(self) -> int:
        """A seed of this draw's own, 0 … 2^63 - 1."""
        digest = hashlib.sha256(f"draw {self.number} of {self.seed}".encode()).digest()
        return int.from_bytes(digest[:8]) >> 1


PLAIN = Draw()

INSTRUCTION = """\
You turn the specification of a text function into a pseudo-program: the complete brief for a \
small model that will carry the function out. The small model reads your pseudo-program and one \
input at a time. It never sees the specification, so whatever you leave out is lost.

Answer with one block of exactly this form, and nothing before or after it:

[PSEUDO_PROGRAM]
Task: <one paragraph>

Examples:
Input: <an input>
Output: <the exact output for it>
Input: <another input>
Output: <the exact output for it>
[END_PSEUDO_PROGRAM]

Rules:
- The task is one paragraph. It restates every requirement of the specification: what comes in, \
what to do with it, each label, rule, exception and edge case, and the exact form of the output. \
Copy labels, keys, numbers and fixed wording letter by letter, and add no rules of your own.
- Say what to do rather than what to avoid. Where the output is one of a few labels, end the \
task with: Return ONLY one of: and the labels.
- Give three to six examples. Keep those of the specification unchanged, and invent realistic \
inputs for the others. Together they show every label and the difficult cases, and every output \
is exactly what the function returns: no explanation, no quotes, no code fence around it.
- Stay below 250 words, and always close with [END_PSEUDO_PROGRAM].
- The specification is material to restate. Do not carry it out.

For example, this specification:

[SPEC]
Which team should get a customer's message? Parcels that are late or lost: delivery. Invoices, \
refunds, double charges: billing. Everything else: other. "Where is my parcel?" is delivery.
[END_SPEC]

becomes this pseudo-program:

[PSEUDO_PROGRAM]
Task: Read a customer's message and name the team that should get it. delivery for parcels that \
are late or lost, billing for invoices, refunds and double charges, other for everything else. \
Return ONLY one of: delivery, billing, other

Examples:
Input: Where is my parcel?
Output: delivery
Input: You took the 30 euros twice, I want one payment back.
Output: billing
Input: The invoice came today, the parcel still has not.
Output: delivery
Input: Do you have shops in Leeds?
Output: other
[END_PSEUDO_PROGRAM]

Now write the pseudo-program of the following specification."""

_FORM = """\
[PSEUDO_PROGRAM]
Task: <one paragraph>

Examples:
Input: <an input>
Output: <the exact output for it>
Input: <another input>
Output: <the exact output for it>
[END_PSEUDO_PROGRAM]"""

INSTRUCTIONS = (
    INSTRUCTION,
    f"""\
A small language model will carry out a text function. Write what it needs to know, from the \
specification given below: it sees what you write, then one input, and nothing else.

Write nothing but this:

{_FORM}

How to write it:
- The task begins with what the input is and what has to be done with it. Then it gives every \
label or form of output with the condition for it, the exceptions last. Names, numbers and fixed \
wording stay exactly as the specification has them.
- If there are only a few possible outputs, the task's last words are: Return ONLY one of: and \
these outputs.
- Three to six examples: first those of the specification, word for word, then your own, such as \
a user would really enter. Each possible output occurs, and so do inputs that are easily mistaken.
- An output is only what the function returns.
- At most 250 words. The last line is [END_PSEUDO_PROGRAM].

Specification: [SPEC] Say whether a review praises or complains. Both at once is mixed. [END_SPEC]

Written out:

[PSEUDO_PROGRAM]
Task: Read a customer's review of a product. Praise alone is positive, complaints alone are \
negative, and a review that does both is mixed. Return ONLY one of: positive, negative, mixed

Examples:
Input: Works perfectly, and it arrived a day early.
Output: positive
Input: Stopped working after a week.
Output: negative
Input: Lovely colour, but the zip is broken.
Output: mixed
[END_PSEUDO_PROGRAM]

The specification to write out:""",
    f"""\
Turn a specification into a brief with examples. Whoever follows the brief knows nothing about \
the matter, takes every word literally, and gets one input at a time.

Before you write, settle for yourself which outputs there are, what decides between them, and \
which inputs are the hard ones. Then answer with the brief alone, in this form:

{_FORM}

- Task: one paragraph, in plain sentences. What decides comes before details. Every rule of the \
specification is in it, and none that you made up. Labels, keys and formats are copied exactly.
- A choice between a few outputs ends with the sentence: Return ONLY one of: followed by them.
- Examples: those that the specification contains, unchanged, and others up to six, at least \
three. Let two of them look alike and have different outputs, and let every output appear.
- Outputs stand without quotes and without comments.
- Do not do what the specification says; describe it. Stay under 250 words, and close the brief \
with [END_PSEUDO_PROGRAM].

The specification:""",
    f"""\
Below is the description of a function from text to text. Rewrite it for a model that is small \
and forgets quickly: short sentences, one rule each, the most frequent case first, and examples \
that show the rules at work. The description itself will not be shown to that model.

Your answer has this form and no other text around it:

{_FORM}

Keep to this:
1. The paragraph after `Task: ` names the input, says what to return, and gives all rules and \
edge cases of the description in your words, but its labels and fixed texts in its own.
2. Where only certain words may be returned, it closes with: Return ONLY one of: and the words.
3. There are three to six examples. Take over those of the description. Choose the others so \
that each word that may be returned occurs, in inputs as varied in length and tone as real ones.
4. After `Output: ` stands what the function returns and nothing more.
5. No more than 250 words, then [END_PSEUDO_PROGRAM].

The description:""",
)
