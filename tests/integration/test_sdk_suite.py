"""The SDK's own smoke and end-to-end suites, against the server and the echoing model.

They live in the SDK's repository, not in its package.  MEMFUSE_SDK_TESTS names a checkout
(or its `tests` folder); without it there is nothing to collect here, and what the suites
ask is asked by test_sdk_adapters.py instead.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from echo_llm import EchoLlm

CHECKOUT = os.environ.get("MEMFUSE_SDK_TESTS")
INI = """[pytest]
asyncio_mode = auto
markers =
    smoke: imports and construction
    e2e: against a server
"""

if CHECKOUT:

    @pytest.mark.parametrize("layer", ["smoke", "e2e"])
    def test_the_sdk_s_own_suite_passes_without_a_skip(server, tmp_path, layer):
        root = Path(CHECKOUT)
        suite = (root / "tests" if (root / "tests").is_dir() else root) / layer
        assert suite.is_dir(), f"MEMFUSE_SDK_TESTS={CHECKOUT} holds no {layer} suite"
        ini = tmp_path / "pytest.ini"
        ini.write_text(INI)
        with EchoLlm() as llm:
            ran = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "pytest",
                    "-q",
                    "-rs",
                    "-p",
                    "no:cacheprovider",
                    "-c",
                    str(ini),
                    "--rootdir",
                    str(root),
                    str(suite),
                ],
                capture_output=True,
                text=True,
                cwd=tmp_path,
                timeout=600,
                env={**os.environ, "MEMFUSE_BASE_URL": server.url, "OPENAI_API_KEY": "x", "OPENAI_BASE_URL": llm.url},
            )
        print(ran.stdout)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert re.search(r"\d+ passed", ran.stdout) and "skipped" not in ran.stdout, ran.stdout
