"use strict";
// A classifier's answer is a list of classes, a detector's a list of boxes, which are drawn over the picture.
(() => {
  const $ = (id) => document.getElementById(id);
  const percent = (p) => `${(100 * p).toFixed(1)} %`;
  const state = { token: "", model: null, file: null, plain: "", heat: "", turn: 0, first: null, found: null };
  const LEAST = 0.05; // boxes that are sure to less than this are never asked for
  const COLOURS = ["#ffb000", "#3fc1ff", "#ff5ea8", "#6ee04b", "#b69cff", "#ff7a45", "#00e0c6", "#f4ff4d"];

  // Everything that comes from a file or the server is put in as text.
  const say = (id, text) => { $(id).textContent = text; };

  function problem(text) {
    say("problem", text);
    $("problem").hidden = !text;
    if (text) say("status", "");
  }

  const KIND = {
    401: () => "The server did not take this token.",
    408: () => "The picture took too long to arrive. Is the connection slow? Please try again.",
    413: (why) => `This picture is too large for the server: ${why}.`,
    415: () => "This file is no picture that can be read here. JPEG, PNG, WebP and GIF can be.",
    422: () => "This picture is damaged, or takes too long to read. Can other programs open it? Saving it anew may help.",
    429: (_, after) => `The server is busy. Please try again in ${after === "1" ? "a second" : `${after || "a few"} seconds`}.`,
    503: () => "The server is about to end.",
  };

  async function asked(address, options = {}) {
    const headers = state.token ? { Authorization: `Bearer ${state.token}` } : {};
    let response;
    try {
      response = await fetch(address, { ...options, headers });
    } catch {
      throw new Error("The server does not answer. Is it still running?");
    }
    const body = await response.json().catch(() => ({}));
    if (response.ok) return body;
    $("entry").hidden = response.status !== 401;
    const kind = KIND[response.status];
    const why = String(body.error || response.status);
    if (response.status === 401 && !state.token) throw new Error("");
    throw new Error(kind ? kind(why, response.headers.get("Retry-After")) : `Something went wrong in the server: ${why}.`);
  }

  function form(file) {
    const data = new FormData();
    data.append("image", file, file.name || "pasted");
    return { method: "POST", body: data };
  }

  function took(milliseconds, whole) {
    say("latency", `${milliseconds.toFixed(0)} ms in the server, ${whole.toFixed(0)} ms with the way there and back.`);
  }

  function show(prediction) {
    const [best] = prediction.top;
    state.first = best;
    say("best", `${best.class}, ${percent(best.probability)}`);
    const rows = prediction.top.map((each) => {
      const row = document.createElement("li");
      const bar = Object.assign(document.createElement("span"), { className: "bar" });
      bar.append(document.createElement("i"));
      bar.firstChild.style.width = percent(each.probability).replace(" ", "");
      row.append(
        Object.assign(document.createElement("span"), { className: "class", textContent: each.class }),
        Object.assign(document.createElement("span"), { textContent: percent(each.probability) }),
        bar,
      );
      return row;
    });
    $("classes").replaceChildren(...rows);
    say("status", `${best.class}, ${percent(best.probability)}`);
    $("seen").hidden = !(state.model && state.model.explains);
  }

  function outline(each, className, colour) {
    const [left, top, right, bottom] = each.box;
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const where = { x: left, y: top, width: right - left, height: bottom - top, class: className, stroke: colour };
    for (const [name, value] of Object.entries(where)) rect.setAttribute(name, value);
    return rect;
  }

  function draw() {
    const least = Number($("least").value) / 100;
    const shown = state.found.boxes.filter((each) => each.score >= least);
    say("from", `${$("least").value} %`);
    $("boxes").setAttribute("viewBox", `0 0 ${state.found.width} ${state.found.height}`);
    $("boxes").replaceChildren();
    const rows = shown.map((each) => {
      const colour = COLOURS[each.output % COLOURS.length];
      const line = outline(each, "", colour);
      $("boxes").append(outline(each, "under", ""), line);
      const row = document.createElement("li");
      const swatch = Object.assign(document.createElement("span"), { className: "swatch" });
      swatch.style.background = colour;
      const name = Object.assign(document.createElement("span"), { className: "class", textContent: each.class });
      name.prepend(swatch);
      row.append(name, Object.assign(document.createElement("span"), { textContent: percent(each.score) }));
      row.addEventListener("pointerenter", () => line.classList.add("marked"));
      row.addEventListener("pointerleave", () => line.classList.remove("marked"));
      return row;
    });
    $("classes").replaceChildren(...rows);
    const counts = new Map();
    for (const each of shown) counts.set(each.class, (counts.get(each.class) || 0) + 1);
    const words = [...counts].map(([name, count]) => `${count} × ${name}`).join(", ");
    say("best", words || "Nothing was found");
    say("status", words || "Nothing was found");
    $("picture").alt = `The picture that was sent: ${words || "nothing was found in it"}`;
  }

  function press(on) {
    $("heat").ariaPressed = String(on);
    say("heat", on ? "Show the picture" : "Show where it was seen");
    $("picture").src = on ? state.heat : state.plain;
    $("picture").alt = on ? `Where ${state.first.class} was seen in the picture` : "The picture that was sent";
  }

  async function predict(file) {
    const turn = ++state.turn; // of two pictures in quick succession the later one is shown
    problem("");
    const { model } = state;
    if (model && file.size > model.most_bytes) {
      problem(`This picture has ${(file.size / 1e6).toFixed(1)} MB; the server takes ${(model.most_bytes / 1e6).toFixed(0)}.`);
      return;
    }
    say("status", "Looking at the picture …");
    $("result").classList.add("busy");
    const began = performance.now();
    try {
      const detects = Boolean(model && model.detects);
      const answer = await asked(detects ? `v1/detect?score=${LEAST}` : "v1/predict?top=5", form(file));
      if (turn !== state.turn) return;
      if (state.plain) URL.revokeObjectURL(state.plain);
      state.file = file;
      state.plain = URL.createObjectURL(file);
      state.heat = "";
      took(answer.milliseconds, performance.now() - began);
      press(false);
      if (detects) {
        [state.found] = answer.detections;
        draw();
      } else show(answer.predictions[0]);
      say("name", file.name || "pasted");
      $("result").hidden = false;
    } catch (why) {
      if (turn === state.turn) { problem(why.message); $("result").hidden = true; }
    } finally {
      if (turn === state.turn) $("result").classList.remove("busy");
    }
  }

  async function toggle() {
    if ($("heat").ariaPressed === "true") { press(false); return; }
    const { turn } = state;
    try {
      if (!state.heat) {
        say("status", "Looking where it was seen …");
        const answer = await asked(`v1/explain?output=${state.first.output}`, form(state.file));
        if (turn !== state.turn) return;
        state.heat = `data:image/png;base64,${answer.picture}`;
      }
      press(true);
      say("status", `Coloured where ${state.first.class} was seen`);
    } catch (why) { problem(why.message); }
  }

  function take(transfer) {
    const file = [...transfer.files].find((each) => each.type.startsWith("image/")) || transfer.files[0];
    if (file) predict(file);
    else problem("That was no picture. An address of one is not fetched: save the picture, and drop the file.");
  }

  async function meet() {
    try {
      const model = await asked("v1/model");
      state.model = model;
      problem("");
      $("entry").hidden = true;
      $("ask").hidden = false;
      for (const id of ["sure", "boxes"]) $(id).toggleAttribute("hidden", !model.detects);
      say("model", `Reslab · ${model.name} · ${model.classes.length} classes`);
      say("limits", `It goes to this server and nowhere else, and is not kept. At most ${(model.most_bytes / 1e6).toFixed(0)} MB.`);
    } catch (why) {
      $("ask").hidden = !$("entry").hidden;
      problem(why.message);
      if (!$("entry").hidden) $("token").focus();
    }
  }

  for (const [button, input] of [["choose", "file"], ["photograph", "camera"]]) {
    $(button).addEventListener("click", () => $(input).click());
    $(input).addEventListener("change", () => {
      const [file] = $(input).files;
      if (file) predict(file);
      $(input).value = ""; // so that the same file can be chosen again
    });
  }
  $("heat").addEventListener("click", toggle);
  $("least").addEventListener("input", () => { if (state.found) draw(); });
  $("entry").addEventListener("submit", (event) => {
    event.preventDefault();
    state.token = $("token").value;
    meet();
  });
  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => { event.preventDefault(); $("ask").classList.add("over"); });
  }
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("ask").classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    $("ask").classList.remove("over");
    if (!$("ask").hidden) take(event.dataTransfer);
  });
  document.addEventListener("paste", (event) => {
    if ($("ask").hidden || event.target === $("token")) return;
    event.preventDefault();
    take(event.clipboardData);
  });
  meet();
})();
