// Sends commands to gateways and knows which of them wait for their reply; a failure is told in the gateway's words.
import { post } from './api.js';
import { t, word } from './i18n.js';
import { announce, toast } from './notices.js';
import { Signal } from './signal.js';
import { stream } from './stream.js';

const PATIENCE_MS = 60000;
const REMEMBERED = 500;

// Command id -> what it was.
const waiting = new Map();
const answered = new Set();
export const pendingChanged = new Signal();

export async function send(site, gateway, command, payload) {
  const { id } = await post('/commands', { site, gateway, command, payload });
  const sent = { id, site, gateway, command, alarms: payload.alarms ?? [], camera: payload.camera, at: Date.now() };
  if (!answered.has(id)) {
    waiting.set(id, sent);
    setTimeout(() => overdue(id), PATIENCE_MS);
    pendingChanged.emit(sent.alarms);
  }
  return id;
}

function overdue(id) {
  const sent = waiting.get(id);
  if (!sent) return;
  waiting.delete(id);
  pendingChanged.emit(sent.alarms);
  if (!sent.alarms.length) toast(() => t('command.overdue', { command: word('command', sent.command), where: where(sent) }), 'error');
}

const where = (command) => [command.site, command.gateway, command.camera].filter(Boolean).join('/');

// What waits for an alarm: what the server knows of, and what this page has sent since.
export function pendingOf(alarm) {
  const known = (alarm.pending ?? []).filter(({ id }) => !answered.has(id));
  const ids = new Set(known.map(({ id }) => id));
  for (const sent of waiting.values()) if (sent.alarms.includes(alarm.alarm) && !ids.has(sent.id)) known.push(sent);
  return known;
}

export const isWaiting = (site, gateway, command, camera) => [...waiting.values()].some((sent) => sent.site === site
  && sent.gateway === gateway && sent.command === command && (!camera || sent.camera === camera));

// The server has just said what waits, as of `since`: what was sent before that and is not in its list has been answered.
export function settle(since) {
  for (const [id, sent] of waiting) if (sent.at < since && sent.alarms.length) waiting.delete(id);
}

stream.command.on((command) => {
  if (command.ok === null || command.ok === undefined) return;
  answered.add(command.id);
  if (answered.size > REMEMBERED) answered.delete(answered.values().next().value);
  const mine = waiting.get(command.id);
  waiting.delete(command.id);
  const alarms = mine?.alarms ?? command.payload?.alarms ?? [];
  pendingChanged.emit(alarms);
  const names = { command: word('command', command.command), where: where({ ...command, camera: command.payload?.camera }) };
  if (!command.ok) {
    toast(() => t('command.failed', { ...names, command: word('command', command.command), error: command.error ?? '–' }), 'error');
  } else if (mine) {
    const warning = command.result?.warning;
    if (warning) toast(() => t('command.warning', { ...names, warning }), 'info');
    else if (alarms.length && command.command !== 'teach') announce(t('command.done', names));
    else toast(() => t('command.done', { ...names, command: word('command', command.command) }), 'done');
  }
});
