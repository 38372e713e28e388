"""Explanations: a stream of maps and attributions for one patient."""
