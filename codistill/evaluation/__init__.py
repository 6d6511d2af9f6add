"""What came out of runs: analysis, comparison, reports."""
