"""How fast a configuration trains here, alone or against a plain loop that does the same work."""
