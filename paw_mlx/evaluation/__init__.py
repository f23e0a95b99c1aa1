"""The one judge of whether outputs are right: exact match, both sides stripped.

`test`, `demo`, `bench accuracy` and whatever decides by accuracy use it, so that one number means
one thing. A case that could not be run is wrong. Accuracies come with Wilson's 95 % interval
(Wilson, 1927): with few cases it is wide, and says so.

report      cases and what came of them, judged
decisions   how sure a program was of its labels, and how right it was to be
ranking     how good an order its labels put cases in
"""

from .decisions import Bin, Decisions, Point, calibration_error, reliability
from .ranking import ndcg
from .report import Judged, LabelScore, Report, judge, wilson

__all__ = [
    "Bin",
    "Decisions",
    "Judged",
    "LabelScore",
    "Point",
    "Report",
    "calibration_error",
    "judge",
    "ndcg",
    "reliability",
    "wilson",
]
