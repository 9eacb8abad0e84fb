"use strict";
// Pictures are asked about one after the other, in the order in which they came.
(() => {
  const { several, top } = JSON.parse(document.getElementById("task").textContent);
  const by = (id) => document.getElementById(id);
  const drop = by("drop");
  let last = Promise.resolve();
  let left = 0;

  const percent = (prob) => `${(100 * prob).toFixed(1)} %`;
  const add = (parent, tag, text = "") => {
    const made = document.createElement(tag);
    made.textContent = text;
    parent.append(made);
    return made;
  };

  // As the page's policy allows: pictures in the page itself. What a browser cannot show, such as TIFF, it leaves out.
  function show(file, card) {
    const reader = new FileReader();
    reader.addEventListener("load", () => {
      const shown = document.createElement("img");
      shown.alt = "";
      shown.addEventListener("load", () => card.prepend(shown));
      shown.src = reader.result;
    });
    reader.readAsDataURL(file);
  }

  async function ask(file) {
    const body = new FormData();
    body.append("image", file, file.name || "picture");
    let answer;
    try {
      answer = await fetch(`predict?top_k=${top}`, { method: "POST", body, cache: "no-store" });
    } catch {
      throw new Error("imgkit serve does not answer. Is it still there?");
    }
    const found = await answer.json();
    if (!answer.ok) throw new Error(`${found.error} ${found.hint}`.trim());
    return found;
  }

  function said(found) {
    if (several) return found.labels.length ? found.labels.join(" + ") : "no label";
    return found.label ?? `left open, ${found.rejected}`;
  }

  function fill(card, found) {
    add(card, "h2", said(found));
    if (found.set) add(card, "p", `{${found.set.join(", ")}}`).className = "soft";
    const list = add(card, "dl");
    for (const { label, prob } of found.top) {
      add(list, "dt", label);
      add(list, "dd", percent(prob));
      const bar = add(add(list, "dd"), "meter");
      bar.parentElement.className = "bar";
      bar.value = prob;
      bar.setAttribute("aria-label", label);
    }
  }

  function take(file) {
    const card = document.createElement("li");
    add(card, "p", file.name || "pasted picture").className = "name";
    by("asked").prepend(card);
    show(file, card);
    const waiting = add(card, "p", "asking …");
    waiting.className = "soft";
    left += 1;
    last = last.then(async () => {
      try {
        const found = await ask(file);
        fill(card, found);
        by("told").textContent = `${file.name}: ${said(found)}`;
      } catch (error) {
        add(card, "p", error.message).className = "trouble";
        by("told").textContent = `${file.name}: ${error.message}`;
      }
      waiting.remove();
      left -= 1;
      if (left) by("told").textContent += ` (${left} to go)`;
    });
  }

  by("files").addEventListener("change", () => {
    [...by("files").files].forEach(take);
    by("files").value = "";
  });
  // Anywhere on the page: a browser would leave it to show a picture that was dropped beside the field.
  addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  addEventListener("dragleave", () => drop.classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    [...event.dataTransfer.files].forEach(take);
  });
  addEventListener("paste", (event) => [...event.clipboardData.files].forEach(take));
})();
