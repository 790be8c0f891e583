// Dark or light: as the system, until somebody chooses.

import {$} from "./dom.js";

const KEY = "infill-theme";
const {dataset} = document.documentElement;

if (localStorage[KEY]) dataset.theme = localStorage[KEY];
$("theme").addEventListener("click", () => {
  const now = dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  dataset.theme = localStorage[KEY] = now === "dark" ? "light" : "dark";
});
