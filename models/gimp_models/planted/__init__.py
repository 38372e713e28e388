"""Small cohorts of tensors with planted truth, one per model.

They need no slide and no file: for tests, examples and first steps.
"""
