"""Image data: sources by name, splits, transforms, and loaders over images in memory."""
