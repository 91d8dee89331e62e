"""What a card says of serving an artifact and of tuning it further: command lines, and what would lose L·R."""

from srr_core.recipe.servers import SGLANG_READ, VLLM_READ
from srr_core.report import Report
from srr_core.telling.loading import Step, loadings, lora_step, plain_step, plugin_step, served_rank
from srr_core.telling.runtimes import has_experts


def use_sections(report: Report, repo_id: str, *, is_stock: bool) -> tuple[str, ...]:
    """Return the sections on serving and on fine-tuning, as Markdown.

    Args:
        is_stock: Whether stock loaders read the artifact.
    """
    if not is_stock:
        return ()
    return (_serving(report, repo_id), *([_tuning(repo_id)] if served_rank(report) else []))


def fenced(step: Step) -> str:
    """Return something to type as a block of Markdown."""
    return f"```{step.language}\n{step.text}\n```"


def _serving(report: Report, repo_id: str) -> str:
    lines = ["## How to serve", f"Read in {VLLM_READ} and {SGLANG_READ}; compare outputs before you rely on it."]
    ways = [way for way in loadings(report, repo_id) if way.name.startswith("vllm")]
    if all(way.verdict == "no" for way in ways):
        return "\n\n".join((*lines, f"vLLM does not serve this model: {ways[0].reason}."))
    if served_rank(report) and not has_experts(report):
        lines.append(
            "With the plugin of the package srr-compression vLLM adds L·R inside the layers, without flags, and its "
            f"LoRA slots stay free:\n\n{fenced(plugin_step(repo_id))}"
        )
    lines.append(_without_plugin(report, repo_id))
    return "\n\n".join(lines)


def _without_plugin(report: Report, repo_id: str) -> str:
    if not served_rank(report):
        return fenced(plain_step(repo_id))
    step = lora_step(report, repo_id)
    if step is None:
        return "vLLM takes no adapter of this rank; `srr export --to merged` writes a dense model for it."
    return (
        f"Without the plugin, Q is the model and L·R a LoRA that every request names:\n\n{fenced(step)}\n\n"
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
