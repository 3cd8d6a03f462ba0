// What this browser remembers: language, theme, sound. Works where storing is forbidden, for as long as the page is open.
import { Signal } from './signal.js';

const KEY = 'inspectd';
const changed = new Signal();

function stored() {
  try {
    const value = JSON.parse(localStorage.getItem(KEY) ?? '{}');
    return value && typeof value === 'object' ? value : {};
  } catch {
    return {};
  }
}

let values = stored();

export const prefs = {
  get: (name, otherwise) => values[name] ?? otherwise,
  set(name, value) {
    values[name] = value;
    try {
      localStorage.setItem(KEY, JSON.stringify(values));
    } catch { /* kept in memory only */ }
    changed.emit(name);
  },
  on: (listener) => changed.on(listener),
};

const dark = matchMedia('(prefers-color-scheme: dark)');

export const isDark = () => {
  const theme = prefs.get('theme', 'auto');
  return theme === 'auto' ? dark.matches : theme === 'dark';
};

function applyTheme() {
  document.documentElement.dataset.theme = isDark() ? 'dark' : 'light';
}

dark.addEventListener('change', () => {
  applyTheme();
  changed.emit('theme');
});
changed.on((name) => name === 'theme' && applyTheme());
addEventListener('storage', (event) => {
  if (event.key !== KEY) return;
  values = stored();
  for (const name of ['theme', 'lang', 'sound']) changed.emit(name);
});
applyTheme();
