"""Where images come from, one kind of data a file."""
