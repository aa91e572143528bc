"""Records against labels: metrics, intervals, comparisons.

It imports `scoring` and what is below it; never `training`.
"""
