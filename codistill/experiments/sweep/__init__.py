"""Many runs from one file: which there are, and training them one after the other or side by side."""
