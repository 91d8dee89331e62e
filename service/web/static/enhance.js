// What a script adds to pages that work without one: stale answers vanish at once, secrets are copied.
"use strict";

document.documentElement.classList.add("script");

// An answer about one model must not stand beside the name of another while the next is on its way.
const form = document.getElementById("submit");
if (form) {
  const check = document.getElementById("check");
  const checking = document.getElementById("checking");
  const model = document.getElementById("model_id");
  const tell = (isWaiting) => {
    // Half a name is not looked at.
    checking.hidden = !isWaiting || !/[^/]\/[^/]/.test(model.value);
  };
  form.addEventListener("input", () => {
    check.dispatchEvent(new Event("htmx:abort"));
    check.replaceChildren();
    tell(true);
  });
  // An empty field stands for what the recipe says: another recipe, another value.
  const showOwn = () => {
    for (const own of document.querySelectorAll("#own-values [data-field]")) {
      const field = document.getElementById(own.dataset.field);
      if (field instanceof HTMLSelectElement) {
        field.options[0].textContent = `As the recipe says: ${own.textContent}`;
      } else if (field) {
        field.placeholder = own.textContent;
      }
    }
  };
  document.addEventListener("htmx:after:swap", showOwn);
  document.addEventListener("htmx:before:request", () => tell(check.childElementCount === 0));
  document.addEventListener("htmx:after:swap", () => tell(check.childElementCount === 0));
  document.addEventListener("htmx:error", () => tell(false));
}

// One listener for all: a part of a page may be exchanged for one with other buttons.
document.addEventListener("click", async (event) => {
  const button = event.target instanceof Element ? event.target.closest("[data-copy]") : null;
  if (!button) {
    return;
  }
  const text = document.getElementById(button.dataset.copy);
  const tell = (word) => {
    button.firstChild.textContent = word;
  };
  try {
    await navigator.clipboard.writeText(text.textContent);
    tell("Copied");
  } catch {
    // Without a secure context there is no clipboard; what is selected can be copied by hand.
    getSelection().selectAllChildren(text);
    tell("Selected");
  }
});
