// Requests to the server that this page came from; there are no others.

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export const imagePath = (name) => `/api/images/${encodeURIComponent(name)}`;

async function answered(promise) {
  let answer;
  try {
    answer = await promise;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "gone", "The server does not answer. Start fdrn annotate again; this " +
      "page goes on by itself.");
  }
  if (answer.ok) return answer;
  let found = {};
  try {
    found = (await answer.json()).error;
  } catch { /* an answer that is not ours */ }
  throw new ApiError(answer.status, found.code ?? "", found.message ?? answer.statusText);
}

export async function get(path) {
  return (await answered(fetch(path))).json();
}

export async function getBlob(path) {
  return (await answered(fetch(path))).blob();
}

export async function post(path, body = {}, signal = undefined) {
  const raw = body instanceof Blob;
  return (await answered(fetch(path, {
    method: "POST", headers: { "x-fdrn-page": "1" }, signal,
    body: raw ? body : JSON.stringify(body),
  }))).json();
}
