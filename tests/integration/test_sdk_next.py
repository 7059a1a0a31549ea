"""The next public version of the SDK speaks the same protocol; the server serves it too.

It stands in a folder of its own and runs in a Python of its own, so that the two versions
never meet.
"""

import os
import subprocess
import sys
from pathlib import Path

from harness import PATIENCE_S

VERSION = "0.3.3"
FOLDER = Path(sys.prefix) / f"sdk-{VERSION}"

SCRIPT = """
import asyncio, sys, memfuse
from memfuse import AsyncMemFuse, MemFuse
assert memfuse.__version__ == sys.argv[2], memfuse.__version__

turns = [{"role": "user", "content": "I keep my bicycle in the cellar."},
         {"role": "assistant", "content": "Noted: the bicycle is in the cellar."}]

with MemFuse(base_url=sys.argv[1]) as client:
    memory = client.init(user="Next Zoë", agent="next", session="one")
    ids = memory.add(turns)["data"]["message_ids"]
    assert len(ids) == 2
    again = client.init(user="Next Zoë", agent="next", session="two")
    assert again.user_id == memory.user_id and again.agent_id == memory.agent_id
    results = again.query_session("where is my bike?")["data"]["results"]
    assert "cellar" in results[0]["content"], results

async def main():
    async with AsyncMemFuse(base_url=sys.argv[1]) as client:
        memory = await client.init(user="Next Zoë", agent="next", session="one")
        listed = (await memory.list_messages())["data"]["messages"]
        assert [m["id"] for m in listed] == ids[::-1], listed
        knowledge = (await memory.add_knowledge(["Tyres need air every month."]))["data"]["knowledge_ids"]
        assert (await memory.delete_knowledge(knowledge))["data"]["knowledge_ids"] == knowledge

asyncio.run(main())
print("done")
"""


def test_the_next_sdk_adds_lists_and_finds(server):
    assert FOLDER.is_dir(), f"{FOLDER} is missing; `tools/setup.sh tests` makes it"
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, server.url, VERSION],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(FOLDER)},
        timeout=PATIENCE_S,
    )
    assert ran.returncode == 0 and ran.stdout == "done\n", ran.stderr
