"""What people read: made from run files only, never from live objects."""
