// A picture that somebody uploads, kept by the browser for the page of this tab: the server forgets it when it restarts.

const STORE = "pictures";
const MOST = 6; // of all tabs; the oldest give way

/** @returns {Promise<IDBDatabase>} */
const opened = () => new Promise((resolve, reject) => {
  const asked = indexedDB.open("pixelviz", 1);
  asked.onupgradeneeded = () => asked.result.createObjectStore(STORE);
  asked.onsuccess = () => resolve(asked.result);
  asked.onerror = () => reject(asked.error);
});

/**
 * What a request to the store gives.
 * @param {(store: IDBObjectStore) => IDBRequest} request
 */
async function ask(request) {
  const base = await opened();
  try {
    return await new Promise((resolve, reject) => {
      const asked = request(base.transaction(STORE, "readwrite").objectStore(STORE));
      asked.onsuccess = () => resolve(asked.result);
      asked.onerror = () => reject(asked.error);
    });
  } finally { base.close(); }
}

/**
 * The file of one upload button. Where the browser keeps nothing, as it may in a private window, nothing comes back.
 * @param {string} id the button's
 */
export function kept(id) {
  const mark = `pixelviz-${id}`; // the tab's own note of which file it is
  return {
    /** @param {File} file */
    async keep(file) {
      const key = `${Date.now()}-${Math.random()}`;
      try {
        await ask((store) => store.put(file, key));
        sessionStorage.setItem(mark, key);
        const old = (await ask((store) => store.getAllKeys())).slice(0, -MOST);
        for (const one of old) await ask((store) => store.delete(one));
      } catch { this.drop(); }
    },
    drop() {
      try { sessionStorage.removeItem(mark); } catch { /* nothing was kept */ }
    },
    /** @returns {Promise<File | undefined>} */
    async back() {
      try {
        const key = sessionStorage.getItem(mark);
        return key === null ? undefined : await ask((store) => store.get(key));
      } catch { return undefined; }
    },
  };
}
