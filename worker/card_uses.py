"""What a card says of serving an artifact and of tuning it further: command lines, and what would lose L·R."""

from srr_core.recipe.servers import SGLANG_READ, VLLM_READ, lora_flag
from srr_core.report import Report

_EXPERT = ".experts."


def use_sections(report: Report, repo_id: str, *, is_stock: bool) -> tuple[str, ...]:
    """Return the sections on serving and on fine-tuning, as Markdown.

    Args:
        is_stock: Whether stock loaders read the artifact.
    """
    if not is_stock:
        return ()
    return (_serving(report, repo_id), *([_tuning(repo_id)] if report.recipe.rank else []))


def _serving(report: Report, repo_id: str) -> str:
    lines = ["## How to serve", f"Read in {VLLM_READ} and {SGLANG_READ}; compare outputs before you rely on it."]
    has_experts = any(_EXPERT in layer.name for layer in report.layers)
    if report.recipe.rank and not has_experts:
        lines.append(
            "With the plugin of the package srr-compression vLLM adds L·R inside the "
            f"layers, without flags, and its LoRA slots stay free:\n\n```sh\npip install srr-compression\n"
            f"vllm serve {repo_id}\n```"
        )
    lines.append(_without_plugin(report, repo_id, has_experts=has_experts))
    return "\n\n".join(lines)


def _without_plugin(report: Report, repo_id: str, *, has_experts: bool) -> str:
    if not report.recipe.rank:
        return f"```sh\nvllm serve {repo_id}\n```"
    flag = lora_flag(report.recipe.rank * (2 if has_experts else 1))
    if flag is None:
        return "vLLM takes no adapter of this rank; `srr export --to merged` writes a dense model for it."
    return (
        "Without the plugin, Q is the model and L·R a LoRA that every request names:\n\n```sh\n"
        f"vllm serve {repo_id} --quantization compressed-tensors --enable-lora --max-lora-rank {flag} "
        f"--lora-modules corrected={repo_id}\n```\n\n"
        f"Ask for the model `corrected`; `{repo_id}` is Q alone."
    )


def _tuning(repo_id: str) -> str:
    return f"""## How to fine-tune

> **`get_peft_model` on this model loses L·R.** L·R is its adapter `default`. A new one of that name overwrites it, a
> new one of another name switches it off, and PEFT only warns of "a second time".

Either keep it beside a new adapter, with the base as it is:

```python
model.add_adapter(LoraConfig(target_modules=["q_proj", "v_proj"]), adapter_name="tuned")
model.set_adapter(["default", "tuned"])
for name, parameter in model.named_parameters():
    parameter.requires_grad_(".tuned." in name)
...
model.set_adapter("tuned")
model.save_pretrained("tuned")  # later: model.load_adapter("tuned", adapter_name="tuned"), then set_adapter of both
```

Or make it part of dense weights first, after which every recipe of PEFT is safe:

```python
model = PeftModel.from_pretrained(model, "{repo_id}").merge_and_unload()
model = get_peft_model(model, LoraConfig(...))
```"""
