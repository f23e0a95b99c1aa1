"""Calibrating labels on cases: a temperature that makes probabilities true, and a threshold.

Of two labels, a temperature changes no order of calls, so all cases serve for both. Of more it may:
a third of the cases is for the temperature and the rest for the threshold, whose promise would not
be exact otherwise.
"""

from .calibrate import Calibration, calibrate, fit_and_choose
from .temperature import Fit, Rows, fit_temperature
from .threshold import Threshold, check_promise, choose_threshold

__all__ = [
    "Calibration",
    "Fit",
    "Rows",
    "Threshold",
    "calibrate",
    "check_promise",
    "choose_threshold",
    "fit_and_choose",
    "fit_temperature",
]
