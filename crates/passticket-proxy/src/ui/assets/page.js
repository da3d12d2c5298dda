// Makes the pages more convenient. All pages also work without this script.
"use strict";
(() => {
  // Buttons that copy a text.
  for (const button of document.querySelectorAll("button[data-copy]")) {
    const source = document.getElementById(button.dataset.copy);
    const status = document.getElementById("copy-status");
    if (!source || !navigator.clipboard) continue;
    const label = button.textContent;
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(source.value ?? source.textContent);
        button.textContent = button.dataset.copied;
        if (status) status.textContent = button.dataset.copied;
        setTimeout(() => {
          button.textContent = label;
          if (status) status.textContent = "";
        }, 2000);
      } catch {
        if (source.select) source.select();
      }
    });
  }
  // The whole token is selected when the field is focused.
  for (const field of document.querySelectorAll("[data-select]")) {
    field.addEventListener("focus", () => field.select());
  }
  // A date that is entered chooses the date as the expiry.
  const date = document.getElementById("date");
  const until = document.getElementById("expiry-date");
  if (date && until) date.addEventListener("input", () => { until.checked = true; });
  // A long list of services can be filtered.
  const search = document.getElementById("find-service");
  if (search) {
    search.closest("[hidden]").hidden = false;
    const services = document.querySelectorAll("[data-service]");
    search.addEventListener("input", () => {
      const wanted = search.value.trim().toLowerCase();
      for (const service of services) {
        const chosen = service.querySelector("input").checked;
        const text = service.querySelector("label").textContent.toLowerCase();
        service.hidden = !chosen && !text.includes(wanted);
      }
    });
    search.addEventListener("keydown", (event) => {
      if (event.key === "Enter") event.preventDefault();
    });
  }
  // A form is sent only once.
  for (const form of document.querySelectorAll("form[method=post]")) {
    form.addEventListener("submit", (event) => {
      if (form.dataset.sent) event.preventDefault();
      form.dataset.sent = "1";
      setTimeout(() => { delete form.dataset.sent; }, 5000);
    });
  }
  // The summary of problems gets the focus, so that it is read first.
  document.getElementById("problems")?.focus();
})();
