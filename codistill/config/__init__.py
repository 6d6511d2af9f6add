"""What a user may write, and its one complete form."""
