"""TLS on either side of a session.

transport   TLS over a transport that is already connected, without a way to lose a byte
contexts    what the options mean to OpenSSL, and how to tell what is wrong with a file
files       contexts that follow their files when those change
"""
