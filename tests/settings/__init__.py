"""How options are written, overlaid and told when they are wrong."""
