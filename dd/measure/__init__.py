"""Measures of a set beyond accuracy, a file a measure: its mathematics, what it answers, and its verb."""
