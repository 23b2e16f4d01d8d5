"""Every option once: file, environment, flag, schema and help come from the same model.

values   durations and addresses: how they are written and what they mean
rules    limits for single clients
model    the options, their defaults and their meaning
clear    what to warn about: connections that leave this machine unprotected
stamp    whether a file has changed
load     file, environment and flags, overlaid and validated; one line for each problem
"""

from proxy.settings.load import Loaded, did_you_mean, keeping, load, options
from proxy.settings.model import (
    ADMIN_PORT,
    SYSTEM_CA,
    Admin,
    ClientTls,
    ClientTlsMode,
    Log,
    LogFormat,
    LogLevel,
    LogStatements,
    Mode,
    Settings,
    UpstreamTls,
    UpstreamTlsMode,
    as_yaml,
    json_schema,
)
from proxy.settings.rules import DEFAULT_RULE, LOCAL, Match, Rule
from proxy.settings.stamp import Stamp, stamp
from proxy.settings.values import NEVER, Address, duration_text, parse_address, socket_file

__all__ = [
    "ADMIN_PORT",
    "DEFAULT_RULE",
    "LOCAL",
    "NEVER",
    "SYSTEM_CA",
    "Address",
    "Admin",
    "ClientTls",
    "ClientTlsMode",
    "Loaded",
    "Log",
    "LogFormat",
    "LogLevel",
    "LogStatements",
    "Match",
    "Mode",
    "Rule",
    "Settings",
    "Stamp",
    "UpstreamTls",
    "UpstreamTlsMode",
    "as_yaml",
    "did_you_mean",
    "duration_text",
    "json_schema",
    "keeping",
    "load",
    "options",
    "parse_address",
    "socket_file",
    "stamp",
]
