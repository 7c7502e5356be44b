"""Reads a log with httpx-sse, leaves after every few events, and comes back behind the last one that it has.

read.py URL EVENTS; the token is QTASKS_TOKEN. Prints a line of JSON for each event: name, id, data, retry.
"""

import json
import os
import sys

import httpx
from httpx_sse import connect_sse

url, few = sys.argv[1], int(sys.argv[2])
headers = {"Authorization": f"Bearer {os.environ['QTASKS_TOKEN']}"}
connections = 0
with httpx.Client(timeout=60, trust_env=False) as client:
    while True:
        with connect_sse(client, "GET", url, headers=headers) as source:
            if source.response.status_code == 204:
                break
            connections += 1
            for count, event in enumerate(source.iter_sse(), 1):
                print(json.dumps([event.event, event.id, event.data, event.retry]), flush=True)
                headers["Last-Event-ID"] = event.id
                if count == few:
                    break
print(f"connections: {connections}")
