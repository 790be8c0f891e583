// The request that the page makes, as code that makes it elsewhere. The tests run each of these.

const shell = text => /^[\w@.=:\/-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
const json = value => JSON.stringify(value).replace(/[\u2028\u2029]/g, each => `\\u${each.charCodeAt().toString(16)}`);

const TEXTS = ["task", "prompt", "negative_prompt", "model", "preset", "scheduler", "masked_content", "crop",
  "output_color", "bit_depth", "mask_mode", "extend", "aspect", "anchor"];
const LISTS = ["loras", "mask_points", "mask_box"];
const typed = (values, texts = TEXTS) => Object.entries(values)
  .map(([name, value]) => [name, texts.includes(name) ? value : JSON.parse(value)]);

function curl({url, photo, values, masked, keyed, result}) {
  const fields = Object.entries(values).map(([name, value]) => `--form-string ${shell(`${name}=${value}`)}`);
  const image = shell(`image=@"${photo.replaceAll(/["\\]/g, "\\$&")}"`);
  const parts = ["-H 'Accept: image/png'", keyed && "-H \"Authorization: Bearer $INFILL_API_KEY\"",
    `-F ${image}`, masked && "-F mask=@mask.png", ...fields, `-o ${shell(result)}`];
  return [`curl -sSf ${shell(`${url}/v1/inpaint`)}`, ...parts.filter(Boolean)].join(" \\\n  ");
}

function python({url, photo, values, masked, keyed, result}) {
  const fields = typed(values).map(([name, value]) => `${name}=${json(value)},`);
  return [...(keyed ? ["import os"] : []), "from infill_client import Client", "",
    `with Client(${json(url)}${keyed ? ', os.environ["INFILL_API_KEY"]' : ""}) as infill:`, "    result = infill.edit(",
    ...[`${json(photo)},`, ...(masked ? ['mask="mask.png",'] : []), ...fields].map(line => `        ${line}`), "    )",
    `    result.save(${json(result)})`].join("\n");
}

function javascript({url, photo, values, masked, keyed, result}) {
  return ['import { readFileSync, writeFileSync } from "node:fs";', "", "const form = new FormData();",
    `form.set("image", new Blob([readFileSync(${json(photo)})]), "photo");`,
    ...(masked ? ['form.set("mask", new Blob([readFileSync("mask.png")]), "mask.png");'] : []),
    ...Object.entries(values).map(([name, value]) => `form.set(${json(name)}, ${json(value)});`),
    `const headers = { Accept: "image/png"${keyed ? ", Authorization: `Bearer ${process.env.INFILL_API_KEY}`" : ""} };`,
    `const answer = await fetch(${json(`${url}/v1/inpaint`)}, { method: "POST", headers, body: form });`,
    "if (!answer.ok) throw new Error(await answer.text());",
    `writeFileSync(${json(result)}, Buffer.from(await answer.arrayBuffer()));`].join("\n");
}

function openai({url, photo, values: {model, prompt, n, ...values}, masked, keyed, result}) {
  if (values.task === "extend")
    return "# OpenAI's client cannot do this: its API has no fields for the borders of a photo.\n"
      + "# Use curl, Python or JavaScript.";
  const secret = keyed ? 'os.environ["INFILL_API_KEY"]' : '"none"';
  const sent = {...(masked && {mask_mode: "white"}), ...values};
  const extra = typed(sent, [...TEXTS, ...LISTS])  // a form has lists as text
    .map(([name, value]) => `${json(name)}: ${json(value)}`);
  return ["import base64", ...(keyed ? ["import os"] : []), "import openai", "",
    `client = openai.OpenAI(base_url=${json(`${url}/v1`)}, api_key=${secret})`,
    "answer = client.images.edit(", ...(model ? [`    model=${json(model)},`] : []), `    prompt=${json(prompt ?? "")},`,
    ...(n ? [`    n=${n},`] : []), `    image=open(${json(photo)}, "rb"),`,
    ...(masked ? ['    mask=open("mask.png", "rb"),'] : []),
    `    extra_body={${extra.join(", ")}},`, ")",
    `open(${json(result)}, "wb").write(base64.b64decode(answer.data[0].b64_json))`].join("\n");
}

/** Name -> what makes the code of {url, photo, values, masked, keyed, result}: the service's address, the photo's name,
 *  the fields, whether a mask and a key are sent, the result's name. */
export const LANGUAGES = {"curl": curl, "Python": python, "JavaScript": javascript, "OpenAI client": openai};
