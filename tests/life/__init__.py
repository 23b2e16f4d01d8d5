"""The life of the program: its commands, bad input, every way a session ends, and its memory."""
