// Hears what the server says as it happens; reconnects by itself, and after a gap asks everybody to fetch anew. A browser allows few
// connections to one server, so a page that nobody sees lets go of its own, unless it is to be heard.
import { get, unauthorized } from './api.js';
import { Signal } from './signal.js';
import { isOn } from './sound.js';

const NAMES = ['alarm', 'command', 'image', 'fleet', 'rollout', 'reset', 'broker'];
const RETRY_MS = [1000, 2000, 5000, 10000];
const UNSEEN_MS = 60000;

export const stream = Object.fromEntries(NAMES.map((name) => [name, new Signal()]));
export const link = { up: true, changed: new Signal() };

let source = null;
let timer = null;
let failures = 0;
let gap = false;
let away = false;
let unseen = null;

function setLink(up) {
  if (link.up === up) return;
  link.up = up;
  link.changed.emit(up);
}

export function open() {
  if (source || timer) return;
  const events = new EventSource('/api/v1/stream');
  source = events;
  events.addEventListener('open', () => {
    failures = 0;
    setLink(true);
    if (gap) stream.reset.emit({});
    gap = false;
  });
  events.addEventListener('error', () => {
    gap = true;
    setLink(false);
    if (events.readyState === EventSource.CLOSED && source === events) again();
  });
  for (const name of NAMES) {
    events.addEventListener(name, (event) => {
      let value;
      try {
        value = JSON.parse(event.data || '{}');
      } catch {
        return;
      }
      stream[name].emit(value);
    });
  }
}

// The browser has given up: find out whether we are still logged in (the 401 is told by `get`), and try again.
function again() {
  source = null;
  const pause = RETRY_MS[Math.min(failures, RETRY_MS.length - 1)];
  failures += 1;
  timer = setTimeout(async () => {
    try {
      const me = await get('/me');
      if (!me.user) {
        timer = null;
        unauthorized.emit();
        return;
      }
    } catch { /* the next attempt finds out */ }
    if (timer === null) return;
    timer = null;
    open();
  }, pause);
}

function leave() {
  if (!source && !timer) return;
  clearTimeout(timer);
  timer = null;
  source?.close();
  source = null;
  away = true;
  gap = true;
}

function come() {
  clearTimeout(unseen);
  if (!away) return;
  away = false;
  open();
}

addEventListener('pagehide', leave);
addEventListener('pageshow', come);
document.addEventListener('visibilitychange', () => {
  clearTimeout(unseen);
  if (!document.hidden) come();
  else if (!isOn()) unseen = setTimeout(leave, UNSEEN_MS);
});

export function close() {
  away = false;
  clearTimeout(timer);
  timer = null;
  source?.close();
  source = null;
  gap = false;
  setLink(true);
}

// Heard from elsewhere that the server cannot be reached: the stream may hang without knowing.
export function doubt() {
  if (!source) return;
  gap = true;
  setLink(false);
  source.close();
  source = null;
  failures = 0;
  again();
}
