"""A report as a page to look at: one file, without scripts, that needs nothing from elsewhere.

page       the page, and what stands at its head
labels     what was taken for what, and how each label fares
failures   the wrong cases
charts     its charts
parts      what it is put together from; style, how it looks
"""

from .page import html_report

__all__ = ["html_report"]
