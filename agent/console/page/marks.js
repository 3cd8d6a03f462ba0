// Severity as shape, word and colour together; states in the words of ISA-18.2.
import { h, svg } from './dom.js';
import { word } from './i18n.js';

export const SEVERITIES = ['critical', 'major', 'minor', 'info'];
export const KINDS = ['defect', 'anomaly', 'camera', 'model'];

export const rank = (severity) => {
  const place = SEVERITIES.indexOf(severity);
  return place < 0 ? SEVERITIES.length : place;
};

export const isUnacknowledged = (alarm) => alarm.state === 'unacknowledged'
  || alarm.state === 'returned_to_normal_unacknowledged';
export const isOpen = (alarm) => isUnacknowledged(alarm) || alarm.state === 'acknowledged';
export const isActive = (alarm) => alarm.state === 'unacknowledged' || alarm.state === 'acknowledged';

const SHAPES = {
  critical: 'M8 .6 15.400 8 8 15.400.6 8z',
  major: 'M8 1.300 15.300 14.300H.7z',
  minor: 'M8 2.200a5.800 5.800 0 1 0 0 11.600a5.800 5.800 0 1 0 0-11.600z',
  info: 'M8 2.800a5.200 5.200 0 1 0 0 10.400a5.200 5.200 0 1 0 0-10.400z',
};

// `severity`: its name, or a function that gives it.
export function mark(severity) {
  const name = typeof severity === 'function' ? severity : () => severity;
  return svg('svg', { class: () => `mark mark-${name()}`, viewBox: '0 0 16 16', width: 16, height: 16, 'aria-hidden': 'true' },
    svg('path', { d: () => SHAPES[name()] ?? SHAPES.info }));
}

export function severity(name) {
  const give = typeof name === 'function' ? name : () => name;
  return h('span', { class: () => `severity severity-${give()}` }, mark(give), h('span', { class: 'severity-word' }, () => word('severity', give())));
}

// A tick, a cross or a bar for how a thing is, beside its word.
const SIGNS = { good: 'M3 8.500 6.500 12 13 4.500', bad: 'M4 4 12 12M12 4 4 12', wait: 'M3 8H13', warn: 'M8 3V9M8 12V12.600' };

export function sign(kind) {
  const give = typeof kind === 'function' ? kind : () => kind;
  return svg('svg', { class: () => `sign sign-${give()}`, viewBox: '0 0 16 16', width: 14, height: 14, 'aria-hidden': 'true' },
    svg('path', { d: () => SIGNS[give()] ?? SIGNS.wait }));
}

const ICONS = {
  alarms: 'M8 2a4 4 0 0 0-4 4v3.500L2.500 12h11L12 9.500V6a4 4 0 0 0-4-4zM6.500 14h3',
  history: 'M2 13.500h12M3.500 11V7M6.500 11V3.500M9.500 11V6M12.500 11V8.500',
  fleet: 'M2.500 5.500h6.500v5H2.500zM9 7.200l4.500-2v5.600L9 8.800M4 13h3.500',
  models: 'M8 1.800 13.500 5v6L8 14.200 2.500 11V5zM2.500 5 8 8l5.500-3M8 8v6',
  report: 'M4 1.800h5.500L12.500 5v9.200H4zM6 7.500h4.500M6 10h4.500M6 12.200h2.500',
  settings: 'M2 4.500h7M12 4.500h2M2 11.500h2M7 11.500h7M10.500 3v3M5.500 10v3',
  light: 'M8 5a3 3 0 1 0 0 6a3 3 0 1 0 0-6zM8 1v1.500M8 13.500V15M1 8h1.500M13.500 8H15M3 3l1.100 1.100M11.900 11.900 13 13M13 3l-1.100 1.100M4.100 11.900 3 13',
  dark: 'M13.500 9.500A6 6 0 0 1 6.500 2.500a6 6 0 1 0 7 7z',
  sound: 'M2.500 6v4h2.500L8.500 13V3L5 6zM11 5.500a3.500 3.500 0 0 1 0 5M12.800 3.500a6.300 6.300 0 0 1 0 9',
  silent: 'M2.500 6v4h2.500L8.500 13V3L5 6zM11 6l4 4M15 6l-4 4',
  out: 'M6 2.500H2.800v11H6M6.500 8h7M10.800 5.200 13.600 8l-2.800 2.800',
  help: 'M5.500 6a2.500 2.500 0 1 1 3.600 2.200c-.7.4-1.100.8-1.100 1.800M8 12.400v.6',
};

export function icon(name) {
  const give = typeof name === 'function' ? name : () => name;
  return svg('svg', { class: 'glyph', viewBox: '0 0 16 16', width: 18, height: 18, 'aria-hidden': 'true' }, svg('path', { d: () => ICONS[give()] }));
}
