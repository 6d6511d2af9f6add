"""The commands, one file each. ``codistill.cli`` lists them, and imports one when it is called."""
