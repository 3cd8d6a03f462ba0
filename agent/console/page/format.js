// Times in the local zone with seconds, ages, sizes and shares, in the language chosen.
import { lang, locale, t } from './i18n.js';

const formats = new Map();

function format(name, options) {
  const key = `${lang()} ${name}`;
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat(locale(), { hourCycle: 'h23', ...options }));
  return formats.get(key);
}

function dated(time, name, options) {
  const date = new Date(time ?? NaN);
  return Number.isNaN(date.getTime()) ? '–' : format(name, options).format(date);
}

export const dateTime = (time) => dated(time, 'full', {
  year: 'numeric', month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit',
});
export const clock = (time) => dated(time, 'clock', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
export const hour = (time) => dated(time, 'hour', { hour: '2-digit', minute: '2-digit' });
export const day = (time) => dated(time, 'day', { month: 'short', day: 'numeric' });

export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return '–';
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return t('age.s', { v: whole });
  if (whole < 3600) return t('age.min', { v: Math.floor(whole / 60) });
  if (whole < 86400) {
    return t('age.h', { h: Math.floor(whole / 3600), m: String(Math.floor((whole % 3600) / 60)).padStart(2, '0') });
  }
  return t('age.d', { v: Math.floor(whole / 86400) });
}

export const age = (time) => (time ? duration((Date.now() - new Date(time).getTime()) / 1000) : '–');
export const until = (time) => (time ? duration((new Date(time).getTime() - Date.now()) / 1000) : '–');

export const number = (value, digits = 0) => (Number.isFinite(value)
  ? new Intl.NumberFormat(locale(), { maximumFractionDigits: digits }).format(value)
  : '–');
export const percent = (share, digits = 0) => `${number(100 * share, digits)}\u00a0%`;

export function bytes(count) {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, count)) / 10));
  return `${number(count / 2 ** (10 * power), power ? 1 : 0)}\u00a0${units[power]}`;
}

// For <input type=datetime-local>: the local time, and back.
export function localInput(date) {
  const local = new Date(date.getTime() - date.getTimezoneOffset() * 60000);
  return local.toISOString().slice(0, 19);
}
