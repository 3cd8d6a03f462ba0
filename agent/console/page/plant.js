// What the whole plant is like: open alarms by severity, the gateways; new alarms are said aloud, whatever view is shown.
import { get, query } from './api.js';
import { t, word } from './i18n.js';
import { isUnacknowledged, rank } from './marks.js';
import { announce, failed } from './notices.js';
import { session } from './session.js';
import { Signal, throttled } from './signal.js';
import { beep } from './sound.js';
import { stream } from './stream.js';

const PAUSE_MS = 1000;
const REMEMBERED = 20000;

export const counts = { critical: 0, major: 0, minor: 0, info: 0, unacknowledged: 0, shelved: 0 };
export const countsChanged = new Signal();
export const fleet = { gateways: [], known: false };
export const fleetChanged = new Signal();

// Alarm id -> how severe it was when heard of last.
const heard = new Map();
let began = Date.now();

export const openTotal = () => counts.critical + counts.major + counts.minor + counts.info;

export function countsAre(now) {
  Object.assign(counts, now);
  countsChanged.emit(counts);
}

export function hear(alarms) {
  for (const { alarm, severity } of alarms) heard.set(alarm, severity);
}

async function count() {
  if (!session.user) return;
  try {
    countsAre((await get(`/alarms${query({ limit: 1 })}`)).counts);
  } catch (error) {
    failed(error);
  }
}

const countSoon = throttled(count, PAUSE_MS);

export async function fetchFleet() {
  if (!session.user) return;
  try {
    fleet.gateways = (await get('/fleet')).gateways;
    fleet.known = true;
    fleetChanged.emit(fleet);
  } catch (error) {
    failed(error);
  }
}

export const fetchFleetSoon = throttled(fetchFleet, 2000);

export function start() {
  began = Date.now();
  countSoon();
  fetchFleetSoon();
}

function isNews(alarm) {
  if (!isUnacknowledged(alarm)) return false;
  const before = heard.get(alarm.alarm);
  if (before !== undefined) return rank(alarm.severity) < rank(before) && alarm.severity === 'critical';
  return alarm.replayed || new Date(alarm.raised_at).getTime() > began - 60000;
}

stream.alarm.on((alarm) => {
  if (isNews(alarm)) {
    const critical = alarm.severity === 'critical';
    announce(t('announce.new', {
      severity: word('severity', alarm.severity), class: alarm.class, where: `${alarm.site}/${alarm.gateway}/${alarm.camera}`,
    }), critical);
    if (critical) beep();
  }
  if (heard.size > REMEMBERED) heard.clear();
  heard.set(alarm.alarm, alarm.severity);
  countSoon();
});
stream.reset.on(() => {
  countSoon();
  fetchFleetSoon();
});

// The names that are there, for suggestions.
const names = (values) => [...new Set(values)].sort((a, b) => a.localeCompare(b));
export const sites = () => names(fleet.gateways.map(({ site }) => site));
export const gateways = () => names(fleet.gateways.map(({ gateway }) => gateway));
export const cameras = () => names(fleet.gateways.flatMap((gateway) => gateway.cameras.map(({ camera }) => camera)));
