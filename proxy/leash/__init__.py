"""Deciding about a session's transaction, and acting.

policy     limits, and the verdict on what is held: pure
rules      which limits a client gets, and why
watchdog   wakes when a limit could have passed: one lazy deadline a session
unread     how long a client has not read what it asked for
leak       one leak, from its flag to its end; its facts for the log
guard      puts these together for one session
terminate  the last words to a client
"""
