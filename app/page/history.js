// The results of this visit, in the browser's own store, so that they survive a reload. A visit ends with its tab; what
// other visits left behind is removed after a day.

const NAME = "infill", STORE = "results";
const DAY_MS = 86_400_000;
const MAX_BYTES = 300 * 2 ** 20;
const VISIT = sessionStorage["infill-visit"] ??= `${Date.now()}-${Math.random().toString(36).slice(2)}`;

const done = request => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

let opened;

async function store(mode) {
  opened ??= (() => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, {keyPath: "at"});
    return done(request);
  })();
  return (await opened).transaction(STORE, mode).objectStore(STORE);
}

const bytesOf = ({photo, mask, images}) => [photo, mask, ...images].reduce((sum, file) => sum + (file?.size ?? 0), 0);

async function all() {
  return done((await store("readonly")).getAll());
}

/** This visit's entries, the newest first: {at, name, photo, mask, images, view, values}; the files are Blobs. An
 *  extension has no mask. */
export async function entries() {
  const kept = (await all()).reverse();
  const old = kept.filter(({visit, at}) => visit !== VISIT && at < Date.now() - DAY_MS);
  for (const {at} of old) await remove(at);
  return kept.filter(({visit}) => visit === VISIT);
}

const remove = async at => done((await store("readwrite")).delete(at));

/** Adds an entry; the oldest give way where all of them take too much. */
export async function add(entry) {
  let room = MAX_BYTES - bytesOf(entry);
  for (const old of (await all()).reverse()) if ((room -= bytesOf(old)) < 0) await remove(old.at);
  await done((await store("readwrite")).put({...entry, at: Date.now(), visit: VISIT}));
}

export async function forget() {
  for (const {at} of await entries()) await remove(at);
}
