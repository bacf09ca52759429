"""Models under test: budgets of counts as a pytest marker, comparisons of latency in one run.

`plugin` is what pytest loads, `meters` what a test is given. Nothing else in flopscope imports pytest.
"""
