"use strict";
// One image at a time. An answer is for what is on the screen: keys count only once the picture is there.
(() => {
  const { keys, classes, first } = JSON.parse(document.getElementById("task").textContent);
  const by = (id) => document.getElementById(id);
  const main = by("content");
  const buttons = [...by("classes").querySelectorAll("button")];
  const find = by("find");
  let item = null; // what is on the screen; null: nothing yet
  let turnBack = first; // shown again when all have an answer

  async function ask(path, body) {
    const how = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
    let answer;
    try {
      answer = await fetch(path, { cache: "no-store", ...how });
    } catch {
      throw new Error("imgkit label no longer answers. What was answered is in the CSV; start it again to go on.");
    }
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    return found;
  }

  function complain(text) {
    by("trouble").textContent = text;
    by("trouble").hidden = text === "";
  }

  const percent = (prob) => `${Math.round(100 * prob)} %`;
  const suggestion = () => item.top.map(([code, prob]) => `${classes[code]} ${percent(prob)}`).join(" · ");

  function fill(found) {
    item = found;
    const bad = found.error !== null;
    by("picture").hidden = bad;
    by("unread").hidden = !bad;
    by("unread").textContent = bad ? `This image cannot be read: ${found.error}. Skip it.` : "";
    by("name").textContent = found.name;
    by("picture").alt = `Image ${found.image + 1}: ${found.name}`;
    if (by("suggested")) by("suggested").textContent = item.top.length ? `Suggested: ${suggestion()}` : "No suggestion";
    buttons.forEach((button, code) => {
      button.setAttribute("aria-pressed", String(code === found.class));
      button.classList.toggle("likely", item.top.length > 0 && item.top[0][0] === code);
      button.disabled = bad;
    });
    count(found);
  }

  function count({ answered, left }) {
    by("done").value = answered;
    by("counts").textContent = `${answered} answered, ${left} left`;
  }

  async function show(number, said = "") {
    const found = await ask(`item/${number}`);
    if (found.error === null) {
      by("picture").src = `picture/${number}`;
      await by("picture").decode();
    }
    fill(found);
    const guess = item.top.length ? ` Suggested: ${classes[item.top[0][0]]}, ${percent(item.top[0][1])}.` : "";
    const now = item.class === null ? "" : ` It is ${classes[item.class]}.`;
    by("told").textContent = `${said}Image ${number + 1} of ${by("done").max}.${now}${guess}`;
  }

  // Each of these waits for the server; what is typed meanwhile was typed at nothing, and does nothing.
  async function go(work) {
    if (item === null) return;
    const from = item;
    item = null;
    complain("");
    if (main.contains(document.activeElement)) main.focus({ preventScroll: true });
    try {
      await work(from);
    } catch (error) {
      item = from;
      complain(error.message);
    }
  }

  async function onward(found, said) {
    count(found);
    if (found.next !== null) { await show(found.next, said); return; }
    await show(turnBack, `${said}All images have an answer. `);
  }

  const answer = (code) => go(async (from) => {
    if (from.error !== null) throw new Error("This image cannot be read, so it gets no label. Skip it.");
    const found = await ask("answer", { image: from.image, class: code, seen: from.class });
    turnBack = from.image;
    from.class = code;
    const other = found.replaced === null ? "" : ` Another tab had answered ${classes[found.replaced]}; this answer replaced it.`;
    await onward(found, `${classes[code]}.${other} `);
  });

  const accept = () => {
    if (item === null) return;
    if (item.top.length) answer(item.top[0][0]);
    else by("told").textContent = "There is no suggestion for this image.";
  };
  const skip = () => go(async (from) => {
    turnBack = from.image;
    await onward(await ask(`after/${from.image}`), "Skipped. ");
  });
  const undo = () => go(async (from) => {
    const found = await ask("undo", {});
    if (found.image === null) await show(from.image, "There is nothing to undo. ");
    else await show(found.image, "Taken back. ");
  });
  const step = (way) => go(async (from) => {
    const n = by("done").max;
    await show((from.image + way + n) % n);
  });

  buttons.forEach((button, code) => button.addEventListener("click", () => answer(code)));
  by("skip").addEventListener("click", skip);
  by("undo").addEventListener("click", undo);
  by("back").addEventListener("click", () => step(-1));
  by("forth").addEventListener("click", () => step(1));

  const matching = () => buttons.filter((one) => one.textContent.toLowerCase().includes(find.value.trim().toLowerCase()));
  const filter = () => { const found = new Set(matching()); for (const one of buttons) one.parentElement.hidden = !found.has(one); };
  const leave = () => { find.value = ""; filter(); main.focus({ preventScroll: true }); };
  if (find) {
    find.addEventListener("input", filter);
    find.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && find.value.trim()) { const [one] = matching(); leave(); one?.click(); }
      if (event.key === "Escape") leave();
    });
  }

  const moves = { " ": skip, Backspace: undo, ArrowLeft: () => step(-1), ArrowRight: () => step(1), Enter: accept };
  document.addEventListener("keydown", (event) => {
    const typing = event.target === find;
    const undoing = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z";
    if (typing || event.altKey || ((event.ctrlKey || event.metaKey) && !undoing)) return;
    if (!by("keys").checked || event.target.matches("input")) return;
    if (event.target.closest("button, a") && (event.key === "Enter" || event.key === " ")) return;
    // The digit on the key, also where a layout has it above another sign.
    const sign = /^Digit\d$/.test(event.code) ? event.code[5] : event.key.toLowerCase();
    const code = event.key.length === 1 && event.key !== " " ? keys.indexOf(sign) : -1;
    const move = undoing ? undo : find && event.key === "/" ? () => find.focus() : moves[event.key];
    if (code < 0 && move === undefined) return;
    event.preventDefault();
    if (event.repeat) return; // a key held down would label what nobody has looked at
    if (undoing || code < 0) move(); else answer(code);
  });

  main.focus({ preventScroll: true });
  show(first).catch((error) => complain(error.message));
})();
