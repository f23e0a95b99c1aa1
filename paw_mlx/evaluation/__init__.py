"""The one judge of whether outputs are right: exact match, both sides stripped.

`test`, `demo`, `bench accuracy` and whatever decides by accuracy use it, so that one number means
one thing. A case that could not be run is wrong. Accuracies come with Wilson's 95 % interval
(Wilson, 1927): with few cases it is wide, and says so.

report      cases and what came of them, judged
decisions   how sure a program was of its labels, and how right it was to be
ranking     how good an order its labels put cases in
intervals   how sure figures of cases are
gate        what a report has to hold (metrics, by their names; gate_text, how it is written)
promotion   whether a program may take another's place
comparison  two programs on the same cases
junit       a report as JUnit XML
html        a report as a page
"""

from .comparison import Comparison, compare
from .decisions import Bin, Decisions, Point, calibration_error, reliability
from .gate import Condition, Gate, Missed
from .html import html_report
from .intervals import wilson
from .junit import junit_xml
from .ranking import ndcg
from .report import Judged, LabelScore, Report, judge

__all__ = [
    "Bin",
    "Comparison",
    "Condition",
    "Decisions",
    "Gate",
    "Judged",
    "LabelScore",
    "Missed",
    "Point",
    "Report",
    "calibration_error",
    "compare",
    "html_report",
    "judge",
    "junit_xml",
    "ndcg",
    "reliability",
    "wilson",
]
