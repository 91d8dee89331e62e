"""A finished artifact in the servers that are installed here: each continues one prompt, in a process of its own.

What the matrix says from reading a server's source is then said from running it. transformers goes first, and the
others are compared with its tokens; a server that only differs is not refused, since kernels round otherwise.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from srr_core.checkpoint.index import read_json
from srr_core.errors import SrrError
from srr_core.exporters.export import export
from srr_core.exporters.gguf_format import MODEL_FILE
from srr_core.formats.artifact import open_artifact
from srr_core.pipeline.memory import may_reload
from srr_core.recipe import GGUFSpec
from srr_core.recipe.compatibility import TRANSFORMERS
from srr_core.recipe.gguf_types import LLAMA_CPP
from srr_core.recipe.servers import VLLM_PLUGIN
from srr_core.recipe.verdicts import CompatibilityRow

PROMPT_TOKENS = 16
NEW_TOKENS = 8
TIME_LIMIT_SECONDS = 1800.0
"""Of one server; a large model loads for minutes."""
_FIRST_TOKEN = 3
"""After the special tokens of most vocabularies; what is said does not matter, only that servers agree."""
_LAST_WORDS = 300

_TRANSFORMERS_SCRIPT = """
import json, sys
import torch, transformers
folder, prompt, count = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
inputs = torch.tensor([prompt])
with torch.inference_mode():
    for _ in range(count):
        logits = model(inputs).logits[0, -1]
        assert torch.isfinite(logits).all(), "the logits are not finite"
        inputs = torch.cat([inputs, logits.argmax().reshape(1, 1)], dim=1)
print(json.dumps({"tokens": inputs[0, len(prompt):].tolist(), "version": "transformers " + transformers.__version__}))
"""
_LLAMA_CPP_SCRIPT = """
import json, sys
import llama_cpp
file, prompt, count = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
model = llama_cpp.Llama(file, n_ctx=len(prompt) + count, verbose=False)
found = []
for token in model.generate(prompt, temp=0.0):
    found.append(token)
    if len(found) == count:
        break
print(json.dumps({"tokens": found, "version": "llama-cpp-python " + llama_cpp.__version__}))
"""
_VLLM_SCRIPT = """
import json, sys
import vllm
folder, prompt, count = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
if __name__ == "__main__":
    model = vllm.LLM(folder, skip_tokenizer_init=True, enforce_eager=True, max_model_len=len(prompt) + count)
    wanted = vllm.SamplingParams(temperature=0.0, max_tokens=count, ignore_eos=True, detokenize=False)
    (answer,) = model.generate([{"prompt_token_ids": prompt}], wanted, use_tqdm=False)
    print(json.dumps({"tokens": list(answer.outputs[0].token_ids), "version": "vllm " + vllm.__version__}))
