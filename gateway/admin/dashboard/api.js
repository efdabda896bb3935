// Questions and orders, relative to where the page lies, so that a proxy may put it under any path.

async function answered(request) {
  let answer;
  try {
    answer = await request;
  } catch {
    throw new Error("The gateway does not answer. It may be restarting; this page tries again.");
  }
  if (answer.status === 401) location.assign("login");
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error((told.where ? `${told.where}: ` : "") + (told.error ?? `HTTP ${answer.status}`));
  return told;
}

export function get(target, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== "" && value !== undefined));
  return answered(fetch(query.size ? `${target}?${query}` : target));
}

export function post(target, body = {}) {
  return answered(fetch(target, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }));
}

export const ofApp = (app, ...parts) => ["v1/apps", ...[app, ...parts].map(encodeURIComponent)].join("/");
