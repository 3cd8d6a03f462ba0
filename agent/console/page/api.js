// Talks to the server: what it answers, or a Refusal with words for a person; 401 is told to whoever asked to know.
import { t } from './i18n.js';
import { Signal } from './signal.js';

const ROOT = '/api/v1';

export const unauthorized = new Signal();

export class Refusal extends Error {
  constructor(status, message, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

// A wrong password is a 401 as well, but not the end of the session.
const ASKS_PASSWORD = new Set(['/login', '/me/password']);

function refusal(path, status, body, retryAfter) {
  let said = null;
  try {
    said = JSON.parse(body).error;
  } catch { /* not from the server itself, but from a proxy */ }
  if (status === 401 && !ASKS_PASSWORD.has(path)) unauthorized.emit();
  if (status === 429) return new Refusal(status, t('error.slow', { n: retryAfter ?? 1 }), retryAfter ?? 1);
  return new Refusal(status, typeof said === 'string' && said ? said : t('error.status', { status }), retryAfter);
}

async function request(method, path, body) {
  const changes = method !== 'GET';
  let response;
  let answer;
  try {
    response = await fetch(ROOT + path, {
      method,
      credentials: 'same-origin',
      cache: 'no-store',
      headers: changes ? { 'X-Inspectd': '1', 'Content-Type': 'application/json' } : {},
      body: changes && body !== undefined ? JSON.stringify(body) : undefined,
    });
    answer = await response.text();
  } catch {
    throw new Refusal(0, t('error.unreachable'));
  }
  if (!response.ok) throw refusal(path, response.status, answer, Number(response.headers.get('Retry-After')) || null);
  if (!answer) return null;
  try {
    return JSON.parse(answer);
  } catch {
    throw new Refusal(response.status, t('error.garbled'));
  }
}

// `parts` become a path, each of them escaped.
export const at = (...parts) => parts.map((part) => `/${encodeURIComponent(part)}`).join('');
export const query = (values) => {
  const search = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== '' && value != null));
  return search.size ? `?${search}` : '';
};
export const url = (path) => ROOT + path;
export const imageUrl = (sha256) => url(at('images', sha256));

export const get = (path) => request('GET', path);
export const post = (path, body = {}) => request('POST', path, body);
export const remove = (path) => request('DELETE', path);

// Uploads a file and says how far it is, 0 to 1.
export function upload(path, file, progress) {
  return new Promise((resolve, reject) => {
    const sender = new XMLHttpRequest();
    sender.open('POST', ROOT + path);
    sender.setRequestHeader('X-Inspectd', '1');
    sender.setRequestHeader('Content-Type', 'application/x-tar');
    sender.upload.addEventListener('progress', (event) => event.lengthComputable && progress(event.loaded / event.total));
    sender.addEventListener('load', () => {
      if (sender.status >= 200 && sender.status < 300) resolve();
      else reject(refusal(path, sender.status, sender.responseText, Number(sender.getResponseHeader('Retry-After')) || null));
    });
    sender.addEventListener('error', () => reject(new Refusal(0, t('error.unreachable'))));
    sender.addEventListener('abort', () => reject(new Refusal(0, t('error.unreachable'))));
    sender.send(file);
  });
}
