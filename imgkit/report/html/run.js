"use strict";
// The confusion matrix of a run's page: drawn where it is large, and the images behind a cell.
(() => {
  const block = document.getElementById("confusions");
  if (!block) return;
  const data = JSON.parse(block.textContent);
  const counts = new Map(data.cells.map(([i, j, n]) => [`${i},${j}`, n]));
  const isRight = (i, j) => i === j;
  const words = (i, j) => {
    const n = counts.get(`${i},${j}`) ?? 0;
    const share = data.support[i] ? ((100 * n) / data.support[i]).toFixed(1) : "0.0";
    return `${data.rows[i]} (${data.support[i]} images) answered ${data.columns[j]}: ${n} (${share} %)`;
  };

  const panel = document.getElementById("cell");
  const gallery = document.getElementById("cell-gallery");
  const paths = document.getElementById("cell-paths");
  let from = null;

  function show(i, j, origin) {
    const named = data.images[`${i},${j}`] ?? [];
    const n = counts.get(`${i},${j}`) ?? 0;
    from = origin;
    document.getElementById("cell-title").textContent = words(i, j);
    const order = isRight(i, j) ? "the least sure answers first" : "the surest answers first";
    const some = data.sets ? `${named.length} images where this is ${isRight(i, j) ? "right" : "wrong"}` : `${named.length} of ${n} images, ${order}`;
    document.getElementById("cell-text").textContent = `${some}. All of them are in predictions.csv.`;
    gallery.replaceChildren();
    paths.replaceChildren();
    for (const [row, path] of named) {
      const picture = document.getElementById(`picture-${row}`);
      if (picture && picture.querySelector("img")) {
        const copy = picture.cloneNode(true);
        copy.removeAttribute("id");
        gallery.append(copy);
      } else {
        const line = document.createElement("li");
        line.textContent = path;
        paths.append(line);
      }
    }
    gallery.hidden = !gallery.childElementCount;
    paths.hidden = !paths.childElementCount;
    panel.hidden = false;
    panel.focus({ preventScroll: true });
    panel.scrollIntoView({ block: "nearest" });
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-cell]");
    if (button) show(...button.dataset.cell.split(",").map(Number), button);
  });
  const close = () => { panel.hidden = true; from?.focus(); };
  document.getElementById("cell-close").addEventListener("click", close);
  panel.addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });

  const canvas = document.getElementById("matrix");
  if (!canvas) return;
  const readout = document.getElementById("readout");
  const [height, width] = [data.rows.length, data.columns.length];
  const sizes = [1, 2, 3, 4, 6, 8, 12, 18, 24];
  const room = canvas.parentElement.clientWidth;
  let size = Math.max(0, sizes.findLastIndex((cell) => cell * width <= room));
  let at = null;

  const colour = (name) => {
    const probe = document.createElement("span");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };

  function draw() {
    const cell = sizes[size];
    const ratio = Math.min(2, window.devicePixelRatio || 1, 8000 / (cell * Math.max(width, height)));
    canvas.width = width * cell * ratio;
    canvas.height = height * cell * ratio;
    canvas.style.width = `${width * cell}px`;
    canvas.style.height = `${height * cell}px`;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const spread = cell < 3 ? 1 : 0; // a count in a cell of a pixel or two is still seen
    const [right, wrong, ink] = [colour("--c0"), colour(data.sets ? "--c3" : "--c1"), colour("--ink")];
    for (const [i, j, n] of data.cells) {
      pen.globalAlpha = 0.25 + 0.75 * Math.sqrt(n / Math.max(1, data.support[i]));
      pen.fillStyle = isRight(i, j) ? right : wrong;
      pen.fillRect(j * cell - spread, i * cell - spread, cell + 2 * spread, cell + 2 * spread);
    }
    pen.globalAlpha = 1;
    if (at) {
      pen.strokeStyle = ink;
      pen.lineWidth = 2;
      pen.strokeRect(at[1] * cell - 2, at[0] * cell - 2, cell + 4, cell + 4);
    }
    document.getElementById("smaller").disabled = size === 0;
    document.getElementById("larger").disabled = size === sizes.length - 1;
  }

  const zoom = (step) => { size = Math.min(sizes.length - 1, Math.max(0, size + step)); draw(); };
  document.getElementById("smaller").addEventListener("click", () => zoom(-1));
  document.getElementById("larger").addEventListener("click", () => zoom(1));
  document.documentElement.addEventListener("themechange", draw);

  const cellAt = (event) => {
    const box = canvas.getBoundingClientRect();
    const j = Math.floor(((event.clientX - box.left) / box.width) * width);
    const i = Math.floor(((event.clientY - box.top) / box.height) * height);
    return i >= 0 && j >= 0 && i < height && j < width ? [i, j] : null;
  };
  canvas.addEventListener("pointermove", (event) => {
    const cell = cellAt(event);
    if (cell) readout.textContent = words(...cell);
  });
  canvas.addEventListener("click", (event) => {
    const cell = cellAt(event);
    if (cell) { at = cell; draw(); show(...cell, canvas); }
  });

  const confusions = data.cells.filter(([i, j]) => !isRight(i, j)).sort((a, b) => b[2] - a[2]);
  let number = -1;
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step && confusions.length) {
      event.preventDefault();
      number = Math.min(confusions.length - 1, Math.max(0, number + step));
      at = confusions[number].slice(0, 2);
      readout.textContent = words(...at);
      draw();
      const [box, cell] = [canvas.parentElement, sizes[size]];
      box.scrollTo({ left: at[1] * cell - box.clientWidth / 2, top: at[0] * cell - box.clientHeight / 2 });
    } else if (event.key === "Enter" && at) {
      event.preventDefault();
      show(...at, canvas);
    }
  });
  draw();
})();
