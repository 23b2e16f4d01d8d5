"""A client on a host of its own, which can be lost: run under `unshare --net` by tests/life/test_lost_hosts.py.

The proxy and the client are in two network namespaces with one cable between them; the server's Unix socket is
reached from everywhere. Prints one line of JSON: what was told of the client, and seconds from the loss to it.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from proxy.report.events import LeakAbandoned, LeakFlagged
from tests.harness import Proxy, settings_for, until

HERE, THERE, PORT = "10.77.0.1", "10.77.0.2", 6432
LINK = f"""
ip link set lo up
ip link add here type veth peer name there
ip link set there netns $1
ip addr add {HERE}/24 dev here && ip link set here up
nsenter -t $1 -n sh -c 'ip addr add {THERE}/24 dev there && ip link set there up'
"""
CLIENT = """
import sys, psycopg
host, port, password, name = sys.argv[1:]
at = {"host": host, "port": port, "user": "postgres", "dbname": "postgres", "password": password}
connection = psycopg.connect(**at, application_name=name)
connection.execute("SELECT 1")
print("idle", flush=True)
sys.stdin.readline()
connection.pgconn.send_query(b"SELECT pg_sleep(0.5), repeat('x', 10000)")
print("asked", flush=True)
sys.stdin.readline()
"""


def tool(name: str) -> str:
    found = shutil.which(name)
    assert found, name
    return found


def main(socket_directory: str, port: str, password: str, what: str) -> None:
    host = subprocess.Popen([tool("unshare"), "--net", "sleep", "1000"])
    there = [tool("nsenter"), "-t", str(host.pid), "-n"]
    until(lambda: Path(f"/proc/{host.pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink())
    subprocess.run([tool("sh"), "-ec", LINK, "sh", str(host.pid)], check=True)
    options = {"listen": f"{HERE}:{PORT}", "flag_after": "500ms", "tcp_keepalive": "1s"}
    command = [*there, sys.executable, "-c", CLIENT, HERE, str(PORT), password, f"lost {what}"]
    with (
        Proxy(settings_for(f"{socket_directory}:{port}", **options)) as proxy,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client,
    ):
        assert client.stdin
        assert client.stdout
        assert client.stdout.readline() == "idle\n"
        if what == "data":
            client.stdin.write("\n")
            client.stdin.flush()
            assert client.stdout.readline() == "asked\n"
        else:
            proxy.recorder.wait(LeakFlagged)
        subprocess.run([*there, "ip", "link", "set", "there", "down"], check=True)
        lost = time.monotonic()
        when, event = proxy.recorder.wait_timed(LeakAbandoned, 30.0)
        proxy.settle()
        sys.stdout.write(json.dumps({"how": event.how, "opener": event.leak.transaction.opener, "after": when - lost}))
        client.kill()
        host.kill()


if __name__ == "__main__":
    main(*sys.argv[1:])
