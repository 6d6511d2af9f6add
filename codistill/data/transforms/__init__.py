"""From an image file to the pixels that a student sees: decoded, then resized. No torch in here."""
