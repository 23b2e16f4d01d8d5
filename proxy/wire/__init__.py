"""The frontend/backend protocol, sans-I/O: bytes and times come in, what the session is doing can be asked.

Nothing here knows of sockets, asyncio, clocks or logging; a time is an argument, in seconds of a monotonic clock.
*Frontend* is the client, *backend* the server process, as in Postgres's protocol chapter; streams are named by their
sender.
"""
