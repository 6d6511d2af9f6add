"""Runs side by side: rows, controls, differences and how sure they are."""
