// The instrument's controls: sliders with their numbers, range, seed, examples, pixels, time and play.
import { fill, named, words } from "../language.js";
import { decimal, node } from "../page.js";

const SLIDERS = { gamma: "gamma_sign", T: "T", floor: "floor" }; // with the words that stand over them
let instances = 0;

// act: set(partial), play(), pause(), step(n), light(k or null), select(k), remove(k), add()
export function controls(host, props, act) {
  const find = (selector) => host.querySelector(selector);
  const ownName = `pvi-${(instances += 1)}`;
  const time = find(".pvi-time input"), clock = find(".pvi-clock"), play = find(".pvi-play"), speed = find(".pvi-speed select");
  const chips = find(".pvi-chips"), channel = find(".pvi-channel"), seed = find(".pvi-seed input");
  const pair = [...host.querySelectorAll(".pvi-pair select")];

  const sliders = Object.fromEntries(Object.entries(SLIDERS).map(([key, title]) => {
    const { min, max, step } = props.view[key];
    const row = node("div", { class: "pvi-slider" });
    const head = node("div"), name = node("span");
    name.append(node("b", { "data-word": `instrument.${title}` }), node("small", { "data-word": `instrument.${key}_hint` }));
    const number = node("input", { type: "number", min, max, step });
    const range = node("input", { type: "range", min, max, step, "data-word-label": `instrument.${key}` });
    const note = node("p", { class: "pvi-warn", role: "alert", hidden: "" });
    head.append(name, number);
    row.append(head, range, note);
    find(".pvi-sliders").append(row);
    range.addEventListener("input", () => act.set({ [key]: Number(range.value) }));
    const typed = () => { if (number.value.trim() !== "") act.set({ [key]: Number(number.value) }); act.redraw(); };
    number.addEventListener("change", typed);
    return [key, { range, number, note }];
  }));

  const crop = find(".pvi-crop"), square = crop.querySelector("input");
  Object.assign(square, { min: props.view.crop.min, max: props.view.crop.max, step: props.view.crop.step });
  square.addEventListener("input", () => act.set({ crop: Number(square.value) }));

  time.addEventListener("input", () => { act.pause(); act.set({ t: Number(time.value) / Number(time.max) }); });
  play.addEventListener("click", () => act.toggle());
  for (const button of host.querySelectorAll("[data-step]")) button.addEventListener("click", () => { act.pause(); act.step(Number(button.dataset.step)); });

  const radios = (box, name, change) => box.querySelectorAll("input").forEach((radio) => {
    radio.name = `${ownName}-${name}`;
    radio.addEventListener("change", () => change(radio.value));
  });
  const about = find(".pvi-range .pvi-key"), schedule = find(".pvi-schedule select");
  for (const [title, name] of props.schedules) schedule.append(node("option", { value: name, "data-named": title }));
  schedule.addEventListener("change", () => act.set({ schedule: schedule.value }));
  const own = find(".pvi-formula"), formula = own.querySelector("input"), fault = own.querySelector("p");
  formula.maxLength = props.formula.longest;
  formula.addEventListener("change", () => act.set({ formula: formula.value }));
  radios(find(".pvi-range"), "range", (value) => act.set({ ddpm: value }));
  radios(channel, "channel", (value) => act.channel(Number(value)));
  seed.addEventListener("change", () => act.set({ seed: Number(seed.value) }));
  find(".pvi-seed button").addEventListener("click", () => act.set({ seed: Number(seed.value) + 1 }));
  find(".pvi-add").addEventListener("click", act.add);
  find(".pvi-clear").addEventListener("click", () => act.set({ pixels: [] }));
  pair.forEach((select, side) => select.addEventListener("change", () => {
    const now = pair.map((s) => Number(s.value));
    // The same pixel twice has no crossing: the other side gives way.
    if (now[0] === now[1]) now[1 - side] = now[side] ? 0 : 1;
    act.set({ pair: now });
  }));

  const strip = find(".pv-thumbs");
  const thumbs = new Map((props.examples || []).map(([id, label, source]) => {
    const button = node("button", { type: "button" });
    button.append(node("img", { src: source, alt: "", width: 40, height: 40 }));
    button.addEventListener("click", () => act.set({ example: id }));
    strip.append(button);
    return [id, { button, label }];
  }));

  function chip(k) {
    const box = node("span", { class: "pvi-chip", style: `--pixel: ${props.colours[k]}` });
    const choose = node("button", { type: "button" }), drop = node("button", { type: "button", "aria-label": fill(words().instrument.remove, { k: k + 1 }) }, "×");
    choose.append(node("b", {}, String(k + 1)), node("span"));
    choose.addEventListener("click", () => act.select(k));
    drop.addEventListener("click", () => act.remove(k));
    box.addEventListener("pointerenter", () => act.light(k));
    box.addEventListener("pointerleave", () => act.light(null));
    box.append(choose, drop);
    return box;
  }

  // Set only where it differs: a field that is being typed in, or dragged, is left alone.
  const value = (field, next) => { if (Number(field.value) !== next && document.activeElement !== field) field.value = next; };

  // What is not said anew with every drawing, and no template says.
  function speak() {
    const texts = words().instrument;
    for (const [key, { number }] of Object.entries(sliders)) number.setAttribute("aria-label", fill(texts.typed, { name: texts[key] }));
    for (const { button, label } of thumbs.values()) { button.title = named(label); button.setAttribute("aria-label", fill(texts.example, { name: named(label) })); }
    chips.replaceChildren();
  }
  speak();

  return {
    speak,
    speed: () => Number(speed.value),
    settled(request) { seed.value = request; },
    draw(model, wished) {
      const { state, picture, i, t } = model, texts = words().instrument;
      for (const [key, { range, number, note }] of Object.entries(sliders)) {
        if (Number(range.value) !== state[key]) range.value = state[key];
        value(number, state[key]);
        const limited = key === "gamma" && wished.gamma !== state.gamma;
        if (note.hidden === limited) note.hidden = !limited;
        const told = limited ? fill(texts.gamma_limited, state) : "";
        if (note.textContent !== told) note.textContent = told;
      }
      if (Number(time.max) !== state.T) time.max = state.T;
      if (Number(time.value) !== i) time.value = i;
      time.setAttribute("aria-valuetext", fill(texts.time_is, { i, T: state.T, t: t.toFixed(3) }));
      clock.textContent = fill(texts.clock_is, { i, T: state.T, t: t.toFixed(3) });
      play.classList.toggle("pvi-playing", state.playing);
      play.lastChild.textContent = state.playing ? texts.pause : texts.play;
      host.querySelectorAll(".pvi-range input").forEach((radio) => { radio.checked = radio.value === state.ddpm; });
      const left = `${(100 * Math.exp(model.ddpm[state.T] / 2)).toPrecision(2)} %`;
      const range = fill(named(props.ranges[state.ddpm]), { T: state.T, left });
      if (about.textContent !== range) about.textContent = range;
      if (schedule.value !== state.schedule) schedule.value = state.schedule;
      own.hidden = state.schedule !== "formula";
      if (formula.value !== state.formula && document.activeElement !== formula) formula.value = state.formula;
      if (fault.textContent !== model.fault) fault.textContent = model.fault;
      fault.hidden = !model.fault;
      value(seed, state.seed);
      thumbs.forEach(({ button }, id) => button.setAttribute("aria-pressed", String(id === state.example)));

      while (chips.children.length > state.pixels.length) chips.lastChild.remove();
      while (chips.children.length < state.pixels.length) chips.append(chip(chips.children.length));
      model.pixels.forEach((p, k) => {
        const [choose] = chips.children[k].children, x0 = decimal(Number(p.x0.toPrecision(3)));
        if (choose.lastChild.textContent !== `x₀ ${x0}`) choose.lastChild.textContent = `x₀ ${x0}`;
        choose.setAttribute("aria-label", fill(texts.chip, { k: k + 1, x0 }));
        choose.setAttribute("aria-pressed", String(state.selected === k));
        chips.children[k].classList.toggle("pvi-lit", model.lit === k);
      });
      crop.hidden = picture.rows === picture.columns;
      if (Number(square.value) !== state.crop) square.value = state.crop;
      square.setAttribute("aria-valuetext", fill(picture.rows > picture.columns ? texts.crop_down : texts.crop_across, { share: Math.round(100 * state.crop) }));
      channel.hidden = picture.channels !== 3;
      channel.querySelectorAll("input").forEach((radio) => { radio.checked = Number(radio.value) === model.channel; });
      const choices = state.pixels.length;
      pair[0].parentElement.hidden = choices < 2;
      pair.forEach((select, side) => {
        if (select.options.length !== choices) select.replaceChildren(...state.pixels.map((_, k) => node("option", { value: k }, String(k + 1))));
        if (Number(select.value) !== state.pair[side]) select.value = state.pair[side];
      });
      const more = state.basic ? texts.more : texts.less;
      if (find(".pvi-more").textContent !== more) find(".pvi-more").textContent = more;
      find(".pvi-more").setAttribute("aria-expanded", String(!state.basic));
      find(".pvi-add").disabled = choices >= props.colours.length;
      find(".pvi-clear").disabled = !choices;
    },
    limits: props.view,
  };
}
