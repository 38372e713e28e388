"""Synthetic slides and cohorts with planted truth."""
