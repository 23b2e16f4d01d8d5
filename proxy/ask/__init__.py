"""Asks a running proxy's admin side: the commands `leaks`, `sessions` and `advise`.

commands   their flags, and what they print
reach      where the admin side is, and how it is asked
tables     what a person reads
"""
