"""The mistakes that pgleash must name: small applications with one each, made with real libraries.

`catalogue` lists them with what the log has to say, `running` runs one with the proxy in front of a real server, and
`test_mistakes` asserts. Each program is one file below the directory of its language, and the same file with FIXED=1
is the application with its mistake mended.
"""
