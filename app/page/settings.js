// The form: made of what the service says it can do, with each field's limits and the model's defaults.

import {$, choice, element, radio} from "./dom.js";
import {COLOR, CONTENT, CROP, DEPTH, EDGES, labelled, NUMBERS, option, usual, words} from "./fields.js";

const TASKS = {
  fill: {name: "Fill", label: "Prompt", help: "What to paint there. Empty: whatever fits its surroundings."},
  remove: {name: "Remove", label: "Background (optional)", help: "What to see in place of what is taken away."},
  extend: {name: "Extend", label: "Prompt (optional)", help: "What to see beyond the photo. Empty: whatever goes on."},
  replace_background: {name: "Background", label: "New background", help: "What is to be behind the subject.",
    lacking: "Say what is to be behind the subject."},
};

const ABSENT = "No worker serves this model at the moment: a job would wait.";

export class Settings {
  /** `changed()` is called when any value is another. */
  constructor(form, changed) {
    Object.assign(this, {form, changed, task: "fill"});
    form.addEventListener("input", event => {
      event.target.dataset.touched = "yes";
      this.check();
      if (["model", "preset"].includes(event.target.name)) this.adapt();
      changed();
    });
    form.addEventListener("invalid", event => this.open(event.target), true);
  }

  /** The one that does it: the chosen model, or whom the default one leaves the task to. */
  get model() {
    const named = name => this.able.models.find(model => model.name === name);
    const chosen = named(this.form.elements.model.value);
    return chosen.default && named(chosen.tasks[this.task]?.model) || chosen;
  }

  /** Takes over what the service can do: builds the fields the first time, and follows it later. */
  take(able) {
    const first = !this.able;
    this.able = able;
    first ? this.build(able) : this.adapt();
  }

  build(able) {
    const {limits: {fields: ranges, prompt_characters: maxLength}, choices} = able;
    this.form.elements.prompt.maxLength = maxLength;
    const tasks = Object.keys(TASKS).filter(task => choices.task.includes(task));
    $("tasks").replaceChildren(...tasks.map(task => radio(TASKS[task].name, {task}, task === this.task)));
    this.choose = choice($("tasks"), ({dataset}) => this.setTask(dataset.task));
    const select = name => element("select", {name});
    const number = ([name, label, help, step]) => {
      const {minimum, maximum} = ranges[name];
      const input = element("input", {type: "number", name, step, inputMode: step === 1 ? "numeric" : "decimal"});
      input.min = minimum === 0 && step < 1 ? step : minimum ?? "";
      input.max = maximum ?? "";
      return labelled(input, label, help);
    };
    const slider = ([name, label, most]) => {
      const input = element("input", {type: "range", name, min: 0, max: Math.min(most, ranges[name].maximum)});
      return element("label", {className: "slider"}, element("span", {textContent: label}), input, element("output"));
    };
    const images = element("input", {type: "number", name: "n", min: 1, step: 1, placeholder: 1});
    $("basics").replaceChildren(
      labelled(select("preset"), "Preset", ""), labelled(images, "Variants", "Pictures to choose from."),
      ...EDGES.map(slider));
    const negative = element("input", {name: "negative_prompt", maxLength});
    $("others").replaceChildren(
      labelled(select("model"), "Model", ""),
      labelled(negative, "Negative prompt", "What to keep out. Acts if guidance is above 1."),
      ...NUMBERS.map(number), labelled(select("scheduler"), "Noise scheduler", ""),
      labelled(select("masked_content"), "Start from", "What is under the mask before the first step."),
      labelled(select("crop"), "What the model sees", ""), labelled(select("output_color"), "Colours", ""),
      labelled(select("bit_depth"), "Depth", "Of a photo of 16 bits a channel."));
    const {elements} = this.form;
    elements.model.replaceChildren(...able.models.map(({name}) => option(name, name)));
    elements.crop.replaceChildren(...words(choices.crop, CROP));
    elements.output_color.replaceChildren(...words(choices.output_color, COLOR));
    elements.bit_depth.replaceChildren(...words(choices.bit_depth, DEPTH));
    this.setTask(this.task);
    if (this.wanted) this.restore(this.wanted);
  }

  setTask(task) {
    this.task = task;
    this.choose(task);
    $("prompt-label").textContent = TASKS[task].label;
    $("prompt-help").textContent = TASKS[task].help;
    $("extension").hidden = $("extension").disabled = task !== "extend";
    $("behind").hidden = task !== "replace_background";
    for (const [name] of EDGES) {
      const field = this.form.elements[name];
      field.disabled = field.parentElement.hidden = task === "extend";  // a border has no edge to grow or to soften
    }
    this.check();
    this.adapt();
    this.changed();
  }

  /** Has the form say which text is missing. */
  check() {
    const {prompt} = this.form.elements, {lacking = ""} = TASKS[this.task];
    prompt.setCustomValidity(prompt.value.trim() ? "" : lacking);
  }

  /** What the service does where the form is left empty: the model's values, the task's, the preset's. */
  get defaults() {
    const {presets, tasks} = this.model;
    const layers = [this.model, tasks[this.task] ?? {}, presets[this.form.elements.preset.value] ?? {}];
    const given = layer => Object.fromEntries(Object.entries(layer).filter(([, value]) => value !== null));
    return Object.assign({}, ...layers.map(given));
  }

