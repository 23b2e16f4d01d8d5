"""`pgleash run`: a leak sanitizer for a test suite or a job.

url         a DATABASE_URL: where it leads, what it demands of TLS, and the same with another address
demand      what a command demands of TLS, carried over to the server's leg
aim         from the command's environment: where its server is, and the environment that leads it through us
tally       what happened while the command ran
verdict     what is told of it at the end
child       the command as a process: its signals, its end
background  the proxy in a thread of its own
command     all of it together
"""
