"""Follows a task on the wire of Django Streaming Coordinator, with httpx and httpx-sse.

    pip install httpx httpx-sse
    QTASKS_TOKEN=… python watch.py http://127.0.0.1:7717/stream/CRATE/TASK/ID
"""

import asyncio
import json
import os
import sys

import httpx
from httpx_sse import aconnect_sse


async def watch(url):
    headers = {"Authorization": f"Bearer {os.environ['QTASKS_TOKEN']}"}
    async with httpx.AsyncClient(headers=headers, timeout=60) as client:
        async with aconnect_sse(client, "GET", url) as source:
            source.response.raise_for_status()
            # One that has ended is told of at once, as JSON.
            if "application/json" in source.response.headers["content-type"]:
                await source.response.aread()
                print("ended:", source.response.text, flush=True)
                return
            async for event in source.aiter_sse():
                print(f"{event.event}: {json.dumps(json.loads(event.data))}", flush=True)
                if event.event in ("complete", "error"):
                    break


asyncio.run(watch(sys.argv[1]))
