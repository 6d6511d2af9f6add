"""The commands, one file each. ``codistill.cli.main`` lists them, and imports one when it is called."""
