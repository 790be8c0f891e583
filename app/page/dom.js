// Elements.

export const $ = id => document.getElementById(id);

/** An element with these properties and children. */
export function element(name, properties = {}, ...children) {
  const {dataset, ...rest} = properties;
  const made = Object.assign(document.createElement(name), rest);
  Object.assign(made.dataset, dataset);
  made.append(...children);
  return made;
}

/** An icon of icons.svg. */
export function icon(name) {
  const [svg, use] = ["svg", "use"].map(kind => document.createElementNS("http://www.w3.org/2000/svg", kind));
  use.setAttribute("href", `page/icons.svg#${name}`);
  svg.ariaHidden = "true";
  svg.append(use);
  return svg;
}

/** A button of a choice. */
export const radio = (text, dataset, checked) =>
  element("button", {type: "button", role: "radio", ariaChecked: String(checked), textContent: text, dataset});

/** Makes the buttons in a role="radiogroup" one choice: arrow keys move it, and one of them is a tab stop. */
export function choice(group, chosen) {
  const buttons = () => [...group.querySelectorAll("[role=radio]")];
  const mark = button => buttons().forEach(each => {
    each.ariaChecked = String(each === button);
    each.tabIndex = each === button ? 0 : -1;
  });
  group.addEventListener("click", event => {
    const button = event.target.closest("[role=radio]");
    if (!button) return;
    mark(button);
    chosen(button);
  });
  group.addEventListener("keydown", event => {
    const step = {ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1}[event.key];
    if (!step) return;
    event.preventDefault();
    const all = buttons(), next = all.at((all.indexOf(event.target) + step) % all.length);
    next.focus();
    next.click();
  });
  mark(buttons().find(button => button.ariaChecked === "true"));
  return name => mark(buttons().find(button => Object.values(button.dataset).includes(name)));
}
