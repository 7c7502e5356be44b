"""Prints what httpx-sse finds in a file: a line of JSON for each event, with its name, id and data."""

import json
import sys

import httpx
from httpx_sse import EventSource

with open(sys.argv[1], "rb") as file:
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=file.read())
for event in EventSource(response).iter_sse():
    print(json.dumps([event.event, event.id, event.data]))
