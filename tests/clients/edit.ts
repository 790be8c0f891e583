// An edit by what openapi-typescript and openapi-fetch make of /openapi.json.
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

/** The edited picture of two in base64. */
export async function edit(baseUrl: string, image: string, mask: string): Promise<Uint8Array> {
  const client = createClient<paths>({ baseUrl });
  const submitted = await client.POST("/v1/inpaint", {
    params: { header: { prefer: "wait=60" } },
    body: { image, mask, prompt: "sea", num_inference_steps: 1, seed: 5 },
  });
  if (submitted.error) throw new Error(submitted.error.detail);
  const job = submitted.data;
  if (typeof job === "string") throw new Error("a picture, which was not asked for");
  const { id, status, mask: read } = job;
  if (status !== "succeeded" || read.changed_outside_mask !== 0) throw new Error(status);
  const found = await client.GET("/v1/jobs/{job_id}/images/{index}", {
    params: { path: { job_id: id, index: 0 } },
    parseAs: "arrayBuffer",
  });
  if (found.error) throw new Error(found.error.detail);
  const missing = await client.GET("/v1/jobs/{job_id}", { params: { path: { job_id: "0" } } });
  if (missing.error?.code !== "job_not_found") throw new Error(JSON.stringify(missing));
  return new Uint8Array(found.data);
}
