"""Report -> verdicts and `Why`: what the numbers of a layer show, by rules with stable codes.

The built-in rules are entered on import; others enter theirs by the same `@rule`, or by the entry
points of the group "flopscope.rules".
"""

from __future__ import annotations

from flopscope.diagnosis import call_rules, convolution_rules, memory_rules, trust_rules
from flopscope.diagnosis.cases import Case
from flopscope.diagnosis.choosing import worth_explaining
from flopscope.diagnosis.explaining import Why, why
from flopscope.diagnosis.judging import verdicts, with_verdicts
from flopscope.diagnosis.registry import RULES, Rule, rule

__all__ = [
    "RULES",
    "Case",
    "Rule",
    "Why",
    "call_rules",
    "convolution_rules",
    "memory_rules",
    "rule",
    "trust_rules",
    "verdicts",
    "why",
    "with_verdicts",
    "worth_explaining",
]
