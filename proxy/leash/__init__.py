"""Deciding about a session's transaction, and acting.

policy     limits, and the verdict on what is held: pure
rules      which limits a client gets, and why
terms      what all sessions are judged by; a reload changes it
watchdog   wakes when a limit could have passed: one lazy deadline a session
holding    what a client holds, by the messages and by the sockets
unread     how long a client has not read what it asked for
leak       one leak, from its flag to its end; its facts for the log
outcome    the events of a leak that pgleash did not end
safety     whether a rollback may be put in between
budget     how many actions all sessions together may take
enforcer   what is done about a leak: told, rolled back, ended, or spared
words      what a client is told of it
identity   who a session is
guard      puts these together for one session
"""
