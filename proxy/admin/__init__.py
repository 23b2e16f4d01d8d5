"""The admin side: an API over HTTP that tells what goes on. It only reads.

access       who may ask: the Host header, the bearer token
records      what is told of sessions, leaks, clients
api          the paths and their answers
listener     where it listens
"""
