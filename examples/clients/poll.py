"""Polls a task as with Django Simple Queue, and prints its text as it grows.

    pip install requests
    QTASKS_TOKEN=… python poll.py http://127.0.0.1:7717/task ID
"""

import os
import sys
import time

import requests


def poll_task_progress(url, task_id):
    headers = {"Authorization": f"Bearer {os.environ['QTASKS_TOKEN']}"}
    seen = None
    while True:
        response = requests.get(url, params={"task_id": task_id, "type": "json"}, headers=headers, timeout=30)
        response.raise_for_status()
        task = response.json()
        if task["output"] != seen:
            seen = task["output"]
            print(f"{task['status']}: {seen!r}", flush=True)
        if task["status"] in ("Completed", "Failed", "Cancelled"):
            print(f"{task['status']}: {task['error'] or 'no error'}", flush=True)
            return
        time.sleep(0.2)


poll_task_progress(sys.argv[1], sys.argv[2])
