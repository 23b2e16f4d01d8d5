"""The admin side: the API, and the commands that ask it."""
