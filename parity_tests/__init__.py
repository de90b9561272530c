"""Equality of the two backends, measured in float64."""