"""


@dataclass(frozen=True)
class Server:
    """One server: its row of the matrix, the module that shows it is installed, and how it continues a prompt."""

    runtime: str
    module: str
    script: str
    prepare: Callable[[Path, Path], Path] = lambda artifact, _: artifact
    """Returns what the server loads; may write into the second folder. Raises SrrError."""


def _gguf(artifact: Path, scratch: Path) -> Path:
    export(artifact, scratch / "gguf", GGUFSpec())
    return scratch / "gguf" / MODEL_FILE


SERVERS = (
    Server(TRANSFORMERS, "transformers", _TRANSFORMERS_SCRIPT),
    Server(LLAMA_CPP, "llama_cpp", _LLAMA_CPP_SCRIPT, _gguf),
    Server(VLLM_PLUGIN, "vllm", _VLLM_SCRIPT),
)
"""The order of the answers; vLLM was never run by this on a machine of ours."""


def smoke_test(
    artifact: Path, *, interpreters: Mapping[str, str] | None = None, servers: Sequence[Server] = SERVERS
) -> tuple[CompatibilityRow, ...]:
    """Return a row of the matrix, with evidence "run", for every server that is installed.

    Memory: that of each server, one after the other, beside this process. A server that fails is a row with "no" and
    its last words; nothing is raised.

    Args:
        interpreters: Python executables of other environments by the module they have, such as `vllm`.
    """
    vocabulary = int(_vocabulary(read_json(artifact / "config.json")))
    prompt = [_FIRST_TOKEN + index % max(vocabulary - _FIRST_TOKEN, 1) for index in range(PROMPT_TOKENS)]
    rows: list[CompatibilityRow] = []
    reference: list[int] | None = None
    for server in servers:
        interpreter = (interpreters or {}).get(server.module) or (
            sys.executable if find_spec(server.module) is not None else None
        )
        if interpreter is None:
            continue
        row, tokens = _run(server, interpreter, artifact, prompt, reference)
        rows.append(row)
        reference = reference or tokens
    return tuple(rows)


def smoke_test_others(artifact: Path, *, interpreters: Mapping[str, str] | None = None) -> tuple[CompatibilityRow, ...]:
    """Return the rows of `smoke_test` where a server other than transformers is installed, else none.

    With transformers alone the verification has said all there is to say. A model that would take more memory than the
    run itself did is left out, as the verification leaves it out.
    """
    others = [server.module for server in SERVERS if server.runtime != TRANSFORMERS]
    if not any(module in (interpreters or {}) or find_spec(module) is not None for module in others):
        return ()
    if not may_reload(open_artifact(artifact).num_parameters):
        return ()
    return smoke_test(artifact, interpreters=interpreters)


def _run(
    server: Server, interpreter: str, artifact: Path, prompt: list[int], reference: list[int] | None
) -> tuple[CompatibilityRow, list[int] | None]:
    with tempfile.TemporaryDirectory(dir=artifact.parent) as scratch:
        try:
            loaded = server.prepare(artifact, Path(scratch))
            # Elsewhere than here, so that nothing of ours is found by chance.
            done = subprocess.run(
                [interpreter, "-c", server.script, str(loaded.resolve()), json.dumps(prompt), str(NEW_TOKENS)],
                capture_output=True,
                text=True,
                check=False,
                timeout=TIME_LIMIT_SECONDS,
                cwd=scratch,
            )
        except SrrError as error:
            return _row(server, "no", f"smoke test: {error}", ""), None
        except subprocess.TimeoutExpired:
            return _row(server, "no", f"smoke test: no answer in {TIME_LIMIT_SECONDS:.0f} seconds", ""), None
    if done.returncode != 0:
        words = " ".join(done.stderr.split())[-_LAST_WORDS:]
        return _row(server, "no", f"smoke test: ended with {done.returncode}: {words}", ""), None
    answer = json.loads(done.stdout.splitlines()[-1])
    tokens = [int(token) for token in answer["tokens"]]
    return _row(server, "yes", f"smoke test: {_agreement(tokens, reference)}", str(answer["version"])), tokens


def _agreement(tokens: list[int], reference: list[int] | None) -> str:
    if reference is None:
        return f"{len(tokens)} tokens after a prompt of {PROMPT_TOKENS}"
    same = next((index for index, pair in enumerate(zip(tokens, reference, strict=False)) if pair[0] != pair[1]), None)
    if same is None:
        return f"the same {len(tokens)} tokens as transformers"
    return f"as transformers for {same} of {len(tokens)} tokens"


def _row(server: Server, verdict: str, reason: str, versions: str) -> CompatibilityRow:
    return CompatibilityRow.model_validate(
        {"runtime": server.runtime, "verdict": verdict, "reason": reason, "evidence": "run", "versions": versions}
    )


def _vocabulary(config: Mapping[str, object]) -> int:
    text = config.get("text_config")
    found = config.get("vocab_size", text.get("vocab_size") if isinstance(text, Mapping) else None)
    return found if isinstance(found, int) else _FIRST_TOKEN + 1
