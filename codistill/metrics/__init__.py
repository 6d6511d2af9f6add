"""What students learned, as numbers: pure functions on arrays, one idea per file. No torch in here."""