  /** Follows the chosen model, task and preset. */
  adapt() {
    const {elements} = this.form, {model} = this, note = name => $(`help-${name}`);
    const keep = (select, options) => {
      const {value} = select;
      select.replaceChildren(...options);
      if (options.some(each => each.value === value)) select.value = value;
    };
    keep(elements.preset, [option("", "none"), ...Object.keys(model.presets).map(name => option(name, name))]);
    elements.preset.parentElement.hidden = elements.preset.options.length < 2;
    const {defaults} = this;
    note("preset").textContent = model.presets[elements.preset.value]?.description ?? "";
    const other = model.name === elements.model.value ? "" : `Leaves this task to ${model.name}. `;
    note("model").textContent = other + (model.workers.length ? model.description : ABSENT);
    this.offer(new Set(model.unused_fields));
    const schedulers = this.able.schedulers.filter(({name}) => model.schedulers.includes(name));
    keep(elements.scheduler, [usual(defaults.scheduler), ...schedulers.map(({name}) => option(name, name))]);
    const chosen = elements.scheduler.value || defaults.scheduler;
    note("scheduler").textContent = schedulers.find(({name}) => name === chosen)?.description ?? "";
    const contents = words(this.able.choices.masked_content, CONTENT);
    keep(elements.masked_content, [usual(CONTENT[defaults.masked_content]), ...contents]);
    elements.n.max = model.max_n;
    elements.num_inference_steps.max = model.max_num_inference_steps;
    for (const [name] of NUMBERS)
      elements[name].placeholder = defaults[name] ?? this.able.limits.fields[name].default ?? "random";
    for (const [name] of EDGES) {
      if (!elements[name].dataset.touched) elements[name].value = defaults[name] ?? 0;
      elements[name].nextElementSibling.value = `${elements[name].value} px`;
    }
    this.listAdapters();
  }

  /** Hides the fields that the model does nothing with. */
  offer(unused) {
    for (const name of new Set(this.able.models.flatMap(model => model.unused_fields))) {
      const field = this.form.elements[name];
      if (!field) continue;
      field.disabled = unused.has(name);
      for (const part of field.closest(".field")?.children ?? [field, $("prompt-label"), $("prompt-help")])
        part.hidden = field.disabled;
    }
  }

  listAdapters() {
    const fitting = this.able.loras.filter(({models, problem}) => !problem && models.includes(this.model.name));
    const shown = [...$("loras").children].map(({dataset}) => dataset.name);
    $("adapters").hidden = !fitting.length;
    if (shown.join("\n") === fitting.map(({name}) => name).join("\n")) return;
    $("loras").replaceChildren(...fitting.map(({name}) => {
      const scale = {type: "number", min: -10, max: 10, step: 0.1, value: 1, ariaLabel: `How strongly ${name} acts`};
      const label = element("label", {}, element("input", {type: "checkbox"}), ` ${name}`);
      const gap = element("span", {className: "gap"});
      return element("div", {className: "row", dataset: {name}}, label, gap, element("input", scale));
    }));
  }

  /** The fields that are sent: those that are not left as they are. */
  values() {
    const sent = Object.fromEntries([...new FormData(this.form)].filter(([, value]) => value.trim?.()));
    for (const [name] of EDGES) if (!this.form.elements[name].dataset.touched) delete sent[name];
    for (const name of ["crop", "output_color"]) if (sent[name] === "auto") delete sent[name];
    if (sent.bit_depth === "8") delete sent.bit_depth;
    if (this.able.models.find(({name}) => name === sent.model).default) delete sent.model;
    if (this.task !== "fill") sent.task = this.task;
    const loras = [...$("loras").children].filter(row => row.querySelector("[type=checkbox]").checked)
      .map(row => ({name: row.dataset.name, scale: row.querySelector("[type=number]").valueAsNumber}));
    return loras.length ? {...sent, loras: JSON.stringify(loras)} : sent;
  }

  /** Sets the form to the fields of a request; what it does not have, and what is there no longer, is as usual. */
  restore(request) {
    this.wanted = request;
    if (!this.able) return;  // later, when there is a form
    const {task = "fill", loras = "[]", ...values} = request;
    const {elements} = this.form, scales = new Map(JSON.parse(loras).map(({name, scale}) => [name, scale]));
    const set = name => {
      const field = elements[name], gone = [...field.options ?? []].every(({value}) => value !== values[name]);
      field.value = field.options && gone ? field.options[0].value : values[name] ?? "";
      field.dataset.touched = name in values ? "yes" : "";
    };
    set("model");
    this.setTask(task);
    for (const {name} of [...elements].filter(each => each.name && each.name !== "model")) set(name);
    for (const {dataset: {name}, firstChild, lastChild} of $("loras").children) {
      firstChild.firstChild.checked = scales.has(name);
      if (scales.has(name)) lastChild.value = scales.get(name);
    }
    this.check();
    this.adapt();
  }

  /** How far the mask's edge will be moved and softened, in pixels of the photo. */
  get edge() {
    return EDGES.map(([name]) => this.form.elements[name]?.valueAsNumber ?? 0);
  }

  /** Shows a field that may lie in a closed section: what is hidden can neither be focused nor show its message. */
  open(field) {
    const section = field.closest("details");
    if (section) section.open = true;
  }

  /** The field that the service's sentence begins with: shown, and focused. */
  blame(detail) {
    const field = this.form.elements[/^(\w+)[:,]/.exec(detail ?? "")?.[1]];
    if (!field?.name) return;
    this.open(field);
    field.focus();
  }
}
